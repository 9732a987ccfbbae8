"""Canvases: the network's input rectangles, in a few shapes that keep padding small.

All images of a batch need one shape. On square canvases, a quarter of the computation for photos of 4:3 or 3:2 is
padding. Instead, every image gets the smallest canvas that holds it, in one of a few aspects, portrait or landscape,
and a batch consists of images with the same canvas (`oaa_tf.data.views.batch_order`).
"""

import itertools
from fractions import Fraction

import numpy as np

from oaa_tf.data.views.frame import STRIDE, frame_contents

ASPECTS = (Fraction(9, 16), Fraction(2, 3), Fraction(3, 4), Fraction(1))
"""Short side over long side of the canvases, ascending."""


def choose_canvases(sizes: np.ndarray, long_side: int, *, min_images: int = 1, square: bool = False) -> np.ndarray:
    """Chooses the canvas of every image.

    Args:
        sizes: int `[num_images, 2]`, height and width of the images in pixels.
        long_side: Long side of the canvases in pixels, a multiple of `STRIDE`.
        min_images: Images of a shape that fewer images have get a larger shape instead: a shape rarer than a batch
            would fill its batches with repetitions.
        square: Whether all canvases are squares.

    Returns:
        int32 `[num_images, 2]`, height and width of the canvases in pixels, multiples of `STRIDE`; each holds its
        image's `Frame.content` for a frame of `long_side`.
    """
    if square:
        return np.full((len(sizes), 2), long_side, np.int32)
    aspects = np.array([aspect.as_integer_ratio() for aspect in ASPECTS])
    shorts = sorted({whole_cells(int(short)) for short in frame_contents(aspects, long_side)[:, 0]})
    contents = frame_contents(sizes, long_side)
    short = np.array(shorts)[np.searchsorted(shorts, contents.min(axis=1))]
    lying = contents[:, 0] < contents[:, 1]
    for smaller, larger in itertools.pairwise(shorts):
        for orientation in (lying, ~lying):
            members = (short == smaller) & orientation
            if np.count_nonzero(members) < min_images:
                short[members] = larger
    # No shape is larger than the square: if squares are rare, the rarest other shapes join them.
    others = [(short == side) & orientation for side in shorts[:-1] for orientation in (lying, ~lying)]
    for members in sorted(others, key=np.count_nonzero):
        if 0 < np.count_nonzero(short == long_side) < min_images:
            short[members] = long_side
    long = np.full_like(short, long_side)
    return np.where(lying[:, np.newaxis], np.stack([short, long], 1), np.stack([long, short], 1)).astype(np.int32)


def whole_cells(side: int) -> int:
    """The smallest multiple of `STRIDE` that is at least `side`, in pixels."""
    return -(-side // STRIDE) * STRIDE


def padding_share(sizes: np.ndarray, canvases: np.ndarray) -> float:
    """Share of the canvases' pixels that are padding, for frames of the canvases' size.

    Args:
        sizes: int `[num_images, 2]`, height and width of the images in pixels.
        canvases: int `[num_images, 2]`, from `choose_canvases`.
    """
    contents = frame_contents(sizes, canvases.max())
    shown, whole = (np.prod(sides, axis=1, dtype=np.int64).sum() for sides in (contents, canvases))
    return 1.0 - float(shown / whole)
