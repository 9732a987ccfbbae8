"""Folders that commands write: an error in one line if a folder can't be written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from oaa_tf.command_line.errors import UserError


@contextlib.contextmanager
def folder_errors(flag: str, folder: str | os.PathLike) -> Iterator[None]:
    """Turns an `OSError` inside the block, which makes or writes the folder, into a `UserError` that names the flag.

    Args:
        flag: The folder's flag, such as "--output_dir".
        folder: The flag's value.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{flag}={folder}: cannot be written ({error.strerror}); choose another folder") from None


def check_folder(flag: str, folder: str | os.PathLike) -> None:
    """Checks, without a trace, whether a folder could be made and written; for dry runs.

    Raises:
        UserError: It could not.
    """
    path = Path(folder)
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={folder}: cannot be written ({existing}); choose another folder")
