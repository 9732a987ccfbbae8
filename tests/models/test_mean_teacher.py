"""The mean teacher against the rule for whole images, and against means computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.labels.rules import confident_label
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.mean_teacher import MIN_PROBABILITY, MeanTeacher


def make_network() -> keras.Model:
    """Labels an image by the colors of its cells."""
    images = keras.Input((None, None, 3))
    cells = keras.layers.Rescaling(1 / 64, offset=-2)(keras.layers.AveragePooling2D(8)(images))
    network = keras.Model(images, keras.layers.Conv2D(4, 1)(cells))
    network.layers[-1].kernel.assign(np.random.default_rng(1).normal(0, 2, (1, 1, 3, 4)))
    return network


def make_model(network: keras.Model | None = None, *, rate: float = 0.01, **options) -> MeanTeacher:
    model = MeanTeacher(network or make_network(), **({"first_step": 0, "use_saliency": False} | options))
    model.compile(keras.optimizers.SGD(rate, global_clipnorm=1.0), jit_compile=False)
    return model


def random_batch(seed: int = 0) -> dict[str, tf.Tensor]:
    """Three images, of one, two and no classes; the last eight columns of the first are padding."""
    generator = np.random.default_rng(seed)
    colors = generator.uniform(0, 255, (3, 4, 5, 3)).astype(np.float32)
    valid = np.ones((3, 4, 5), bool)
    valid[0, :, 4:] = False
    return {
        keys.IMAGE: tf.constant(colors.repeat(8, axis=1).repeat(8, axis=2)),
        keys.SEGMENTATION: tf.constant(generator.integers(0, 4, (3, 32, 40), np.uint8)),
        keys.LABELS: tf.constant([[0.0, 1, 0], [1, 0, 1], [0, 0, 0]]),
        keys.VALID: tf.constant(valid),
        keys.SALIENCY: tf.constant(generator.integers(0, 256, (3, 32, 40), np.uint8)),
    }


@pytest.mark.parametrize("use_saliency", [False, True])
def test_labels_are_those_of_the_rule_for_whole_images(use_saliency: bool) -> None:
    model, batch = make_model(use_saliency=use_saliency), random_batch()
    probabilities = tf.nn.softmax(tf.image.resize(model.network(batch[keys.IMAGE]), [32, 40])).numpy()
    found = model.teachers_labels(batch).numpy()
    assert found.dtype == np.uint8
    for number, classes in enumerate(([1], [0, 2], [])):
        saliency = batch[keys.SALIENCY][number].numpy() if use_saliency else None
        expected = confident_label(probabilities[number], classes, saliency, MIN_PROBABILITY)
        if number == 0:
            expected[:, 32:] = 255
        # Rounding decides where a probability is just at the threshold.
        assert np.mean(found[number] != expected) < 0.002
    assert {*np.unique(found[:2])} == {0, 1, 2, 3, 255} and not found[2].any()


def test_the_teacher_is_the_mean_of_the_last_weights() -> None:
    model = make_model()
    expected = [weight.numpy().astype(np.float64) for weight in model.network.trainable_variables]
    for step in range(1, 13):
        model.train_step(random_batch(step))
        for mean, weight in zip(expected, model.network.trainable_variables, strict=True):
            mean += 9 / (9 + step) * (weight.numpy() - mean)
    for mean, found, weight in zip(expected, model.mean_weights, model.network.trainable_variables, strict=True):
        np.testing.assert_allclose(found.numpy(), mean, rtol=1e-4, atol=1e-6)
        assert not np.array_equal(found.numpy(), weight.numpy())
    model.finish()
    for found, weight in zip(model.mean_weights, model.network.trainable_variables, strict=True):
        np.testing.assert_array_equal(weight.numpy(), found.numpy())


def test_its_labels_take_the_place_of_the_batchs() -> None:
    batch = random_batch()
    model = make_model(first_step=1)
    assert float(model.train_step(batch)["loss"]) == pytest.approx(given_loss(make_network(), batch), rel=1e-5)
    model.reset_metrics()
    taught = batch | {keys.SEGMENTATION: model.teachers_labels(batch)}
    expected = given_loss(model.network, taught)
    assert float(model.train_step(batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(given_loss(model.network, batch), rel=0.01)
    # Evaluation is about the labels that it is given.
    model.reset_metrics()
    assert float(model.test_step(batch)["loss"]) == pytest.approx(given_loss(model.network, batch), rel=1e-5)


def given_loss(network: keras.Model, batch: dict[str, tf.Tensor]) -> float:
    return float(DeepLabLargeFOV(network).compute_loss_of(batch)[0])


def test_a_teacher_that_is_saved_goes_on(tmp_path) -> None:
    model = make_model(use_saliency=True, first_step=2)
    for step in range(3):
        model.train_step(random_batch(step))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.first_step, loaded.use_saliency) == (2, True)
    for one in (model, loaded):
        one.train_step(random_batch(3))
    for one, other in zip(model.mean_weights, loaded.mean_weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for one, other in zip(model.network.get_weights(), loaded.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_parts_of_a_batch_learn_what_the_batch_does() -> None:
    weights = []
    for parts in (1, 3):
        model = make_model(use_saliency=True, accumulate_steps=parts)
        for step in range(2):
            model.train_step(random_batch(step))
        weights.append(model.network.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
