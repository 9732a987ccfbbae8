"""Batches as a pure function of (records, seed, step)."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_voc import LABELS, make_tiny_records

from oaa_tf.data import keys
from oaa_tf.data.frame import Frame
from oaa_tf.data.input_pipeline import frame_batches, training_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import MEAN_RGB, ViewOptions, attention_to_frame

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
    assert static[keys.IMAGE].shape.as_list() == [None, CANVAS, CANVAS, 3]


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
    expected = samples(batches(records, num_steps=5, batch_size=4))
    assert_equal(samples(batches(records, num_steps=20, batch_size=1)), expected)
    assert_equal(samples(batches(records, num_steps=3, batch_size=7))[:20], expected)


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
    def targets(example: dict, size: tf.Tensor) -> dict:
        assert example[keys.MASK].dtype == tf.string
        return {"size": size, "mask_size": tf.shape(tf.io.decode_png(example[keys.MASK]))[:2]}

    for sample in samples(batches(records, targets=targets)):
        assert tuple(sample["mask_size"]) == tuple(records.sizes[sample[keys.POSITION]])
        np.testing.assert_allclose(sample["size"] / sample[keys.CONTENT], sample[keys.VIEW][:2], rtol=1e-6)
        assert sample.keys() == FEATURES.keys() | {"size", "mask_size"}


def test_padding_has_the_mean_color(records: RecordSet) -> None:
    for sample in samples(batches(records, options=ViewOptions(CANVAS))):
        height, width = sample[keys.CONTENT]
        image = sample[keys.IMAGE][:, ::-1] if sample[keys.VIEW][4] else sample[keys.IMAGE]
        assert np.all(image[height:] == np.float32(MEAN_RGB)) and np.all(image[:, width:] == np.float32(MEAN_RGB))
        assert not np.any(np.all(image[:height, :width] == np.float32(MEAN_RGB), axis=-1))


def test_frames_come_in_the_order_of_positions(records: RecordSet) -> None:
    (first, second) = list(frame_batches(records, CANVAS, batch_size=3).as_numpy_iterator())
    stream = samples([first, second])
    assert [int(sample[keys.POSITION]) for sample in stream] == [0, 1, 2, 3]
    for sample, (height, width) in zip(stream, records.sizes, strict=True):
        frame = Frame(int(height), int(width), CANVAS)
        assert tuple(sample[keys.CONTENT]) == frame.content
        assert tuple(sample[keys.VIEW]) == (1, 1, 0, 0, 0)
        expected = np.zeros((6, 6), bool)
        expected[: frame.valid_cells[0], : frame.valid_cells[1]] = True
        np.testing.assert_array_equal(sample[keys.VALID], expected)
        np.testing.assert_array_equal(sample[keys.FRAME_VALID], expected)


def test_an_unscaled_frame_is_the_image_itself(records: RecordSet) -> None:
    stream = samples(list(frame_batches(records, CANVAS, batch_size=4).as_numpy_iterator()))
    square = records.image_ids.index("c")
    assert tuple(records.sizes[square]) == (CANVAS, CANVAS)
    np.testing.assert_allclose(stream[square][keys.IMAGE], records.record(square).image, atol=1e-3)


def test_brightness_found_on_views_goes_back_to_where_it_is_in_the_frame(records: RecordSet) -> None:
    """The whole way: what a view shows, averaged per cell, lands on the frame's cell that shows the same."""
    frames = samples(list(frame_batches(records, CANVAS, batch_size=4).as_numpy_iterator()))
    num_compared = 0
    for batch in batches(records, num_steps=8):
        cells = batch[keys.IMAGE].reshape(-1, 6, 8, 6, 8, 3).mean(axis=(2, 4)) / 255
        found, seen = attention_to_frame(
            cells.astype(np.float32), batch[keys.VALID], batch[keys.FRAME_VALID], batch[keys.VIEW]
        )
        for index, position in enumerate(batch[keys.POSITION]):
            expected = frames[position][keys.IMAGE].reshape(6, 8, 6, 8, 3).mean(axis=(1, 3)) / 255
            # Cells that are whole in the frame: those at the border mix with padding.
            height, width = (side // 8 for side in batch[keys.CONTENT][index])
            whole = np.zeros((6, 6), bool)
            whole[:height, :width] = True
            compared = whole & seen[index].numpy()
            error = np.abs(found[index].numpy() - expected)[compared]
            assert error.mean() < 0.05
            num_compared += compared.sum()
    assert num_compared > 200
