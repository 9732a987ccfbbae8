"""Photos with what is known of each beside it, as Roboflow exports them: `x.jpg` and `x.xml`, or `x_mask.png`.

The XML is PASCAL VOC's. The values of masks are in `_classes.csv`, with the header `Pixel Value,Class`.
"""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

from oaa_tf.command_line.errors import UserError, raise_all
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing, as_text, read_inside
from oaa_tf.data.formats.mask_files import labels_of_mask, read_mask
from oaa_tf.data.formats.tagged_images import TaggedFile
from oaa_tf.data.formats.voc import annotated_objects

_MASK_ENDING = "_mask"
_MASK_CLASSES = "_classes.csv"


def is_flat_folder(listing: Listing) -> bool:
    """Whether some photo lies beside its XML or mask, in the folder itself."""
    names = {name for name in listing.names() if "/" not in name}
    beside = {path.stem for path in listing.other_files if path.suffix == ".xml" and path.parent == listing.folder}
    return bool(names & beside) or any(f"{name}{_MASK_ENDING}" in names for name in names)


def read_flat_folder(listing: Listing, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList, list[Path]]:
    """The images, their classes, and the files that were read.

    Without a class file or `_classes.csv`, the classes are the names in the XML files, in alphabetical order.

    Args:
        listing: All images; masks are taken out of it.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: A photo has no XML or mask, or one of these is wrong.
    """
    root = listing.folder
    masks = listing.take(_MASK_ENDING)
    beside = masks or {name: path for name in listing.names() if (path := root / f"{name}.xml").is_file()}
    photos = dict(zip(listing.names(), listing.paths(), strict=True))
    advice = "no mask or XML beside this photo; add it, or move the photo"
    raise_all([UserError(f"{path}: {advice}") for name, path in photos.items() if name not in beside])
    files = {path.relative_to(root).as_posix(): beside[name] for name, path in photos.items()}
    if masks:
        classes = ClassList.of_folder(root, kept, _mask_classes(root), root / _MASK_CLASSES)
        draws = {file: functools.partial(read_mask, mask, classes) for file, mask in files.items()}
        tagged = [TaggedFile(file, labels_of_mask(draw()), str(files[file]), draw) for file, draw in draws.items()]
        return tagged, classes, [root / _MASK_CLASSES, *files.values()]
    objects = {file: annotated_objects(path, root) for file, path in files.items()}
    used = sorted({name for found in objects.values() for name, _ in found})
    classes = ClassList.of_folder(root, kept, used, root)
    return [
        TaggedFile(file, tuple(sorted({classes.index(name, files[file]) for name, _ in found})), str(files[file]))
        for file, found in objects.items()
    ], classes, list(files.values())  # fmt: skip


def _mask_classes(root: Path) -> list[str]:
    """The classes of masks, in the order of their values."""
    path = root / _MASK_CLASSES
    lines = csv.reader(as_text(read_inside(path, root), path).splitlines(), skipinitialspace=True)
    rows = [[cell.strip() for cell in row] for row in lines if row]
    values, names = [row[0] for row in rows[1:]], [row[-1] for row in rows[1:]]
    is_right = rows[:1] == [["Pixel Value", "Class"]] and values == [str(value) for value in range(len(values))]
    if not is_right or [name.lower() for name in names[:1]] != ["background"]:
        raise UserError(f"{path}: expected Pixel Value,Class and a line for each value from 0, the background, on")
    return names[1:]
