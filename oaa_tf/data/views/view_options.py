"""Options of the views that the network sees, in training and afterwards."""

import dataclasses
import itertools
from collections.abc import Sequence

from oaa_tf.data.views.frame import STRIDE


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Options of the views of a training stage.

    Attributes:
        canvas: Long side of the canvases in pixels, a multiple of `STRIDE`.
        flip: Whether half of the views are mirrored.
        min_scale: Least scale relative to the frame.
        max_scale: Greatest scale relative to the frame. An image larger than the canvas is cropped at a random place.
        frame_size: Long side in pixels of the image in the frame; that of the canvas if None. Segmentation crops larger
            frames, whose sides need not be multiples of `STRIDE`; these have no grid.
        square: Whether all canvases are squares; if not, their aspects are close to those of their images.
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
        return (self.frame_size or self.canvas) // STRIDE


def whole_views(scales: Sequence[float], flip: bool) -> list[tuple[float, bool]]:
    """Scale and mirroring of each view of a whole image that a trained network sees, each scale unmirrored first."""
    return list(itertools.product(scales, (False, True) if flip else (False,)))
