"""Weights from Keras' networks, in files as Keras writes them."""

import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.backbones import BACKBONES
from oaa_tf.models.largefov import largefov_network
from oaa_tf.models.pretrained import (
    load_backbone_weights,
    load_head_weights,
    named_as_keras_expects,
    subsampled_head,
)
from oaa_tf.models.vgg import vgg16_backbone


def reference(name: str, **options) -> keras.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BACKBONES[name].reference(weights=None, **options)


@pytest.mark.parametrize("name", BACKBONES)
def test_none_leaves_the_initial_weights(name: str) -> None:
    backbone = BACKBONES[name].build(2)
    before = backbone.get_weights()
    load_backbone_weights(backbone, "none")
    for one, other in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vgg.h5"
    with pytest.raises(UserError, match=r"--backbone_weights=.*/vgg\.h5: no such file; expected imagenet, none or"):
        load_backbone_weights(vgg16_backbone(2), str(path))
    with pytest.raises(UserError, match=r"--head_weights=.*/vgg\.h5: no such file; expected imagenet, none or"):
        load_head_weights(largefov_network(vgg16_backbone(2), 3), str(path))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("kind", ["text", "cut", "other name", "other network", "empty h5"])
def test_a_file_of_something_else_is_one_line(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / ("net.bin" if kind == "other name" else "net.weights.h5")
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    if kind == "text":
        path.write_text("not an h5 file\n" * 10)
    elif kind == "empty h5":
        h5py.File(path, "w").close()
    else:
        other.save_weights(tmp_path / "other.weights.h5")
        data = (tmp_path / "other.weights.h5").read_bytes()
        path.write_bytes(data[: len(data) // 2] if kind == "cut" else data)
    with pytest.raises(UserError) as caught:
        load_backbone_weights(BACKBONES[name].build(2), str(path))
    message = str(caught.value)
    title = BACKBONES[name].title
    assert message.startswith(f"--backbone_weights={path}: cannot be read as {title} weights without top in Keras' h5")
    assert "\n" not in message and len(message) < 500


def test_full_weights_of_the_right_shapes_are_taken(tmp_path: Path) -> None:
    """Those of VGG16; for ResNet-101 see test_resnet.py. The other network does not take them."""
    vgg = reference("vgg16", include_top=False)
    path = tmp_path / "vgg.weights.h5"
    vgg.save_weights(path)
    backbone = vgg16_backbone()
    # Keras itself would take the format of a file of this name for an older one.
    (tmp_path / "VGG16.h5").symlink_to(path)
    load_backbone_weights(backbone, str(tmp_path / "VGG16.h5"))
    for one, other in zip(backbone.get_weights(), vgg.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match=r"vgg\.weights\.h5: cannot be read as ResNet-101 weights without top"):
        load_backbone_weights(BACKBONES["resnet101"].build(2), str(path))
    with pytest.raises(UserError, match=r"needs --width=64, the width of VGG16"):
        load_backbone_weights(vgg16_backbone(2), str(path))


@pytest.mark.parametrize("name", ["net.weights.h5", "net.h5", "net"])
@pytest.mark.parametrize("is_old", [False, True])
def test_the_format_is_told_by_the_content(tmp_path: Path, name: str, is_old: bool) -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    written = tmp_path / ("old.h5" if is_old else "new.weights.h5")
    (network.save if is_old else network.save_weights)(written)
    written.rename(tmp_path / name)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with named_as_keras_expects(str(tmp_path / name)) as path:
        other.load_weights(path)
    for one, another in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)
    assert not Path(path).exists()


# --- fc6 and fc7 ---


def test_subsampling_equals_a_loop_over_the_flattened_inputs() -> None:
    generator = np.random.default_rng(0)
    size, channels, units = 7, 3, 9
    fc1 = [generator.normal(size=(size * size * channels, units)), generator.normal(size=units)]
    fc2 = [generator.normal(size=(units, units)), generator.normal(size=units)]
    (fc6, fc6_bias), (fc7, fc7_bias) = subsampled_head(fc1, fc2)
    # Which entry of the flattened features a cell and channel is, says Keras itself.
    numbers = np.arange(size * size * channels).reshape(1, size, size, channels)
    place = {number: index for index, number in enumerate(np.asarray(keras.layers.Flatten()(numbers))[0])}
    kept_cells, kept_units = range(0, size, 3), range(0, units, 4)
    assert fc6.shape == (len(kept_cells), len(kept_cells), channels, len(kept_units))
    assert fc7.shape == (1, 1, len(kept_units), len(kept_units))
    for new_unit, unit in enumerate(kept_units):
        for new_row, row in enumerate(kept_cells):
            for new_column, column in enumerate(kept_cells):
                for channel in range(channels):
                    expected = fc1[0][place[numbers[0, row, column, channel]], unit]
                    assert fc6[new_row, new_column, channel, new_unit] == expected
        for new_input, one_input in enumerate(kept_units):
            assert fc7[0, 0, new_input, new_unit] == fc2[0][one_input, unit]
        assert (fc6_bias[new_unit], fc7_bias[new_unit]) == (fc1[1][unit], fc2[1][unit])


@pytest.mark.slow
def test_fc6_and_fc7_are_parts_of_vgg16s_fully_connected_layers(tmp_path: Path) -> None:
    """Writes 550 MB: Keras' network with top, with random biases as well."""
    vgg = reference("vgg16", include_top=True)
    generator = np.random.default_rng(0)
    dense = {}
    for name in ("fc1", "fc2"):
        kernel, bias = vgg.get_layer(name).get_weights()
        dense[name] = kernel, generator.normal(size=bias.shape).astype(np.float32)
        vgg.get_layer(name).set_weights(dense[name])
    path = tmp_path / "with_top.weights.h5"
    vgg.save_weights(path)
    del vgg
    network = largefov_network(vgg16_backbone(64), num_classes=3)
    score = network.get_layer("score").get_weights()
    load_head_weights(network, str(path))
    path.unlink()

    fc6, fc6_bias = network.get_layer("fc6").get_weights()
    fc7, fc7_bias = network.get_layer("fc7").get_weights()
    for (row, column, channel, unit), (old_row, old_column, old_unit) in {
        (0, 0, 0, 0): (0, 0, 0),
        (1, 0, 7, 3): (3, 0, 12),
        (0, 1, 511, 1): (0, 3, 4),
        (2, 1, 100, 1000): (6, 3, 4000),
        (2, 2, 511, 1023): (6, 6, 4092),
    }.items():
        expected = dense["fc1"][0][(old_row * 7 + old_column) * 512 + channel, old_unit]
        assert fc6[row, column, channel, unit] == expected != 0
        assert fc6_bias[unit] == dense["fc1"][1][old_unit]
    for (one_input, unit), (old_input, old_unit) in {(0, 1): (0, 4), (5, 2): (20, 8), (1023, 0): (4092, 0)}.items():
        assert fc7[0, 0, one_input, unit] == dense["fc2"][0][old_input, old_unit] != 0
        assert fc7_bias[unit] == dense["fc2"][1][old_unit]
    for one, other in zip(network.get_layer("score").get_weights(), score, strict=True):
        np.testing.assert_array_equal(one, other)

    path.write_text("not an h5 file")
    with pytest.raises(UserError, match=r"--head_weights=.*: cannot be read as VGG16 weights with top in Keras' h5"):
        load_head_weights(network, str(path))
