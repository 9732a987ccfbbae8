"""Class colors that color-blind people can tell apart, and label maps as layers over a photograph.

One man in twelve cannot tell several greens and reds of VOC's palette apart. Classes here have the colors of Okabe and
Ito, first plain, then with stripes, then with dots.
"""

import cv2
import numpy as np

from oaa_tf.data.records.keys import IGNORE_LABEL

# Okabe and Ito's colors without black.
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_PATTERNS = ("plain", "striped", "dotted")
_MASK_OPACITY, _BACKGROUND_OPACITY = 0.72, 0.45


def class_color(label: int) -> tuple[str, str]:
    """Color, as "#RRGGBB", and pattern of a class index."""
    return _COLORS[label % len(_COLORS)], _PATTERNS[label // len(_COLORS) % len(_PATTERNS)]


def label_layer(labels: np.ndarray) -> np.ndarray:
    """A label map as a layer: classes colored with an outline, background darkened, ignored pixels hatched in white.

    Args:
        labels: uint8 `[height, width]`, 0 background, c + 1 class c, 255 ignored.

    Returns:
        uint8 RGBA `[height, width, 4]`.
    """
    rows, columns = np.indices(labels.shape)
    marks = {"plain": np.zeros(labels.shape, bool), "striped": (rows + columns) % 8 < 2}
    marks["dotted"] = ((rows % 6) < 2) & ((columns % 6) < 2)
    layer = np.zeros((*labels.shape, 4), np.uint8)
    layer[labels == 0, 3] = round(255 * _BACKGROUND_OPACITY)
    for label in np.unique(labels[(labels > 0) & (labels != IGNORE_LABEL)]):
        color, pattern = class_color(int(label) - 1)
        inside = labels == label
        layer[inside] = (*bytes.fromhex(color[1:]), round(255 * _MASK_OPACITY))
        layer[inside & marks[pattern]] = (20, 20, 20, 220)
    ignored = labels == IGNORE_LABEL
    layer[ignored] = (255, 255, 255, 90)
    layer[ignored & ((rows - columns) % 7 < 2)] = (255, 255, 255, 230)
    layer[outline(labels)] = (255, 255, 255, 255)
    return layer


def outline(labels: np.ndarray) -> np.ndarray:
    """The pixels of classes that have a neighbour with another label, bool `[height, width]`."""
    kernel = np.ones((3, 3), np.uint8)
    is_edge = cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)
    return is_edge & (labels > 0) & (labels != IGNORE_LABEL)
