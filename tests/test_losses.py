"""The losses against references in float64 numpy, and their gradients against central differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.losses import (
    HybridLoss,
    affinity_loss,
    classification_loss,
    hybrid_loss,
    multi_label_cross_entropy,
    segmentation_loss,
)

ATTENTION_LOSSES = {"hybrid": hybrid_loss, "mce": multi_label_cross_entropy}


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """log q; log(1 - q) is log_sigmoid(-x)."""
    return -np.logaddexp(0, -np.asarray(x, np.float64))


def reference_classification(logits, labels) -> float:
    """Binary cross-entropy, as in the paper's text."""
    return float(np.mean(np.sum(-labels * log_sigmoid(logits) - (1 - labels) * log_sigmoid(-logits), axis=1)))


def reference_attention(name: str, logits, targets, valid) -> float:
    """Eq. 6 or Eq. 7-9, cell by cell."""
    total = 0.0
    for image in range(len(logits)):
        for c in range(logits.shape[-1]):
            cells = [(float(targets[image, i, j, c]), logits[image, i, j, c]) for i, j in np.argwhere(valid[image])]
            attended = [(p, x) for p, x in cells if p > 0]
            unattended = [x for p, x in cells if p == 0]
            if name == "mce" and cells:
                total -= sum(p * log_sigmoid(x) + (1 - p) * log_sigmoid(-x) for p, x in cells) / len(cells)
            if name == "hybrid" and attended:
                total -= sum(p * log_sigmoid(x) for p, x in attended) / len(attended)
            if name == "hybrid" and unattended:
                total -= sum(log_sigmoid(-x) for x in unattended) / len(unattended)
    return total / len(logits)


def reference_segmentation(logits, labels) -> float:
    losses = []
    for place in np.argwhere(labels != 255):
        scores = logits[tuple(place)].astype(np.float64)
        losses.append(np.log(np.sum(np.exp(scores))) - scores[labels[tuple(place)]])
    return float(np.mean(losses)) if losses else 0.0


