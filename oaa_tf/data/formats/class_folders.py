"""A folder for every class: `photos/<class>/*.jpg`."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList, read_class_file
from oaa_tf.data.formats.folder_files import Listing
from oaa_tf.data.formats.tagged_images import TaggedFile

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def read_class_folders(listing: Listing, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images, each tagged with the folder that it is in, at any depth.

    The classes are the lines of `classes.txt` beside the folders; without this file, they are the names of the folders
    in alphabetical order.

    Args:
        listing: All images.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: An image is in no folder or in two, or a folder has no image or is not a class.
    """
    root = listing.folder
    by_folder: dict[str, list[Path]] = {}
    for path in listing.paths():
        folder, *rest = path.relative_to(root).parts
        if not rest:
            raise UserError(
                f"{path}: an image in no class' folder; move it into one, or say its tags in a list (--tags)"
            )
        by_folder.setdefault(folder, []).append(path)
    with_other_files = {path.relative_to(root).parts[0] for path in listing.other_files if path.parent != root}
    folders = by_folder.keys() | with_other_files
    if folders <= _SPLITS:
        raise UserError(
            f"its folders are splits, not classes: {', '.join(sorted(folders))}; name one of them",
            flag="image_dir",
            value=root,
        )
    if empty := sorted(folders - by_folder.keys()):
        raise UserError(f"{root / empty[0]}: no images in this class' folder; add some, or remove it")
    listed = read_class_file(root)
    classes = ClassList(listed or sorted(by_folder), kept, root / CLASSES_FILE if listed else root)
    _refuse_copies(by_folder)
    return [
        TaggedFile(path.relative_to(root).as_posix(), (classes.index(folder, root / folder),), str(root / folder))
        for folder, paths in sorted(by_folder.items())
        for path in paths
    ], classes


def _refuse_copies(by_folder: dict[str, list[Path]]) -> None:
    """Refuses a photo that is in two folders: it has two tags, and two images with one tag each would teach neither."""
    sizes = {path: path.stat().st_size for paths in by_folder.values() for path in paths}
    num_of_size = Counter(sizes.values())
    first_copy: dict[bytes, tuple[str, Path]] = {}
    for folder, paths in by_folder.items():
        for path in paths:
            # Copies have the same size; few other photos do.
            if num_of_size[sizes[path]] == 1:
                continue
            first_folder, first = first_copy.setdefault(hashlib.sha256(path.read_bytes()).digest(), (folder, path))
            if first_folder != folder:
                raise UserError(
                    f"{path}: the same photo as {first}; photos with several tags need a list of them (--tags)"
                )
