"""COCO's JSON of objects ("instances"): image labels, and masks if the objects have outlines."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted, raise_all
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import as_text
from oaa_tf.data.formats.run_lengths import decompressed, region_of_polygons, region_of_run_lengths
from oaa_tf.data.formats.tagged_images import TaggedFile
from oaa_tf.data.images.input_files import check_size, read_bytes
from oaa_tf.data.records.keys import IGNORE_LABEL

_LISTS = ("images", "annotations", "categories")
_ID = (int, str)


@dataclasses.dataclass(frozen=True)
class _Object:
    """One annotation: its class among all, its outline as it is in the file, and where that is said."""

    label: int
    segmentation: Any
    is_crowd: bool
    where: str


def read_coco(path: Path, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images of a file with the classes of their objects; see `coco_images`.

    Raises:
        UserError: It is missing, damaged, or something else.
    """
    content = read_json_content(path)
    return coco_images(content if isinstance(content, dict) else {}, path, kept)


def read_json_content(path: Path) -> Any:
    """The content of a JSON file of any kind.

    Raises:
        UserError: It is missing or no JSON.
    """
    try:
        return json.loads(as_text(read_bytes(path), path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}; expected COCO's instances JSON") from None


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file is COCO's, though it may lack something."""
    return isinstance(content, dict) and any(isinstance(content.get(key), list) for key in _LISTS)


def coco_images(content: Mapping[str, Any], path: Path, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images of COCO's JSON with the classes of their objects.

    The classes are the file's categories in the order of their ids, without the root that Roboflow makes up. Of an
    image all of whose objects have outlines, the mask can be drawn: smaller objects lie on top of larger ones, and
    crowds (`iscrowd`) are to be ignored.

    Args:
        content: The file's content.
        path: The file.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: The content is something else, or contradicts itself.
    """
    try:
        images, annotations, categories = (_records(path, key, content[key]) for key in _LISTS)
    except KeyError as error:
        raise UserError(f"{path}: has no list {error}; expected COCO's instances JSON") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; expected COCO's instances JSON") from None
    images_by_id, categories_by_id = _by_id(path, "image", images), _by_id(path, "category", categories)
    _drop_root(categories_by_id, annotations)
    # Numbers before names, as some programs have both.
    ordered = sorted(categories_by_id, key=lambda number: (isinstance(number, str), number))
    names = [_value(categories_by_id[number], "name", str, f"{path}: category {number}") for number in ordered]
    classes = ClassList(names, kept, path)
    index = {number: label for label, number in enumerate(ordered)}
    objects: dict[int | str, list[_Object]] = {number: [] for number in images_by_id}
    mistakes = []
    for rank, annotation in enumerate(annotations, start=1):
        where = f"{path}: annotation {annotation.get('id', f'number {rank}')}"
        try:
            image = _value(annotation, "image_id", _ID, where)
            category = _value(annotation, "category_id", _ID, where)
            if image not in objects:
                raise UserError(f"{where}: there is no image {image}")
            if category not in index:
                raise UserError(f"{where}: there is no category {category}")
        except UserError as error:
            mistakes.append(error)
            continue
        is_crowd = annotation.get("iscrowd", 0) == 1
        objects[image].append(_Object(index[category], annotation.get("segmentation"), is_crowd, where))
    raise_all(mistakes)
    tagged = []
    for number, record in images_by_id.items():
        where = f"{path}: image {number}"
        file = _value(record, "file_name", str, where)
        labels = tuple(sorted({one.label for one in objects[number]}))
        draw = None
        # Without outlines, nobody needs the size.
        if all(one.segmentation for one in objects[number]) and {"height", "width"} <= record.keys():
            height, width = (_value(record, key, int, where) for key in ("height", "width"))
            draw = functools.partial(draw_mask, objects[number], height, width, where)
        tagged.append(TaggedFile(file, labels, where, draw))
    return tagged, classes


def _drop_root(categories: dict[int | str, dict[str, Any]], annotations: Sequence[Mapping[str, Any]]) -> None:
    """Drops the category 0 of Roboflow, above all others, if no annotation uses it."""
    root = categories.get(0, {})
    others = [category.get("supercategory") for number, category in categories.items() if number != 0]
    is_root = root.get("supercategory") == "none" and others and all(name == root.get("name") for name in others)
    if is_root and all(annotation.get("category_id") != 0 for annotation in annotations):
        del categories[0]


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


def _records(path: Path, kind: str, records: Any) -> list[dict[str, Any]]:
    """The records of one list.

    Raises:
        UserError: One is no record.
        ValueError: It is no list.
    """
    if not isinstance(records, list):
        raise ValueError(f"its {kind} are no list")
    wrong = [(rank, record) for rank, record in enumerate(records, start=1) if not isinstance(record, dict)]
    found = (f"{rank} of its {kind}: expected an object, found {quoted(str(record))}" for rank, record in wrong)
    raise_all([UserError(f"{path}: number {each}") for each in found])
    return records


def _by_id(path: Path, kind: str, records: Sequence[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The records of one list by their ids.

    Raises:
        UserError: One has no id or another's.
    """
    by_id: dict[int | str, dict[str, Any]] = {}
    for rank, record in enumerate(records, start=1):
        number = _value(record, "id", _ID, f"{path}: {kind} number {rank}")
        if number in by_id:
            raise UserError(f"{path}: {kind} number {rank}: duplicate id {number}")
        by_id[number] = record
    return by_id


def _value(record: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = record.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = "text" if kind is str else "a whole number"
        raise UserError(f"{where}: its {key!r} is {quoted(str(value))}, expected {expected}")
    return value
