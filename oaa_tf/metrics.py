"""Segmentation metrics: confusion matrix, intersection over union, and the threshold sweep for attention maps.

With C classes there are C + 1 labels: 0 is background, `c + 1` is class index `c`. `IGNORE_LABEL` in the ground truth
excludes a pixel from every count; in a prediction it means that the pixel has no label.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oaa_tf.data.records.keys import IGNORE_LABEL

NUM_LEVELS = 256


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by true and predicted label.

    Add up the matrices of several images to score them together.

    Args:
        truth: uint8 `[height, width]`, labels 0..C and `IGNORE_LABEL`.
        predicted: uint8 `[height, width]`, labels 0..C and `IGNORE_LABEL`.
        num_classes: C, at most 254.

    Returns:
        int64 `[C + 1, C + 2]`: rows are true labels, columns predicted labels; the last column counts pixels that
        the prediction leaves without a label. Pixels whose truth is `IGNORE_LABEL` are left out.

    Raises:
        ValueError: The shapes differ, or a label is out of range.
    """
    num_bins = num_classes + 3
    truth_bins, predicted_bins = _bins(truth, num_classes), _bins(predicted, num_classes)
    if truth.shape != predicted.shape:
        raise ValueError(f"prediction is {_size(predicted)}, ground truth {_size(truth)} (height x width)")
    joint = np.bincount((truth_bins * num_bins + predicted_bins).ravel(), minlength=num_bins**2)
    joint = joint.reshape(num_bins, num_bins)
    if joint[-1].any():
        raise ValueError(_out_of_range("ground truth", truth, num_classes))
    if joint[:, -1].any():
        raise ValueError(_out_of_range("prediction", predicted, num_classes))
    return joint[: num_classes + 1, : num_classes + 2]


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each label.

    Pixels that the prediction leaves without a label are left out, as if their truth were `IGNORE_LABEL`: report the
    `labelled_share` next to the result.

    Args:
        confusion: Counts `[..., C + 1, C + 1]` or, with the column of pixels without a label, `[..., C + 1, C + 2]`.

    Returns:
        float64 `[..., C + 1]`; NaN for a label that occurs neither in the truth nor in the prediction.
    """
    square = confusion[..., : confusion.shape[-2]]
    right = np.diagonal(square, axis1=-2, axis2=-1)
    union = square.sum(axis=-1) + square.sum(axis=-2) - right
    return _ratio(right, union)


def precision_and_recall(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of each label.

    Args:
        confusion: Counts `[C + 1, C + 2]` from `confusion_matrix`.

    Returns:
        Two float64 `[C + 1]`. Precision is the share of the pixels predicted as a label that are right; recall is the
        share of the label's true pixels that are predicted as it, where a pixel without a prediction counts as missed.
        NaN where there are no such pixels.
    """
    right = np.diagonal(confusion)
    return _ratio(right, confusion[:, :-1].sum(axis=0)), _ratio(right, confusion.sum(axis=1))


def foreground_precision_and_recall(confusion: np.ndarray) -> tuple[float, float]:
    """Precision and recall over all classes, as in `SweepCurves`; NaN where there are no such pixels.

    Args:
        confusion: Counts `[C + 1, C + 2]` from `confusion_matrix`.
    """
    right = np.diagonal(confusion)[1:].sum()
    return float(_ratio(right, confusion[:, 1:-1].sum())), float(_ratio(right, confusion[1:].sum()))


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Mean of `iou_per_class` over the labels that occur in the truth or in the prediction.

    Args:
        confusion: Counts `[..., C + 1, C + 1]` or `[..., C + 1, C + 2]`.

    Returns:
        float64 `[...]`; NaN where no label occurs.
    """
    iou = iou_per_class(confusion)
    return _ratio(np.nansum(iou, axis=-1), np.isfinite(iou).sum(axis=-1))


def labelled_share(confusion: np.ndarray) -> float:
    """Share of the pixels with known truth to which the prediction gives a label; NaN when there are none.

    Args:
        confusion: Counts `[C + 1, C + 2]` from `confusion_matrix`.
    """
    return float(_ratio(confusion[:, :-1].sum(), confusion.sum()))


def image_scores(
    values: np.ndarray, labels: Sequence[Sequence[int]], classes: Sequence[str], *, threshold: float
) -> dict[str, dict[str, float]]:
    """How well a number for each image and class tells the images that show the class from the others.

    Args:
        values: float `[num_images, C]`, such as probabilities, or the classes' shares of the pixels of a mask.
        labels: Class indices of every image.
        classes: The C class names.
        threshold: A class counts as detected where its value is above this.

    Returns:
        By class: "num_with" and "num_without", the numbers of images with and without it; "detection_rate", the share
        of the former in which it is detected; "false_alarms", that share of the latter; and "auc", the area under the
        ROC curve: the probability that an image with the class has the greater value of the two, ties counting half.
        NaN where there are no such images.
    """
    # One class at a time: a matrix of all labels would take a gigabyte for ImageNet's.
    image = np.repeat(np.arange(len(values)), [len(of_image) for of_image in labels])
    label = np.fromiter(itertools.chain.from_iterable(labels), np.int64, len(image))
    scores = {}
    for index, name in enumerate(classes):
        of_class, shows = values[:, index], np.zeros(len(values), bool)
        shows[image[label == index]] = True
        with_class, without = of_class[shows], np.sort(of_class[~shows])
        num_pairs = len(with_class) * len(without)
        below, up_to = (np.searchsorted(without, with_class, side=side).sum() for side in ("left", "right"))
        scores[name] = {
            "num_with": len(with_class),
            "num_without": len(without),
            "detection_rate": float(_ratio(np.sum(with_class > threshold), len(with_class))),
            "false_alarms": float(_ratio(np.sum(without > threshold), len(without))),
            "auc": float(_ratio((below + up_to) / 2, num_pairs)),
        }
    return scores


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two mean IoUs on the same images are apart.

    Attributes:
        difference: The first minus the second.
        low: The lower end of the interval in which 95 % of the resampled differences are.
        high: Its upper end.
    """

    difference: float
    low: float
    high: float

    @property
    def is_one(self) -> bool:
        """Whether zero is outside of the interval."""
        return not self.low <= 0 <= self.high


