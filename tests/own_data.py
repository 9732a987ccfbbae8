"""The images of a VOC folder in the other formats that `make_records` reads."""

import json
import shutil
from pathlib import Path

import numpy as np

from oaa_tf.data.formats.run_lengths import compressed, run_lengths
from oaa_tf.data.formats.voc import VocFolder
from oaa_tf.data.images.palette_png import read_indexed, write_indexed

FORMATS = ("folders", "csv", "coco")


def write_own_data(voc: Path, folder: Path, form: str, splits: tuple[str, ...] = ("train",)) -> dict[str, str]:
    """Writes `photos/`, with masks and saliency maps if there are any, and what says their tags.

    Args:
        voc: A folder in VOC layout.
        folder: Where to write.
        form: "folders" (of images with several labels the first counts), "csv" or "coco".
        splits: The splits whose images to take, all into one folder.

    Returns:
        The settings of `make_records` that name the data.
    """
    source = VocFolder(voc)
    photos = folder / "photos"
    photos.mkdir(parents=True)
    labels = {image_id: found for split in splits for image_id, found in source.listed_labels(split).items()}
    lines = ["file,tags"]
    # Masks number the classes in alphabetical order.
    new_values = np.arange(256, dtype=np.uint8)
    for value, name in enumerate(source.class_list.known, start=1):
        new_values[value] = sorted(source.class_list.known).index(name) + 1
    for image_id, indices in labels.items():
        image = source.images.find(image_id)
        place = Path(source.class_list.known[indices[0]] if form == "folders" else "")
        _copy(image, photos / place)
        for name in ("SegmentationClass", "saliency"):
            if (file := voc / name / f"{image_id}.png").is_file() and (name, form) != ("SegmentationClass", "coco"):
                _copy(file, photos / name / place)
                if name == "SegmentationClass":
                    copy = photos / name / place / file.name
                    write_indexed(copy, new_values[read_indexed(copy)])
        lines.append(f"{image.name},{';'.join(source.class_list.known[index] for index in indices)}")
    if form == "folders":
        return {"image_dir": str(photos)}
    tags = folder / ("tags.csv" if form == "csv" else "instances.json")
    if form == "csv":
        tags.write_text("\n".join(lines) + "\n")
    else:
        tags.write_text(json.dumps(coco_content(source, labels)))
    return {"image_dir": str(photos), "tags": str(tags)}


def coco_content(source: VocFolder, labels: dict[str, tuple[int, ...]]) -> dict:
    """COCO's JSON with an object for every label: run lengths, compressed or not, and crowds for what is ignored.

    Ids are neither consecutive nor in order.
    """
    categories = [{"id": 3 + 7 * index, "name": name} for index, name in enumerate(source.class_list.known)]
    images, annotations = [], []
    for rank, (image_id, indices) in enumerate(labels.items()):
        path = source.masks.find(image_id)
        mask = read_indexed(path) if path else None
        height, width = mask.shape if path else (1, 1)
        number = 1000 - rank
        images.append({"id": number, "file_name": source.images.find(image_id).name, "height": height, "width": width})
        for index, value in [*((index, index + 1) for index in indices), (indices[0], 255)]:
            annotation = {"id": len(annotations) + 5, "image_id": number, "category_id": categories[index]["id"]}
            annotation["iscrowd"] = int(value == 255)
            if path:
                counts = run_lengths(mask == value)
                is_short = len(annotations) % 2 == 1
                annotation["segmentation"] = {
                    "size": [height, width], "counts": compressed(counts) if is_short else counts
                }  # fmt: skip
            annotations.append(annotation)
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def _copy(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder)
