"""Files that are either complete or absent, whatever happens while they are written."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends, and vanishes when the block raises.

    Args:
        path: The file to create or replace; its folder must exist.
        durable: Whether the data must have reached the disk before the file takes its place (power cuts).
    """
    path = Path(path)
    # Names of their own for threads and processes that write the same file at the same time.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike) -> None:
    """Makes renames inside a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
