"""Networks at a finer output stride against the networks themselves."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.data.images.image_files import read_image
from oaa_tf.models.backbones import backbone_in_file
from oaa_tf.models.optimizer import layers_with_weights
from oaa_tf.models.output_stride import SplitPhases, WeavePhases, at_output_stride, copy_weights


def randomize(network: keras.Model, seed: int = 0) -> None:
    """Gives a network random statistics and offsets; Keras' own are 0 and 1, which would hide them."""
    generator = np.random.default_rng(seed)
    for layer in layers_with_weights(network):
        for weight in layer.weights:
            name = weight.path.rpartition("/")[2]
            if name in ("gamma", "moving_variance"):
                weight.assign(generator.uniform(0.5, 1.5, weight.shape))
            elif name in ("beta", "moving_mean", "bias"):
                weight.assign(generator.normal(0, 0.3, weight.shape))


def differences(network: keras.Model, fine: keras.Model, images: np.ndarray) -> dict[int, float]:
    """By phase, how far the features are from those of the network, in parts of their largest value."""
    shifted = fine.get_layer("centered_images")(images)
    expected, found = (
        np.asarray(model(values, training=False)) for model, values in ((network, shifted), (fine, images))
    )
    count = found.shape[1] // expected.shape[1]
    assert found.shape == (len(images), *(count * side for side in expected.shape[1:3]), expected.shape[-1])
    scale = np.abs(expected).max()
    return {q: np.abs(found[:, q::count, q::count] - expected).max() / scale for q in range(count)}


FAMILIES = [
    *("MobileNetV2", pytest.param("MobileNet", marks=pytest.mark.slow)),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            *("MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ResNet50", "ResNet50V2"),
            *("DenseNet121", "ConvNeXtTiny", "VGG19"),
        )
    ),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_its_cells(name: str) -> None:
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(None, None, 3))
    randomize(network)
    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    for stride in (8, 16):
        fine = at_output_stride(network, stride)
        copy_weights(network, fine)
        found = differences(network, fine, images)
        assert len(found) == 32 // stride and min(found.values()) < 1e-4, (stride, found)


def test_a_real_network_keeps_its_cells(real_data: Path) -> None:
    path = real_data / "weights/efficientnet_lite2_imagenet.keras"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    network = backbone_in_file(str(path))
    fine = at_output_stride(network, 8)
    copy_weights(network, fine)
    voc = real_data / "voc12_animals"
    image_id = (voc / "ImageSets/Segmentation/mini_val.txt").read_text().split()[0]
    image = read_image(voc / "JPEGImages" / f"{image_id}.jpg")[:192, :256]
    found = differences(network, fine, image[np.newaxis].astype(np.float32))
    assert found[3] < 1e-4 and min(found[q] for q in range(3)) > 1e-3


def chain(layers: list[tuple[str, int, int, str]], *, shortcut: bool) -> keras.Model:
    """A small network from kinds, kernels, strides and paddings."""
    images = x = keras.Input((None, None, 3))
    for number, (kind, kernel, stride, padding) in enumerate(layers):
        before = x
        if padding == "explicit":
            first = (kernel - 1) // 2
            x = keras.layers.ZeroPadding2D(((first, kernel - 1 - first),) * 2)(x)
        # Without padding, only windows without overlap keep all cells.
        options = {"strides": stride, "padding": "same" if padding == "same" else "valid"}
        if kind == "convolution":
            x = keras.layers.Conv2D(4, kernel, **options, name=f"layer{number}")(x)
        elif kind == "depthwise":
            x = keras.layers.DepthwiseConv2D(kernel, **options, use_bias=False, name=f"layer{number}")(x)
        else:
            x = keras.layers.AveragePooling2D(kernel, **options)(x)
        x = keras.layers.BatchNormalization()(x)
        if shortcut and kind == "convolution":
            x = keras.layers.Add()([x, keras.layers.Conv2D(4, 1, strides=stride)(before)])
            x = keras.layers.ReLU()(x)
    return keras.Model(images, x)


@st.composite
def chains(draw) -> list[tuple[str, int, int, str]]:
    """The layers of networks with strides 16 to 64."""
    layers = []
    for _ in range(draw(st.integers(4, 6))):
        kind = draw(st.sampled_from(["convolution", "depthwise", "pooling"]))
        padding = "explicit" if kind == "pooling" else draw(st.sampled_from(["same", "explicit"]))
        layers.append((kind, draw(st.sampled_from([1, 2, 3, 5])), 2, padding))
        layers += [("convolution", 3, 1, "same")] * draw(st.integers(0, 1))
    return layers


