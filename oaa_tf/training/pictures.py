"""Pictures for TensorBoard: the same few training images at every summary."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import tensorflow as tf

from oaa_tf.data.frame import Frame
from oaa_tf.data.records import RecordSet
from oaa_tf.visualization import overlay_attention


def fixed_positions(num_images: int, count: int) -> list[int]:
    """`count` positions, evenly spread over the record set."""
    return [int(p) for p in np.unique(np.linspace(0, num_images - 1, min(count, num_images)).astype(int))]


class AttentionPictures:
    """Writes image summaries of attention maps, one tag per image and class.

    Attributes:
        positions: The images that are shown.
    """

    def __init__(
        self, records: RecordSet, image_size: int, count: int, read: Callable[[Sequence[int]], np.ndarray], name: str
    ) -> None:
        """Prepares the images.

        Args:
            records: The record set.
            image_size: Side of the canonical frame in pixels.
            count: How many images to show.
            read: From slots to maps, float32 `[len(slots), grid, grid]` in [0, 1].
            name: First part of the tags.
        """
        self._read = read
        self._shown = []
        for position in fixed_positions(len(records), count):
            image = records.record(position).image
            frame = Frame(*image.shape[:2], image_size)
            image = cv2.resize(image, frame.content[::-1], interpolation=cv2.INTER_AREA)
            first = records.first_slots[position]
            for rank, label in enumerate(records.labels[position]):
                tag = f"{name}/{records.image_ids[position]}_{records.classes[label]}"
                self._shown.append((tag, int(first) + rank, image, Frame(*image.shape[:2], image_size)))

    def __call__(self, step: int) -> None:
        """Writes the summaries of a step with the current default writer."""
        maps = self._read([slot for _, slot, _, _ in self._shown])
        for (tag, _, image, frame), attention in zip(self._shown, maps, strict=True):
            tf.summary.image(tag, overlay_attention(image, frame.to_image(attention))[np.newaxis], step=step)