def example(seed: int, *, batch=2, height=3, width=4, classes=3):
    """Logits, targets with about half of the cells at 0, and a valid mask with padding at two borders."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (batch, height, width, classes)).astype(np.float32)
    targets = generator.uniform(0, 1, logits.shape).astype(np.float32)
    targets[generator.uniform(size=logits.shape) < 0.5] = 0
    valid = np.zeros((batch, height, width), bool)
    for image in range(batch):
        valid[image, : generator.integers(1, height + 1), : generator.integers(1, width + 1)] = True
    return logits, targets, valid


def value_and_gradient(loss, logits, *arguments) -> tuple[float, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits, *(tf.constant(argument) for argument in arguments))
    return float(value), tape.gradient(value, logits).numpy()


def numeric_gradient(reference, logits: np.ndarray, step: float = 1e-5) -> np.ndarray:
    logits = logits.astype(np.float64)
    gradient = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        above, below = logits.copy(), logits.copy()
        above[place] += step
        below[place] -= step
        gradient[place] = (reference(above) - reference(below)) / (2 * step)
    return gradient


def test_classification_loss_by_hand() -> None:
    # sigmoid(0) = 1/2 costs log 2; sigmoid(log 3) = 3/4 costs log(4/3) if present and log 4 if absent.
    logits = np.array([[0.0, np.log(3)], [np.log(3), -np.log(3)]], np.float32)
    labels = np.array([[1, 1], [0, 0]], np.float32)
    expected = ((np.log(2) + np.log(4 / 3)) + (np.log(4) + np.log(4 / 3))) / 2
    assert float(classification_loss(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_hybrid_loss_by_hand() -> None:
    # One class, four cells with q = 3/4, 1/4, 3/4, 1/2 and one cell of padding. N+ = {p = 1, p = 1/2}, N- = two cells.
    logits = np.array([np.log(3), -np.log(3), np.log(3), 0, 7], np.float32).reshape(1, 1, 5, 1)
    targets = np.array([1, 0.5, 0, 0, 0.9], np.float32).reshape(1, 1, 5, 1)
    valid = np.array([[[True, True, True, True, False]]])
    enhanced = (1 * np.log(4 / 3) + 0.5 * np.log(4)) / 2
    constraint = (np.log(4) + np.log(2)) / 2
    assert float(hybrid_loss(logits, targets, valid)) == pytest.approx(enhanced + constraint, rel=1e-6)
    expected = (np.log(4 / 3) + 0.5 * np.log(4) + 0.5 * np.log(4 / 3) + np.log(4) + np.log(2)) / 4
    assert float(multi_label_cross_entropy(logits, targets, valid)) == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_attention_losses_equal_the_reference(name: str, seed: int) -> None:
    logits, targets, valid = example(seed)
    expected = reference_attention(name, logits, targets, valid)
    assert float(ATTENTION_LOSSES[name](logits, targets, valid)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_gradients_of_attention_losses_equal_numeric_differentiation(name: str) -> None:
    logits, targets, valid = example(3)
    assert valid.any() and not valid.all()
    _, gradient = value_and_gradient(ATTENTION_LOSSES[name], logits, targets, valid)
    numeric = numeric_gradient(lambda x: reference_attention(name, x, targets, valid), logits)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)
    assert np.all(gradient[~valid] == 0)
    # The two sets pull in opposite directions.
    if name == "hybrid":
        assert np.all(gradient[valid & (targets > 0).all(-1)] < 0)
        assert np.all(gradient[valid & (targets == 0).all(-1)] > 0)


@pytest.mark.parametrize("everywhere", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_an_empty_set_of_cells_contributes_nothing(name: str, everywhere: float) -> None:
    logits, targets, valid = example(5)
    targets[..., 1] = everywhere
    value, gradient = value_and_gradient(ATTENTION_LOSSES[name], logits, targets, valid)
    assert value == pytest.approx(reference_attention(name, logits, targets, valid), rel=1e-5)
    np.testing.assert_allclose(
        gradient, numeric_gradient(lambda x: reference_attention(name, x, targets, valid), logits), atol=1e-6
    )


@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_an_image_of_padding_only_costs_nothing(name: str) -> None:
    logits, targets, valid = example(6)
    valid[0] = False
    value, gradient = value_and_gradient(ATTENTION_LOSSES[name], logits, targets, valid)
    assert value == pytest.approx(reference_attention(name, logits, targets, valid), rel=1e-5)
    assert np.all(gradient[0] == 0) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("everywhere", [None, 0.0, 1.0])
@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_attention_losses_are_finite_for_huge_logits(name: str, everywhere: float | None, size: float) -> None:
    logits, targets, valid = example(7)
    logits = np.where(logits > 0.5, np.float32(size), logits)
    if everywhere is not None:
        targets[:] = everywhere
    value, gradient = value_and_gradient(ATTENTION_LOSSES[name], logits, targets, valid)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    # -log(sigmoid(-1e4)) is 1e4: nothing is clipped on the way.
    assert value == pytest.approx(reference_attention(name, logits, targets, valid), rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), filling=st.sampled_from([-1e4, 3.0, 1e4]))
@pytest.mark.parametrize("name", ATTENTION_LOSSES)
def test_what_is_in_padding_does_not_matter(name: str, filling: float, seed: int) -> None:
    logits, targets, valid = example(seed)
    other_logits = np.where(valid[..., None], logits, np.float32(filling))
    other_targets = np.where(valid[..., None], targets, 1 - targets)
    before = value_and_gradient(ATTENTION_LOSSES[name], logits, targets, valid)
    after = value_and_gradient(ATTENTION_LOSSES[name], other_logits, other_targets, valid)
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])


def test_hybrid_loss_weighs_both_sets_alike_whatever_their_sizes() -> None:
    # Copies of the same unattended cell leave the hybrid loss as it is; they change the MCE.
    logits = np.array([1.0, -0.5], np.float32).reshape(1, 1, 2, 1)
    targets = np.array([0.8, 0.0], np.float32).reshape(1, 1, 2, 1)
    more = [np.concatenate([array, array[:, :, 1:], array[:, :, 1:]], axis=2) for array in (logits, targets)]
    valid, more_valid = np.full((1, 1, 2), True), np.full((1, 1, 4), True)
    assert float(hybrid_loss(logits, targets, valid)) == pytest.approx(float(hybrid_loss(*more, more_valid)), rel=1e-6)
    assert float(multi_label_cross_entropy(logits, targets, valid)) != pytest.approx(
        float(multi_label_cross_entropy(*more, more_valid)), rel=1e-2
    )


def test_hybrid_loss_as_a_keras_loss_ignores_marked_cells_and_weighs_images() -> None:
    logits, targets, valid = example(4, batch=3)
    marked = np.where(valid[..., np.newaxis], targets, -1).astype(np.float32)
    assert (marked < 0).any() and (marked == 0).any() and (marked > 0).any()
    loss = keras.losses.deserialize(keras.losses.serialize(HybridLoss()))
    assert type(loss) is HybridLoss
    assert float(loss(marked, logits)) == pytest.approx(float(hybrid_loss(logits, targets, valid)), rel=1e-6)
    each = [float(hybrid_loss(logits[i : i + 1], targets[i : i + 1], valid[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(HybridLoss(reduction="none")(marked, logits), each, rtol=1e-6)
    weights = np.float32([1, 0, 2])
    expected = np.dot(weights, each) / 3
    assert float(loss(marked, logits, sample_weight=weights)) == pytest.approx(expected, rel=1e-6)


def test_hybrid_loss_in_compile_and_fit() -> None:
    keras.utils.set_random_seed(0)
    _, targets, valid = example(5, height=8, width=8)
    marked = np.where(valid[..., np.newaxis], targets, -1)
    model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3, padding="same")])
    model.compile(keras.optimizers.Adam(0.05), loss=HybridLoss())
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 2))
    losses = model.fit(images, marked, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_gradient_of_classification_loss() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (3, 4)).astype(np.float32)
    labels = (generator.uniform(size=(3, 4)) < 0.5).astype(np.float32)
    value, gradient = value_and_gradient(classification_loss, logits, labels)
    assert value == pytest.approx(reference_classification(logits, labels), rel=1e-5)
    numeric = numeric_gradient(lambda x: reference_classification(x, labels), logits)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)


def test_classification_loss_of_huge_logits() -> None:
    logits = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)
    labels = np.array([[1, 0, 0, 1]], np.float32)
    value, gradient = value_and_gradient(classification_loss, logits, labels)
    assert value == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[0, 0, 1, -1]], atol=1e-6)


def segmentation_example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (2, 3, 3, 4)).astype(np.float32)
    labels = generator.integers(0, 4, (2, 3, 3), np.int32)
    labels[generator.uniform(size=labels.shape) < 0.4] = 255
    return logits, labels


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_segmentation_loss_equals_the_reference(seed: int) -> None:
    logits, labels = segmentation_example(seed)
    assert float(segmentation_loss(logits, labels)) == pytest.approx(reference_segmentation(logits, labels), rel=1e-5)


def test_segmentation_loss_with_weights_of_labels() -> None:
    logits, labels = segmentation_example(3)
    weights = np.arange(1, logits.shape[-1] + 1) / 2
    log_probabilities = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=-1, keepdims=True))
    losses = [
        -weights[labels[at]] * log_probabilities[(*at, labels[at])]
        for at in np.ndindex(labels.shape)
        if labels[at] < 255
    ]
    assert float(segmentation_loss(logits, labels, list(weights))) == pytest.approx(np.mean(losses), rel=1e-5)


def test_gradient_of_segmentation_loss_skips_ignored_pixels() -> None:
    logits, labels = segmentation_example(1)
    _, gradient = value_and_gradient(segmentation_loss, logits, labels)
    numeric = numeric_gradient(lambda x: reference_segmentation(x, labels), logits)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)
    assert np.all(gradient[labels == 255] == 0)


def test_a_device_without_images_adds_zero_and_no_gradient() -> None:
    maps, valid = tf.zeros([0, 2, 2, 3]), tf.zeros([0, 2, 2], tf.bool)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = [
            classification_loss(tf.reduce_mean(maps, axis=[1, 2]), tf.zeros([0, 3])),
            hybrid_loss(maps, maps, valid),
            multi_label_cross_entropy(maps, maps, valid),
        ]
        total = tf.add_n(values)
    assert [float(value) for value in values] == [0, 0, 0]
    assert tape.gradient(total, maps).shape == [0, 2, 2, 3]


def test_segmentation_loss_without_any_labelled_pixel_is_zero() -> None:
    logits, labels = segmentation_example(2)
    value, gradient = value_and_gradient(segmentation_loss, logits, np.full_like(labels, 255))
    assert value == 0
    assert np.all(gradient == 0)


def test_segmentation_loss_of_huge_logits() -> None:
    logits = np.zeros((1, 1, 3, 2), np.float32)
    logits[0, 0, :, 1] = [1e4, -1e4, 1e4]
    labels = np.array([[[0, 0, 255]]], np.int32)
    value, gradient = value_and_gradient(segmentation_loss, logits, labels)
    assert value == pytest.approx(5e3)
    np.testing.assert_allclose(gradient[0, 0], [[-0.5, 0.5], [0, 0], [0, 0]], atol=1e-6)


def reference_affinity(distances, labels, others) -> float:
    """The mean over images of the means over their three kinds of pairs."""
    total = 0.0
    for image in range(labels.shape[0]):
        background, objects, different = [], [], []
        for n, i, j in np.ndindex(distances.shape[0], *labels.shape[1:]):
            one, other = labels[image, i, j], others[n, image, i, j]
            d = float(distances[n, image, i, j])
            if 255 in (one, other):
                continue
            if one != other:
                different.append(-np.log(1 + 1e-5 - np.exp(-d)))
            elif one == 0:
                background.append(d)
            else:
                objects.append(d)
        total += sum(factor * np.mean(of) for factor, of in ((1, background), (1, objects), (2, different)) if of)
    return total / labels.shape[0]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), pairs=st.integers(1, 4), batch=st.integers(1, 3))
def test_affinity_loss(seed: int, pairs: int, batch: int) -> None:
    generator = np.random.default_rng(seed)
    distances = generator.exponential(size=(pairs, batch, 3, 4)).astype(np.float32)
    labels = generator.choice([0, 1, 2, 255], (batch, 3, 4)).astype(np.int32)
    others = generator.choice([0, 1, 2, 255], (pairs, batch, 3, 4)).astype(np.int32)
    expected = reference_affinity(distances, labels, others)
    assert float(affinity_loss(*map(tf.constant, (distances, labels, others)))) == pytest.approx(expected, rel=1e-4)


def test_affinity_loss_without_pairs_is_zero() -> None:
    ignored = tf.fill([2, 1, 3, 3], 255)
    assert float(affinity_loss(tf.ones([2, 1, 3, 3]), ignored[0], ignored)) == 0
    assert (
        float(affinity_loss(tf.ones([2, 0, 3, 3]), tf.zeros([0, 3, 3], tf.int32), tf.zeros([2, 0, 3, 3], tf.int32)))
        == 0
    )
