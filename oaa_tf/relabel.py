"""Stage 5, beyond the paper: new pseudo labels from what a segmentation network makes of its training images.

    python -m oaa_tf.relabel --records=records/train.json --model=runs/seg/saved_model --use_saliency \
        --work_dir=runs/second_labels
    python -m oaa_tf.train_seg --labels=runs/second_labels --initial_weights=runs/seg ...

A network that has learned from all labels together contradicts many of the wrong ones among them, and says how sure it
is (self-training). Writes what make_pseudo_labels writes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.labels.label_files import plan_pseudo_labels, require_saliency, write_pseudo_labels
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.runs.metrics_file import origin
from oaa_tf.runs.supervision import supervision_of_labels

_TINY = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelabelSettings(Settings):
    """The stage's settings."""

    records: str = setting(help="Manifest of the training records, from make_records (<split>.json).")
    model: str = setting(help="SavedModel of the segmentation network, from export.")
    work_dir: str = setting(help="Folder for the labels; run again in it to resume.")
    use_saliency: bool = setting(False, help="Let the records' saliency maps have a say in what is background.")
    min_probability: float = setting(0.7, help="A pixel whose label is less probable is ignored.", minimum=0, maximum=1)


def run(settings: RelabelSettings) -> dict[str, Any]:
    """Makes the labels of all images that do not have them yet.

    Returns:
        The content of `metrics.json`, see `write_pseudo_labels`.

    Raises:
        UserError: The records, the model and the settings do not go together, or work_dir holds another run.
    """
    records, segmenter = _inputs(settings)

    def make(position: int, record: Record) -> np.ndarray:
        saliency = record.saliency if settings.use_saliency else None
        probabilities = segmenter.probabilities(record.image)
        return confident_label(probabilities, records.labels[position], saliency, settings.min_probability)

    description = origin("relabel", settings, records.provenance, supervision=_supervision(settings, segmenter)) | {
        "seed": segmenter.seed,
        "model_checksum": segmenter.checksum,
    }
    # TensorFlow uses all cores by itself.
    return write_pseudo_labels(settings, _checksums(records, segmenter), records, description, make, num_workers=1)


def plan(settings: RelabelSettings) -> dict[str, Any]:
    """What `run` would do, for `oaa_tf.command_line.plan_text`; raises what it would raise before it begins."""
    records, segmenter = _inputs(settings)
    source = {"model": settings.model, "supervision": _supervision(settings, segmenter)}
    return plan_pseudo_labels("relabel", settings, _checksums(records, segmenter), records, source)


def confident_label(
    probabilities: np.ndarray, classes: Sequence[int], saliency: np.ndarray | None, min_probability: float
) -> np.ndarray:
    """Turns a segmentation network's probabilities for an image whose classes are known into a label map.

    1. Classes that the image does not have are impossible; the others and the background share their probability.
    2. With saliency, the background's probability becomes the mean of itself and 1 - saliency. The classes share what
       is left as they did before.
    3. The most probable gives the label; of equal ones the first. A pixel where it is not probable enough is ignored.

    Args:
        probabilities: float32 `[height, width, C + 1]`, background first.
        classes: The image's class indices.
        saliency: uint8 `[height, width]`, 255 the most salient, or None.
        min_probability: The least probability of a label.

    Returns:
        uint8 `[height, width]`: 0 background, `c + 1` for class index `c`, 255 ignore.
    """
    background, objects = probabilities[..., 0], probabilities[..., [index + 1 for index in classes]]
    of_objects = objects.sum(axis=-1)
    background = background / np.maximum(background + of_objects, _TINY)
    if saliency is not None:
        background = (background + 1 - saliency / np.float32(255)) / 2
    objects = objects * ((1 - background) / np.maximum(of_objects, _TINY))[..., np.newaxis]
    scores = np.concatenate([background[..., np.newaxis], objects], axis=-1)
    labels = np.array([0, *(index + 1 for index in classes)], np.uint8)[scores.argmax(axis=-1)]
    labels[scores.max(axis=-1) < min_probability] = IGNORE_LABEL
    return labels


def _inputs(settings: RelabelSettings) -> tuple[RecordSet, Segmenter]:
    records = RecordSet.open(settings.records)
    if settings.use_saliency:
        require_saliency(records)
    segmenter = Segmenter.of_records(settings.model, records)
    if segmenter.supervision is None:
        raise UserError(f"--model={settings.model}: does not say what it was trained with; export it again")
    segmenter.require_probabilities()
    return records, segmenter


def _checksums(records: RecordSet, segmenter: Segmenter) -> dict[str, str]:
    return {"records": records.checksum, "model": segmenter.checksum}


def _supervision(settings: RelabelSettings, segmenter: Segmenter) -> str:
    return supervision_of_labels(segmenter.supervision, use_saliency=settings.use_saliency)


if __name__ == "__main__":
    launch(RelabelSettings, run, "relabel", "makes new pseudo labels from a segmentation network's predictions", plan)
