"""Maps measured on the frame's grid during training."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import Frame
from oaa_tf.training.map_quality import MapQuality

SIZE = 48


def true_maps(records: RecordSet) -> np.ndarray:
    """Attention 1 on the cells whose central pixel has the class, and 0 elsewhere."""
    maps = np.zeros((records.first_slots[-1], SIZE // 8, SIZE // 8), np.float32)
    for position, labels in enumerate(records.labels):
        mask = records.record(position).mask
        frame = Frame(*mask.shape, SIZE)
        rows, columns = frame.valid_cells
        # Centres of cells in the frame, and from there in the image.
        y = np.minimum(np.arange(rows) * 8 + 4, frame.content[0] - 1) * mask.shape[0] // frame.content[0]
        x = np.minimum(np.arange(columns) * 8 + 4, frame.content[1] - 1) * mask.shape[1] // frame.content[1]
        for rank, label in enumerate(labels):
            maps[records.first_slots[position] + rank, :rows, :columns] = mask[np.ix_(y, x)] == label + 1
    return maps


def quality(records: RecordSet, maps: np.ndarray) -> MapQuality:
    return MapQuality(records, SIZE, range(len(records)), lambda slots: maps[list(slots)], "maps")


def test_right_maps_are_right(records: RecordSet) -> None:
    maps = true_maps(records)
    assert 0 < maps.mean() < 1
    found = quality(records, maps).measure()
    assert found["best_mean_iou"] == found["mean_iou_at_0.3"] == 1
    assert found["precision_at_0.3"] == found["recall_at_0.3"] == 1


def test_half_of_the_object_is_half_the_recall(records: RecordSet) -> None:
    maps = true_maps(records)
    flat = maps.reshape(-1)
    attended = np.flatnonzero(flat)
    flat[attended[::2]] = 0.2
    found = quality(records, maps).measure()
    assert found["precision_at_0.3"] == 1
    assert found["recall_at_0.3"] == pytest.approx(len(attended[1::2]) / len(attended))
    # A lower threshold has all of it.
    assert found["best_mean_iou"] == 1 and found["best_threshold"] < 0.2


def test_maps_that_are_read_anew_at_every_step(records: RecordSet, tmp_path: Path) -> None:
    maps = np.zeros_like(true_maps(records))
    write = quality(records, maps)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        write(0)
        maps[...] = true_maps(records)
        write(50)
    found = {}
    for path in tmp_path.glob("events*"):
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found["maps/recall_at_0.3", 0] == 0 and found["maps/recall_at_0.3", 50] == 1
    assert found["maps/best_mean_iou", 0] < found["maps/best_mean_iou", 50] == 1
