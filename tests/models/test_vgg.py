import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.pretrained import load_backbone_weights
from oaa_tf.models.vgg import CONVOLUTIONS_PER_BLOCK, vgg16_backbone

IMAGES = np.random.default_rng(0).uniform(-100, 100, (2, 32, 48, 3)).astype(np.float32)


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("width", [2, 3])
def test_output_stride_is_8(width: int) -> None:
    assert vgg16_backbone(width)(IMAGES).shape == (2, 4, 6, 8 * width)


def test_layers_are_those_of_vgg16() -> None:
    ours = vgg16_backbone(64)
    reference = keras.applications.VGG16(weights=None, include_top=False)
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in reference.weights]
    assert [layer.name for layer in convolutions(ours)] == [layer.name for layer in convolutions(reference)]
    assert len(convolutions(ours)) == sum(CONVOLUTIONS_PER_BLOCK)


def test_the_last_blocks_look_farther_without_further_pooling() -> None:
    backbone = vgg16_backbone(2)
    assert {layer.name: layer.dilation_rate for layer in convolutions(backbone)}["block5_conv1"] == (2, 2)
    # With linear, positive kernels, the change of one input pixel spreads over exactly the field of view. Block 5 and
    # pool4 see 2 * (3 * 2) + 1 + 2 cells of the grid, blocks 1-4 the rest.
    for layer in convolutions(backbone):
        kernel, bias = layer.get_weights()
        layer.set_weights([np.full_like(kernel, 0.5), bias])
    image = np.full((1, 320, 320, 3), 0.1, np.float32)
    spot = image.copy()
    spot[0, 160, 160] = 0.2
    changed = np.any(np.asarray(backbone(spot)) != np.asarray(backbone(image)), axis=-1)[0]
    rows = np.flatnonzero(changed.any(axis=1))
    # Block 4: 3 cells each way, pool4: 1, block 5: 6; blocks 1-3 in pixels: 2 + 2 * 2 + 4 * 3 = 18, that is 2 or 3.
    assert rows.min() == 20 - 3 - 1 - 6 - 2 and rows.max() == 20 + 3 + 1 + 6 + 2


@pytest.fixture(scope="module")
def vgg_weights(real_data: Path) -> str:
    path = real_data / "weights" / "vgg16_imagenet_notop.weights.h5"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return str(path)


def test_imagenet_features_equal_those_of_keras(vgg_weights: str) -> None:
    backbone = vgg16_backbone()
    load_backbone_weights(backbone, vgg_weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = keras.applications.VGG16(weights=vgg_weights, include_top=False)
    # Both networks are the same up to block 4; then the reference has pooled once more.
    names = [layer.name for layer in convolutions(backbone) if layer.name[5] in "1234"] + ["block3_pool"]
    ours, theirs = (
        keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])(IMAGES)
        for model in (backbone, reference)
    )
    for name, one, other in zip(names, ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4, err_msg=name)
        assert np.asarray(one).std() > 1
    for layer in convolutions(reference):
        for one, other in zip(backbone.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_imagenet_weights_need_the_width_of_vgg16(vgg_weights: str) -> None:
    with pytest.raises(UserError, match=r"--backbone_weights=.*vgg16_imagenet_notop.* needs --width=64"):
        load_backbone_weights(vgg16_backbone(2), vgg_weights)
