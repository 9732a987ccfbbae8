"""Pictures for TensorBoard: which images, and what is to be seen in them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from event_summaries import read_pictures

from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.report.class_colors import class_color
from oaa_tf.report.visualization import cell_size
from oaa_tf.training.pictures import (
    AttentionPictures,
    fixed_positions,
    measured_positions,
    shown_positions,
    write_label_picture,
)

GAP, HEADER, CELL = 6, 36, 240


@pytest.mark.parametrize(
    ("num_images", "count", "expected"),
    [(10, 3, [0, 4, 9]), (4, 4, [0, 1, 2, 3]), (4, 9, [0, 1, 2, 3]), (5, 1, [0]), (5, 0, []), (1, 3, [0])],
)
def test_fixed_positions(num_images: int, count: int, expected: list[int]) -> None:
    assert fixed_positions(num_images, count) == expected


class Labels(SimpleNamespace):
    """A record set as far as its labels go."""

    def __len__(self) -> int:
        return len(self.labels)


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        pytest.param([(0,), (0, 1), (2,), (0, 1, 3)], 1, [3], id="the most classes"),
        pytest.param([(0,), (0, 1), (2,), (0, 1, 3)], 2, [2, 3], id="what is missing"),
        pytest.param([(0,), (0, 1), (2,), (0, 1, 3)], 3, [1, 2, 3], id="a second round"),
        pytest.param([(0,), (0, 1), (2,), (0, 1, 3)], 9, [0, 1, 2, 3], id="all"),
        pytest.param([(0,)] * 5 + [(1,)], 2, [0, 5], id="a rare class"),
        pytest.param([(0, 1, 2), (0, 3), (1, 2, 3), (3,)], 2, [0, 3], id="of equals the first, or the simplest"),
        pytest.param([(0, 1), (0,), (0,), (1,)], 3, [0, 1, 3], id="a second round shows all again"),
        pytest.param([(0,)], 0, [], id="none"),
    ],
)
def test_shown_positions(labels: list[tuple[int, ...]], count: int, expected: list[int]) -> None:
    assert shown_positions(Labels(labels=labels), count) == expected


@pytest.mark.parametrize(("masked", "expected"), [((0, 1, 2), [0, 2]), ((1, 2), [1, 2]), ((1,), [1]), ((), [])])
def test_only_images_with_masks_are_measured(masked: tuple[int, ...], expected: list[int]) -> None:
    assert measured_positions(Labels(labels=[(0,)] * 3, masked=masked), 2) == expected


def test_a_picture_has_a_row_a_class_and_its_attention_where_it_is(records: RecordSet, tmp_path: Path) -> None:
    maps = np.zeros((records.first_slots[-1], 6, 6), np.float32)
    (position,) = (p for p, labels in enumerate(records.labels) if len(labels) == 2)
    slot = int(records.first_slots[position])

    def read(slots) -> np.ndarray:
        return maps[list(slots)]

    columns = {"now": read, "then": lambda slots: np.zeros((len(slots), 6, 6), np.float32)}
    draw = AttentionPictures(records, 48, [position], columns, notes={"now": lambda slot: f"{maps[slot].sum():.0f}"})
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        draw(0)
        # The second class, in the upper two of six rows of cells.
        maps[slot + 1, :2] = 1
        draw(100)
    found = read_pictures(tmp_path)
    tag = f"attention/{records.image_ids[position]}"
    assert set(found) == {(tag, 0), (tag, 100)}
    height, width = cell_size(*records.sizes[position])
    assert found[tag, 0].shape == (HEADER + 2 * (height + GAP), GAP + 3 * (CELL + GAP), 3)
    changed = np.abs(found[tag, 100].astype(int) - found[tag, 0]).sum(axis=-1) > 60
    top, left = HEADER + height + GAP, GAP + CELL + GAP + (CELL - width) // 2
    assert changed[top + 2 : top + height // 4, left + 2 : left + width - 2].mean() > 0.9
    # Not the image, not the other class, not the other column, and below only the number that is written there.
    changed[top : top + height // 2, left : left + width] = False
    caption = changed[top + 3 * height // 4 : top + height, left : left + width]
    assert 0 < caption.sum() < 400
    caption[:] = False
    assert not changed.any()


def test_a_legend_names_the_colors_of_a_label_map(records: RecordSet, tmp_path: Path) -> None:
    image = np.full((60, 60, 3), 128, np.uint8)
    labels = np.zeros((60, 60), np.uint8)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        for step, label in enumerate((0, 1, 2)):
            labels[20:40, 20:40] = label
            write_label_picture("one", image, {"label": labels}, records.classes, [0], step)
    nothing, own, foreign = (read_pictures(tmp_path)["one", step].astype(int) for step in (0, 1, 2))

    def num_pixels_of(label: int, picture: np.ndarray, part: slice) -> int:
        color = np.array([*bytes.fromhex(class_color(label)[0][1:])])
        expected = 0.72 * color + 0.28 * 128
        return int((np.abs(picture[part] - expected).max(axis=-1) < 12).sum())

    # One row of pictures, as high as they are wide, and the legend below.
    pictures, legend = slice(0, HEADER + CELL + GAP), slice(HEADER + CELL + GAP, None)
    assert nothing.shape == own.shape and nothing.shape[0] > HEADER + CELL + GAP
    assert num_pixels_of(0, nothing, pictures) == 0 < num_pixels_of(0, nothing, legend)
    assert num_pixels_of(0, own, pictures) > 70 * 70
    assert num_pixels_of(1, foreign, pictures) > 70 * 70 and num_pixels_of(1, foreign, legend) > 100
    assert num_pixels_of(1, own, legend) == 0


def test_without_pictures_nothing_is_drawn(records: RecordSet, tmp_path: Path) -> None:
    draw = AttentionPictures(records, 48, [], {"now": lambda slots: np.zeros((len(slots), 6, 6), np.float32)})
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        draw(0)
    assert read_pictures(tmp_path) == {}
