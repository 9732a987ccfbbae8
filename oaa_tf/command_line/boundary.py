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


class _Terminated(BaseException):
    """A signal that stops, raised in the main thread like Ctrl-C, so that both leave through the same clean-up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


_SECONDS_TO_ASK_AGAIN = 0.05
_ON_WINDOWS = os.name == "nt"


def stop_signals() -> list[signal.Signals]:
    """The signals that stop a command: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), a scheduler's warning (SIGUSR1).

    SIGHUP is left out where it is ignored, as under `nohup`, and what the system does not have.
    """
    numbers = [signal.Signals[name] for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
    ignored = [one for one in numbers if one.name == "SIGHUP" and signal.getsignal(one) is signal.SIG_IGN]
    return [signal.SIGINT, *(one for one in numbers if one not in ignored)]


def _raise_terminated(signum: int, frame: types.FrameType | None) -> None:
    raise _Terminated(signum)


def _stop_of(error: BaseException | None) -> signal.Signals | None:
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return error.number if isinstance(error, _Terminated) else None


def _ask_again(lost: Any) -> None:
    """Python's hook for errors that nobody can catch: sends a signal that was lost in a `__del__` again."""
    number = _stop_of(lost.exc_value)
    if number is None:
        sys.__unraisablehook__(lost)
        return
    # os.kill wakes the main thread if it waits for something, but on Windows it ends the process.
    send = signal.raise_signal if _ON_WINDOWS else functools.partial(os.kill, os.getpid())
    has_left = threading.Event()

    def send_later() -> None:
        # Inside the `__del__`, and so in this hook, it would be lost again.
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
    for number in stop_signals()[1:]:
        signal.signal(number, _raise_terminated)
    sys.unraisablehook = _ask_again
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except BaseException as error:
        stop = _signal_behind(error)
        if stop is not None and not isinstance(error, UserError):
            name = "Ctrl-C" if stop == signal.SIGINT else stop.name
            print(f"stopped by {name}; run the same command again to go on", file=sys.stderr)
            return 128 + stop
        message = _message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def _signal_behind(error: BaseException | None) -> signal.Signals | None:
    """The signal that stopped the program, if it was one.

    On the way out something else can be raised: TensorFlow, stopped while it traces a function, fails an assertion.
    """
    while error is not None:
        if stop := _stop_of(error):
            return stop
        error = error.__context__
    return None


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
