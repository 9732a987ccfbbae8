"""Batches as a pure function of (records, seed, step)."""

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_voc import LABELS, make_tiny_records

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.data.views.frame import Frame
from oaa_tf.data.views.input_pipeline import frame_batches, reading_errors, training_batches
from oaa_tf.data.views.view import MEAN_RGB, attention_to_frame, whole_view
from oaa_tf.data.views.view_options import ViewOptions

CANVAS = 48
VIEWS = ViewOptions(CANVAS, min_scale=0.7, max_scale=1.4)
FEATURES = {
    keys.IMAGE: (np.float32, (CANVAS, CANVAS, 3)),
    keys.LABELS: (np.float32, (3,)),
    keys.POSITION: (np.int64, ()),
    keys.EPOCH: (np.int64, ()),
    keys.CONTENT: (np.int32, (2,)),
    keys.VIEW: (np.float32, (5,)),
    keys.VALID: (np.bool_, (6, 6)),
    keys.FRAME_VALID: (np.bool_, (6, 6)),
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    return make_tiny_records(tmp_path_factory.mktemp("records"))


def batches(records: RecordSet, first_step: int = 0, num_steps: int = 6, **options) -> list[dict[str, np.ndarray]]:
    options = {"batch_size": 3, "seed": 5, "options": VIEWS} | options
    views = options.pop("options")
    dataset = training_batches(records, views, first_step=first_step, num_steps=num_steps, **options)
    return list(dataset.as_numpy_iterator())


def samples(batches: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    return [{name: batch[name][k] for name in batch} for batch in batches for k in range(len(batch[keys.POSITION]))]


def assert_equal(some: list[dict], others: list[dict]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_features_have_their_shapes_and_types(records: RecordSet) -> None:
    (batch,) = batches(records, num_steps=1)
    assert batch.keys() == FEATURES.keys()
    for name, (dtype, shape) in FEATURES.items():
        assert batch[name].dtype == dtype and batch[name].shape == (3, *shape), name
    static = training_batches(records, VIEWS, batch_size=3, seed=5, first_step=0, num_steps=1).element_spec
    assert static[keys.IMAGE].shape.as_list() == [None, None, None, 3]
    assert static[keys.FRAME_VALID].shape.as_list() == [None, 6, 6]


def test_labels_belong_to_their_position(records: RecordSet) -> None:
    for sample in samples(batches(records)):
        labels = LABELS[records.image_ids[sample[keys.POSITION]]]
        assert tuple(np.flatnonzero(sample[keys.LABELS])) == labels


@pytest.mark.parametrize("first_step", [1, 2, 5])
def test_a_run_that_resumes_sees_the_rest_of_the_batches(records: RecordSet, first_step: int) -> None:
    assert_equal(batches(records, first_step), batches(records)[first_step:])


def test_nothing_is_left_of_a_finished_run(records: RecordSet) -> None:
    assert batches(records, first_step=6) == []


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(records: RecordSet) -> None:
    stream = samples(batches(records, num_steps=20, batch_size=4))
    orders = set()
    for epoch in range(20):
        part = stream[4 * epoch : 4 * epoch + 4]
        assert [sample[keys.EPOCH] for sample in part] == [epoch] * 4
        order = tuple(int(sample[keys.POSITION]) for sample in part)
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(order)
    assert len(orders) > 8


def test_batch_size_does_not_change_the_samples(records: RecordSet) -> None:
    square = dataclasses.replace(VIEWS, square=True)
    expected = samples(batches(records, options=square, num_steps=5, batch_size=4))
    assert_equal(samples(batches(records, options=square, num_steps=20, batch_size=1)), expected)
    assert_equal(samples(batches(records, options=square, num_steps=3, batch_size=7))[:20], expected)


def test_a_batch_has_the_canvas_of_its_images(records: RecordSet) -> None:
    canvases = choose_canvases(records.sizes, CANVAS)
    assert {tuple(canvas) for canvas in canvases.tolist()} == {(32, 48), (48, 32), (48, 48)}
    for sample in batches(records, num_steps=12, batch_size=1):
        height, width = canvases[sample[keys.POSITION][0]]
        assert sample[keys.IMAGE].shape == (1, height, width, 3)
        assert sample[keys.VALID].shape == (1, height // 8, width // 8)
        assert sample[keys.FRAME_VALID].shape == (1, 6, 6)


def test_seeds_differ_in_order_and_in_views(records: RecordSet) -> None:
    one, other = (samples(batches(records, num_steps=4, seed=seed)) for seed in (1, 2))
    assert [s[keys.POSITION] for s in one] != [s[keys.POSITION] for s in other]
    assert not any(np.array_equal(a[keys.VIEW], b[keys.VIEW]) for a, b in zip(one, other, strict=True))


def test_an_image_looks_different_in_every_epoch(records: RecordSet) -> None:
    views = {}
    for sample in samples(batches(records, num_steps=8)):
        views.setdefault(int(sample[keys.POSITION]), []).append(tuple(sample[keys.VIEW]))
    for seen in views.values():
        assert len(set(seen)) == len(seen) > 1


def test_parallelism_does_not_matter(records: RecordSet) -> None:
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    dataset = training_batches(records, VIEWS, batch_size=3, seed=5, first_step=0, num_steps=6).with_options(options)
    assert_equal(list(dataset.as_numpy_iterator()), batches(records))


def test_a_stage_adds_its_own_features(records: RecordSet) -> None:
    def targets(example: dict, size: tf.Tensor, canvas: tf.Tensor) -> dict:
        assert example[keys.MASK].dtype == tf.string
        mask_size = tf.shape(tf.io.decode_png(example[keys.MASK]))[:2]
        return {"size": size, "mask_size": mask_size, "canvas": canvas}

    for sample in samples(batches(records, targets=targets)):
        assert tuple(sample["mask_size"]) == tuple(records.sizes[sample[keys.POSITION]])
        np.testing.assert_allclose(sample["size"] / sample[keys.CONTENT], sample[keys.VIEW][:2], rtol=1e-6)
        assert tuple(sample["canvas"]) == sample[keys.IMAGE].shape[:2]
        assert sample.keys() == FEATURES.keys() | {"size", "mask_size", "canvas"}


def test_padding_has_the_mean_color(records: RecordSet) -> None:
    for sample in samples(batches(records, options=ViewOptions(CANVAS))):
        height, width = sample[keys.CONTENT]
        image = sample[keys.IMAGE][:, ::-1] if sample[keys.VIEW][4] else sample[keys.IMAGE]
        assert np.all(image[height:] == np.float32(MEAN_RGB)) and np.all(image[:, width:] == np.float32(MEAN_RGB))
        assert not np.any(np.all(image[:height, :width] == np.float32(MEAN_RGB), axis=-1))


def frames(records: RecordSet, batch_size: int = 3) -> list[dict[str, np.ndarray]]:
    """All frames by position."""
    stream = samples(list(frame_batches(records, CANVAS, batch_size=batch_size).as_numpy_iterator()))
    return sorted(stream, key=lambda sample: sample[keys.POSITION])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_frame_comes_once_on_its_canvas(records: RecordSet, batch_size: int) -> None:
    stream = frames(records, batch_size)
    assert [int(sample[keys.POSITION]) for sample in stream] == [0, 1, 2, 3]
    canvases = choose_canvases(records.sizes, CANVAS)
    for sample, (height, width), canvas in zip(stream, records.sizes, canvases, strict=True):
        frame = Frame(int(height), int(width), CANVAS)
        assert tuple(sample[keys.CONTENT]) == frame.content
        assert tuple(sample[keys.VIEW]) == (1, 1, 0, 0, 0)
        assert sample[keys.IMAGE].shape == (*canvas, 3)
        expected = np.zeros((6, 6), bool)
        expected[: frame.valid_cells[0], : frame.valid_cells[1]] = True
        np.testing.assert_array_equal(sample[keys.FRAME_VALID], expected)
        rows, columns = canvas // 8
        np.testing.assert_array_equal(sample[keys.VALID], expected[:rows, :columns])


def test_batches_of_a_few_images_cost_what_these_images_cost(records: RecordSet, monkeypatch) -> None:
    """Maps of many images are made part by part: a look at all of them for each part would take hours."""
    looked_at = []

    def counted(sizes: np.ndarray, *arguments: Any) -> np.ndarray:
        looked_at.append(len(sizes))
        return choose_canvases(sizes, *arguments)

    monkeypatch.setattr("oaa_tf.data.views.input_pipeline.choose_canvases", counted)
    found = frame_batches(records, CANVAS, batch_size=1, chosen=[3, 1])
    assert sorted(int(batch[keys.POSITION][0]) for batch in found) == [1, 3]
    assert looked_at == [2]


def test_one_graph_reads_the_frames_of_all_canvases(records: RecordSet, monkeypatch) -> None:
    """A graph for every canvas would take longer than the frames of a few images."""
    traced = []

    def counted(*arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
        traced.append(arguments)
        return whole_view(*arguments)

    monkeypatch.setattr("oaa_tf.data.views.input_pipeline.whole_view", counted)
    stream = list(frame_batches(records, CANVAS, batch_size=3))
    assert len({batch[keys.IMAGE].shape[1:3] for batch in stream}) > 1
    assert len(traced) == 1


def test_an_unscaled_frame_is_the_image_itself(records: RecordSet) -> None:
    square = records.image_ids.index("c")
    assert tuple(records.sizes[square]) == (CANVAS, CANVAS)
    np.testing.assert_allclose(frames(records)[square][keys.IMAGE], records.record(square).image, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_brightness_found_on_views_goes_back_to_where_it_is_in_the_frame(records: RecordSet, batch_size: int) -> None:
    """The whole way: what a view shows, averaged per cell, lands on the frame's cell that shows the same."""
    whole = frames(records)
    num_compared = 0
    for batch in batches(records, num_steps=32 // batch_size, batch_size=batch_size):
        found, seen = attention_to_frame(
            cell_means(batch[keys.IMAGE]), batch[keys.VALID], batch[keys.FRAME_VALID], batch[keys.VIEW]
        )
        for index, position in enumerate(batch[keys.POSITION]):
            expected = cell_means(whole[int(position)][keys.IMAGE][np.newaxis])[0]
            # Cells that are whole in the frame: those at the border mix with padding.
            height, width = (side // 8 for side in batch[keys.CONTENT][index])
            compared = seen[index].numpy()[:height, :width]
            error = np.abs(found[index].numpy()[:height, :width] - expected[:height, :width])[compared]
            assert error.mean() < 0.05
            num_compared += compared.sum()
    assert num_compared > 200


def cell_means(images: np.ndarray) -> np.ndarray:
    """Mean color of each cell in [0, 1]: float32 `[batch, rows, columns, 3]`."""
    batch, height, width, _ = images.shape
    return images.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)).astype(np.float32) / 255


def test_only_chosen_images_are_shown(records: RecordSet) -> None:
    chosen = np.array([1, 3])
    found = batches(records, num_steps=6, batch_size=2, chosen=chosen)
    shown = [sample[keys.POSITION] for sample in samples(found)]
    assert set(shown) == {1, 3} and len(shown) == 12
    assert {int(sample[keys.EPOCH]) for sample in samples(found)} >= {0, 1, 2}
    everything = np.arange(len(records))
    assert_equal(batches(records, chosen=everything), batches(records))


def test_a_shard_that_is_cut_while_in_use_is_named_in_one_line(tmp_path) -> None:
    records = make_tiny_records(tmp_path)
    os.truncate(tmp_path / "records/train-00000-of-00001.tfrecord", 100)
    dataset = frame_batches(records, CANVAS, batch_size=1)
    with pytest.raises(tf.errors.OpError, match="Traceback"):
        list(dataset)
    line = r"^\S*train-00000-of-00001.tfrecord: was cut while in use; run make_records again$"
    with pytest.raises(UserError, match=line), reading_errors(records):
        list(dataset)
    # Errors of any other kind stay what they are. Other records, since readers of the cut shard may still be at work.
    whole = make_tiny_records(tmp_path / "whole")
    with pytest.raises(tf.errors.InvalidArgumentError), reading_errors(whole):
        tf.debugging.assert_equal(tf.constant(1), 2)
