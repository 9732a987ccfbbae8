"""A folder for every class: `photos/<class>/*.jpg`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList, read_class_file
from oaa_tf.data.formats.folder_files import Listing
from oaa_tf.data.formats.tagged_images import TaggedFile

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def read_class_folders(listing: Listing, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images by the folder that they are in, at any depth.

    The classes are the lines of `classes.txt`, if there is one beside the folders, else the folders' names in
    alphabetical order.

    Args:
        listing: All images.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: An image is in no folder, a folder has no image or is no class, or an image is in two folders.
    """
    root = listing.folder
    found = [listing.find(name) for name in listing]
    by_folder: dict[str, list[Path]] = {path.name: [] for path in _folders(listing)}
    for path in found:
        folder, *rest = path.relative_to(root).parts
        if not rest:
            raise UserError(
                f"{path}: an image in no class' folder; move it into one, or say its tags in a list (--tags)"
            )
        by_folder.setdefault(folder, []).append(path)
    if by_folder.keys() <= _SPLITS:
        raise UserError(
            f"its folders are splits, not classes: {', '.join(sorted(by_folder))}; name one of them",
            flag="image_dir",
            value=root,
        )
    if empty := [folder for folder, paths in by_folder.items() if not paths]:
        raise UserError(f"{root / empty[0]}: no images in this class' folder; add some, or remove it")
    listed = read_class_file(root)
    classes = ClassList(listed or sorted(by_folder), kept, root / CLASSES_FILE if listed else root)
    _refuse_copies(by_folder)
    return [
        TaggedFile(path.relative_to(root).as_posix(), (classes.index(folder, root / folder),), str(root / folder))
        for folder, paths in sorted(by_folder.items())
        for path in paths
    ], classes


def _folders(listing: Listing) -> set[Path]:
    """Folders directly below that have files, images or not."""
    parts = [path.relative_to(listing.folder).parts for path in listing.other_files]
    return {listing.folder / folder for folder, *rest in parts if rest}


def _refuse_copies(by_folder: dict[str, list[Path]]) -> None:
    """A photo in two folders has two tags; as two images with one tag each, it would teach the opposite."""
    by_size: dict[int, list[tuple[str, Path]]] = {}
    for folder, paths in by_folder.items():
        for path in paths:
            by_size.setdefault(path.stat().st_size, []).append((folder, path))
    for same_size in by_size.values():
        if len({folder for folder, _ in same_size}) < 2:
            continue
        seen: dict[bytes, tuple[str, Path]] = {}
        for folder, path in same_size:
            first_folder, first = seen.setdefault(hashlib.sha256(path.read_bytes()).digest(), (folder, path))
            if first_folder != folder:
                raise UserError(
                    f"{path}: the same photo as {first}; photos with several tags need a list of them (--tags)"
                )
