"""The boundary of every command: errors in one line, exit codes, and where its output goes."""

import contextlib
import errno
import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from oaa_tf.command_line.errors import UserError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
_FILE_ERRORS: tuple[tuple[tuple[int, ...], str, str], ...] = (
    ((errno.EACCES, errno.EPERM), "cannot read or write", "change its permissions or choose another"),
    ((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "cannot read or write", "move it away or choose another"),
    (_DISK_ERRORS, "cannot write", "free space or choose another"),
)
"""Errors of the system that are the user's to solve: their numbers, what failed, and advice. Others are bugs."""


_SECONDS_TO_ASK_AGAIN = 0.05
_ON_WINDOWS = os.name == "nt"


def stop_signals() -> list[signal.Signals]:
    """The signals that stop a command: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), a scheduler's warning (SIGUSR1).

    SIGHUP is left out where it is ignored, as under `nohup`, and what the system does not have.
    """
    numbers = [signal.Signals[name] for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
    ignored = [one for one in numbers if one.name == "SIGHUP" and signal.getsignal(one) is signal.SIG_IGN]
    return [signal.SIGINT, *(one for one in numbers if one not in ignored)]


def _send_again(number: signal.Signals) -> None:
    """Sends a signal that was lost in a `__del__` again, once Python has left it."""
    # os.kill wakes the main thread if it waits for something, but on Windows it ends the process.
    send = signal.raise_signal if _ON_WINDOWS else functools.partial(os.kill, os.getpid())
    has_left = threading.Event()

    def send_later() -> None:
        # Before, it would be lost again.
        has_left.wait()
        time.sleep(_SECONDS_TO_ASK_AGAIN)
        send(number)

    threading.Thread(target=send_later).start()
    has_left.set()


def guarded(run: Callable[[], Any]) -> int:
    """Runs a function and returns the process's exit code: the error boundary of every command.

    0 when done; 2 with one line on stderr for a `UserError`, a full disk, missing permissions, a file where a folder
    should be, or too little memory; 128 and the signal's number for those of `stop_signals` (130 for Ctrl-C, 143 for
    SIGTERM); 141 when nobody reads stdout any more (`| head`). Anything else is a bug and keeps its traceback.
    """
    stops: list[signal.Signals] = []

    def stop(number: int, frame: types.FrameType | None) -> None:
        # Noted, since what is raised here may end as another error: TensorFlow's C++ makes it a RuntimeError, and
        # fails an assertion when it is stopped while it traces a function.
        stops.append(signal.Signals(number))
        raise KeyboardInterrupt

    def cannot_be_raised(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt) and stops:
            _send_again(stops[-1])
        else:
            sys.__unraisablehook__(lost)

    for number in stop_signals():
        # Background jobs of a script ignore Ctrl-C.
        if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    sys.unraisablehook = cannot_be_raised
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except BaseException as error:
        if (stops or isinstance(error, KeyboardInterrupt)) and not isinstance(error, UserError):
            stopped_by = stops[-1] if stops else signal.SIGINT
            name = "Ctrl-C" if stopped_by == signal.SIGINT else stopped_by.name
            print(f"stopped by {name}; run the same command again to go on", file=sys.stderr)
            return 128 + stopped_by
        message = _message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def _message(error: BaseException) -> str | None:
    """What went wrong and what the user can do, in one line; None for a bug."""
    for numbers, failed, advice in _FILE_ERRORS:
        if isinstance(error, OSError) and error.errno in numbers:
            where = f": {error.filename}" if error.filename else ""
            return f"{failed}{where}: {os.strerror(error.errno)}; {advice}"
    # TensorFlow has an error of its own, and is not imported for its sake.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return (
            "out of memory; end other programs, or lower --batch_size or the size of the images where the command has"
            " them; run it again to go on"
        )
    return str(error) if isinstance(error, UserError) else None


@contextlib.contextmanager
def output_to(quiet: bool, json_wanted: bool) -> Iterator[None]:
    """Inside the block, everything printed goes nowhere if `quiet`, else to stderr if `json_wanted`.

    stdout is then for a JSON document alone.
    """
    with open(os.devnull, "w") as nowhere:
        stderr = nowhere if quiet else sys.stderr
        stdout = stderr if quiet or json_wanted else sys.stdout
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            yield


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its messages, unless TF_CPP_MIN_LOG_LEVEL asks for them; errors remain.

    Setting the variable is not enough: TensorFlow writes some messages before it sets up its log.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        return
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow

        # A checkpoint that does not fit would be followed by a warning for each of its variables.
        tensorflow.get_logger().setLevel("ERROR")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
