import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.models.backbones import BACKBONES, freeze_blocks


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_named_by_its_key(name: str) -> None:
    assert BACKBONES[name].build(2).name == name


@pytest.mark.parametrize("name", BACKBONES)
def test_cells_are_centred_where_views_and_interpolation_take_them_to_be(name: str) -> None:
    backbone = BACKBONES[name].build(2)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            # Means, so that no unit is cut off, and that what a cell sees is centred on the middles of the kernels.
            kernel, bias = layer.get_weights()
            layer.set_weights([np.full_like(kernel, 1 / np.prod(kernel.shape[:3])), bias])
    side, cell = 512, 32
    ramp = np.add.outer(np.arange(side), np.arange(side)) / side
    centers = []
    # Pooling takes the last cell of a ramp up and the first of a ramp down; on average the one in the middle.
    for values in (1 + ramp, 3 - ramp):
        image = tf.Variable(np.repeat(values[np.newaxis, ..., np.newaxis], 3, axis=3), dtype=tf.float32)
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(backbone(image)[0, cell, cell])
        weights = np.abs(tape.gradient(score, image)).sum(axis=(0, 3))
        centers.append([np.average(np.arange(side), weights=weights.sum(axis=1 - axis)) for axis in (0, 1)])
    np.testing.assert_allclose(np.mean(centers, axis=0), 8 * cell + 3.5, rtol=0, atol=0.6)


@pytest.mark.parametrize(("num_blocks", "num_frozen"), [(0, 0), (1, 2), (2, 4), (3, 7), (5, 13)])
def test_freezing_blocks_of_vgg16(num_blocks: int, num_frozen: int) -> None:
    backbone = BACKBONES["vgg16"].build(2)
    freeze_blocks(backbone, num_blocks)
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.trainable for layer in convolutions] == [False] * num_frozen + [True] * (13 - num_frozen)
    assert len(backbone.trainable_variables) == 2 * (13 - num_frozen)


# conv1, then three convolutions a block and one more in every stage's shortcut.
@pytest.mark.parametrize(("num_blocks", "num_frozen"), [(0, 0), (1, 1), (2, 11), (3, 24), (4, 94), (5, 104)])
def test_freezing_blocks_of_resnet101(num_blocks: int, num_frozen: int) -> None:
    backbone = BACKBONES["resnet101"].build(2)
    freeze_blocks(backbone, num_blocks)
    trained = [variable.path for variable in backbone.trainable_variables]
    assert len(trained) == 104 - num_frozen
    # No biases, no batch normalisation.
    assert all(path.endswith("_conv/kernel") for path in trained)
    assert all(int(path[4]) > num_blocks for path in trained)
