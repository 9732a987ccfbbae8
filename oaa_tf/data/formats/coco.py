"""COCO's JSON of objects ("instances"): image labels, and masks if the objects have outlines."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.run_lengths import decompressed, region_of_polygons, region_of_run_lengths
from oaa_tf.data.formats.tagged_images import TaggedFile
from oaa_tf.data.images.input_files import check_size
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.runs.json_file import read_json


@dataclasses.dataclass(frozen=True)
class _Object:
    """One annotation: its class among all, its outline as it is in the file, and where that is said."""

    label: int
    segmentation: Any
    is_crowd: bool
    where: str


def read_coco(path: Path, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images of a file with the classes of their objects.

    The classes are the file's categories in the order of their ids. Of an image all of whose objects have outlines, the
    mask can be drawn: smaller objects lie on top of larger ones, and crowds (`iscrowd`) are to be ignored.

    Args:
        path: The file.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: It is missing, damaged, or something else.
    """
    try:
        content = read_json(path)
        images, annotations, categories = (content[key] for key in ("images", "annotations", "categories"))
        images, annotations, categories = (_by_id(path, *each) for each in (
            ("image", images), ("annotation", annotations), ("category", categories)
        ))  # fmt: skip
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    except KeyError as error:
        raise UserError(f"{path}: has no list {error}; expected COCO's instances JSON") from None
    except ValueError as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        raise UserError(f"{path}: {reason}; expected COCO's instances JSON") from None
    ordered = sorted(categories)
    names = [_value(categories[number], "name", str, f"{path}: category {number}") for number in ordered]
    classes = ClassList(names, kept, path)
    index = {number: label for label, number in enumerate(ordered)}
    objects: dict[int, list[_Object]] = {number: [] for number in images}
    for number, annotation in annotations.items():
        where = f"{path}: annotation {number}"
        image = _value(annotation, "image_id", int, where)
        category = _value(annotation, "category_id", int, where)
        if image not in images:
            raise UserError(f"{where}: there is no image {image}")
        if category not in index:
            raise UserError(f"{where}: there is no category {category}")
        is_crowd = annotation.get("iscrowd", 0) == 1
        objects[image].append(_Object(index[category], annotation.get("segmentation"), is_crowd, where))
    tagged = []
    for number, image in images.items():
        where = f"{path}: image {number}"
        file = _value(image, "file_name", str, where)
        labels = tuple(sorted({one.label for one in objects[number]}))
        draw = None
        if all(one.segmentation for one in objects[number]):
            size = (_value(image, "height", int, where), _value(image, "width", int, where))
            draw = functools.partial(draw_mask, objects[number], *size, where)
        tagged.append(TaggedFile(file, labels, where, draw))
    return tagged, classes


def draw_mask(objects: Sequence[_Object], height: int, width: int, where: str) -> np.ndarray:
    """Draws the mask of an image: uint8 `[height, width]`, label + 1 in objects, `IGNORE_LABEL` in crowds, else 0.

    Raises:
        UserError: An outline is none, or not of this size.
    """
    check_size(max(width, 0), max(height, 0), where)
    regions = [(one, _region(one, height, width)) for one in objects]
    # Crowds lie below everything; of objects, the largest.
    regions.sort(key=lambda each: (not each[0].is_crowd, -np.count_nonzero(each[1])))
    mask = np.zeros((height, width), np.uint8)
    for one, region in regions:
        mask[region] = IGNORE_LABEL if one.is_crowd else one.label + 1
    return mask


def _region(one: _Object, height: int, width: int) -> np.ndarray:
    """The pixels of an object: bool `[height, width]`."""
    try:
        if isinstance(one.segmentation, list):
            return region_of_polygons(one.segmentation, height, width)
        size, counts = one.segmentation["size"], one.segmentation["counts"]
        if size != [height, width]:
            raise ValueError(f"its segmentation has the size {size}, but the image is {[height, width]}")
        counts = decompressed(counts) if isinstance(counts, str) else counts
        return region_of_run_lengths(counts, height, width)
    except (KeyError, TypeError):
        raise UserError(f"{one.where}: its segmentation is neither polygons nor run lengths") from None
    except ValueError as error:
        raise UserError(f"{one.where}: {error}") from None


def _by_id(path: Path, kind: str, records: Any) -> dict[int, dict[str, Any]]:
    """The records of one list by their ids.

    Raises:
        UserError: One is no record, or has no id or another's.
        ValueError: It is no list.
    """
    if not isinstance(records, list):
        raise ValueError(f"its list for each {kind} is none")
    by_id: dict[int, dict[str, Any]] = {}
    for rank, record in enumerate(records):
        where = f"{path}: {kind} number {rank + 1}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: expected an object, found {quoted(str(record))}")
        number = _value(record, "id", int, where)
        if number in by_id:
            raise UserError(f"{where}: duplicate id {number}")
        by_id[number] = record
    return by_id


def _value(record: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = record.get(key)
    if type(value) is not kind:
        expected = "a whole number" if kind is int else "text"
        raise UserError(f"{where}: its {key!r} is {quoted(str(value))}, expected {expected}")
    return value