def paired_difference(first: np.ndarray, second: np.ndarray, *, num_resamples: int = 2000, seed: int = 0) -> Difference:
    """A paired bootstrap: what the difference would be on other images of the same kind.

    Each resample draws as many images as there are, with replacement, and takes both mean IoUs over them (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, Sec. 13.3).

    Args:
        first: Counts of every image from `iou_counts`, `[num_images, 3, C + 1]`.
        second: The same of the other masks.
        num_resamples: Number of resamples.
        seed: Seed of the draws.
    """
    counts = np.stack([first, second], axis=1).astype(np.float64)
    num_images = len(counts)
    generator = np.random.default_rng(seed)
    drawn = np.empty(num_resamples)
    for index in range(num_resamples):
        times = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)
        drawn[index] = np.subtract(*_mean_iou_of_counts(np.tensordot(times, counts, axes=1)))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(float(np.subtract(*_mean_iou_of_counts(counts.sum(axis=0)))), float(low), float(high))


def iou_counts(confusion: np.ndarray) -> np.ndarray:
    """The pixels that an IoU needs: int64 `[3, C + 1]`, those that are right, true, and predicted.

    Args:
        confusion: Counts `[C + 1, C + 2]` from `confusion_matrix`; pixels without a label are left out.
    """
    square = confusion[:, :-1]
    return np.stack([np.diagonal(square), square.sum(axis=1), square.sum(axis=0)])


def _mean_iou_of_counts(counts: np.ndarray) -> np.ndarray:
    """Mean IoU `[...]` of counts `[..., 3, C + 1]`."""
    right, true, predicted = np.moveaxis(counts, -2, 0)
    return np.nanmean(_ratio(right, true + predicted - right), axis=-1)


