"""A tiny data set for tests of whole stages: four images with masks and saliency maps, made into records."""

from pathlib import Path

import cv2
import numpy as np

from oaa_tf.data.images.palette_png import write_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.labels.label_files import DESCRIPTION_FILE, LABELS_FOLDER
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records
from oaa_tf.runs.json_file import write_json

CLASSES = ("cat", "dog", "cow")
LABELS = {"a": (0,), "b": (1,), "c": (0, 1), "d": (1,)}
SIZES = {"a": (40, 60), "b": (60, 40), "c": (48, 48), "d": (30, 50)}


def make_tiny_records(folder: Path, *, masks: bool = True, saliency: bool = True, split: str = "train") -> RecordSet:
    """Writes the images to `folder / "voc"` and makes records of them.

    Every object is a rectangle with a one-pixel border of 255 below it; those of an image lie side by side.
    """
    voc = folder / "voc"
    for name in ("JPEGImages", "SegmentationClass", "Saliency", "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True, exist_ok=True)
    (voc / "classes.txt").write_text("\n".join(CLASSES))
    rng = np.random.default_rng(0)
    for image_id, labels in LABELS.items():
        height, width = SIZES[image_id]
        mask = np.zeros((height, width), np.uint8)
        for rank, label in enumerate(labels):
            left = width // 8 + rank * width // 2
            mask[height // 4 : 3 * height // 4, left : left + width // 3] = label + 1
            mask[3 * height // 4, left : left + width // 3] = 255
        image = np.uint8([[60, 90, 60]])[:, None] + rng.integers(0, 40, (height, width, 3), np.uint8)
        image[mask > 0] += 80
        write_indexed(voc / "SegmentationClass" / f"{image_id}.png", mask)
        cv2.imwrite(str(voc / "JPEGImages" / f"{image_id}.jpg"), image)
        cv2.imwrite(str(voc / "Saliency" / f"{image_id}.png"), np.where(mask > 0, 230, 10).astype(np.uint8))
    lists = voc / "ImageSets" / "Segmentation"
    (lists / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in LABELS))
    lines = (f"{image_id} {' '.join(map(str, labels))}\n" for image_id, labels in LABELS.items())
    (lists / f"{split}_cls.txt").write_text("".join(lines))
    settings = MakeRecordsSettings(
        voc_dir=str(voc),
        output_dir=str(folder / "records"),
        split=split,
        classes=CLASSES,
        mask_dir="SegmentationClass" if masks else "",
        saliency_dir=str(voc / "Saliency") if saliency else "",
    )
    make_records(settings)
    return RecordSet.open(folder / "records" / f"{split}.json")


def labels_from_masks(records: RecordSet, folder: Path) -> str:
    """A folder of pseudo labels from saliency maps that are equal to the masks."""
    (folder / LABELS_FOLDER).mkdir(parents=True)
    for position, image_id in enumerate(records.image_ids):
        write_indexed(folder / LABELS_FOLDER / f"{image_id}.png", records.record(position).mask)
    description = {"records_checksum": records.checksum, "supervision": "image labels + saliency"}
    write_json(folder / DESCRIPTION_FILE, description)
    return str(folder)


def attention_from_masks(records: RecordSet, image_size: int) -> np.ndarray:
    """Attention maps that show where the objects are: uint8 `[num_slots, grid, grid]`."""
    maps = []
    for position, labels in enumerate(records.labels):
        mask = records.record(position).mask
        height, width = mask.shape
        scale = image_size / max(height, width)
        for label in labels:
            content = (max(1, round(width * scale / 8)), max(1, round(height * scale / 8)))
            cells = cv2.resize((mask == label + 1).astype(np.float32), content, interpolation=cv2.INTER_AREA)
            one = np.zeros((image_size // 8, image_size // 8), np.float32)
            one[: cells.shape[0], : cells.shape[1]] = cells / cells.max()
            maps.append(one)
    return np.rint(np.stack(maps) * 255).astype(np.uint8)
