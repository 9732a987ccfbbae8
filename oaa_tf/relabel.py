"""Makes new pseudo labels with a segmentation network.

This is stage 5, which the paper does not have.

    python -m oaa_tf.relabel --records=records/train.json --model=runs/seg/saved_model --use_saliency \
        --work_dir=runs/second_labels
    python -m oaa_tf.train_seg --labels=runs/second_labels --initial_weights=runs/seg ...

A network that has learned from all labels corrects many of the wrong ones, and its probabilities tell which of its
predictions to trust. Writes the same files as make_pseudo_labels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import SchedulerSettings
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.labels.label_files import dry_run_pseudo_labels, require_saliency, write_pseudo_labels
from oaa_tf.labels.rules import confident_label
from oaa_tf.runs.metrics_file import origin
from oaa_tf.runs.supervision import supervision_of_labels

if TYPE_CHECKING:
    from oaa_tf.models.segmenter import Segmenter


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelabelSettings(SchedulerSettings):
    """Which network labels which images, and when it is sure enough."""

    records: str = setting(help="Manifest of the training records, from make_records (<split>.json).")
    model: str = setting(help="SavedModel of the segmentation network, from export.")
    work_dir: str = setting(help="Folder for the labels; run again in it to resume.")
    use_saliency: bool = setting(False, help="Use the records' saliency maps to tell background from objects.")
    min_probability: float = setting(0.7, help="Pixels whose label is less probable are ignored.", minimum=0, maximum=1)


def run(settings: RelabelSettings) -> dict[str, Any]:
    """Labels all images that have no label map yet.

    Returns:
        The content of `metrics.json`, see `write_pseudo_labels`.

    Raises:
        UserError: The records, the model and the settings do not go together, or work_dir holds another run.
    """
    records, segmenter, supervision, checksums = _inputs(settings)

    def make(position: int, record: Record) -> np.ndarray:
        labels = records.labels[position]
        if not labels:
            return np.zeros(record.image.shape[:2], np.uint8)
        saliency = record.saliency if settings.use_saliency else None
        return confident_label(segmenter.probabilities(record.image), labels, saliency, settings.min_probability)

    description = origin("relabel", settings, records.provenance, supervision=supervision) | {
        "seed": segmenter.seed,
        "model_checksum": segmenter.checksum,
    }
    # TensorFlow uses all cores by itself.
    return write_pseudo_labels(
        settings, checksums, records, description, make, num_workers=1, scheduler=settings.scheduler
    )


def dry_run(settings: RelabelSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    records, _, supervision, checksums = _inputs(settings)
    made_from = {"model": settings.model, "supervision": supervision}
    return dry_run_pseudo_labels("relabel", settings, checksums, records, made_from)


def _inputs(settings: RelabelSettings) -> tuple[RecordSet, Segmenter, str, dict[str, str]]:
    """The records, the model, the supervision of its labels, and the checksums of records and model."""
    from oaa_tf.models.segmenter import Segmenter

    records = RecordSet.open(settings.records)
    if settings.use_saliency:
        require_saliency(records)
    segmenter = Segmenter.of_records(settings.model, records)
    if segmenter.supervision is None:
        raise UserError("does not say what it was trained with; export it again", flag="model", value=settings.model)
    segmenter.require_probabilities()
    supervision = supervision_of_labels(
        segmenter.supervision, use_saliency=settings.use_saliency, saliency_network=records.saliency_network
    )
    return records, segmenter, supervision, {"records": records.checksum, "model": segmenter.checksum}


if __name__ == "__main__":
    launch(RelabelSettings, run, "relabel", dry_run)
