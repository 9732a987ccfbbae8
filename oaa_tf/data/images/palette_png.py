"""Label images as PNG files: class indices as VOC stores them, in palette or grey PNGs, without a color conversion.

OpenCV reads a palette PNG as colors and cannot write one. A palette PNG differs from a grey one only in the header's
color type and the palette, so reading turns the file into a grey PNG in memory and writing does the reverse.
"""

import functools
import os
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.runs.atomic import atomic_write

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PIXELS = 1 << 27
"""The largest image that is decoded (134 megapixels, 400 MB in RGB): a few kilobytes can claim or unfold to more."""

_GREY, _PALETTE = 0, 3
_COLOR_TYPES = {_GREY: "grey", 2: "RGB", _PALETTE: "palette", 4: "grey with alpha", 6: "RGBA"}
# First column, first row, column step and row step of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


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
    chunks = png_chunks(data, name)
    width, height, depth, color_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    check_size(width, height, name)
    if color_type not in (_GREY, _PALETTE) or depth not in (1, 2, 4, 8):
        found = f"{depth}-bit {_COLOR_TYPES.get(color_type, 'unknown')}"
        raise UserError(f"{name}: expected a palette PNG or an 8-bit grey PNG of class indices, found {found}")
    pixels = b"".join(body for kind, body in chunks if kind == b"IDAT")
    if not _inflates_to(pixels, _raw_size(width, height, depth, interlace)):
        raise UserError(f"{name}: damaged PNG: its pixel data is incomplete; replace the file")
    header = struct.pack(">IIBBBBB", width, height, depth, _GREY, compression, filtering, interlace)
    grey = _join([(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")])
    try:
        values = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        values = None
    if values is None:
        raise UserError(f"{name}: damaged PNG: it cannot be decoded; replace the file")
    # Grey values of fewer than 8 bits come spread over 0..255.
    return values // (255 // (2**depth - 1)) if depth < 8 else values


def write_indexed(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Writes class indices as a palette PNG with the VOC color map, atomically.

    Args:
        path: The file; an existing one is replaced only when the new one is complete.
        labels: uint8 `[height, width]`.
    """
    (_, header), *rest = png_chunks(encode_grey(labels), "encoded labels")
    depth_and_type = struct.pack(">BB", 8, _PALETTE)
    header = header[:8] + depth_and_type + header[10:]
    with atomic_write(path) as file:
        file.write(_join([(b"IHDR", header), (b"PLTE", voc_palette().tobytes()), *rest]))


def encode_grey(values: np.ndarray) -> bytes:
    """Encodes uint8 `[height, width]` as an 8-bit grey PNG."""
    if values.dtype != np.uint8 or values.ndim != 2 or not values.size:
        raise ValueError(f"expected non-empty uint8 [height, width], got {values.dtype} {list(values.shape)}")
    return cv2.imencode(".png", values)[1].tobytes()


def png_chunks(data: bytes, name: str) -> list[tuple[bytes, bytes]]:
    """Splits a PNG into (type, body) chunks, the header first and IEND last, and checks their checksums.

    Raises:
        UserError: `data` is no PNG, is cut short, or fails a checksum; the message begins with `name`.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise UserError(f"{name}: not a PNG file")
    chunks = []
    position = len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if position + 12 > len(data):
            raise UserError(f"{name}: truncated PNG: it ends after {len(data)} bytes; replace the file")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise UserError(f"{name}: truncated PNG: it ends after {len(data)} bytes; replace the file")
        body = data[position + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
            raise UserError(f"{name}: damaged PNG: wrong checksum at byte {position}; replace the file")
        chunks.append((kind, body))
        position = end
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UserError(f"{name}: damaged PNG: it does not begin with a header; replace the file")
    return chunks


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


def _raw_size(width: int, height: int, depth: int, interlace: int) -> int:
    """Bytes of the decompressed pixel data: one filter byte and the packed samples per row."""
    size = 0
    for first_column, first_row, column_step, row_step in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns = len(range(first_column, width, column_step))
        rows = len(range(first_row, height, row_step))
        size += rows * (1 + (columns * depth + 7) // 8) if columns else 0
    return size


def _inflates_to(compressed: bytes, size: int) -> bool:
    """Whether zlib data decompresses to at least `size` bytes.

    OpenCV must not find out: some versions leave missing rows black, others print lines of their own.
    """
    inflater = zlib.decompressobj()
    step = 1 << 24
    try:
        while size > 0:
            # In bounded steps, so that a forged header costs no memory.
            got = len(inflater.decompress(compressed, min(step, size)))
            compressed = inflater.unconsumed_tail
            if not got:
                return False
            size -= got
    except zlib.error:
        return False
    return True


def _join(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [PNG_SIGNATURE]
    for kind, body in chunks:
        parts += [struct.pack(">I4s", len(body), kind), body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))]
    return b"".join(parts)
