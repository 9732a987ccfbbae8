"""What is around the work of every command: errors in one line, exit codes, and where its output goes."""

import contextlib
import errno
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from oaa_tf.command_line.errors import UserError

_FORBIDDEN = (errno.EACCES, errno.EPERM)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread as Ctrl-C is, so that both leave through the same clean-up."""


_STOPS = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}
_SECONDS_TO_ASK_AGAIN = 0.05


def _raise_terminated(signum: int, frame: types.FrameType | None) -> None:
    raise _Terminated


def _ask_again(lost: Any) -> None:
    """Python's hook for what is raised where nobody can catch it: a signal that came during a `__del__` comes again."""
    if lost.exc_type in _STOPS:
        # Not at once: the hook runs where the first was lost.
        again = (os.getpid(), _STOPS[lost.exc_type])
        threading.Timer(_SECONDS_TO_ASK_AGAIN, os.kill, again).start()
    else:
        sys.__unraisablehook__(lost)


def guarded(run: Callable[[], Any]) -> int:
    """Runs a function and returns the process's exit code: the error boundary of every command.

    0 when done; 2 with one line on stderr for a `UserError`, a full disk, missing permissions, a file where a folder
    should be, or too little memory; 130 and 143 for Ctrl-C and SIGTERM; 141 when nobody reads stdout any more
    (`| head`). Anything else is a bug and keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _raise_terminated)
    sys.unraisablehook = _ask_again
    try:
        run()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno in _FORBIDDEN:
            failed, advice = "cannot read or write", "change its permissions or choose another"
        elif error.errno in _IN_THE_WAY:
            failed, advice = "cannot read or write", "move it away or choose another"
        elif error.errno in _DISK_ERRORS:
            failed, advice = "cannot write", "free space or choose another"
        else:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {failed}{where}: {os.strerror(error.errno)}; {advice}", file=sys.stderr)
        return 2
    except BaseException as error:
        number = _signal_behind(error)
        if number is None and _is_out_of_memory(error):
            print(
                "error: out of memory; end other programs, or lower --batch_size or the size of the images where the"
                " command has them; run it again to go on",
                file=sys.stderr,
            )
            return 2
        if number is None:
            raise
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        print(f"stopped by {name}; run the same command again to go on", file=sys.stderr)
        return 128 + number
    return 0


def _signal_behind(error: BaseException | None) -> signal.Signals | None:
    """The signal that stopped the program, if it was one.

    On the way out something else can be raised: TensorFlow, stopped while it traces a function, fails an assertion.
    """
    while error is not None:
        if type(error) in _STOPS:
            return _STOPS[type(error)]
        error = error.__context__
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether it is Python's error for that, or TensorFlow's, which nothing raises that has not imported it."""
    tensorflow = sys.modules.get("tensorflow")
    return isinstance(error, (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else MemoryError)


@contextlib.contextmanager
def output_to(quiet: bool, json_wanted: bool) -> Iterator[None]:
    """Inside the block, what is printed goes where the user wants it.

    Args:
        quiet: Nowhere.
        json_wanted: To stderr, since stdout is for a JSON document.
    """
    with contextlib.ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        elif json_wanted:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
