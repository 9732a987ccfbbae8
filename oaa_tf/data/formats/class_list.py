"""The classes of a data set, and those to keep."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from oaa_tf.command_line.errors import UserError, first_names, quoted
from oaa_tf.data.formats.folder_files import as_text, read_inside
from oaa_tf.data.records.keys import IGNORE_LABEL, MAX_MASK_CLASSES

CLASSES_FILE = "classes.txt"
_LABEL_MAP = "labelmap.txt"
CLASS_FILES = (CLASSES_FILE, "class_names.txt", _LABEL_MAP)
"""Files in a data folder that name its classes, as users, labelme and CVAT write them; the first that exists counts."""

_IGNORED = "__ignore__"
_BACKGROUND = ("background", "_background_")
# Names of what is not there; as classes, they would be learned like objects.
_NOTHING = (*_BACKGROUND, _IGNORED, "no finding", "none", "nan")

_MAX_CLASS_LENGTH = 100


class ClassList:
    """All classes of a data set, and those of them that the records keep.

    Args:
        known: Names of all classes, in the order in which masks number them (the first is 1).
        kept: Names of the classes to keep, in the order of their new indices; all if empty.
        where: The file or folder that names the classes.
        colors: Values of masks by color, `red << 16 | green << 8 | blue`, if masks have colors.

    Attributes:
        known: As given.
        kept: As given; all if it was empty.
        where: As given.
        colors: As given; None if masks hold indices.

    Raises:
        UserError: The name of a class is invalid, or a class to keep is unknown or named twice.
    """

    def __init__(
        self,
        known: Sequence[str],
        kept: Sequence[str],
        where: str | os.PathLike,
        colors: Mapping[int, int] | None = None,
    ) -> None:
        self.known = tuple(known)
        self.where = where
        self.colors = colors
        self._check_known()
        self._index = {name: index for index, name in enumerate(self.known)}
        unknown = [name for name in kept if name not in self._index]
        if unknown:
            raise UserError(f"unknown {', '.join(unknown)}; expected some of {first_names(self.known)}", flag="classes")
        if len(set(kept)) != len(kept):
            raise UserError("a class is named twice", flag="classes", value=",".join(kept))
        self.kept = tuple(kept) or self.known
        self._new_index = {self._index[name]: index for index, name in enumerate(self.kept)}

    @classmethod
    def of_folder(cls, root: Path, kept: Sequence[str], otherwise: Sequence[str], where: str | os.PathLike) -> Self:
        """The classes that a file of the data folder names; without such a file, those of `otherwise`.

        Raises:
            UserError: See the class and `read_class_file`.
        """
        listed = read_class_file(root)
        return cls(listed.names, kept, listed.path, listed.colors) if listed else cls(otherwise, kept, where)

    def index(self, name: str, where: str | os.PathLike) -> int:
        """Index of a class among all.

        Raises:
            UserError: The class is unknown; the message begins with `where`.
        """
        if name not in self._index:
            raise UserError(
                f"{where}: unknown class {quoted(name)}; expected one of {first_names(self.known)} ({self.where})"
            )
        return self._index[name]

    def require_masks(self) -> None:
        """Refuses more classes than masks can number.

        Raises:
            UserError: There are more.
        """
        if len(self.known) > MAX_MASK_CLASSES:
            raise UserError(
                f"{self.where}: {len(self.known)} classes, but masks can number {MAX_MASK_CLASSES}; make the records"
                " without masks (--mask_dir=)"
            )

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
                f"expected 0 to {len(self.known)} ({self.where}) and {IGNORE_LABEL}"
            )
        new_values = np.full(256, IGNORE_LABEL, np.uint8)
        new_values[0] = 0
        for old, new in self._new_index.items():
            new_values[old + 1] = new + 1
        return new_values[mask]

    def _check_known(self) -> None:
        if not self.known:
            raise UserError(f"{self.where}: names no class")
        if not all(self.known):
            raise UserError(f"{self.where}: expected one class name per line, found an empty line")
        if len(set(self.known)) != len(self.known):
            raise UserError(f"{self.where}: a class is named twice")
        spellings: dict[str, str] = {}
        for name in self.known:
            if (other := spellings.setdefault(name.casefold(), name)) != name:
                raise UserError(f"{self.where}: the classes {other} and {name} differ only in case; write them alike")
        if wrong := [name for name in self.known if not name.isprintable() or len(name) > _MAX_CLASS_LENGTH]:
            raise UserError(
                f"{self.where}: {quoted(wrong[0])} is no class name; "
                f"expected at most {_MAX_CLASS_LENGTH} characters of text"
            )
        if nothing := [name for name in self.known if name.lower() in _NOTHING]:
            raise UserError(
                f"{self.where}: the classes are those of objects, and {nothing[0]!r} is none: remove it;"
                " a photo without objects has no tag"
            )


@dataclasses.dataclass(frozen=True)
class ClassFile:
    """The content of a file that names the classes.

    Attributes:
        path: The file.
        names: The classes; the background and `__ignore__`, with which labelme and CVAT begin, are none.
        colors: See `ClassList`.
        counts_background: Whether the background has a line, so that the first class is in the second.
    """

    path: Path
    names: tuple[str, ...]
    colors: dict[int, int] | None
    counts_background: bool


def read_class_file(root: Path) -> ClassFile | None:
    """The first of `CLASS_FILES` in a data folder; None without any.

    Raises:
        UserError: It cannot be read, is damaged, or is a link to somewhere outside.
    """
    # A broken link is an error, not a folder without the file.
    path = next((root / name for name in CLASS_FILES if os.path.lexists(root / name)), None)
    if path is None:
        return None
    names = [line.strip() for line in as_text(read_inside(path, root), path).rstrip().split("\n")]
    values = None
    if path.name == _LABEL_MAP:
        lines = [line for line in names if line and not line.startswith("#")]
        names = [line.split(":")[0].strip() for line in lines]
        values = [_color(line, path) for line in lines]
    if names[:1] == [_IGNORED]:
        names, values = names[1:], values and values[1:]
    backgrounds = [name for name in names if name.lower() in _BACKGROUND]
    # With colors, the place of the background does not count.
    counts_background = (len(backgrounds) == 1 and names[:1] == backgrounds) or (
        values is not None and len(backgrounds) == 1
    )
    colors = None
    if values is not None:
        classes = [name for name in names if name not in backgrounds]
        if len(set(values)) < len(values):
            raise UserError(f"{path}: two lines have the same color")
        colors = {
            color: (classes.index(name) + 1 if name in classes else 0)
            for name, color in zip(names, values, strict=True)
        }
        colors.setdefault(0, 0)
    if counts_background:
        names = [name for name in names if name not in backgrounds]
    return ClassFile(path, tuple(names), colors, counts_background)


def _color(line: str, path: Path) -> int:
    """The color in a line of CVAT's `name:red,green,blue:parts:actions`."""
    try:
        red, green, blue = (int(value) for value in line.split(":")[1].split(","))
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError
    except (IndexError, ValueError):
        raise UserError(f"{path}: {quoted(line)}: expected CVAT's name:red,green,blue::") from None
    return red << 16 | green << 8 | blue