@settings(max_examples=15, deadline=None)
@given(layers=chains(), shortcut=st.booleans(), stride=st.sampled_from([8, 16]), seed=st.integers(0, 99))
def test_one_phase_is_what_the_network_gives(
    layers: list[tuple[str, int, int, str]], shortcut: bool, stride: int, seed: int
) -> None:
    network = chain(layers, shortcut=shortcut)
    randomize(network, seed)
    fine = at_output_stride(network, stride)
    copy_weights(network, fine)
    images = np.random.default_rng(seed).uniform(-1, 1, (2, 128, 64, 3)).astype(np.float32)
    assert min(differences(network, fine, images).values()) < 1e-4


@pytest.mark.parametrize("padding", ["same", "explicit"])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [8, 16])
def test_cells_are_centred_where_views_and_interpolation_take_them_to_be(
    padding: str, kernel: int, stride: int
) -> None:
    network = chain([("convolution", kernel, 2, padding)] * 5, shortcut=False)
    fine = at_output_stride(network, stride)
    for layer in fine.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(np.full(layer.kernel.shape, 1 / np.prod(layer.kernel.shape[:3])))
    images = tf.Variable(tf.ones((1, 512, 512, 3)))
    cell = 256 // stride
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(fine(images)[0, cell, cell])
    weights = tape.gradient(score, images).numpy().sum(axis=(0, 3))
    center = [np.average(np.arange(512), weights=weights.sum(axis=1 - axis)) for axis in (0, 1)]
    np.testing.assert_allclose(center, stride * cell + (stride - 1) / 2, rtol=0, atol=0.6)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 72), (16, 104)])
def test_any_multiple_of_the_stride_will_do(height: int, width: int) -> None:
    fine = at_output_stride(chain([("convolution", 3, 2, "same")] * 5, shortcut=True), 8)
    assert fine(np.ones((1, height, width, 3), np.float32)).shape == (1, height // 8, width // 8, 4)


def test_normalisation_is_frozen_and_part_of_its_convolution() -> None:
    network = chain([("depthwise", 3, 2, "same"), ("convolution", 3, 2, "same")] * 2, shortcut=False)
    fine = at_output_stride(network, 8)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in fine.layers)
    assert all(weight.path.endswith("kernel") for weight in fine.trainable_weights)
    # An optimizer sees the kernels as they were learnt.
    randomize(network)
    copy_weights(network, fine)
    for layer in layers_with_weights(fine):
        np.testing.assert_array_equal(layer.kernel, network.get_layer(layer.name).kernel)
        assert not layer.scale.trainable and not layer.bias.trainable
    before_a_convolution = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 8, 8)]
    )
    fine = at_output_stride(keras.Model(before_a_convolution.inputs, before_a_convolution.outputs), 8)
    [kept] = [layer for layer in fine.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not kept.trainable


def test_networks_inside_a_network_are_taken_apart_and_random_layers_left_out() -> None:
    inner = chain([("convolution", 3, 2, "same")] * 3, shortcut=False)
    images = keras.Input((None, None, 3))
    x = keras.Sequential([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255)])(images)
    x = keras.layers.Conv2D(4, 2, 2, name="last")(keras.layers.Dropout(0.5)(inner(x)))
    network = keras.Model(images, x)
    randomize(network)
    fine = at_output_stride(network, 8)
    copy_weights(network, fine)
    values = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    assert min(differences(network, fine, values).values()) < 1e-4
    np.testing.assert_array_equal(fine(values, training=True), fine(values, training=False))
    blocks = {layer.name: layer.block for layer in layers_with_weights(fine)}
    assert blocks == {"layer0": 1, "layer1": 2, "layer2": 3, "last": 4}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Xception", "its layer block1_conv1 makes 255 rows of an image of 512: it loses cells"),
        ("short", "stride is 4"),
    ],
)
def test_networks_that_cannot_be_used(name: str, message: str) -> None:
    if name == "short":
        network = chain([("convolution", 3, 2, "same")] * 2, shortcut=False)
    else:
        network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(None, None, 3))
    with pytest.raises(ValueError, match=message):
        at_output_stride(network, 8)


@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.lists(st.sampled_from([2, 3]), min_size=1, max_size=2),
)
def test_woven_phases_are_the_features(sides: tuple[int, int], factors: list[int]) -> None:
    features = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    phases = features
    for factor in factors:
        phases = SplitPhases(factor)(phases)
    images = np.zeros((2, *(8 * side for side in sides), 3), np.float32)
    np.testing.assert_array_equal(WeavePhases(factors, 8)([phases, images]), features)
    first = features[:, :: np.prod(factors), :: np.prod(factors)]
    np.testing.assert_array_equal(phases[:2], first)


def test_a_file_keeps_it(tmp_path) -> None:
    fine = at_output_stride(chain([("convolution", 3, 2, "same"), ("depthwise", 5, 2, "same")] * 2, shortcut=True), 8)
    fine.save(tmp_path / "fine.keras")
    images = np.random.default_rng(0).uniform(0, 1, (1, 32, 48, 3)).astype(np.float32)
    again = keras.saving.load_model(tmp_path / "fine.keras")
    np.testing.assert_array_equal(again(images), fine(images))
