"""Saliency maps from anywhere, as records hold them: 8-bit grey, of the size of their image."""

import os
from pathlib import Path

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.decoding import decode
from oaa_tf.data.images.input_files import read_bytes
from oaa_tf.runs.json_file import read_json

DESCRIPTION_FILE = "saliency.json"
"""In a folder of maps that make_saliency has made: which network they are of, and how it was used."""

_MOST_COLOR = 16
"""Difference of red, green and blue up to which a picture is grey; JPEG does not keep them equal."""


def network_of_maps(folder: Path) -> str:
    """The network of a folder's maps, by name and the beginning of its file's SHA-256; "" if it is not known.

    Raises:
        UserError: The folder's `saliency.json` is damaged.
    """
    path = folder / DESCRIPTION_FILE
    try:
        description = read_json(path)
        return f"{description['network']} {description['sha256'][:8]}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; delete it if the maps are your own, else the whole folder") from None


def read_saliency(path: str | os.PathLike, height: int, width: int) -> np.ndarray:
    """Reads a saliency map: an image of any format, 8-bit or 16-bit, in grey or in colors that are grey.

    Networks often write their maps in a size of their own; one of the image's proportions is resized to it, bilinearly.
    Other proportions are refused: most likely the map is of another image, or of the image as its file stores it, not
    turned by its EXIF orientation.

    Args:
        path: The file.
        height: Of its image, upright.
        width: Of its image, upright.

    Returns:
        uint8 `[height, width]`, 255 the most salient.

    Raises:
        UserError: The file is missing or damaged, has colors, or other proportions.
    """
    # As stored: a program that writes alpha leaves black where nothing stands out, and 65535 is the most salient.
    image = decode(read_bytes(path), os.fspath(path), as_seen=False).pixels
    if np.ptp(image, axis=-1).max() > _MOST_COLOR:
        raise UserError(f"{path}: has colors, expected a grey picture, the brighter the more salient")
    saliency = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found_height, found_width = saliency.shape
    # Of the size that a network has resized the image to, rounded to whole pixels in either direction.
    if abs(found_width - width * found_height / height) > 1 and abs(found_height - height * found_width / width) > 1:
        raise UserError(
            f"{path}: {found_width}x{found_height} pixels, but its image has {width}x{height}; "
            "both must have the same proportions, with the image upright as its EXIF orientation says"
        )
    if saliency.shape != (height, width):
        saliency = cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR)
    return saliency
