"""Label images as PNG files: class indices as VOC stores them, in palette or grey PNGs, without a color conversion."""

import functools
import io
import os
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.input_files import open_png, read_bytes
from oaa_tf.runs.atomic import atomic_write

# The ways of storing indices, in Pillow's words, and the steps in which it spreads grey values of few bits over 0..255.
_STEPS = {"1": 1, "L;2": 85, "L;4": 17, "L": 1, "P;1": 1, "P;2": 1, "P;4": 1, "P": 1}
_OTHER_KINDS = {"I": "grey", "LA": "grey with alpha"}


@functools.cache
def voc_palette() -> np.ndarray:
    """The VOC color map: uint8 `[256, 3]`, RGB by pixel value, read-only.

    Bits 0, 3, 6 of the value are the highest, 1, 4, 7 the next bits of red; green and blue follow one and two bits up.
    """
    values = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for level in range(3):
            bit = 3 * level + channel
            if bit < 8:
                palette[:, channel] |= ((values >> bit & 1) << (7 - level)).astype(np.uint8)
    palette.setflags(write=False)
    return palette


def read_indexed(source: str | os.PathLike | bytes) -> np.ndarray:
    """Reads the raw indices of a palette PNG or the grey values of a grey PNG.

    Args:
        source: A path, or the bytes of a PNG file.

    Returns:
        uint8 `[height, width]`.

    Raises:
        UserError: The file is missing, damaged, no PNG, or neither palette nor grey with at most 8 bits.
    """
    name, data = ("PNG data", source) if isinstance(source, bytes) else (os.fspath(source), read_bytes(source))
    stored = open_png(data, name).tile[0].args
    if stored not in _STEPS:
        kind = stored.split(";")[0]
        found = f"{16 if '16' in stored else 8}-bit {_OTHER_KINDS.get(kind, kind)}"
        raise UserError(f"{name}: expected a palette PNG or an 8-bit grey PNG of class indices, found {found}")
    try:
        # Pillow leaves rows that the file lacks as they were; they include one of the last 8, interlaced or not.
        last_rows = _decoded_onto(255, data)[-8:].copy()
        values = _decoded_onto(0, data)
        is_complete = np.array_equal(values[-8:], last_rows)
    except Exception:  # Damaged chunks raise almost anything.
        is_complete = False
    if not is_complete:
        raise UserError(f"{name}: damaged PNG: its pixel data is incomplete or wrong; replace the file")
    values //= _STEPS[stored]
    return values


def write_indexed(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Writes class indices as a palette PNG with the VOC color map, atomically.

    Args:
        path: The file; an existing one is replaced only when the new one is complete.
        labels: uint8 `[height, width]`.
    """
    data = _encoded(labels, voc_palette().tobytes())
    with atomic_write(path) as file:
        file.write(data)


def encode_grey(values: np.ndarray) -> bytes:
    """Encodes uint8 `[height, width]` as an 8-bit grey PNG."""
    return _encoded(values)


def _decoded_onto(value: int, data: bytes) -> np.ndarray:
    """Decodes a PNG into an image that has one value everywhere."""
    image = PngImageFile(io.BytesIO(data))
    image.im = Image.new(image.mode, image.size, value).im
    return np.array(image, np.uint8)


def _encoded(values: np.ndarray, palette: bytes = b"") -> bytes:
    if values.dtype != np.uint8 or values.ndim != 2 or not values.size:
        raise ValueError(f"expected non-empty uint8 [height, width], got {values.dtype} {list(values.shape)}")
    image = Image.fromarray(values)
    if palette:
        image.putpalette(palette)
    file = io.BytesIO()
    # Of zlib's strategies, run lengths make the smallest files of label images and maps in the shortest time.
    image.save(file, "PNG", compress_type=zlib.Z_RLE)
    return file.getvalue()
