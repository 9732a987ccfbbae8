import functools

import keras
import numpy as np
import pytest

from oaa_tf.attention.extraction import extract_attention
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import Frame
from oaa_tf.data.views.view import MEAN_RGB
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.vgg import vgg16_backbone


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return class_aware_network(vgg16_backbone(4), num_classes=3, initializer="he")


def test_one_map_per_slot_in_the_order_of_slots(network: keras.Model, records: RecordSet) -> None:
    maps = extract_attention(network, records, 48, batch_size=3, label="test").maps
    assert maps.shape == (records.first_slots[-1], 6, 6) and maps.dtype == np.float32

    # The image of 48 x 48 pixels needs no resizing.
    position = next(p for p, size in enumerate(records.sizes) if tuple(size) == (48, 48))
    assert len(records.labels[position]) == 2
    scores = np.asarray(network(records.record(position).image[np.newaxis].astype(np.float32)))[0]
    for rank, label in enumerate(records.labels[position]):
        positive = np.maximum(scores[..., label], 0)
        found = maps[records.first_slots[position] + rank]
        np.testing.assert_allclose(found, positive / (positive.max() + 1e-8), atol=2e-3)


def test_padding_has_no_attention(network: keras.Model, records: RecordSet) -> None:
    maps = extract_attention(network, records, 64, batch_size=4, label="test").maps
    for position, (height, width) in enumerate(records.sizes):
        rows, columns = Frame(int(height), int(width), 64).valid_cells
        for slot in range(records.first_slots[position], records.first_slots[position + 1]):
            assert np.all(maps[slot, rows:] == 0) and np.all(maps[slot, :, columns:] == 0)
            assert maps[slot].max() == pytest.approx(1, abs=1e-5) or maps[slot].max() == 0


def test_batch_size_does_not_change_the_maps(network: keras.Model, records: RecordSet) -> None:
    one, other = (extract_attention(network, records, 48, batch_size=size, label="test").maps for size in (1, 4))
    np.testing.assert_allclose(one, other, atol=2e-3)


def brightness_network() -> keras.Model:
    """Score maps that are known: the mean brightness of each cell above the mean color, for every class."""
    images = keras.Input((None, None, 3))
    brightness = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=-1, keepdims=True))(images)
    cells = keras.layers.AveragePooling2D(8)(brightness)
    scores = keras.layers.Lambda(lambda x: keras.ops.repeat(x, 3, axis=-1) - float(np.mean(MEAN_RGB)))(cells)
    return keras.Model(images, scores)


def test_a_network_that_looks_at_brightness(records: RecordSet) -> None:
    maps = extract_attention(brightness_network(), records, 48, batch_size=2, label="test").maps
    position = next(p for p, size in enumerate(records.sizes) if tuple(size) == (48, 48))
    image = records.record(position).image.astype(np.float64)
    expected = np.maximum(image.reshape(6, 8, 6, 8, 3).mean(axis=(1, 3, 4)) - np.mean(MEAN_RGB), 0)
    assert expected.max() > 0
    for slot in range(records.first_slots[position], records.first_slots[position + 1]):
        np.testing.assert_allclose(maps[slot], expected / expected.max(), atol=1e-4)


def test_a_network_without_a_sense_of_direction_sees_the_same_mirrored(records: RecordSet) -> None:
    network = brightness_network()
    once = extract_attention(network, records, 48, batch_size=2, label="test").maps
    twice = extract_attention(network, records, 48, batch_size=2, label="test", flip=True).maps
    widths = [Frame(int(height), int(width), 48).content[1] for height, width in records.sizes]
    for position, width in enumerate(widths):
        slots = slice(*records.first_slots[position : position + 2])
        # Where the image ends inside a cell, the mirrored view has other cells.
        if width % 8 == 0:
            np.testing.assert_allclose(once[slots], twice[slots], atol=1e-5)


def test_scales_give_the_mean_of_their_maps(network: keras.Model, records: RecordSet) -> None:
    extract = functools.partial(extract_attention, network, records, 48, batch_size=2, label="test", flip=True)
    small, large, both = (extract(scales=scales).maps for scales in ((0.5,), (1.5,), (0.5, 1.5)))
    assert not np.allclose(small, large, atol=0.1)
    # Not exactly: each of the two has been divided by its own maximum.
    mean = (small + large) / 2
    mean /= mean.max(axis=(1, 2), keepdims=True)
    assert np.corrcoef(mean.ravel(), both.ravel())[0, 1] > 0.98
    np.testing.assert_allclose(both.max(axis=(1, 2)), 1, atol=1e-6)


def test_a_larger_view_brings_its_attention_back_to_the_frame(records: RecordSet) -> None:
    network = brightness_network()
    once, twice = (
        extract_attention(network, records, 48, batch_size=2, label="test", scales=scales).maps
        for scales in ((1.0,), (2.0,))
    )
    # Twice the cells see the same brightness, but for what relu and maximum make of finer cells.
    assert np.corrcoef(once.ravel(), twice.ravel())[0, 1] > 0.9


def test_readout_by_the_sigmoid_keeps_what_lies_below_a_half(network: keras.Model, records: RecordSet) -> None:
    relu, sigmoid = (
        extract_attention(network, records, 48, batch_size=2, label="test", readout=readout).maps
        for readout in ("relu", "sigmoid")
    )
    valid = relu > 0
    assert (sigmoid[valid] > 0).all() and (sigmoid > 0).sum() > valid.sum()
    np.testing.assert_allclose(sigmoid.max(axis=(1, 2)), 1, atol=1e-6)
