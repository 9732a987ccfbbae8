"""Files and folders that are either complete or absent, whatever happens while they are written."""

import contextlib
import ctypes
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp")
_ON_WINDOWS = os.name == "nt"
_FROM_WORKING_FOLDER, _EXCHANGE = -100, 2
"""`AT_FDCWD` and `RENAME_EXCHANGE` of Linux."""


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


def replace_folder(new: Path, path: Path) -> None:
    """Puts a complete folder in the place of another, which is deleted, or of none.

    On Linux, `path` holds the old folder or the new one at every moment. Other systems, and file systems such as NFS,
    can't exchange two folders in one step: `path` is missing for a moment, and `complete_folder` finds the old folder.

    Args:
        new: The folder, beside `path`; its files have reached the disk (`sync`). It is gone afterwards.
        path: Its place.

    Raises:
        OSError: The folder can't be moved; the old one stays.
    """
    aside = _aside(path)
    try:
        if path.exists() and not _exchange(new, path):
            # A process that was killed after its second step may have left one.
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        # After an exchange, `new` is the old folder.
        if not path.exists():
            new.rename(path)
    finally:
        if not path.exists() and aside.exists():
            aside.rename(path)
    sync(path.parent)
    for old in (new, aside):
        shutil.rmtree(old, ignore_errors=True)


def complete_folder(path: Path) -> Path:
    """Where the folder is that `replace_folder` was to replace: at `path`, unless it was killed between two steps."""
    aside = _aside(path.resolve())
    return aside if aside.exists() and not path.exists() else path


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; returns whether the system can."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return rename(_FROM_WORKING_FOLDER, first, _FROM_WORKING_FOLDER, second, _EXCHANGE) == 0


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
