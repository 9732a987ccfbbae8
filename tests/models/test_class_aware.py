import keras
import numpy as np
import pytest

from oaa_tf.models.backbones import freeze_blocks
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.vgg import vgg16_backbone

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3)).astype(np.float32)


def test_one_score_map_per_class_at_stride_8() -> None:
    network = class_aware_network(vgg16_backbone(2), num_classes=5)
    scores = network(IMAGES)
    assert scores.shape == (2, 4, 6, 5) and scores.dtype == "float32"
    # Scores are logits: the last convolution has no activation.
    assert np.asarray(scores).min() < 0


def test_the_new_layers_are_those_of_the_paper() -> None:
    network = class_aware_network(vgg16_backbone(2), 5, initializer="gaussian")
    new = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.kernel.shape for layer in new] == [(3, 3, 16, 16)] * 3 + [(1, 1, 16, 5)]
    assert [layer.activation.__name__ for layer in new] == ["relu"] * 3 + ["linear"]
    kernels = np.concatenate([np.ravel(layer.kernel) for layer in new])
    assert kernels.std() == pytest.approx(0.01, rel=0.1)
    assert all(np.all(np.asarray(layer.bias) == 0) for layer in new)


def test_mean_colored_images_are_zero_after_preprocessing() -> None:
    keras.utils.set_random_seed(0)
    network = class_aware_network(vgg16_backbone(4), num_classes=3, initializer="he")
    mean = np.broadcast_to(np.float32([123.68, 116.779, 103.939]), (1, 16, 16, 3))
    # All biases are zero at first, so that zero in is zero out.
    np.testing.assert_allclose(network(mean), 0, atol=1e-4)
    assert np.abs(network(IMAGES)).max() > 0.05


def test_frozen_blocks_stay_and_the_others_learn() -> None:
    backbone = vgg16_backbone(2)
    network = class_aware_network(backbone, num_classes=3, initializer="he")
    freeze_blocks(backbone, 2)
    before = {weight.path: weight.numpy() for weight in network.weights}
    network.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    network.train_on_batch(IMAGES, np.random.default_rng(1).normal(0, 5, (2, 4, 6, 3)))
    changed = {path for path, value in before.items() if not np.array_equal(network_weight(network, path), value)}
    frozen = {
        weight.path for layer in backbone.layers for weight in layer.weights if layer.name[:6] in ("block1", "block2")
    }
    assert len(frozen) == 8
    assert changed.isdisjoint(frozen)
    assert {weight.path for weight in network.trainable_variables} == before.keys() - frozen
    # A ReLU may be dead in so narrow a network; most layers must have moved.
    assert len(changed) > 0.7 * len(before.keys() - frozen)


def network_weight(network: keras.Model, path: str) -> np.ndarray:
    return next(weight.numpy() for weight in network.weights if weight.path == path)
