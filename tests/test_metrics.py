"""Confusion matrix, IoU and threshold sweep against hand-computed values and brute force."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.metrics import (
    IGNORE_LABEL,
    ThresholdSweep,
    confusion_matrix,
    foreground_precision_and_recall,
    iou_counts,
    iou_per_class,
    labelled_share,
    mean_iou,
    paired_difference,
    precision_and_recall,
    scores_by_name,
)


def brute_force_confusion(truth, predicted, num_classes):
    labels = [*range(num_classes + 1)]
    return np.array([[np.sum((truth == t) & (predicted == p)) for p in [*labels, IGNORE_LABEL]] for t in labels])


def test_confusion_and_iou_by_hand():
    truth = np.array([[0, 0, 1, 1], [1, 2, 255, 0]], np.uint8)
    predicted = np.array([[0, 1, 1, 255], [1, 1, 2, 0]], np.uint8)
    confusion = confusion_matrix(truth, predicted, num_classes=3)
    np.testing.assert_array_equal(confusion, [[2, 1, 0, 0, 0], [0, 2, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_allclose(iou_per_class(confusion), [2 / 3, 2 / 4, 0, np.nan])
    assert mean_iou(confusion) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert labelled_share(confusion) == pytest.approx(6 / 7)
    precision, recall = precision_and_recall(confusion)
    np.testing.assert_allclose(precision, [2 / 2, 2 / 4, np.nan, np.nan])
    np.testing.assert_allclose(recall, [2 / 3, 2 / 3, 0, np.nan])
    # Of four pixels in the foreground two are right, and there are four.
    assert foreground_precision_and_recall(confusion) == (2 / 4, 2 / 4)


def test_empty_confusion_is_nan():
    confusion = confusion_matrix(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), num_classes=2)
    assert confusion.sum() == 0
    assert np.isnan(mean_iou(confusion)) and np.isnan(labelled_share(confusion))
    assert np.isnan(iou_per_class(confusion)).all()
    assert np.isnan(precision_and_recall(confusion)).all()
    assert np.isnan(foreground_precision_and_recall(confusion)).all()


@pytest.mark.parametrize(
    "truth, predicted, message",
    [
        (np.uint8([[4]]), np.uint8([[0]]), "ground truth has the value 4, expected 0..3 or 255"),
        (np.uint8([[0, 0]]), np.uint8([[0, 254]]), "prediction has the value 254"),
        (np.uint8([[0, 255]]), np.uint8([[0, 9]]), "prediction has the value 9"),
        (np.uint8([[0, 0]]), np.uint8([[0], [0]]), "prediction is 2x1, ground truth 1x2"),
        (np.int64([[0]]), np.uint8([[0]]), "labels are int64, expected uint8"),
    ],
)
def test_confusion_refuses(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, predicted, num_classes=3)


@st.composite
def label_pairs(draw):
    num_classes = draw(st.sampled_from([1, 2, 5, 254]))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    labels = st.sampled_from([0, 1, num_classes - 1, num_classes, IGNORE_LABEL])
    return num_classes, *(draw(hnp.arrays(np.uint8, shape, elements=labels)) for _ in range(2))


@given(label_pairs())
@settings(max_examples=100, deadline=None)
def test_confusion_equals_brute_force(case):
    num_classes, truth, predicted = case
    confusion = confusion_matrix(truth, predicted, num_classes)
    if num_classes <= 5:
        np.testing.assert_array_equal(confusion, brute_force_confusion(truth, predicted, num_classes))
    assert confusion.sum() == np.sum(truth != IGNORE_LABEL)
    # The order of pixels does not matter, and images add up.
    half = len(truth) // 2
    parts = confusion_matrix(truth[:half], predicted[:half], num_classes) + confusion_matrix(
        truth[half:], predicted[half:], num_classes
    )
    np.testing.assert_array_equal(parts, confusion)


def label_by_rule(attention, classes, level):
    """The rule that the sweep scores, written out: argmax class where its attention > level / 255."""
    winner = attention.argmax(axis=0)
    above = attention.max(axis=0) * np.float32(255) > level
    return np.where(above, np.asarray(classes)[winner] + 1, 0).astype(np.uint8)


@st.composite
def attention_images(draw):
    num_classes = draw(st.integers(1, 4))
    images = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
        classes = sorted(draw(st.sets(st.integers(0, num_classes - 1), min_size=1)))
        labels = st.sampled_from([*range(num_classes + 1), IGNORE_LABEL])
        # Values on the levels (as uint8 maps have them), and between them.
        values = st.one_of(
            st.sampled_from([0.0, 1.0, *(np.float32(v) / 255 for v in (1, 76, 77, 128, 254))]).map(np.float32),
            st.floats(0, 1, width=32),
        )
        truth = draw(hnp.arrays(np.uint8, shape, elements=labels))
        images.append((truth, draw(hnp.arrays(np.float32, (len(classes), *shape), elements=values)), classes))
    return num_classes, images


@given(attention_images())
@settings(max_examples=20, deadline=None)
def test_sweep_equals_scoring_every_threshold(case):
    num_classes, images = case
    sweep = ThresholdSweep(num_classes)
    for image in images:
        sweep.add(*image)
    curves, confusions = sweep.curves(), sweep.confusions()
    for level in range(256):
        expected = sum(
            confusion_matrix(truth, label_by_rule(attention, classes, level), num_classes)
            for truth, attention, classes in images
        )
        np.testing.assert_array_equal(confusions[level], expected[:, :-1])
        np.testing.assert_array_equal(curves.iou_per_class[level], iou_per_class(expected))
        np.testing.assert_array_equal(curves.mean_iou[level], mean_iou(expected))
        foreground = expected[1:, 1:-1]
        if expected[:, 1:-1].sum():
            assert curves.precision[level] == np.trace(foreground) / expected[:, 1:-1].sum()
        if expected[1:].sum():
            assert curves.recall[level] == np.trace(foreground) / expected[1:].sum()
    if not np.isnan(curves.mean_iou).all():
        assert curves.mean_iou[curves.best] == np.nanmax(curves.mean_iou)

    in_another_order = ThresholdSweep(num_classes)
    for image in reversed(images):
        in_another_order.add(*image)
    np.testing.assert_array_equal(in_another_order.histogram, sweep.histogram)


def test_sweep_by_hand():
    truth = np.uint8([[1, 1, 0, 255]])
    attention = np.float32([[[0.9, 0.4, 0.2, 1.0]]])
    sweep = ThresholdSweep(2)
    sweep.add(truth, attention, [0])
    curves = sweep.curves()
    best = curves.best
    assert best == 51  # 0.2 is level 51 exactly; from there on the background pixel is right
    np.testing.assert_allclose(curves.iou_per_class[best], [1, 1, np.nan])
    assert curves.mean_iou[best] == 1 and curves.precision[best] == 1 and curves.recall[best] == 1
    half = curves.nearest(0.5)
    np.testing.assert_allclose(curves.iou_per_class[half], [1 / 2, 1 / 2, np.nan])
    assert curves.precision[half] == 1 and curves.recall[half] == 0.5
    assert np.isnan(curves.precision[255]) and curves.recall[255] == 0


def test_uint8_attention_is_scored_at_its_own_level():
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    sweep = ThresholdSweep(1)
    sweep.add(np.zeros((16, 16), np.uint8), stored.astype(np.float32) / 255, [0])
    np.testing.assert_array_equal(sweep.histogram[0, 0], np.ones(256))


def test_sweep_refuses():
    sweep = ThresholdSweep(2)
    with pytest.raises(ValueError, match=r"ground truth has the value 3"):
        sweep.add(np.uint8([[3]]), np.float32([[[0.5]]]), [0])
    with pytest.raises(ValueError, match=r"attention is 1x2, ground truth 1x1"):
        sweep.add(np.uint8([[0]]), np.float32([[[0.5, 0.5]]]), [0])
    for wrong in (np.nan, 1.00001, -0.1):
        with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
            sweep.add(np.uint8([[0, 0]]), np.float32([[[0.5, wrong]]]), [0])
    assert not sweep.histogram.any()


def test_scores_by_name():
    scores = scores_by_name(np.array([0.8, np.nan, 0.5]), ["cat", "dog"])
    assert scores["mean_iou"] == pytest.approx(0.65)
    assert scores["num_labels_in_mean"] == 2 and scores["absent"] == ["cat"]
    assert scores["iou_per_class"]["background"] == 0.8 and np.isnan(scores["iou_per_class"]["cat"])
    assert np.isnan(scores_by_name(np.full(3, np.nan), ["cat", "dog"])["mean_iou"])


# The paired bootstrap


def random_confusions(rng: np.random.Generator, right: float, num_images: int = 60) -> np.ndarray:
    """Of images with three labels, of which a share is right; some pixels have no label."""
    truths = rng.integers(0, 3, (num_images, 12, 12))
    others = np.where(rng.random(truths.shape) < 0.1, 255, rng.integers(0, 3, truths.shape))
    predicted = np.where(rng.random(truths.shape) < right, truths, others)
    return np.array([confusion_matrix(*np.uint8(pair), 2) for pair in zip(truths, predicted, strict=True)])


def test_a_paired_difference_is_that_of_the_mean_ious_and_its_interval_that_of_resamples() -> None:
    rng = np.random.default_rng(0)
    one, other = random_confusions(rng, 0.8), random_confusions(rng, 0.6)
    counts = [np.array([iou_counts(matrix) for matrix in confusions]) for confusions in (one, other)]
    found = paired_difference(*counts, num_resamples=400)
    assert found.difference == pytest.approx(mean_iou(one.sum(axis=0)) - mean_iou(other.sum(axis=0)))
    assert found.is_one and 0 < found.low < found.difference < found.high
    # The same draws, from the matrices themselves.
    drawn, generator = [], np.random.default_rng(0)
    for _ in range(400):
        chosen = generator.integers(60, size=60)
        drawn.append(mean_iou(one[chosen].sum(axis=0)) - mean_iou(other[chosen].sum(axis=0)))
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, (0.025, 0.975)))
    swapped = paired_difference(*counts[::-1], num_resamples=400)
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )


def test_equal_masks_have_no_difference_and_chance_is_rarely_taken_for_one() -> None:
    rng = np.random.default_rng(1)
    outcomes = []
    for _ in range(40):
        one, other = (np.array([iou_counts(m) for m in random_confusions(rng, 0.7)]) for _ in range(2))
        outcomes.append(paired_difference(one, other, num_resamples=200).is_one)
        same = paired_difference(one, one, num_resamples=20)
        assert (same.difference, same.low, same.high, same.is_one) == (0, 0, 0, False)
    # 5 % on average.
    assert sum(outcomes) <= 8
