import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.backbones import BACKBONES, backbone_in_file, find_backbone, freeze_blocks, name_in_descriptions
from oaa_tf.models.output_stride import copy_weights
from oaa_tf.models.pretrained import load_backbone_weights


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


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(UserError, match=r"--backbone=MobilNetV2: no such network; did you mean MobileNetV2\?"):
        find_backbone("MobilNetV2")
    with pytest.raises(UserError, match=r"--backbone=Xception: can't be used: its layer block1_conv1 makes 255 rows"):
        find_backbone("Xception").build()


@pytest.mark.parametrize("name", ["MobileNetV2", pytest.param("DenseNet121", marks=pytest.mark.slow)])
def test_networks_of_keras_come_with_their_preprocessing(name: str) -> None:
    original = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(None, None, 3))
    backbone = find_backbone(name)
    fine = backbone.build()
    copy_weights(original, fine)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    shifted = np.asarray(fine.get_layer("centered_images")(images))
    module = sys.modules[getattr(keras.applications, name).__module__]
    expected = np.asarray(original(module.preprocess_input(shifted.copy())))
    found = np.asarray(fine(backbone.preprocess(keras.ops.convert_to_tensor(images))))
    scale = np.abs(expected).max()
    assert min(np.abs(found[:, q::4, q::4] - expected).max() / scale for q in range(4)) < 1e-4


def test_a_classifier_in_a_file_loses_its_top(tmp_path: Path) -> None:
    base = keras.Sequential(
        [keras.Input((64, 64, 3)), *(keras.layers.Conv2D(4, 3, 2, "same", activation="relu") for _ in range(4))]
    )
    images = keras.Input((64, 64, 3))
    features = base(keras.layers.Rescaling(1 / 255)(images))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    classifier = keras.Model(images, keras.layers.Dense(2)(pooled))
    path = tmp_path / "my network.keras"
    classifier.save(path)
    found = backbone_in_file(str(path))
    values = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(found(values), keras.Model(images, features)(values))
    name = name_in_descriptions(str(path), found.to_json())
    assert re.fullmatch(r"my_network\.keras-[0-9a-f]{8}", name)
    fine = find_backbone(name, found.to_json()).build()
    load_backbone_weights(fine, "imagenet", source=str(path))
    shifted = fine.get_layer("centered_images")(values)
    expected, features = np.asarray(found(shifted)), np.asarray(fine(values))
    assert fine.name == name
    assert min(np.abs(features[:, q::2, q::2] - expected).max() for q in (0, 1)) < 1e-5


@pytest.mark.parametrize("kind", ["text", "no images", "subclassed"])
def test_a_file_without_a_network_of_images_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.keras"
    if kind == "text":
        path.write_text("not a zip file")
    elif kind == "no images":
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(path)
    else:
        model = Subclassed()
        model(np.zeros((1, 8, 8, 3)))
        model.save(path)
    with pytest.raises(UserError, match=r"--backbone=.*net\.keras: no functional network from images to feature maps"):
        backbone_in_file(str(path))


@keras.saving.register_keras_serializable(package="test")
class Subclassed(keras.Model):
    """A network that Keras can call, but not look into."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.layer = keras.layers.Conv2D(2, 3, 2)

    def call(self, images):
        return self.layer(images)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"--backbone=missing\.keras: no such file"):
        backbone_in_file("missing.keras")
