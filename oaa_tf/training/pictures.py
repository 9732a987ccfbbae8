"""Pictures of training images for TensorBoard, the same few at every summary."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import tensorflow as tf
from tensorboard.plugins.image.metadata import create_summary_metadata

from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import Frame
from oaa_tf.report.visualization import captioned, cell_size, grid, legend, overlay_attention, overlay_labels

_JPEG_QUALITY = 90


def fixed_positions(num_images: int, count: int) -> list[int]:
    """`count` positions, evenly spread over the record set."""
    return [int(p) for p in np.unique(np.linspace(0, num_images - 1, min(count, num_images)).astype(int))]


def measured_positions(records: RecordSet, count: int) -> list[int]:
    """Positions of `count` images to measure on, evenly spread; none where there are no masks to compare with."""
    return [records.masked[rank] for rank in fixed_positions(len(records.masked), count)]


def shown_positions(records: RecordSet, count: int) -> list[int]:
    """Positions of `count` images, ascending, that show as many classes as a few images can.

    Each choice is the image with the most classes that no image before it shows; of equals, the image with the fewest
    classes in all, then the first. When all classes have been shown, it begins anew.
    """
    left = dict(enumerate(map(set, records.labels)))
    missing: set[int] = set()
    chosen = []
    for _ in range(min(count, len(records))):
        if not any(missing & labels for labels in left.values()):
            missing = set().union(*left.values())
        best = max(left, key=lambda position: (len(missing & left[position]), -len(left[position]), -position))
        missing -= left.pop(best)
        chosen.append(best)
    return sorted(chosen)


def write_picture(tag: str, picture: np.ndarray, step: int) -> None:
    """Writes an image summary with the current default writer.

    As a JPEG: `tf.summary.image` makes a PNG, which takes five times the space.

    Args:
        tag: The summary's name.
        picture: uint8 RGB `[height, width, 3]`.
        step: The step.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    height, width = picture.shape[:2]
    metadata = create_summary_metadata(display_name=None, description=None)
    tf.summary.write(tag, tf.stack([str(width), str(height), encoded]), step=step, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class AttentionPictures:
    """Writes a picture of each image: a row for each of its classes, the image and its attention maps side by side.

    Attributes:
        records: The record set.
        image_size: Side of the canonical frame in pixels.
        positions: The images.
        columns: By title, from slots to maps, float32 `[len(slots), grid, grid]` in [0, 1].
        notes: By title, from a slot to a note beside the class's name.
    """

    records: RecordSet
    image_size: int
    positions: Sequence[int]
    columns: Mapping[str, Callable[[Sequence[int]], np.ndarray]]
    notes: Mapping[str, Callable[[int], str]] = dataclasses.field(default_factory=dict)

    def __call__(self, step: int) -> None:
        """Writes the summaries of a step with the current default writer."""
        records = self.records
        for position in self.positions:
            image = records.record(position).image
            frame = Frame(image.shape[0], image.shape[1], self.image_size)
            image = _shown_size(image)
            slots = range(*records.first_slots[position : position + 2])
            if not slots:
                # No class, no attention.
                continue
            maps = {title: frame.to_image(read(slots), *image.shape[:2]) for title, read in self.columns.items()}
            rows = []
            for rank, (slot, label) in enumerate(zip(slots, records.labels[position], strict=True)):
                row = [image]
                for title, of_classes in maps.items():
                    note = self.notes[title](slot) if title in self.notes else ""
                    overlay = overlay_attention(image, of_classes[rank])
                    row.append(captioned(overlay, f"{records.classes[label]}  {note}".rstrip()))
                rows.append(row)
            write_picture(f"attention/{records.image_ids[position]}", grid(rows, ["image", *maps]), step)


def write_label_picture(
    tag: str,
    image: np.ndarray,
    columns: Mapping[str, np.ndarray],
    classes: Sequence[str],
    labels: Sequence[int],
    step: int,
) -> None:
    """Writes a picture of an image and its label maps, with a legend of the classes in the image and in the maps.

    Args:
        tag: The summary's name.
        image: uint8 RGB `[height, width, 3]`.
        columns: Label maps by title, uint8 `[height, width]`.
        classes: The classes' names.
        labels: Indices of the image's classes.
        step: The step.
    """
    image = _shown_size(image)
    small = {
        title: cv2.resize(label_map, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        for title, label_map in columns.items()
    }
    pictures = {"image": image} | {title: overlay_labels(image, label_map) for title, label_map in small.items()}
    if len(pictures) % 2:
        pictures[""] = np.full_like(image, 255)
    # Two beside one another: TensorBoard makes them narrow enough.
    titles = list(pictures)
    pairs = [titles[start : start + 2] for start in range(0, len(titles), 2)]
    page = np.concatenate([grid([[pictures[title] for title in pair]], pair) for pair in pairs])
    found = {label + 1 for label in labels}.union(*(np.unique(label_map).tolist() for label_map in small.values()))
    names = {label: "not labelled" if label == IGNORE_LABEL else classes[label - 1] for label in sorted(found - {0})}
    write_picture(tag, np.concatenate([page, legend(names, page.shape[1])]), step)


def _shown_size(image: np.ndarray) -> np.ndarray:
    """An image in the size of its cell in the grid, so that captions on it stay sharp."""
    size = cell_size(*image.shape[:2])
    is_smaller = size[0] < image.shape[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC)
