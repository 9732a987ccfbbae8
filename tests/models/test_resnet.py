"""ResNet-101 at output stride 8 against Keras' own at stride 32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.optimizer import CaffeSGD
from oaa_tf.models.pretrained import load_backbone_weights
from oaa_tf.models.resnet import resnet101_backbone


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """Keras' network with random weights, biases and statistics, none of them as after an initialisation."""
    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet101(weights=None, include_top=False)
    generator = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, generator.normal(0, 0.1, bias.shape)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            # Residual branches add little to their shortcut: the sums stay in range.
            gamma = generator.uniform(0.5, 1.5, shape) * (0.2 if layer.name.endswith("_3_bn") else 1.0)
            offset, mean = generator.normal(0, 0.3, (2, *shape))
            layer.set_weights([gamma, offset, mean, generator.uniform(0.5, 1.5, shape)])
    return network


@pytest.fixture(scope="module")
def weights_file(reference: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet101.weights.h5"
    reference.save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def loaded(weights_file: str) -> keras.Model:
    backbone = resnet101_backbone()
    load_backbone_weights(backbone, weights_file)
    return backbone


def test_layers_and_weights_are_those_of_keras(reference: keras.Model, loaded: keras.Model) -> None:
    assert [layer.name for layer in loaded.layers[1:]] == [layer.name for layer in reference.layers[1:]]
    assert [weight.path for weight in loaded.weights] == [weight.path for weight in reference.weights]
    for one, other in zip(loaded.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


STEM_END = "conv2_block3_out"
"""The last layer before the strides and dilations differ from Keras'."""


@pytest.mark.slow
def test_the_stem_gives_what_keras_gives_for_the_shifted_image(reference: keras.Model, loaded: keras.Model) -> None:
    images = np.random.default_rng(2).uniform(-100, 100, (1, 96, 128, 3)).astype(np.float32)
    ours, theirs = (keras.Model(model.inputs, model.get_layer(STEM_END).output) for model in (loaded, reference))
    # Keras centres cell r on pixel 4 r, so with one more pixel before the image on pixel 4 (r - 1) + 3 of the image.
    shifted = np.pad(images, ((0, 0), (1, 3), (1, 3), (0, 0)))
    found, expected = np.asarray(ours(images)), np.asarray(theirs(shifted))[:, 1:, 1:]
    assert found.shape == expected.shape == (1, 24, 32, 256)
    # A cell sees 17 pixels to each side; at the border the paddings differ.
    inside = (slice(None), slice(5, -5), slice(5, -5))
    scale = expected.std()
    np.testing.assert_allclose(found[inside] / scale, expected[inside] / scale, rtol=1e-4, atol=1e-4)
    assert scale > 0.1


@pytest.mark.parametrize("size", [(24, 32), (26, 18), (19, 26), (17, 9)])
def test_behind_the_stem_every_fourth_cell_is_what_the_network_without_dilation_gives(
    size: tuple[int, int], reference: keras.Model, loaded: keras.Model
) -> None:
    features = np.random.default_rng(2).uniform(0, 3, (1, *size, 256)).astype(np.float32)
    ours, theirs = (
        np.asarray(keras.Model(model.get_layer(STEM_END).output, model.output)(features))
        for model in (loaded, reference)
    )
    assert ours.shape == (1, -(-size[0] // 2), -(-size[1] // 2), 2048)
    assert ours[:, ::4, ::4].shape == theirs.shape
    scale = theirs.std()
    np.testing.assert_allclose(ours[:, ::4, ::4] / scale, theirs / scale, rtol=1e-4, atol=1e-4)
    assert scale > 0.1


def test_full_weights_need_the_full_width(weights_file: str) -> None:
    with pytest.raises(UserError, match=r"--backbone_weights=.*resnet101.* needs --width=64, the width of ResNet-101"):
        load_backbone_weights(resnet101_backbone(2), weights_file)


@pytest.mark.parametrize("width", [2, 3])
def test_output_stride_is_8(width: int) -> None:
    images = np.random.default_rng(0).uniform(-100, 100, (2, 32, 48, 3)).astype(np.float32)
    features = np.asarray(resnet101_backbone(width)(images))
    assert features.shape == (2, 4, 6, 32 * width)
    # Neither vanished nor exploded after 33 blocks.
    assert 0.05 < features.std() < 20


def test_training_changes_the_kernels_only() -> None:
    keras.utils.set_random_seed(0)
    backbone = resnet101_backbone(2)
    generator = np.random.default_rng(0)
    backbone.set_weights([generator.normal(0.3, 0.1, value.shape) for value in backbone.get_weights()])
    images = tf.constant(generator.uniform(-100, 100, (2, 32, 32, 3)).astype(np.float32))
    before = {weight.path: weight.numpy() for weight in backbone.weights}
    with tf.GradientTape() as tape:
        features = backbone(images, training=True)
        # A loss of about 1, whatever the random weights make of the images.
        loss = tf.reduce_mean(features / tf.stop_gradient(tf.reduce_max(tf.abs(features))))
    np.testing.assert_array_equal(features, backbone(images, training=False))
    gradients = tape.gradient(loss, backbone.trainable_variables)
    optimizer = CaffeSGD(1.0, l2=0.1)
    optimizer.apply_gradients(zip(gradients, backbone.trainable_variables, strict=True))
    changed = {weight.path for weight in backbone.weights if not np.array_equal(weight.numpy(), before[weight.path])}
    assert changed == {path for path in before if path.endswith("_conv/kernel")}
    assert len(changed) == 104 and len(before) == 6 * 104
