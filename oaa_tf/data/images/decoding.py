"""The pixels of an image file as people see them: upright, in 8-bit RGB, whatever the file's format and name.

TensorFlow decodes JPEG and PNG, with the exact DCT, so that an image has the same pixels here and in the `tf.data`
pipelines; and TensorFlow refuses a truncated JPEG, where OpenCV fills up with grey. Bytes that are wrong inside a JPEG
of full length cannot be told from a picture, here or there. Pillow decodes the other formats.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import re
import warnings
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.data.images.input_files import PNG_SIGNATURE, check_size, open_png

if TYPE_CHECKING:
    import tensorflow as tf

# Pillow warns, in lines of its own, of damaged EXIF entries and of images that are large but not too large.
warnings.filterwarnings("ignore", module=r"PIL\.")

_KINDS = "JPEG, PNG, WebP, BMP, TIFF, GIF or HEIC"

_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (re.escape(PNG_SIGNATURE), "PNG"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM", "BMP"),
    # The file's kinds follow one another, four letters each; AVIF files name HEIC's container too.
    (rb"....ftyp(....)*?avi[fs]", "AVIF"),
    (rb"....ftyp(....){0,10}?(hei[cxms]|hev[cxms]|mif1)", "HEIC"),
    (rb"....ftyp", "a video"),
    (rb"%PDF", "a PDF"),
)

# Classes of Pillow by kind. `Image.open` would warn of images from 89 megapixels on, and guess the format again.
_PILLOW_CLASSES = {
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "HEIC": ("pillow_heif", "HeifImageFile"),
}

_JPEG_END = b"\xff\xd9"
_PNG_ORIENTATION = re.compile(rb"eXIf|Raw profile type exif|tiff:Orientation")
_DEPTHS = (8, 10, 12, 14, 16)
"""Bits of what cameras, scanners and microscopes store in 16."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded image file.

    Attributes:
        pixels: uint8 `[height, width, 3]`, RGB.
        is_lossy: Whether the format of the file keeps photos only nearly as they are.
        is_record: Whether the file is a JPEG of which `decode_image` gives the same pixels.
    """

    pixels: np.ndarray
    is_lossy: bool
    is_record: bool = False


def decode(data: bytes, name: str, *, as_seen: bool = True) -> Picture:
    """Decodes an image file: the first frame of an animation, the first page of several.

    The EXIF orientation is applied, as every viewer does.

    Args:
        data: The file's content; it alone tells the format.
        name: The file's name, for errors.
        as_seen: Whether transparent pixels lie on white, and 16-bit images that use only 8, 10, 12 or 14 bits become as
            bright as these bits allow. Otherwise alpha is dropped, and the upper 8 of 16 bits are kept.

    Raises:
        UserError: The file is damaged, too large, of a format that cannot be read, or HEIC without pillow-heif.
    """
    kind = next((kind for pattern, kind in _SIGNATURES if re.match(pattern, data[:64], re.DOTALL)), None)
    if kind == "JPEG":
        return _decode_jpeg(data, name)
    if kind == "PNG":
        return Picture(_upright(*_decode_png(data, name, as_seen)), is_lossy=False)
    if kind in _PILLOW_CLASSES:
        return Picture(_decode_with_pillow(data, name, kind, as_seen), is_lossy=kind in ("WebP", "HEIC"))
    found = kind or ("something else" if data else "an empty file")
    advice = "convert it to JPEG" if kind == "AVIF" else "replace the file or take it off the list"
    raise UserError(f"{name}: expected an image ({_KINDS}), found {found}; {advice}")


def decode_image(data: bytes | tf.Tensor) -> tf.Tensor:
    """Decodes the image of a record, eagerly or in a graph.

    Args:
        data: Scalar string: a JPEG or PNG. Its EXIF orientation is ignored; in records, images are upright.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """
    import tensorflow as tf

    # This op reads PNG too; `decode_image` does not let one choose the exact DCT.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_jpeg(data: bytes, name: str) -> Picture:
    import tensorflow as tf
    from PIL.JpegImagePlugin import JpegImageFile

    if _JPEG_END not in data:
        raise UserError(f"{name}: truncated JPEG: it ends after {len(data)} bytes; replace the file")
    try:
        height, width, channels = tf.image.extract_jpeg_shape(data).numpy().tolist()
        check_size(width, height, name)
        pixels = decode_image(data).numpy()
    except tf.errors.OpError:
        raise _damaged(name) from None
    try:
        orientation = _orientation(JpegImageFile(io.BytesIO(data)))
    except Exception:  # Pillow is stricter with headers than TensorFlow.
        orientation = 1
    is_rgb = channels < 4  # Not every decoder understands CMYK.
    return Picture(_upright(pixels, orientation), is_lossy=is_rgb, is_record=is_rgb and orientation == 1)


def _decode_png(data: bytes, name: str, as_seen: bool) -> tuple[np.ndarray, int]:
    """The pixels, and the EXIF orientation, which they do not have yet."""
    import tensorflow as tf

    header = open_png(data, name)
    has_alpha = as_seen and (header.mode in ("RGBA", "LA") or "transparency" in header.info)
    is_deep = as_seen and data[24] == 16  # Bits of a value.
    # Pillow looks for the orientation behind the pixels too, which decodes them a second time.
    orientation = _orientation(header) if _PNG_ORIENTATION.search(data) else 1
    try:
        pixels = tf.io.decode_png(data, 4 if has_alpha else 3, tf.uint16 if is_deep else tf.uint8).numpy()
    except tf.errors.OpError:
        raise _damaged(name) from None
    return _over_white(_eight_bits(pixels)), orientation


def _decode_with_pillow(data: bytes, name: str, kind: str, as_seen: bool) -> np.ndarray:
    module, class_name = _PILLOW_CLASSES[kind]
    try:
        pillow_class = getattr(importlib.import_module(module), class_name)
    except ImportError:
        advice = "install its library (pip install pillow-heif), or convert it to JPEG"
        raise UserError(f"{name}: a HEIC file; {advice}") from None
    try:
        image = pillow_class(io.BytesIO(data))
        check_size(image.width, image.height, name)
        is_deep = kind == "TIFF" and image.mode in ("RGB", "RGBA") and "16" in str(image.tile[0].args)
        is_turned = _orientation(image) != 1
        image.load()
        if is_deep and not is_turned:
            # Of these, Pillow has kept the upper 8 bits. OpenCV keeps all, but turns images in a way of its own.
            bgr = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint16)
            values: np.ndarray | None = np.dstack([bgr[..., 2::-1], bgr[..., 3:]])
        else:
            values = _values(image)
    except UserError:
        raise
    except Exception as error:  # Damaged files raise almost anything.
        raise _damaged(name, f" ({first_line(error)})") from None
    if values is None:
        raise UserError(f"{name}: expected 8 or 16 bits per value, found 32; convert it")
    if not as_seen:
        values = (values >> 8 if values.dtype == np.uint16 else values)[..., :3]
    # Only now: Pillow has turned TIFF and HEIC while it decoded them.
    return _upright(_over_white(_eight_bits(values)), _orientation(image))


def _values(image: Image.Image) -> np.ndarray | None:
    """uint8 or uint16 `[height, width, 3 or 4]`, with alpha if there is any; None if the values have more bits."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image)
        is_deep = grey.dtype.kind == "f" or grey.min() < 0 or grey.max() >= 1 << 16
        return None if is_deep else np.repeat(grey.astype(np.uint16)[..., np.newaxis], 3, axis=-1)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 from uint16 `[height, width, 3 or 4]`, in which colors may use only the lower bits; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    largest = int(values[..., :3].max())
    shifts = np.full(values.shape[-1], 8, np.uint16)
    shifts[:3] = next(depth for depth in _DEPTHS if largest < 1 << depth) - 8
    return (values >> shifts).astype(np.uint8)


def _over_white(pixels: np.ndarray) -> np.ndarray:
    """RGB from uint8 RGB or RGBA: transparent pixels lie on white."""
    if pixels.shape[-1] == 3:
        return pixels
    colors, alpha = pixels[..., :3], pixels[..., 3:].astype(np.uint16)
    return ((colors * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation: 1 for upright or unknown, up to 8."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged EXIF data raise almost anything.
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _damaged(name: str, reason: str = "") -> UserError:
    return UserError(f"{name}: truncated or damaged image: it cannot be decoded{reason}; replace the file")
