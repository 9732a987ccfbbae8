"""Input files before anything in them is decoded: their bytes, and what the header of an image says."""

import io
import os
import stat
from pathlib import Path

from PIL.PngImagePlugin import PngImageFile

from oaa_tf.command_line.errors import UserError, first_line

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PIXELS = 1 << 27
"""The largest image that is decoded (134 megapixels, 400 MB in RGB): a few kilobytes can claim or unfold to more."""

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def read_bytes(path: str | os.PathLike) -> bytes:
    """Reads an input file.

    Raises:
        UserError: It is missing, no regular file, or unreadable.
    """
    path = Path(path)
    try:
        # Others, such as named pipes, could keep a reader waiting forever.
        if stat.S_ISREG(path.stat().st_mode) or path.is_dir():
            return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    raise UserError(f"{path}: cannot read: not a regular file")


def open_png(data: bytes, name: str) -> PngImageFile:
    """Opens a PNG after checking its chunks and its size; the pixels are not decoded yet.

    Raises:
        UserError: `data` is no PNG, is cut short, damaged or too large; the message begins with `name`.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise UserError(f"{name}: not a PNG file")
    if _PNG_END not in data:
        raise UserError(f"{name}: truncated PNG: it ends after {len(data)} bytes; replace the file")
    try:
        # Not `Image.open`, which warns of images from 89 megapixels on, in lines of its own.
        PngImageFile(io.BytesIO(data)).verify()
        image = PngImageFile(io.BytesIO(data))  # Nothing can be read after `verify`.
        compression, interlacing = data[26], data[28]
        if compression > 0 or interlacing > 1:  # Pillow takes any value for one that it knows.
            raise ValueError("unknown compression or interlacing")
    except Exception as error:  # Damaged chunks raise almost anything.
        reason = first_line(error)
        raise UserError(f"{name}: damaged PNG: wrong checksum or header ({reason}); replace the file") from None
    check_size(*image.size, name)
    return image


def check_size(width: int, height: int, name: str) -> None:
    """Refuses images that are too large to decode, by their headers.

    Raises:
        UserError: There are more than `MAX_PIXELS`, or none; the message begins with `name`.
    """
    if not width or not height:
        raise UserError(f"{name}: damaged image: {width}x{height} pixels; replace the file")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name}: {width}x{height} pixels, expected at most {MAX_PIXELS // 10**6} megapixels; make it smaller"
        )
