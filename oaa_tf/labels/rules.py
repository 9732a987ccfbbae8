"""Pseudo labels from attention maps, with or without a saliency map (paper, Sec. 4, and the authors' code)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.records.keys import IGNORE_LABEL

_TINY = np.finfo(np.float32).tiny


def _share(default: float, help: str) -> Any:
    return setting(default, help=help, minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabelOptions(Settings):
    """Thresholds and powers of `pseudo_label`. The defaults are those of the paper's authors."""

    drop_below: float = _share(0.3, "Scores below this count as 0.")
    conflict_above: float = _share(0.9, "Pixels with several scores above this are ignored; 1 disables the rule.")
    attended_above: float = _share(0.8, "Background pixels with more attention are ignored; 1 disables the rule.")
    salient_above: float = _share(
        0.125, "With saliency: background pixels with more saliency are ignored; 1 disables the rule."
    )
    min_foreground: float = _share(0.01, "Images with a smaller share of foreground pixels, or none, are ignored.")
    background_score: float = _share(0.0, "Without saliency: the background score everywhere; 0 uses background_power.")
    background_power: float = setting(
        3.0, help="Without saliency: the background score is (1 - highest attention) to this power.", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background_score == 0 and self.background_power == 0:
            raise UserError("expected more than 0, or --background_score above 0", flag="background_power", value=0)


def pseudo_label(
    attention: np.ndarray, classes: Sequence[int], saliency: np.ndarray | None, options: PseudoLabelOptions
) -> np.ndarray:
    """Turns the attention maps of an image into a label map.

    Every pixel has a score for each class, its attention after min-max normalisation of each map, and a background
    score, 1 - saliency.

    An image of no class is background everywhere. Otherwise:

    1. A pixel with more than one score above `conflict_above`, including the background score, is ignored.
    2. Scores below `drop_below` become 0. The highest score gives the label. If scores are equal, the background wins,
       then the first class. So a pixel whose scores are all dropped is background.
    3. A background pixel is ignored if its saliency is above `salient_above`, or the attention of any class is above
       `attended_above`.
    4. An image whose share of labelled foreground pixels is 0 or below `min_foreground` is ignored whole.

    Without saliency, the background score depends on nothing but attention: it is the constant `background_score`, or
    (1 - highest attention) ** `background_power`. The rules change accordingly:

    - Rule 1 counts the classes only; otherwise a high constant would contradict every clear object.
    - Rule 2 stays. With a constant b, a pixel is foreground if its attention is above b and at least `drop_below`. With
      a power of 3, the default, its attention has to exceed 0.32.
    - Rule 3 uses attention only. This matters for a constant above `attended_above`: pixels with attention between the
      two are ignored. With a power of 1 or more, a pixel with so much attention is never background.

    Args:
        attention: float32 `[k, height, width]` in [0, 1], the maps of the image's classes at its size.
        classes: The k class indices.
        saliency: uint8 `[height, width]`, 255 for the most salient, or None.
        options: The thresholds and powers.

    Returns:
        uint8 `[height, width]`: 0 background, `c + 1` for class index `c`, 255 ignore.
    """
    if not len(classes):
        return np.zeros(attention.shape[1:], np.uint8)
    foreground = min_max_normalized(attention)
    highest = foreground.max(axis=0)
    background = background_scores(foreground, saliency, options)
    rivals = [*foreground]
    ambiguous = highest > options.attended_above
    if saliency is not None:
        rivals.append(background)
        ambiguous |= saliency / np.float32(255) > options.salient_above

    labels = np.zeros(highest.shape, np.uint8)
    best = np.where(background < options.drop_below, np.float32(0), background)
    for class_index, score in zip(classes, foreground, strict=True):
        wins = (score > best) & (score >= options.drop_below)
        labels[wins] = class_index + 1
        best = np.where(wins, score, best)

    num_high = sum((score > options.conflict_above).astype(np.uint8) for score in rivals)
    labels[(num_high > 1) | ((labels == 0) & ambiguous)] = IGNORE_LABEL
    num_foreground = np.count_nonzero((labels != 0) & (labels != IGNORE_LABEL))
    if num_foreground < max(options.min_foreground * labels.size, 1):
        labels[:] = IGNORE_LABEL
    return labels


def background_scores(foreground: np.ndarray, saliency: np.ndarray | None, options: PseudoLabelOptions) -> np.ndarray:
    """The background score at every pixel; see `pseudo_label`.

    Args:
        foreground: float32 `[k, height, width]` in [0, 1], min-max normalised attention.
        saliency: uint8 `[height, width]`, 255 for the most salient, or None.
        options: The thresholds and powers.

    Returns:
        float32 `[height, width]` in [0, 1].
    """
    if saliency is not None:
        return 1 - saliency / np.float32(255)
    highest = foreground.max(axis=0)
    if options.background_score > 0:
        return np.full_like(highest, options.background_score)
    return (1 - highest) ** np.float32(options.background_power)


def min_max_normalized(attention: np.ndarray) -> np.ndarray:
    """Stretches each map, float32 `[k, height, width]`, to [0, 1]; a constant map becomes 0."""
    lowest = attention.min(axis=(1, 2), keepdims=True)
    spread = attention.max(axis=(1, 2), keepdims=True) - lowest
    return (attention - lowest) / (spread + np.float32(1e-8))


def confident_label(
    probabilities: np.ndarray, classes: Sequence[int], saliency: np.ndarray | None, min_probability: float
) -> np.ndarray:
    """Turns the probabilities of a segmentation network into a label map, for an image whose classes are known.

    An image of no class is background everywhere. Otherwise:

    1. Only the background and the classes of the image are possible; their probabilities are scaled to a sum of 1.
    2. With saliency, the background's probability becomes the mean of itself and 1 - saliency. The classes share the
       rest in the same proportions.
    3. The most probable label wins, the first one if several are equal. A pixel is ignored if the probability of its
       label is below `min_probability`.

    Args:
        probabilities: float32 `[height, width, C + 1]`, background first.
        classes: The class indices of the image.
        saliency: uint8 `[height, width]`, 255 for the most salient, or None.
        min_probability: Minimum probability of a label, in [0, 1].

    Returns:
        uint8 `[height, width]`: 0 background, `c + 1` for class index `c`, 255 ignore.
    """
    if not len(classes):
        return np.zeros(probabilities.shape[:2], np.uint8)
    background, objects = probabilities[..., 0], probabilities[..., [index + 1 for index in classes]]
    of_objects = objects.sum(axis=-1)
    background = background / np.maximum(background + of_objects, _TINY)
    if saliency is not None:
        background = (background + 1 - saliency / np.float32(255)) / 2
    objects = objects * ((1 - background) / np.maximum(of_objects, _TINY))[..., np.newaxis]
    scores = np.concatenate([background[..., np.newaxis], objects], axis=-1)
    labels = np.array([0, *(index + 1 for index in classes)], np.uint8)[scores.argmax(axis=-1)]
    labels[scores.max(axis=-1) < min_probability] = IGNORE_LABEL
    return labels
