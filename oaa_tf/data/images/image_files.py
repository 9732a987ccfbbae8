"""Image files: which there are, and what records hold of them. See `decoding` for their pixels."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from oaa_tf.data.images.decoding import decode
from oaa_tf.data.images.input_files import read_bytes

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif")
"""File name endings of images, in lower case."""

_JPEG_QUALITY = 95


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image as people see it: upright, transparent pixels on white; see `decode`.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        UserError: The file is missing, damaged, no image, or larger than `MAX_PIXELS`.
    """
    return decode(read_bytes(path), os.fspath(path)).pixels


def read_for_record(path: str | os.PathLike, max_side: int = 0) -> tuple[bytes, tuple[int, int], tuple[int, int]]:
    """Reads and checks an image for a record.

    A JPEG that is upright and small enough is kept byte for byte, so that no quality is lost. Other photos from lossy
    formats become JPEGs of high quality with full color resolution: at 1024 x 768 pixels, these take a quarter of the
    space of a PNG and half the time to decode in every training step, and are as good. Everything else becomes an 8-bit
    RGB PNG.

    Args:
        path: The file.
        max_side: Largest side in the record; larger images are shrunk by averaging. 0 for any.

    Returns:
        Encoded JPEG or PNG; height and width of the upright image; height and width in the record.

    Raises:
        UserError: As `read_image`.
    """
    data = read_bytes(path)
    picture = decode(data, os.fspath(path))
    height, width, _ = picture.pixels.shape
    stored = fitting_size(picture.pixels, max_side)
    if picture.is_record and stored == (height, width):
        return data, stored, stored
    bgr = cv2.cvtColor(resized(picture.pixels, stored, cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    if picture.is_lossy:
        sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, *sampling])[1].tobytes()
    else:
        data = cv2.imencode(".png", bgr)[1].tobytes()
    return data, (height, width), stored


def fitting_size(pixels: np.ndarray, max_side: int) -> tuple[int, int]:
    """Height and width of an image, shrunk in proportion if a side is above `max_side`, unless that is 0."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if not max_side or longer <= max_side:
        return height, width
    return max(1, round(height * max_side / longer)), max(1, round(width * max_side / longer))


def resized(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Resizes `[height, width, ...]` to a height and width with one of OpenCV's interpolations."""
    return pixels if pixels.shape[:2] == size else cv2.resize(pixels, size[::-1], interpolation=interpolation)


def tell_other_files(folder: Path, others: Iterable[Path]) -> None:
    """Prints how many files of a folder are no images, by ending; nothing if there are none."""
    if counts := counted_by_ending(others):
        print(f"{folder}: not read, since they are no images: {counts}")


def counted_by_ending(files: Iterable[Path]) -> str:
    """How many files have which ending, such as "3 .txt, 1 .mov"; the most first."""
    endings = Counter(path.suffix.lower() or "without ending" for path in files)
    return ", ".join(
        f"{count} {ending}" for ending, count in sorted(endings.items(), key=lambda each: (-each[1], each[0]))
    )
