"""Regions of an image as COCO writes them: run lengths, their compressed form, and polygons.

Run lengths count the pixels column by column, from the top left: so many outside, so many inside, and so on.

Not read with pycocotools, which trusts its input: it crashes without any run lengths, shows other memory as pixels when
they are too few, and takes gigabytes for a polygon far outside of the image. The tests compare with it.
"""

import math
from collections.abc import Sequence

import numpy as np

_MAX_CHARACTERS = 8
"""Of one compressed count: 5 bits each, 40 in all, far more than an image has pixels."""


def run_lengths(mask: np.ndarray) -> list[int]:
    """The run lengths of a region.

    Args:
        mask: bool `[height, width]`.
    """
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    borders = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff(borders, prepend=0, append=mask.size).tolist()


def region_of_run_lengths(counts: Sequence[int], height: int, width: int) -> np.ndarray:
    """The region that has these run lengths: bool `[height, width]`.

    Raises:
        ValueError: They are no numbers of pixels, or not of all of the image's.
    """
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        raise ValueError(f"its run lengths are not those of {width}x{height} pixels")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def compressed(counts: Sequence[int]) -> str:
    """Run lengths as COCO's string.

    From the fourth on, a count is written as its difference to the last but one: in five bits a character, the lowest
    first, a sixth bit for "there is more", the sign in the highest bit of the last.
    """
    characters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        is_last = False
        while not is_last:
            bits = value & 31
            value >>= 5
            is_last = value == (-1 if bits & 16 else 0)
            characters.append(chr(48 + bits + (0 if is_last else 32)))
    return "".join(characters)


def decompressed(text: str) -> list[int]:
    """Run lengths from COCO's string; they need not make sense.

    Raises:
        ValueError: It is no such string.
    """
    counts: list[int] = []
    value = length = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or length == _MAX_CHARACTERS:
            raise ValueError("its string of run lengths is damaged")
        value |= (bits & 31) << (5 * length)
        length += 1
        if not bits & 32:
            if bits & 16:
                value -= 1 << (5 * length)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = length = 0
    if length:
        raise ValueError("its string of run lengths is cut")
    return counts


def region_of_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The pixels whose centers are in one of the polygons: bool `[height, width]`.

    Args:
        polygons: Each x, y, x, y and so on, at least three points; the image's corners are (0, 0) and (width, height).
        height: Of the image.
        width: Of the image.

    Raises:
        ValueError: A polygon is something else.
    """
    region = np.zeros((height, width), bool)
    for polygon in polygons:
        is_flat = isinstance(polygon, list) and all(type(number) in (int, float) for number in polygon)
        if not is_flat or len(polygon) < 6 or len(polygon) % 2 or not all(abs(number) < 1e6 for number in polygon):
            raise ValueError("a polygon is not a list of x, y, x, y ... of three or more points")
        region |= _inside(list(zip(polygon[::2], polygon[1::2], strict=True)), height, width)
    return region


def _inside(points: list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """The even-odd rule along the center line of every row."""
    crossings = np.zeros((height, width + 1), bool)
    for (x, y), (next_x, next_y) in zip(points, points[1:] + points[:1], strict=True):
        first, end = (min(max(math.ceil(edge - 0.5), 0), height) for edge in sorted((y, next_y)))
        rows = np.arange(first, end)
        if rows.size:
            at = x + (rows + 0.5 - y) * (next_x - x) / (next_y - y)
            crossings[rows, np.clip(np.ceil(at - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]
