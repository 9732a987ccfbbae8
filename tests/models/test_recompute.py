"""A network that computes activations again has the same gradients, and keeps less."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.models.backbones import find_backbone, freeze_blocks
from oaa_tf.models.recompute import recomputed
from oaa_tf.models.vgg import vgg16_backbone


def gradients_of(network: keras.Model, images: tf.Tensor) -> Callable[[], list[tf.Tensor]]:
    @tf.function
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            features = network(images, training=True)
            loss = tf.reduce_sum(tf.cast(features, tf.float32) ** 2)
        return [features, *tape.gradient(loss, network.trainable_variables)]

    return compute


def num_convolutions(compute: tf.types.experimental.GenericFunction) -> int:
    operations = compute.get_concrete_function().graph.get_operations()
    return sum(operation.type in ("Conv2D", "DepthwiseConv2dNative") for operation in operations)


NETWORKS = {
    "vgg16": lambda: vgg16_backbone(2),
    "MobileNetV2": find_backbone("MobileNetV2").build,
    "DenseNet121": find_backbone("DenseNet121").build,
}


@pytest.mark.parametrize(
    ("name", "num_frozen_blocks"),
    [
        ("vgg16", 0),
        ("vgg16", 2),
        ("MobileNetV2", 0),
        ("MobileNetV2", 2),
        pytest.param("DenseNet121", 2, marks=pytest.mark.slow),
    ],
)
def test_the_same_gradients(name: str, num_frozen_blocks: int) -> None:
    images = tf.random.stateless_normal((2, 32, 48, 3), (1, 2)) * 50
    keras.utils.set_random_seed(0)
    plain = NETWORKS[name]()
    freeze_blocks(plain, num_frozen_blocks)
    # They have the same layers, and so the same weights.
    saving = recomputed(plain)
    assert [weight.path for weight in saving.weights] == [weight.path for weight in plain.weights]
    once, again = gradients_of(plain, images), gradients_of(saving, images)
    assert num_convolutions(once) < num_convolutions(again) <= 2 * num_convolutions(once)
    for one, other in zip(once(), again(), strict=True):
        assert np.isfinite(one).all() and np.abs(one).max() > 0
        np.testing.assert_array_equal(one, other)


def test_every_block_of_vgg16_is_computed_again() -> None:
    network = recomputed(vgg16_backbone(2))
    ends = [segment.layers[-1].name for segment in network._segments]
    assert ends == ["block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_conv3"]


def test_without_training_nothing_differs() -> None:
    plain = vgg16_backbone(2)
    images = tf.random.stateless_normal((1, 16, 24, 3), (1, 2))
    np.testing.assert_array_equal(recomputed(plain)(images), plain(images))
