"""Small pictures for the page: photographs, attention and label maps as layers over them."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from oaa_tf.data.images.image_files import fitting_size, resized
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.report.class_colors import label_layer
from oaa_tf.report.visualization import attention_colors, encoded

_LOSSLESS = 101


def photo(image: np.ndarray, side: int) -> str:
    """A photograph as a data URI.

    Args:
        image: uint8 RGB `[height, width, 3]`.
        side: Longest side of the picture in pixels.
    """
    return _webp(resized(image, fitting_size(image, side), cv2.INTER_AREA), 78)


def heat(attention: np.ndarray) -> str:
    """Attention as a layer, dark blue for 0 and yellow for 1, as a data URI.

    Args:
        attention: float `[height, width]` in [0, 1]; maps are smooth, so few pixels suffice.
    """
    return _webp(attention_colors(attention), 80)


def mask(labels: np.ndarray, side: int) -> str:
    """A label map as a layer, `oaa_tf.report.class_colors.label_layer`, as a data URI.

    Args:
        labels: uint8 `[height, width]`, 0 background, c + 1 class c, 255 ignored.
        side: Longest side of the picture in pixels.
    """
    return _webp(label_layer(resized(labels, fitting_size(labels, side), cv2.INTER_NEAREST)), _LOSSLESS)


def name_places(labels: np.ndarray) -> list[tuple[int, float, float]]:
    """Where to write the classes' names: the point of each class that is farthest from its edges.

    Args:
        labels: uint8 `[height, width]`, 0 background, c + 1 class c, 255 ignored.

    Returns:
        Class index, and x and y as shares of width and height.
    """
    places = []
    for label in np.unique(labels[(labels > 0) & (labels != IGNORE_LABEL)]):
        # With a border, so that the image's edge counts as one.
        inside = np.pad((labels == label).astype(np.uint8), 1)
        y, x = np.unravel_index(np.argmax(cv2.distanceTransform(inside, cv2.DIST_L2, 3)), inside.shape)
        places.append((int(label) - 1, float(x - 0.5) / labels.shape[1], float(y - 0.5) / labels.shape[0]))
    return places


def thresholded(attention: np.ndarray, classes: Sequence[int], threshold: float) -> np.ndarray:
    """The label map that `oaa_tf.metrics.ThresholdSweep` scores.

    Args:
        attention: float32 `[k, height, width]` in [0, 1].
        classes: The k class indices.
        threshold: What attention has to exceed.

    Returns:
        uint8 `[height, width]`.
    """
    if not len(classes):
        return np.zeros(attention.shape[1:], np.uint8)
    winners = np.array(classes, np.uint8)[np.argmax(attention, axis=0)] + np.uint8(1)
    return np.where(attention.max(axis=0) > threshold, winners, np.uint8(0))


def _webp(picture: np.ndarray, quality: int) -> str:
    data = encoded(picture, ".webp", cv2.IMWRITE_WEBP_QUALITY, quality)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
