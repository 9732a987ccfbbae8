import keras
import numpy as np
import pytest

from oaa_tf.data.frame import Frame
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import MEAN_RGB
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.vgg import vgg16_backbone
from oaa_tf.training.extraction import extract_attention


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return class_aware_network(vgg16_backbone(4), num_classes=3)


def test_one_map_per_slot_in_the_order_of_slots(network: keras.Model, records: RecordSet) -> None:
    maps = extract_attention(network, records, 48, batch_size=3, label="test")
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
    maps = extract_attention(network, records, 64, batch_size=4, label="test")
    for position, (height, width) in enumerate(records.sizes):
        rows, columns = Frame(int(height), int(width), 64).valid_cells
        for slot in range(records.first_slots[position], records.first_slots[position + 1]):
            assert np.all(maps[slot, rows:] == 0) and np.all(maps[slot, :, columns:] == 0)
            assert maps[slot].max() == pytest.approx(1, abs=1e-5) or maps[slot].max() == 0


def test_batch_size_does_not_change_the_maps(network: keras.Model, records: RecordSet) -> None:
    one, other = (extract_attention(network, records, 48, batch_size=size, label="test") for size in (1, 4))
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_network_that_looks_at_brightness(records: RecordSet) -> None:
    """Score maps that are known: the mean brightness of each cell above the mean color, for every class."""
    images = keras.Input((None, None, 3))
    brightness = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=-1, keepdims=True))(images)
    cells = keras.layers.AveragePooling2D(8)(brightness)
    scores = keras.layers.Lambda(lambda x: keras.ops.repeat(x, 3, axis=-1) - float(np.mean(MEAN_RGB)))(cells)
    maps = extract_attention(keras.Model(images, scores), records, 48, batch_size=2, label="test")
    position = next(p for p, size in enumerate(records.sizes) if tuple(size) == (48, 48))
    image = records.record(position).image.astype(np.float64)
    expected = np.maximum(image.reshape(6, 8, 6, 8, 3).mean(axis=(1, 3, 4)) - np.mean(MEAN_RGB), 0)
    assert expected.max() > 0
    for slot in range(records.first_slots[position], records.first_slots[position + 1]):
        np.testing.assert_allclose(maps[slot], expected / expected.max(), atol=1e-4)
