"""Label images as COCO's JSON, and back: one region for every class of an image, in compressed run lengths.

COCO has no value for pixels to ignore. They become crowds (`iscrowd`) of the image's own classes, which other code
neither trains on nor counts as errors.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError, first_names
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.coco import read_coco
from oaa_tf.data.formats.run_lengths import compressed, run_lengths
from oaa_tf.data.formats.tagged_images import image_id_of
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import SIZES_ADVICE, RecordSet
from oaa_tf.runs.atomic import atomic_write


def write_coco_labels(path: str | os.PathLike, label_maps: Sequence[np.ndarray], records: RecordSet) -> None:
    """Writes the labels of all images.

    Args:
        path: The file to write.
        label_maps: uint8 `[height, width]` for each image: 0 background, c + 1 class c, `IGNORE_LABEL`.
        records: The images.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position, (image_id, labels) in enumerate(zip(records.image_ids, label_maps, strict=True)):
        height, width = labels.shape
        # Records of an earlier version do not know the names.
        name = records.files[position] or f"{image_id}.jpg"
        images.append({"id": position + 1, "file_name": name, "height": height, "width": width})
        regions = [(int(value) - 1, labels == value, 0) for value in np.unique(labels) if 0 < value < IGNORE_LABEL]
        ignored = labels == IGNORE_LABEL
        if ignored.any():
            regions += [(label, ignored, 1) for label in records.labels[position]]
        for label, region, is_crowd in regions:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": position + 1,
                    "category_id": label + 1,
                    "iscrowd": is_crowd,
                    **_described(region),
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(records.classes)]
    with atomic_write(path) as file:
        file.write(json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode())


def read_coco_labels(path: str | os.PathLike, records: RecordSet) -> Iterator[np.ndarray]:
    """Reads the labels of all images, in the order of the records; see `read_coco` for overlaps and crowds.

    Images go by their names, classes by theirs; other images are not looked at, other classes are to be ignored.

    Yields:
        uint8 `[height, width]`: 0 background, c + 1 class c, `IGNORE_LABEL`.

    Raises:
        UserError: The file is missing, damaged or something else, or has not all of the images and classes, or no
            outlines, or those of another size.
    """
    path = Path(path)
    tagged, found = read_coco(path, ())
    missing = [name for name in records.classes if name not in found.known]
    if missing:
        raise UserError(f"{path}: has no category {missing[0]}, only {first_names(found.known)}")
    classes = ClassList(found.known, records.classes, path)
    by_id = {image_id_of(one.file): one for one in tagged}
    for image_id, size in zip(records.image_ids, records.sizes.tolist(), strict=True):
        if image_id not in by_id:
            raise UserError(f"{path}: has no image {image_id}; all {len(records)} images of the records are needed")
        one = by_id[image_id]
        if one.draw_mask is None:
            raise UserError(f"{one.where}: {one.file} has objects without an outline")
        labels = classes.renumbered(one.draw_mask(), one.where)
        if list(labels.shape) != size:
            raise UserError(
                f"{one.where}: {labels.shape[1]}x{labels.shape[0]} pixels, the image has {size[1]}x{size[0]};"
                f" {SIZES_ADVICE}"
            )
        yield labels


def _described(region: np.ndarray) -> dict[str, Any]:
    """Outline, area and box of a region that is not empty."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)).tolist() for axis in (1, 0))
    return {
        "segmentation": {"size": list(region.shape), "counts": compressed(run_lengths(region))},
        "area": int(np.count_nonzero(region)),
        "bbox": [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1],
    }
