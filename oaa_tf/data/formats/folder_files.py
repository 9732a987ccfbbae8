"""The files of a data folder: what they may be called, and that none of them leads out of it."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.input_files import read_bytes
from oaa_tf.runs.file_names import links_outside


class Listing:
    """The files of a folder by their names without suffix.

    Files are looked up here, never opened by a name that a list made up. Accents may be spelled either way that Unicode
    has for them: file systems and lists differ in it.

    Args:
        folder: The folder.
        suffixes: File name endings that count, in lower case.
        root: The data's folder; a file that links to somewhere outside of it is refused when it is asked for.
        may_be_empty: Whether there need not be any file.
        recursive: Whether files in folders below count too, by their path (`dog/001`); what is hidden does not then.
        skip: With `recursive`: paths of folders that do not count.

    Raises:
        UserError: The folder cannot be read, or is empty, or a folder below is a link.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: tuple[str, ...],
        root: Path,
        *,
        may_be_empty: bool = False,
        recursive: bool = False,
        skip: tuple[Path, ...] = (),
    ) -> None:
        self.folder = folder
        self.other_files: list[Path] = []
        self._files: dict[str, list[Path]] = {}
        self._outside = set()
        for path in _walk(folder, {path.resolve() for path in skip}) if recursive else _entries(folder):
            if path.suffix.lower() not in suffixes:
                self.other_files.append(path)
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            self._files.setdefault(unicodedata.normalize("NFC", name), []).append(path)
            if links_outside(path, root):
                self._outside.add(path)
        if not self._files and not may_be_empty:
            raise UserError(f"{folder}: empty folder; expected {', '.join(suffixes)} files")

    def __iter__(self) -> Iterator[str]:
        """The names, in alphabetical order."""
        return iter(sorted(self._files))

    def find(self, name: str) -> Path | None:
        """The path of a file; None when there is none.

        Raises:
            UserError: There are two, or it links to somewhere outside of the data's folder.
        """
        paths = self._files.get(unicodedata.normalize("NFC", name))
        if not paths:
            return None
        if len(paths) > 1:
            raise UserError(f"{paths[0]}: {paths[1].name} has the same id; remove one of the two")
        if paths[0] in self._outside:
            raise UserError(f"{paths[0]}: links to a file outside of the data folder; copy the file")
        return paths[0]


def inside(folder: Path, name: str) -> Path:
    """The path of a folder in a data folder, named by `--mask_dir`.

    Raises:
        UserError: The name leads out of it.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"expected the name of a folder inside {folder}", flag="mask_dir", value=name)
    return folder / name


def read_inside(path: Path, root: Path) -> bytes:
    """Reads a file of a data folder.

    Raises:
        UserError: It is missing, unreadable, or links to somewhere outside of `root`.
    """
    if links_outside(path, root):
        raise UserError(f"{path}: links to a file outside of the data folder; copy the file")
    return read_bytes(path)


def as_text(data: bytes, path: Path) -> str:
    """Decodes the content of a text file.

    Raises:
        UserError: It is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a text file in UTF-8") from None


def _entries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)]
    except OSError as error:
        raise UserError(f"{folder}: cannot read the folder: {error.strerror}") from None


def _walk(folder: Path, skip: set[Path]) -> Iterator[Path]:
    """The files of a folder and below, but for hidden ones, among which some systems keep small copies of images."""
    for path in _entries(folder):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() in skip:
            continue
        elif path.is_symlink():
            # It could lead anywhere, and around in circles.
            raise UserError(f"{path}: links to a folder; copy the folder, or move it here")
        else:
            yield from _walk(path, skip)
