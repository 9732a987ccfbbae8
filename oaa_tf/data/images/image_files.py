"""Image files as all of OAA-TF sees them: the stored pixels in 8-bit RGB.

TensorFlow decodes, with the exact DCT, so that an image has the same pixels here and in the `tf.data` pipelines; and
TensorFlow refuses a truncated JPEG, where OpenCV fills up with grey. Bytes that are wrong inside a JPEG of full length
cannot be told from a picture, here or there. EXIF orientation is ignored everywhere: masks and saliency maps belong to
the pixels as they are stored.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.input_files import PNG_SIGNATURE, check_size, open_png, read_bytes

if TYPE_CHECKING:
    import tensorflow as tf

SUFFIXES = (".jpg", ".jpeg", ".png")
"""File name endings of images, in lower case."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a JPEG or PNG of any kind: grey, palette, RGB(A), CMYK, 16-bit; alpha is dropped.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        UserError: The file is missing, damaged, neither JPEG nor PNG, or larger than `MAX_PIXELS`.
    """
    return _decode(read_bytes(path), os.fspath(path)).numpy()


def read_for_record(path: str | os.PathLike) -> tuple[bytes, int, int]:
    """Reads and checks an image for a record.

    A JPEG is kept byte for byte, so that no quality is lost; one with four components (CMYK), which not every decoder
    understands, and every PNG becomes an 8-bit RGB PNG.

    Returns:
        Encoded JPEG or PNG, height and width in pixels.

    Raises:
        UserError: As `read_image`.
    """
    import tensorflow as tf

    data = read_bytes(path)
    image = _decode(data, os.fspath(path))
    height, width, _ = image.shape
    if not data.startswith(_JPEG_START) or tf.image.extract_jpeg_shape(data)[2] == 4:
        data = cv2.imencode(".png", cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2BGR))[1].tobytes()
    return data, height, width


def decode_image(data: bytes | tf.Tensor) -> tf.Tensor:
    """Decodes the image of a record, eagerly or in a graph.

    Args:
        data: Scalar string: a JPEG or PNG.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """
    import tensorflow as tf

    # This op reads PNG too; `decode_image` does not let one choose the exact DCT.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _decode(data: bytes, name: str) -> tf.Tensor:
    import tensorflow as tf

    if data.startswith(_JPEG_START) and _JPEG_END not in data:
        raise UserError(f"{name}: truncated JPEG: it ends after {len(data)} bytes; replace the file")
    if not data.startswith((_JPEG_START, PNG_SIGNATURE)):
        found = "an empty file" if not data else "something else"
        raise UserError(f"{name}: expected a JPEG or PNG, found {found}; replace the file or take it off the list")
    try:
        if data.startswith(_JPEG_START):
            height, width, _ = tf.image.extract_jpeg_shape(data).numpy().tolist()
            check_size(width, height, name)
        else:
            open_png(data, name)
        return decode_image(data)
    except tf.errors.OpError:
        raise UserError(f"{name}: truncated or damaged image: it cannot be decoded; replace the file") from None
