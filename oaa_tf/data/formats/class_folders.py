"""A folder for every class: `photos/<class>/*.jpg`."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from oaa_tf.command_line.errors import UserError, raise_all
from oaa_tf.data.formats.class_list import ClassList, read_class_file
from oaa_tf.data.formats.folder_files import SPLIT_FOLDERS, Listing
from oaa_tf.data.formats.tagged_images import TaggedFile

NEGATIVE_FOLDERS = ("good", "ok", "normal", "none", "negative", "background")
"""Folders of photos without any class, as inspection lines name them, in lower case."""

_SPLITS = {name for names in SPLIT_FOLDERS.values() for name in names}
_OTHER_TOOLS = {
    ".txt": "YOLO's boxes, which are not read; export COCO's JSON and give it with --tags",
    ".json": "labelme's JSON of one photo, which is not read; run labelme2voc and give its folder with --voc_dir",
}


def read_class_folders(
    listing: Listing, kept: Sequence[str], negative_folders: Sequence[str]
) -> tuple[list[TaggedFile], ClassList]:
    """The images, each tagged with the folder that it is in, at any depth.

    The classes are the lines of `classes.txt` beside the folders; without this file, they are the names of the folders
    in alphabetical order, except those of negatives, whose images have no tag.

    Args:
        listing: All images.
        kept: Classes to keep; all if empty.
        negative_folders: Folders of images without any class, in any case; a class of `classes.txt` is none.

    Raises:
        UserError: An image is in no folder or in two, or a folder has no image, is not a class, or holds a split.
    """
    root = listing.folder
    by_folder: dict[str, list[Path]] = {}
    mistakes = []
    for path in listing.paths():
        folder, *rest = path.relative_to(root).parts
        if rest:
            by_folder.setdefault(folder, []).append(path)
        else:
            message = f"{path}: an image in no class' folder; move it into one, or say its tags in a list (--tags)"
            mistakes.append(UserError(message))
    if mistakes:
        _refuse_other_tools(listing)
    raise_all(mistakes)
    with_other_files = {path.relative_to(root).parts[0] for path in listing.other_files if path.parent != root}
    folders = by_folder.keys() | with_other_files
    if {folder.lower() for folder in folders} <= _SPLITS:
        first, *others = sorted(folders, key=lambda name: (not name.lower().startswith("train"), name))
        raise UserError(
            f"its folders are splits, not classes: {', '.join([first, *others])}; name one of them, such as"
            f" --image_dir={root / first}, or for the pipeline --image_dir={root}/{{split}}",
            flag="image_dir",
            value=root,
        )
    if empty := sorted(folders - by_folder.keys()):
        _refuse_other_tools(listing)
        raise_all(
            [UserError(f"{root / one}: no images in this class' folder; add some, or remove it") for one in empty]
        )
    listed = read_class_file(root)
    if not listed and len(by_folder) == 1:
        _refuse_folder_of_folders(root, *by_folder.values())
    known = set(listed.names) if listed else set()
    names_of_negatives = {name.lower() for name in negative_folders}
    negatives = {folder for folder in by_folder if folder.lower() in names_of_negatives and folder not in known}
    names = sorted(by_folder.keys() - negatives)
    if not names:
        raise UserError(
            f"all its folders are for photos without a class: {', '.join(sorted(negatives))}; set --negative_folders",
            flag="image_dir",
            value=root,
        )
    classes = ClassList.of_folder(root, kept, names, root)
    if negatives:
        print(
            f"{root}: photos without any class: {', '.join(sorted(negatives))}; set --negative_folders to change that"
        )
    _refuse_copies(by_folder)
    return [
        TaggedFile(
            path.relative_to(root).as_posix(),
            () if folder in negatives else (classes.index(folder, root / folder),),
            str(root / folder),
        )
        for folder, paths in sorted(by_folder.items())
        for path in paths
    ], classes


def _refuse_other_tools(listing: Listing) -> None:
    """Refuses files of tools, named like the photos, that are not read."""
    stems = {Path(name).name for name in listing.names()}
    for path in listing.other_files:
        if path.suffix.lower() in _OTHER_TOOLS and path.stem in stems:
            raise UserError(f"{path}: {_OTHER_TOOLS[path.suffix.lower()]}")


def _refuse_folder_of_folders(root: Path, paths: Sequence[Path]) -> None:
    """Refuses a single class whose images are all in folders below: most likely these are the classes."""
    parts = [path.relative_to(root).parts for path in paths]
    below = sorted({part[1] for part in parts if len(part) > 2})
    if len(below) > 1 and all(len(part) > 2 for part in parts):
        raise UserError(
            f"has one folder, {parts[0][0]}, with the folders {', '.join(below[:5])}; if they are the classes, set"
            f" --image_dir={root / parts[0][0]}, else write {parts[0][0]} into {root / 'classes.txt'}",
            flag="image_dir",
            value=root,
        )


def _refuse_copies(by_folder: dict[str, list[Path]]) -> None:
    """Refuses photos that are in two folders: they have two tags, and images with one tag each would teach neither."""
    sizes = {path: path.stat().st_size for paths in by_folder.values() for path in paths}
    num_of_size = Counter(sizes.values())
    first_copy: dict[bytes, tuple[str, Path]] = {}
    mistakes = []
    for folder, paths in by_folder.items():
        for path in paths:
            # Copies have the same size; few other photos do.
            if num_of_size[sizes[path]] == 1:
                continue
            first_folder, first = first_copy.setdefault(hashlib.sha256(path.read_bytes()).digest(), (folder, path))
            if first_folder != folder:
                message = f"{path}: the same photo as {first}; photos with several tags need a list of them (--tags)"
                mistakes.append(UserError(message))
    raise_all(mistakes)
