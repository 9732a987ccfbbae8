"""Files that are either complete or absent, whatever happens while they are written."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp")
_ON_WINDOWS = os.name == "nt"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends, and vanishes when the block raises.

    Its data have reached the disk before it takes its place: a power cut leaves the old file or the new one.

    Args:
        path: The file to create or replace; its folder must exist.
    """
    path = Path(path)
    # Threads and processes that write the same file at the same time have names of their own.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno is not None:
            # `write` finds a full disk, and does not know the file's name.
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary_files(folder: str | os.PathLike) -> None:
    """Removes the temporary files that killed processes left in a folder and below; nobody may be writing there."""
    for path in Path(folder).rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sync(path: str | os.PathLike) -> None:
    """Makes the data of a file, or the renames inside a folder, outlast a power cut.

    Windows has no way to flush a folder; its file system keeps a journal of renames.
    """
    if _ON_WINDOWS and os.path.isdir(path):
        return
    # Windows flushes only what is open for writing; elsewhere a folder can't be opened for that.
    descriptor = os.open(path, os.O_RDWR if _ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
