"""Folders that commands write, and the one line about those that they can't."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from oaa_tf.command_line.errors import UserError


@contextlib.contextmanager
def folder_errors(flag: str, folder: str | os.PathLike) -> Iterator[None]:
    """Where a folder can't be made or written inside the block, `UserError` says so and names the flag.

    Args:
        flag: The flag that names the folder, such as "--output_dir".
        folder: The folder, as the user has given it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{flag}={folder}: cannot be written ({error.strerror}); choose another folder") from None


def check_folder(flag: str, folder: str | os.PathLike) -> None:
    """For a dry run, which leaves no trace: whether a folder could be made and written.

    Raises:
        UserError: It could not.
    """
    path = Path(folder)
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={folder}: cannot be written ({existing}); choose another folder")