def scores_by_name(iou: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The entries about IoU in `metrics.json`.

    Args:
        iou: float64 `[C + 1]` from `iou_per_class`.
        classes: The C class names.

    Returns:
        "mean_iou"; "iou_per_class" by name, with "background"; "num_labels_in_mean", background included; and
        "absent", the names of the labels that occur neither in the truth nor in the prediction and have no IoU (NaN).
    """
    names = ["background", *classes]
    occurs = np.isfinite(iou)
    return {
        "mean_iou": float(iou[occurs].mean()) if occurs.any() else float("nan"),
        "iou_per_class": dict(zip(names, iou.tolist(), strict=True)),
        "num_labels_in_mean": int(occurs.sum()),
        "absent": [name for name, there in zip(names, occurs, strict=True) if not there],
    }


@dataclasses.dataclass(frozen=True)
class SweepCurves:
    """Scores of thresholded attention maps, for every threshold.

    Attributes:
        thresholds: float64 `[256]`, 0, 1/255, ..., 1.
        iou_per_class: float64 `[256, C + 1]`, NaN for absent labels (see the function `iou_per_class`).
        mean_iou: float64 `[256]`.
        precision: float64 `[256]`, share of the pixels labelled as foreground whose class is right; NaN when there are
            none.
        recall: float64 `[256]`, share of the foreground pixels that get the right class; NaN when there are none.
    """

    thresholds: np.ndarray
    iou_per_class: np.ndarray
    mean_iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def best(self) -> int:
        """Index of the threshold with the highest mean IoU, the lowest threshold among equals."""
        return int(np.argmax(np.nan_to_num(self.mean_iou, nan=-1)))

    def nearest(self, threshold: float) -> int:
        """Index of the threshold nearest to `threshold`, which is in [0, 1]."""
        return int(np.argmin(np.abs(self.thresholds - threshold)))


class ThresholdSweep:
    """Scores the rule "the most attended class where its attention > t, else background" for all t = 0/255..255/255.

    One pass over the images fills a joint histogram of true label, most attended class and attention level; the
    confusion matrices of all 256 thresholds are cumulative sums of it, hence exact.

    ```python
    sweep = ThresholdSweep(num_classes=20)
    for truth, attention, classes in images:
        sweep.add(truth, attention, classes)
    curves = sweep.curves()
    print(curves.mean_iou[curves.best], curves.thresholds[curves.best])
    ```

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.histogram = np.zeros((num_classes + 1, num_classes, NUM_LEVELS), np.int64)

    def add(self, truth: np.ndarray, attention: np.ndarray, classes: Sequence[int]) -> None:
        """Adds an image.

        Args:
            truth: uint8 `[height, width]`, labels 0..C and `IGNORE_LABEL`.
            attention: float32 `[k, height, width]` in [0, 1].
            classes: The k distinct class indices of the maps. Between equal maxima, the first class wins.

        Raises:
            ValueError: Shapes do not agree, or a true label or an attention value is out of range.
        """
        self.add_histogram(attention_histogram(truth, attention, self.num_classes), classes)

    def add_histogram(self, histogram: np.ndarray, classes: Sequence[int]) -> None:
        """Adds an image by its `attention_histogram`, which may come from another thread."""
        # Without a class all is background, at every threshold and whichever class it is counted under.
        self.histogram[:, list(classes) or [0]] += histogram

    def confusions(self) -> np.ndarray:
        """Confusion matrices of all thresholds, int64 `[256, C + 1, C + 1]`."""
        up_to = self.histogram.cumsum(axis=-1)
        foreground = up_to[..., -1:] - up_to
        background = up_to.sum(axis=1, keepdims=True)
        return np.moveaxis(np.concatenate([background, foreground], axis=1), -1, 0)

    def curves(self) -> SweepCurves:
        """Scores at every threshold."""
        confusions = self.confusions()
        right = np.diagonal(confusions, axis1=-2, axis2=-1)[:, 1:].sum(axis=-1)
        labelled, actual = confusions[:, :, 1:].sum(axis=(-2, -1)), confusions[:, 1:].sum(axis=(-2, -1))
        return SweepCurves(
            thresholds=np.arange(NUM_LEVELS) / (NUM_LEVELS - 1),
            iou_per_class=iou_per_class(confusions),
            mean_iou=mean_iou(confusions),
            precision=_ratio(right, labelled),
            recall=_ratio(right, actual),
        )


def attention_histogram(truth: np.ndarray, attention: np.ndarray, num_classes: int) -> np.ndarray:
    """Joint histogram of true label, most attended class and attention level of one image.

    Args:
        truth: uint8 `[height, width]`, labels 0..C and `IGNORE_LABEL`.
        attention: float32 `[k, height, width]` in [0, 1]; all is background where k is 0.
        num_classes: C.

    Returns:
        int64 `[C + 1, k, 256]`, or `[C + 1, 1, 256]` where k is 0. Level l counts the attention values in
        ((l - 1)/255, l/255], so a value exceeds the threshold t/255 if and only if l > t.

    Raises:
        ValueError: Shapes do not agree, or a true label or an attention value is out of range.
    """
    if attention.shape[1:] != truth.shape:
        raise ValueError(f"attention is {_size(attention)}, ground truth {_size(truth)} (height x width)")
    truth_bins = _bins(truth, num_classes)
    if not len(attention):
        attention = np.zeros([1, *truth.shape], np.float32)
    # Written so that NaN fails too.
    if not (attention.min() >= 0 and attention.max() <= 1):
        raise ValueError(f"attention ranges over [{attention.min()}, {attention.max()}], expected [0, 1]")
    # A loop over the few classes: argmax over the leading axis is many times slower.
    highest = attention[0]
    winner = np.zeros(truth.shape, np.intp)
    for index, candidate in enumerate(attention[1:], start=1):
        winner[candidate > highest] = index
        highest = np.maximum(highest, candidate)
    levels = np.ceil(highest * np.float32(NUM_LEVELS - 1)).astype(np.intp)
    num_maps = len(attention)
    joint = (truth_bins * num_maps + winner) * NUM_LEVELS + levels
    joint = np.bincount(joint.ravel(), minlength=(num_classes + 3) * num_maps * NUM_LEVELS)
    joint = joint.reshape(num_classes + 3, num_maps, NUM_LEVELS)
    if joint[-1].any():
        raise ValueError(_out_of_range("ground truth", truth, num_classes))
    return joint[: num_classes + 1]


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> np.ndarray:
    """`part / whole`, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.greater(whole, 0))


def _bins(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels 0..C as they are, `IGNORE_LABEL` as C + 1, others as C + 2."""
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype}, expected uint8")
    bins = np.full(256, num_classes + 2, np.intp)
    bins[: num_classes + 1] = np.arange(num_classes + 1)
    bins[IGNORE_LABEL] = num_classes + 1
    return bins[labels]


def _out_of_range(what: str, labels: np.ndarray, num_classes: int) -> str:
    values = np.unique(labels)
    wrong = values[(values > num_classes) & (values != IGNORE_LABEL)]
    return f"{what} has the value {wrong[0]}, expected 0..{num_classes} or {IGNORE_LABEL}"


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape[-2:]))
