"""Mask files as tools write them: class indices, the colors of a label map, or white for the only class."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError, first_few
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList
from oaa_tf.data.images.decoding import decode
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
    data = read_bytes(path)
    mode = open_png(data, os.fspath(path)).mode
    if mode in ("RGB", "RGBA") or (classes.colors is not None and mode == "P"):
        # Transparent pixels keep their color.
        image = decode(data, os.fspath(path), as_seen=False).pixels
        if classes.colors is not None:
            return _values_of_colors(image, classes, path)
        if np.ptp(image, axis=-1).any():
            raise UserError(f"{path}: has colors; add CVAT's labelmap.txt to the data folder, or write class indices")
        mask = image[..., 0]
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


def labels_of_mask(mask: np.ndarray) -> tuple[int, ...]:
    """The class indices that occur in a mask (uint8, 0 background, c + 1 class c, `IGNORE_LABEL`), ascending."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return tuple(int(value) - 1 for value in present if 0 < value < IGNORE_LABEL)


class MaskAgreement:
    """Compares masks with tags: masks that number the classes in another order show other classes than the tags say.

    Args:
        classes: Names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._confirming: Counter[int] = Counter()
        self._contradicting: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self._showing_nothing: list[str] = []

    def add(self, image_id: str, labels: tuple[int, ...], shown: tuple[int, ...]) -> None:
        """Takes an image with its labels and the classes in its mask."""
        self._confirming.update({*labels} & {*shown})
        if labels and not shown:
            self._showing_nothing.append(image_id)
        if {*shown} - {*labels} and {*labels} - {*shown}:
            self._contradicting.append((image_id, labels, shown))

    def warnings(self, name: str | os.PathLike) -> list[str]:
        """Sentences on which masks of images with tags show nothing, and which show another class than the tags.

        Raises:
            UserError: Of the masks of a tag, more show another class in its place than show it; the message begins with
                `name`.
        """
        warnings = []
        if self._showing_nothing:
            warnings.append(f"masks of images with tags that show none: {first_few(self._showing_nothing)}")
        if not self._contradicting:
            return warnings
        shown = [
            f"{image_id} (tags: {self._names(labels)}, mask: {self._names(found)})"
            for image_id, labels, found in self._contradicting
        ]
        message = f"masks of {len(shown)} images show other classes than the tags: {', '.join(shown[:10])}"
        lacking = Counter(label for _, labels, found in self._contradicting for label in {*labels} - {*found})
        if lacking <= self._confirming:
            return [*warnings, message]
        raise UserError(
            f"{name}: {message}; write the classes into {CLASSES_FILE} in the order in which masks number them, which"
            f" is taken to be {', '.join(self._classes)}; or set --mask_dir= for no masks"
        )

    def _names(self, labels: Sequence[int]) -> str:
        return ", ".join(self._classes[label] for label in labels)


def _values_of_colors(image: np.ndarray, classes: ClassList, path: str | os.PathLike) -> np.ndarray:
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    found, places = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    assert classes.colors is not None
    if unknown := [int(color) for color in found if int(color) not in classes.colors]:
        color = ",".join(str(unknown[0] >> shift & 255) for shift in (16, 8, 0))
        raise UserError(f"{path}: the color {color} is in no line of {classes.where}")
    values = np.array([classes.colors[int(color)] for color in found], np.uint8)
    return values[places.reshape(image.shape[:2])]
