from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from oaa_tf.data.records import RecordSet
from oaa_tf.training.pictures import AttentionPictures, fixed_positions


@pytest.mark.parametrize(
    ("num_images", "count", "expected"),
    [(10, 3, [0, 4, 9]), (4, 4, [0, 1, 2, 3]), (4, 9, [0, 1, 2, 3]), (5, 1, [0]), (5, 0, []), (1, 3, [0])],
)
def test_fixed_positions(num_images: int, count: int, expected: list[int]) -> None:
    assert fixed_positions(num_images, count) == expected


def pictures(folder: Path) -> dict[tuple[str, int], np.ndarray]:
    found = {}
    for path in folder.glob("events*"):
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            for value in event.summary.value:
                # An image summary holds its width, its height and PNG files.
                encoded = tf.make_ndarray(value.tensor)[2]
                found[value.tag, event.step] = tf.io.decode_png(encoded).numpy()
    return found


def test_one_picture_per_image_and_class_and_step(records: RecordSet, tmp_path: Path) -> None:
    maps = np.zeros((records.first_slots[-1], 6, 6), np.float32)
    requested = []

    def read(slots) -> np.ndarray:
        requested.append(list(slots))
        return maps[list(slots)]

    draw = AttentionPictures(records, 48, 2, read, "attention")
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        draw(0)
        maps[:, :2] = 1
        draw(100)
    found = pictures(tmp_path)

    expected, slots = {}, []
    for position in fixed_positions(len(records), 2):
        height, width = records.sizes[position]
        content = tuple(np.rint(np.array([height, width]) * 48 / max(height, width)).astype(int))
        for rank, label in enumerate(records.labels[position]):
            expected[f"attention/{records.image_ids[position]}_{records.classes[label]}"] = content
            slots.append(int(records.first_slots[position]) + rank)
    assert requested == [slots, slots]
    assert {tag for tag, _ in found} == set(expected) and {step for _, step in found} == {0, 100}
    for tag, content in expected.items():
        assert found[tag, 0].shape == (*content, 3)
        change = np.abs(found[tag, 100].astype(int) - found[tag, 0]).sum(axis=-1)
        # The attention lies on the upper two rows of cells.
        assert change[:12].min() > 0 and change[24:].max() == 0


def test_without_pictures_nothing_is_drawn(records: RecordSet, tmp_path: Path) -> None:
    draw = AttentionPictures(records, 48, 0, lambda slots: np.zeros((len(slots), 6, 6), np.float32), "attention")
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        draw(0)
    assert pictures(tmp_path) == {}
