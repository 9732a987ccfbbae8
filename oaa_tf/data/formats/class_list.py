"""The classes of a data set, and those to keep."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.folder_files import as_text, read_inside
from oaa_tf.data.records.keys import IGNORE_LABEL

CLASSES_FILE = "classes.txt"

_MAX_CLASSES = IGNORE_LABEL - 1
_MAX_CLASS_LENGTH = 100


class ClassList:
    """All classes of a data set, and those of them that the records keep.

    Args:
        known: Names of all classes, in the order in which masks number them (the first is 1).
        kept: Names of the classes to keep, in the order of their new indices; all if empty.
        where: The file or folder that names the classes.

    Attributes:
        known: As given.
        kept: As given; all if it was empty.

    Raises:
        UserError: The name of a class is invalid, or a class to keep is unknown or named twice.
    """

    def __init__(self, known: Sequence[str], kept: Sequence[str], where: str | os.PathLike) -> None:
        self.known = tuple(known)
        self._where = where
        self._check_known()
        unknown = [name for name in kept if name not in self.known]
        if unknown:
            raise UserError(f"unknown {', '.join(unknown)}; expected some of {', '.join(self.known)}", flag="classes")
        if len(set(kept)) != len(kept):
            raise UserError("a class is named twice", flag="classes", value=",".join(kept))
        self.kept = tuple(kept) or self.known
        self._new_index = {self.known.index(name): index for index, name in enumerate(self.kept)}

    def index(self, name: str, where: str | os.PathLike) -> int:
        """Index of a class among all.

        Raises:
            UserError: The class is unknown; the message begins with `where`.
        """
        if name not in self.known:
            raise UserError(f"{where}: unknown class {quoted(name)}; expected one of {', '.join(self.known)}")
        return self.known.index(name)

    def kept_labels(self, indices: Iterable[int]) -> tuple[int, ...]:
        """Indices among the kept classes, ascending, for indices among all; other classes are left out."""
        return tuple(sorted({self._new_index[index] for index in indices if index in self._new_index}))

    def renumbered(self, mask: np.ndarray, where: str | os.PathLike) -> np.ndarray:
        """Renumbers a mask for the kept classes.

        Args:
            mask: uint8 `[height, width]`: 0 background, n the n-th known class, `IGNORE_LABEL`.
            where: Its file, for error messages.

        Returns:
            uint8 `[height, width]`: 0 background, c + 1 kept class c, `IGNORE_LABEL` for all other classes.

        Raises:
            UserError: A value is no class.
        """
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        wrong = [int(value) for value in present if len(self.known) < value != IGNORE_LABEL]
        if wrong:
            raise UserError(
                f"{where}: pixel value {wrong[0]} is no class; "
                f"expected 0 to {len(self.known)} ({CLASSES_FILE}) and {IGNORE_LABEL}"
            )
        new_values = np.full(256, IGNORE_LABEL, np.uint8)
        new_values[0] = 0
        for old, new in self._new_index.items():
            new_values[old + 1] = new + 1
        return new_values[mask]

    def _check_known(self) -> None:
        if not all(self.known):
            raise UserError(f"{self._where}: expected one class name per line, found an empty line")
        if len(set(self.known)) != len(self.known):
            raise UserError(f"{self._where}: a class is named twice")
        if wrong := [name for name in self.known if not name.isprintable() or len(name) > _MAX_CLASS_LENGTH]:
            raise UserError(
                f"{self._where}: {quoted(wrong[0])} is no class name; "
                f"expected at most {_MAX_CLASS_LENGTH} characters of text"
            )
        if background := [name for name in self.known if name.lower() == "background"]:
            raise UserError(
                f"{self._where}: the classes are those of objects, and the background is none: remove {background[0]!r}"
            )
        if len(self.known) > _MAX_CLASSES:
            raise UserError(f"{self._where}: {len(self.known)} classes; masks of 8 bits hold at most {_MAX_CLASSES}")


def read_class_file(root: Path) -> tuple[str, ...] | None:
    """The lines of `classes.txt` in a data folder; None without the file.

    Raises:
        UserError: It cannot be read, or is a link to somewhere outside.
    """
    path = root / CLASSES_FILE
    # A broken link is an error, not a folder without the file.
    if not os.path.lexists(path):
        return None
    return tuple(line.strip() for line in as_text(read_inside(path, root), path).rstrip().split("\n"))
