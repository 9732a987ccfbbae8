"""How good the attention maps are during training, if the training images have masks."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import tensorflow as tf

from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.metrics import ThresholdSweep

_THRESHOLD = 0.3


@dataclasses.dataclass(frozen=True)
class MapQuality:
    """Writes mIoU, precision and recall of some training images' attention maps to TensorBoard.

    They are measured on the frame's grid, where a cell has the label of its central pixel. That is cheap enough for a
    training run, and gives slightly other numbers than `oaa_tf.evaluate`, which measures on pixels.

    Attributes:
        records: The record set, with masks.
        image_size: Side of the canonical frame in pixels.
        positions: The images to measure on.
        read: From slots to maps, float32 `[len(slots), grid, grid]` in [0, 1].
        name: First part of the tags.
    """

    records: RecordSet
    image_size: int
    positions: Sequence[int]
    read: Callable[[Sequence[int]], np.ndarray]
    name: str

    def __call__(self, step: int) -> None:
        """Writes the summaries of a step with the current default writer."""
        for name, value in self.measure().items():
            tf.summary.scalar(f"{self.name}/{name}", value, step=step)

    def measure(self) -> dict[str, float]:
        """The mIoU at the best of 256 thresholds, that threshold, and mIoU, precision and recall at 0.3."""
        sweep = ThresholdSweep(len(self.records.classes))
        for position, truth in zip(self.positions, self._truths, strict=True):
            maps = self.read(range(*self.records.first_slots[position : position + 2]))
            sweep.add(truth, maps, self.records.labels[position])
        curves = sweep.curves()
        best, fixed = curves.best, curves.nearest(_THRESHOLD)
        return {
            "best_mean_iou": curves.mean_iou[best],
            "best_threshold": curves.thresholds[best],
            f"mean_iou_at_{_THRESHOLD}": curves.mean_iou[fixed],
            f"precision_at_{_THRESHOLD}": curves.precision[fixed],
            f"recall_at_{_THRESHOLD}": curves.recall[fixed],
        }

    @functools.cached_property
    def _truths(self) -> list[np.ndarray]:
        return [_mask_on_grid(self.records.record(position), self.image_size) for position in self.positions]


def _mask_on_grid(record: Record, image_size: int) -> np.ndarray:
    """An image's mask at the centres of the frame's cells, uint8 `[grid, grid]`; padding is ignored."""
    assert record.mask is not None
    frame = Frame(record.mask.shape[0], record.mask.shape[1], image_size)
    rows, columns = frame.valid_cells
    truth = np.full((frame.grid, frame.grid), IGNORE_LABEL, np.uint8)
    in_frame = cv2.resize(record.mask, frame.content[::-1], interpolation=cv2.INTER_NEAREST)
    centers = [
        np.minimum(np.arange(number) * STRIDE + STRIDE // 2, size - 1)
        for number, size in zip((rows, columns), frame.content, strict=True)
    ]
    truth[:rows, :columns] = in_frame[np.ix_(*centers)]
    return truth
