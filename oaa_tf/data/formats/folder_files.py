"""The files of a data folder, none of which may lead out of it."""

import codecs
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.image_files import tell_other_files
from oaa_tf.data.images.input_files import read_bytes
from oaa_tf.runs.file_names import links_outside


class Listing:
    """The files of a folder by their names without suffix.

    Readers look files up here; they never open a path that a list gives. File systems and lists may use different
    Unicode forms for the same accented name; both forms are found.

    Args:
        folder: The folder.
        suffixes: File name endings of the files, in lower case.
        root: The data folder. `find` refuses a file that is a link to somewhere outside.
        optional: Whether the folder may be missing or empty.
        recursive: Whether to include the folders below, with names like `dog/001`. This leaves out hidden files.
        skip: Folders to leave out if `recursive`.

    Attributes:
        folder: As given.
        other_files: Files with other endings, except hidden ones.

    Raises:
        UserError: The folder cannot be read or is empty, or a folder below is a link.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: tuple[str, ...],
        root: Path,
        *,
        optional: bool = False,
        recursive: bool = False,
        skip: tuple[Path, ...] = (),
    ) -> None:
        self.folder = folder
        self.other_files: list[Path] = []
        self._root = root
        self._files: dict[str, list[Path]] = {}
        if optional and not folder.is_dir():
            return
        for path in _walk(folder, {path.resolve() for path in skip}) if recursive else _entries(folder):
            if path.suffix.lower() in suffixes:
                name = path.relative_to(folder).with_suffix("").as_posix()
                self._files.setdefault(unicodedata.normalize("NFC", name), []).append(path)
            elif path.is_file() and not path.name.startswith("."):
                self.other_files.append(path)
        if not self._files and not optional:
            raise UserError(f"{folder}: empty folder; expected {', '.join(suffixes)} files")

    @property
    def is_empty(self) -> bool:
        """Whether there is no file."""
        return not self._files

    def tell_other_files(self, known: Collection[Path] = ()) -> None:
        """Prints how many files were left out for their endings, except those in `known`."""
        known = {path.resolve() for path in known}
        tell_other_files(self.folder, [path for path in self.other_files if path.resolve() not in known])

    def names(self) -> list[str]:
        """The names of all files, in alphabetical order."""
        return sorted(self._files)

    def paths(self) -> list[Path]:
        """All files in the alphabetical order of their names; raises like `find`."""
        return [self._only(self._files[name]) for name in self.names()]

    def take(self, ending: str) -> dict[str, Path]:
        """Takes out the files whose name has an ending, and returns them by the rest of the name."""
        taken = {
            name.removesuffix(ending): self._only(self._files[name]) for name in self.names() if name.endswith(ending)
        }
        self._files = {name: paths for name, paths in self._files.items() if not name.endswith(ending)}
        return taken

    def find(self, name: str) -> Path | None:
        """The path of a file; None if it is missing.

        Raises:
            UserError: Two files have this name, or the file is a link to somewhere outside of the data folder.
        """
        paths = self._files.get(unicodedata.normalize("NFC", name))
        return self._only(paths) if paths else None

    def _only(self, paths: list[Path]) -> Path:
        if len(paths) > 1:
            raise UserError(f"{paths[0]}: {paths[1].name} has the same id; remove one of the two")
        _refuse_link_outside(paths[0], self._root)
        return paths[0]


SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of folders, in lower case, that hold a split."""


def with_split(path: str, split: str) -> str:
    """A path with the name of a split for `{split}`: as it is, or as the folder or file that exists is called."""
    names = [split, *(name for one in SPLIT_FOLDERS.get(split, ()) for name in (one, one.capitalize()))]
    paths = [path.replace("{split}", name) for name in names]
    return next((one for one in paths if Path(one).exists()), paths[0])


def inside(folder: Path, name: str) -> Path:
    """The path of the folder in a data folder that `--mask_dir` names.

    Raises:
        UserError: The name leads out of the data folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"expected the name of a folder inside {folder}", flag="mask_dir", value=name)
    return folder / name


def list_masks(root: Path, mask_dir: str, *, recursive: bool = False) -> Listing | None:
    """The masks in the folder `mask_dir` of a data folder, which may be missing or empty; None if `mask_dir` is ""."""
    return Listing(inside(root, mask_dir), (".png",), root, optional=True, recursive=recursive) if mask_dir else None


def read_inside(path: Path, root: Path) -> bytes:
    """Reads a file of a data folder.

    Raises:
        UserError: It is missing, unreadable, or a link to somewhere outside of `root`.
    """
    _refuse_link_outside(path, root)
    return read_bytes(path)


def as_text(data: bytes, path: Path) -> str:
    """Decodes the content of a text file: UTF-8, or UTF-16 with a byte order mark, as Excel writes it.

    Raises:
        UserError: It is neither.
    """
    try:
        return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a text file in UTF-8") from None


def _refuse_link_outside(path: Path, root: Path) -> None:
    if links_outside(path, root):
        raise UserError(f"{path}: links to a file outside of the data folder; copy the file")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot read the folder: {error.strerror}") from None


def _walk(folder: Path, skip: set[Path]) -> Iterator[Path]:
    """The files of a folder and below, except hidden ones: some systems keep thumbnails there."""
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
