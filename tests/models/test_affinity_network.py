"""The affinity network: what it is made of, and that it learns where labels change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.attention.affinity import at_neighbours, distances
from oaa_tf.data.records import keys
from oaa_tf.models.affinity import AffinityModel, affinity_network, cell_labels
from oaa_tf.models.backbones import end_of_block, find_backbone
from oaa_tf.models.vgg import vgg16_backbone


def test_labels_of_cells_are_those_of_most_of_their_pixels() -> None:
    labels = np.full((1, 16, 24), 7, np.uint8)
    labels[0, :8, 8:11] = 1  # More than a quarter of the cell.
    labels[0, 0, 16:] = 2  # An eighth.
    labels[0, 8:, :8] = 255
    assert cell_labels(tf.constant(labels)).numpy().tolist() == [[[7, 255, 7], [255, 7, 7]]]


@pytest.mark.parametrize("name", ["vgg16", "resnet101", "MobileNetV2", "ResNet50V2"])
def test_any_backbone_has_three_levels_and_keeps_the_order_of_its_weights(name: str) -> None:
    kind = find_backbone(name)
    backbone = kind.build(**({"width": 2} if kind.has_width else {}))
    network, features = affinity_network(backbone, preprocess=kind.preprocess)
    assert network(tf.zeros([2, 64, 96, 3])).shape[:3] == (2, 8, 12)
    assert [weight.path for weight in features.weights] == [weight.path for weight in backbone.weights]
    early, middle, late = features(tf.random.normal([1, 64, 64, 3]))
    assert early.shape[1] in (8, 16) and middle.shape[1:3] == late.shape[1:3] == (8, 8)


def test_the_third_block_of_vgg_ends_with_its_pooling() -> None:
    backbone = vgg16_backbone(width=2)
    assert end_of_block(backbone, 3) is backbone.get_layer("block3_pool").output


def test_it_learns_where_labels_change() -> None:
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)

    def batch_of(count: int) -> dict[str, tf.Tensor]:
        """Images of two colors, with an edge between two cells."""
        edges = generator.integers(2, 9, count)
        is_right = np.arange(80) >= 8 * edges[:, np.newaxis]
        colors = generator.integers(0, 256, (count, 2, 1, 1, 3))
        images = np.where(is_right[:, np.newaxis, :, np.newaxis], colors[:, 0], colors[:, 1]).repeat(64, axis=1)
        labels = is_right[:, np.newaxis].repeat(64, axis=1)
        return {keys.IMAGE: tf.cast(images, tf.float32), keys.SEGMENTATION: tf.cast(labels, tf.uint8)}

    network, _ = affinity_network(vgg16_backbone(width=4))
    model = AffinityModel(network)
    model.compile(keras.optimizers.AdamW(3e-3))
    losses = [float(model.train_on_batch(batch_of(4), return_dict=True)["loss"]) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.6 * losses[0]

    new = batch_of(8)
    found, labels = distances(network(new[keys.IMAGE])).numpy(), cell_labels(new[keys.SEGMENTATION])
    others = np.stack([one.numpy() for one in at_neighbours(labels, 255)])
    is_pair = others != 255
    is_same = others == labels.numpy()
    assert found[is_pair & ~is_same].mean() > 3 * found[is_pair & is_same].mean()
