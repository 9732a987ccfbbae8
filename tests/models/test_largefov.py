import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.models.largefov import DeepLabLargeFOV, largefov_network
from oaa_tf.models.vgg import vgg16_backbone


def make_network(**options) -> keras.Model:
    keras.utils.set_random_seed(0)
    return largefov_network(vgg16_backbone(2), num_classes=3, channels=16, initializer="he", **options)


def random_batch(seed: int = 0) -> dict[str, tf.Tensor]:
    """Images whose brightness says the label, with a border to ignore."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((2, 32, 40), np.uint8)
    labels[0, :, 20:], labels[1, 16:] = 1, 3
    image = (generator.uniform(0, 40, (2, 32, 40, 3)) + 60 * labels[..., np.newaxis]).astype(np.float32)
    labels[:, 14:18] = 255
    return {keys.IMAGE: tf.constant(image), keys.SEGMENTATION: tf.constant(labels)}


def test_one_map_per_class_and_background_at_stride_8() -> None:
    logits = make_network()(random_batch()[keys.IMAGE])
    assert logits.shape == (2, 4, 5, 4) and logits.dtype == "float32"


def test_layers_are_those_of_deeplab_largefov() -> None:
    network = largefov_network(vgg16_backbone(2), num_classes=3)
    fc6, fc7, score = (network.get_layer(name) for name in ("fc6", "fc7", "score"))
    assert fc6.kernel.shape == (3, 3, 16, 1024) and fc6.dilation_rate == (12, 12)
    assert fc7.kernel.shape == (1, 1, 1024, 1024)
    assert score.kernel.shape == (1, 1, 1024, 4) and score.activation.__name__ == "linear"
    dropouts = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == [0.5, 0.5]


def test_dropout_is_for_training_and_follows_its_seed() -> None:
    image = random_batch()[keys.IMAGE]
    one, other, third = make_network(seed=1), make_network(seed=1), make_network(seed=2)
    np.testing.assert_array_equal(one(image), one(image))
    first = np.asarray(one(image, training=True))
    np.testing.assert_array_equal(other(image, training=True), first)
    assert not np.array_equal(third(image, training=True), first)
    assert not np.array_equal(one(image, training=True), first)


def test_step_by_hand() -> None:
    model = DeepLabLargeFOV(make_network(dropout=0.0))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    batch = random_batch()
    results = {name: float(value) for name, value in model.train_step(batch).items()}
    logits = tf.image.resize(model.network(batch[keys.IMAGE]), [32, 40]).numpy().astype(np.float64)
    labels = batch[keys.SEGMENTATION].numpy()
    kept = labels != 255
    chosen = np.take_along_axis(logits, np.where(kept, labels, 0)[..., np.newaxis].astype(int), axis=-1)[..., 0]
    losses = np.log(np.exp(logits).sum(axis=-1)) - chosen
    assert results["loss"] == pytest.approx(losses[kept].mean(), rel=1e-4)
    assert results["pixel_accuracy"] == pytest.approx((logits.argmax(-1) == labels)[kept].mean(), abs=1e-4)


def test_ignored_pixels_teach_nothing() -> None:
    model = DeepLabLargeFOV(make_network())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=False)
    before = model.network.get_weights()
    batch = random_batch()
    batch[keys.SEGMENTATION] = tf.fill([2, 32, 40], tf.constant(255, tf.uint8))
    results = model.train_step(batch)
    assert float(results["loss"]) == 0 and float(results["pixel_accuracy"]) == 0
    for one, other in zip(model.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_learns() -> None:
    model = DeepLabLargeFOV(make_network())
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=5.0), jit_compile=False)
    dataset = tf.data.Dataset.from_tensors(random_batch()).repeat(40)
    first = model.fit(dataset.take(3), verbose=0).history["loss"][0]
    model.fit(dataset, verbose=0)
    last = model.fit(dataset.take(3), verbose=0).history
    assert last["loss"][0] < 0.7 * first
    assert last["pixel_accuracy"][0] > 0.6
