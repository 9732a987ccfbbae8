import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.models.attention_drop import AttentionDrop
from oaa_tf.models.networks import NetworkDescription


def features() -> np.ndarray:
    """Features whose mean over channels has its peak, 1, in one cell of each image, 0.9 beside it, 0.1 elsewhere."""
    values = np.full((6, 3, 4, 2), 0.1, np.float32)
    for image in range(6):
        values[image, 1, image % 3] = (0.5, 1.5)
        values[image, 1, image % 3 + 1] = 0.9
    return values


def test_drops_the_most_attended_cells_of_each_image() -> None:
    given = features()
    got = AttentionDrop(1.0)(given, training=True).numpy()
    expected = given.copy()
    for image in range(6):
        expected[image, 1, image % 3 : image % 3 + 2] = 0
    np.testing.assert_array_equal(got, expected)
    # The threshold is a share of the image's own peak.
    np.testing.assert_array_equal(AttentionDrop(1.0)(given * 7, training=True), expected * 7)
    got = AttentionDrop(1.0, threshold=0.95)(given, training=True).numpy()
    assert (got == 0).sum() == 6 * 2


def test_only_in_training_and_for_a_share_of_the_images() -> None:
    given = np.repeat(features()[:1], 2000, axis=0)
    layer = AttentionDrop(0.3, seed=4)
    np.testing.assert_array_equal(layer(given), given)
    got = layer(given, training=True).numpy()
    concerned = (got != given).any(axis=(1, 2, 3))
    assert concerned.mean() == pytest.approx(0.3, abs=0.04)
    # Image by image, and anew at every call.
    assert (concerned != (layer(given, training=True).numpy() != given).any(axis=(1, 2, 3))).any()
    again = AttentionDrop.from_config(layer.get_config())
    np.testing.assert_array_equal(again(given, training=True), got)


def test_network_with_the_layer_has_the_same_weights_and_scores() -> None:
    description = NetworkDescription("attention", ("cat", "dog"), 32, width=2)
    plain, _ = description.build(initializer="he")
    dropping, _ = description.build(initializer="he", attention_drop=1.0)
    dropping.set_weights(plain.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(plain(images), dropping(images))
    assert not np.array_equal(plain(images, training=True), dropping(images, training=True))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(dropping(images, training=True))
    assert all(gradient is not None for gradient in tape.gradient(total, dropping.trainable_variables))
    assert isinstance(dropping, keras.Model)
