"""What TensorBoard says of a segmentation network, with predictions that are known."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from event_summaries import read_pictures, read_texts

from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.report.event_files import read_scalars
from oaa_tf.training import label_summaries
from oaa_tf.training.label_summaries import PredictionSummaries, write_label_quality


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, np.ndarray]:
    """What the network predicts, by image."""
    predictions: dict[bytes, np.ndarray] = {}

    def functions(network, image_size: int):
        return {"segment": lambda images: {"mask": tf.constant(predictions[images[0].tobytes()][np.newaxis])}}

    monkeypatch.setattr(label_summaries, "segmentation_functions", functions)
    return predictions


def test_predictions_are_measured_and_shown_where_wished(records: RecordSet, predict, tmp_path: Path) -> None:
    foreground = labelled = 0
    for position in range(len(records)):
        record = records.record(position)
        prediction = np.where(record.mask == IGNORE_LABEL, 0, record.mask)
        if position == 1:
            # Twice as much as there is, of which half is wrong.
            rows, columns = np.nonzero(prediction)
            prediction[: rows.min(), columns.min() : columns.max() + 1] = prediction.max()
        if position in (1, 3):
            foreground += np.count_nonzero((record.mask > 0) & (record.mask != IGNORE_LABEL))
            labelled += np.count_nonzero(prediction[record.mask != IGNORE_LABEL])
        predict[record.image.tobytes()] = prediction
    write = PredictionSummaries(
        None,
        records,
        48,
        shown=[0, 1],
        measured=[1, 3],
        columns={"pseudo label": lambda position, record: np.full_like(record.mask, IGNORE_LABEL)},
    )
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        write(10)
    assert {tag for tag, _ in read_pictures(tmp_path)} == {f"segmentation/{records.image_ids[p]}" for p in (0, 1)}
    scalars = read_scalars(tmp_path)
    assert scalars.keys() == {"prediction/mean_iou", "prediction/precision", "prediction/recall"}
    assert 0.5 < foreground / labelled < 1
    assert scalars["prediction/precision"][10] == pytest.approx(foreground / labelled)
    assert scalars["prediction/recall"] == {10: 1} and 0.5 < scalars["prediction/mean_iou"][10] < 1


def test_without_masks_there_are_pictures_only(records: RecordSet, predict, tmp_path: Path) -> None:
    record = records.record(2)
    predict[record.image.tobytes()] = np.zeros_like(record.mask)
    write = PredictionSummaries(
        None, records, 48, shown=[2], measured=[], columns={"pseudo label": lambda position, record: record.mask}
    )
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        write(0)
    assert len(read_pictures(tmp_path)) == 1 and read_scalars(tmp_path) == {}


def test_the_quality_of_pseudo_labels_by_class(records: RecordSet, tmp_path: Path) -> None:
    def labels(position: int, record: Record) -> np.ndarray:
        # "dog" is never labelled, and the last row of each "cat" is left open.
        found = np.where(record.mask == 2, IGNORE_LABEL, record.mask)
        rows = np.flatnonzero((found == 1).any(axis=1))
        found[rows[-1:]] = np.where(found[rows[-1:]] == 1, IGNORE_LABEL, found[rows[-1:]])
        return found

    masks = [records.record(position).mask for position in (0, 1)]
    cat = masks[0] == 1
    kept = 100 * (1 - cat[np.flatnonzero(cat.any(axis=1))[-1]].sum() / cat.sum())
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        write_label_quality(records, [0, 1], labels, 0)
    lines = read_texts(tmp_path)["pseudo_labels", 0].splitlines()
    assert "2 of the 4 training images" in lines[0]
    assert lines[4:] == [
        "| background | 100.0 | 100.0 | 100.0 | 0.0 |",
        f"| cat | 100.0 | 100.0 | {kept:.1f} | {100 - kept:.1f} |",
        "| dog | - | - | 0.0 | 100.0 |",
        "| cow | - | - | - | - |",
        f"| all classes | 100.0 | 100.0 | {foreground_recall(masks, kept):.1f} "
        f"| {100 - foreground_recall(masks, kept):.1f} |",
    ]


def foreground_recall(masks: list[np.ndarray], kept: float) -> float:
    num_cat, num_dog = np.count_nonzero(masks[0] == 1), np.count_nonzero(masks[1] == 2)
    return kept * num_cat / (num_cat + num_dog)
