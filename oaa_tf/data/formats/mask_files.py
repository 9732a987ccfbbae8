"""Mask files as tools write them: class indices, the colors of a label map, or white for the only class."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.images.input_files import open_png, read_bytes
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL


def read_mask(path: str | os.PathLike, classes: ClassList, *, white_is_class: bool = False) -> np.ndarray:
    """Reads a mask.

    Args:
        path: A PNG: palette, grey, or RGB(A) with the colors of a label map or equal channels.
        classes: All classes, and their colors, if any.
        white_is_class: Whether 255 is the only class; see `white_is_class`.

    Returns:
        uint8 `[height, width]`: 0 background, n the n-th known class, `IGNORE_LABEL`. Values need not be classes.

    Raises:
        UserError: The file is damaged or no mask, or has a color that is not in the label map.
    """
    mode = open_png(read_bytes(path), os.fspath(path)).mode
    if classes.colors is not None and mode in ("P", "RGB", "RGBA"):
        return _values_of_colors(read_image(path), classes, path)
    if mode in ("RGB", "RGBA"):
        image = read_image(path)
        # Otherwise the reader of indices says what it found.
        mask = image[..., 0] if not np.ptp(image, axis=-1).any() else read_indexed(path)
    else:
        mask = read_indexed(path)
    return np.where(mask == IGNORE_LABEL, np.uint8(1), mask) if white_is_class else mask


def white_is_class(paths: Iterable[Path], classes: ClassList) -> bool:
    """Whether masks hold 0 and 255 alone and there is one class, as painted masks do.

    The first mask with a class in it decides, so that usually one is read.

    Raises:
        UserError: They hold 0 and 255 alone, and there are several classes; or one cannot be read.
    """
    if classes.colors is not None:
        return False
    first_white = None
    for path in paths:
        mask = read_mask(path, classes)
        if ((mask > 0) & (mask < IGNORE_LABEL)).any():
            return False
        if first_white is None and (mask == IGNORE_LABEL).any():
            first_white = path
    if first_white is not None and len(classes.known) > 1:
        raise UserError(
            f"{first_white}: like all masks here, it holds only 0 and {IGNORE_LABEL}, which is ignored; write n for the"
            f" n-th of the classes {', '.join(classes.known)}"
        )
    return first_white is not None


def _values_of_colors(image: np.ndarray, classes: ClassList, path: str | os.PathLike) -> np.ndarray:
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    found, places = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    assert classes.colors is not None
    if unknown := [int(color) for color in found if int(color) not in classes.colors]:
        color = ",".join(str(unknown[0] >> shift & 255) for shift in (16, 8, 0))
        raise UserError(f"{path}: the color {color} is in no line of {classes.where}")
    values = np.array([classes.colors[int(color)] for color in found], np.uint8)
    return values[places.reshape(image.shape[:2])]
