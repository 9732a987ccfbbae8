"""The log for TensorBoard: a folder of event files that does not grow without bound."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from oaa_tf.errors import UserError, first_line

FILE_BYTES = 64 * 2**20
"""Size from which a new file is begun."""

TOTAL_BYTES = 8 * FILE_BYTES
"""Size of the whole log from which the oldest files are removed."""


@contextlib.contextmanager
def training_log(folder: Path) -> Iterator[Callable[[], None]]:
    """Inside the block, summaries go to event files in this folder.

    Yields:
        A function to call now and then: when the file is full it begins a new one, and removes the oldest ones when all
        together are too large. The log stays below `TOTAL_BYTES` and what is written between two calls.

    Raises:
        UserError: The log can't be written.
    """

    def open_file() -> None:
        writer = tf.summary.create_file_writer(str(folder))
        opened.callback(writer.close)
        opened.enter_context(writer.as_default())

    def roll() -> None:
        tf.summary.flush()
        files = sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns)
        sizes = [path.stat().st_size for path in files]
        if not files or sizes[-1] < FILE_BYTES:
            return
        opened.close()
        open_file()
        total = sum(sizes)
        for path, size in zip(files, sizes, strict=True):
            if total <= TOTAL_BYTES - FILE_BYTES:
                break
            path.unlink()
            total -= size

    try:
        with contextlib.ExitStack() as opened:
            open_file()
            yield roll
    except tf.errors.OpError as error:
        if isinstance(error.__context__, UserError):
            # The disk that keeps the writer from closing its file has been reported already.
            raise error.__context__ from None
        if str(folder) not in str(error):
            raise
        raise UserError(
            f"{folder}: cannot write the log ({first_line(error)}); free space and run the same command again to go on"
            " from the last checkpoint"
        ) from None
