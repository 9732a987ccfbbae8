"""A segmentation network in TensorBoard: labels beside predictions, and both compared with masks."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.metrics import (
    confusion_matrix,
    foreground_precision_and_recall,
    iou_per_class,
    mean_iou,
    precision_and_recall,
)
from oaa_tf.models.inference import segmentation_functions
from oaa_tf.training.pictures import write_label_picture

Labels = Callable[[int, Record], np.ndarray]
"""From an image's position and record to a label map, uint8 `[height, width]`."""


@dataclasses.dataclass(frozen=True)
class PredictionSummaries:
    """Writes pictures of some images, and mIoU, precision and recall of the predictions for others.

    Attributes:
        network: The segmentation network that is being trained.
        records: The record set.
        image_size: Long side in pixels to which whole images are resized.
        shown: Positions of the images to show.
        measured: Positions of the images to measure on, which have masks.
        columns: By title, label maps to show beside the predictions.
    """

    network: keras.Model
    records: RecordSet
    image_size: int
    _: dataclasses.KW_ONLY
    shown: Sequence[int]
    measured: Sequence[int]
    columns: Mapping[str, Labels]

    def __call__(self, step: int) -> None:
        """Writes the summaries of a step with the current default writer."""
        records = self.records
        confusions = []
        for position in sorted({*self.shown, *self.measured}):
            record = records.record(position)
            predicted = self._segment(record.image[np.newaxis])["mask"][0].numpy()
            if position in self.measured:
                confusions.append(_confusion(record, predicted, records))
            if position in self.shown:
                columns = {title: labels(position, record) for title, labels in self.columns.items()}
                columns["prediction"] = predicted
                if record.mask is not None and "mask" not in columns:
                    columns["mask"] = record.mask
                tag = f"segmentation/{records.image_ids[position]}"
                tags = records.labels[position]
                write_label_picture(tag, record.image, columns, records.classes, tags, step)
        if confusions:
            confusion = np.sum(confusions, axis=0)
            precision, recall = foreground_precision_and_recall(confusion)
            values = {"mean_iou": float(mean_iou(confusion)), "precision": precision, "recall": recall}
            for name, value in values.items():
                tf.summary.scalar(f"prediction/{name}", value, step=step)

    @functools.cached_property
    def _segment(self) -> Callable[[np.ndarray], dict[str, tf.Tensor]]:
        return segmentation_functions(self.network, self.image_size)["segment"]


def write_label_quality(records: RecordSet, positions: Sequence[int], labels: Labels, step: int) -> None:
    """Writes a Markdown table of IoU, precision and recall by class of pseudo labels.

    Args:
        records: The record set, with masks.
        positions: The images to measure on.
        labels: The pseudo labels.
        step: The step.
    """
    pairs = ((position, records.record(position)) for position in positions)
    confusion = np.sum([_confusion(record, labels(position, record), records) for position, record in pairs], axis=0)
    num_pixels = confusion.sum(axis=1)
    unlabelled = np.divide(confusion[:, -1], num_pixels, out=np.full(num_pixels.shape, np.nan), where=num_pixels > 0)
    columns = np.stack([iou_per_class(confusion), *precision_and_recall(confusion), unlabelled], axis=1)
    rows = dict(zip(["background", *records.classes], columns, strict=True))
    rows["all classes"] = (
        *(float(mean_iou(confusion)), *foreground_precision_and_recall(confusion)),
        confusion[1:, -1].sum() / max(1, num_pixels[1:].sum()),
    )
    lines = [
        f"Pseudo labels against the masks of {len(positions)} of the {len(records)} training images, in percent of"
        " pixels. IoU: over the pixels that have a pseudo label; its mean, background included. Not labelled: of the"
        " class's true pixels; they count as missed in the recall.",
        "",
        "| class | IoU | precision | recall | not labelled |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, values in rows.items():
        cells = ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
        lines.append(f"| {' | '.join([name.replace('|', '/'), *cells])} |")
    tf.summary.text("pseudo_labels", "\n".join(lines), step=step)


def _confusion(record: Record, predicted: np.ndarray, records: RecordSet) -> np.ndarray:
    """The confusion matrix of one image, which has a mask."""
    assert record.mask is not None
    return confusion_matrix(record.mask, predicted, len(records.classes))
