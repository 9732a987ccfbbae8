"""How images are shown to the network, in training and afterwards."""

import dataclasses
import itertools
from collections.abc import Sequence

from oaa_tf.data.views.frame import STRIDE


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What views look like.

    Attributes:
        canvas: Long side of the canvases in pixels, a multiple of `STRIDE`.
        flip: Whether half of the views are mirrored.
        min_scale: Least scale relative to the frame.
        max_scale: Greatest scale relative to the frame. What exceeds the canvas is cropped at a random place.
        frame_size: Long side in pixels of the image in the frame, the canvas' long side if None. Segmentation takes
            crops of larger frames; attention is brought back to frames of the canvas' size only.
        square: Whether all canvases are squares; if not, they have about the aspect of their images.
    """

    canvas: int
    flip: bool = True
    min_scale: float = 1.0
    max_scale: float = 1.0
    frame_size: int | None = None
    square: bool = False

    @property
    def grid(self) -> int:
        """Cells per side of the frame's square grid."""
        return self.canvas // STRIDE


def whole_views(scales: Sequence[float], flip: bool) -> list[tuple[float, bool]]:
    """The scales and mirrorings in which a trained network sees a whole image: each scale, upright first."""
    return list(itertools.product(scales, (False, True) if flip else (False,)))
