"""The canonical frame: a square that holds the whole image, and the relation of its grid to pixels.

The image is resized so that its long side equals the frame's side, keeps its aspect, and lies in the upper left corner.
The rest is padding; networks see only the part of it on the image's canvas (`oaa_tf.data.views.canvases`). The grid has
one cell per `STRIDE` x `STRIDE` pixels of the frame. Coordinates are continuous: pixel or cell `i` covers [i, i + 1),
and its centre is at i + 0.5.
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

STRIDE = 8
"""Output stride of all networks here, in pixels per grid cell (paper, Sec. 3.1; DeepLab-LargeFOV)."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """The canonical frame of one image.

    Attributes:
        height: Height of the original image in pixels.
        width: Width of the original image in pixels.
        side: Side of the frame in pixels, a multiple of `STRIDE`.
    """

    height: int
    width: int
    side: int

    @property
    def content(self) -> tuple[int, int]:
        """Height and width of the resized image in the frame, see `frame_contents`."""
        height, width = frame_contents(np.array([self.height, self.width]), self.side).tolist()
        return height, width

    @property
    def grid(self) -> int:
        """Cells per side of the frame's grid."""
        return self.side // STRIDE

    @property
    def valid_cells(self) -> tuple[int, int]:
        """Numbers of rows and columns of the grid whose cells the image fills at least half, each at least 1."""
        rows, columns = (max(1, (2 * side + STRIDE) // (2 * STRIDE)) for side in self.content)
        return rows, columns

    def to_image(self, maps: np.ndarray, height: int | None = None, width: int | None = None) -> np.ndarray:
        """Resamples maps on the frame's grid bilinearly to the image's pixels.

        Coordinates are clamped to the valid cells, so that padding cells have no influence.

        Args:
            maps: float32 `[..., grid, grid]`.
            height: Output height in pixels; the image's own by default.
            width: Output width in pixels; the image's own by default.

        Returns:
            float32 `[..., height, width]`.
        """
        sizes = height or self.height, width or self.width
        scales = (content / (size * STRIDE) for size, content in zip(sizes, self.content, strict=True))
        return self._resampled(maps, sizes, scales)

    def to_frame(self, maps: np.ndarray, side: int) -> np.ndarray:
        """Resamples maps on the frame's grid bilinearly to the grid of a frame of the same image with another side.

        Args:
            maps: float32 `[..., grid, grid]`.
            side: The other frame's side in pixels, a multiple of `STRIDE`.

        Returns:
            float32 `[..., side / STRIDE, side / STRIDE]`, 0 in padding cells.
        """
        other = Frame(self.height, self.width, side)
        scales = (mine / theirs for mine, theirs in zip(self.content, other.content, strict=True))
        resampled = self._resampled(maps, other.valid_cells, scales)
        rows, columns = other.valid_cells
        margins = [(0, 0)] * (maps.ndim - 2) + [(0, other.grid - rows), (0, other.grid - columns)]
        return np.pad(resampled, margins)

    def _resampled(self, maps: np.ndarray, sizes: tuple[int, int], scales: Iterable[float]) -> np.ndarray:
        """Resamples the valid cells of maps to a size, with so many cells per output sample."""
        rows, columns = (
            _linear_weights(size, cells, scale)
            for size, cells, scale in zip(sizes, self.valid_cells, scales, strict=True)
        )
        maps = maps[..., : self.valid_cells[0], : self.valid_cells[1]].astype(np.float32, copy=False)
        # Not a matrix product: on a busy machine, BLAS threads wait for each other and take 50 times as long.
        return _interpolate(_interpolate(maps, columns, axis=-1), rows, axis=-2)


def frame_contents(sizes: np.ndarray, side: int) -> np.ndarray:
    """Sizes of images that are resized to the long side of a frame.

    Rounds half up in integer arithmetic, exactly like `frame_content` (`oaa_tf.data.views.view`) in a graph.

    Args:
        sizes: int `[..., 2]`, height and width of the images in pixels.
        side: Side of the frame in pixels.

    Returns:
        int64 `[..., 2]`, height and width of the resized images, each at least 1 pixel.
    """
    sizes = sizes.astype(np.int64)
    longest = sizes.max(axis=-1, keepdims=True)
    return np.maximum(1, (2 * sizes * side + longest) // (2 * longest))


@functools.lru_cache(maxsize=256)
def _linear_weights(num_out: int, num_in: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear interpolation along one axis, clamped at the ends.

    Args:
        num_out: Number of output samples.
        num_in: Number of input samples.
        scale: Input samples per output sample: output centre `i + 0.5` lies at `(i + 0.5) * scale` of the input.

    Returns:
        Index of the lower and of the upper neighbour, intp `[num_out]`, and the weight of the upper one, float32.
    """
    position = np.clip((np.arange(num_out) + 0.5) * scale - 0.5, 0, num_in - 1)
    low = position.astype(np.intp)
    return low, np.minimum(low + 1, num_in - 1), (position - low).astype(np.float32)


def _interpolate(values: np.ndarray, weights: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int) -> np.ndarray:
    low, high, fraction = weights
    lower, result = values.take(low, axis), values.take(high, axis)
    result -= lower
    result *= fraction[:, np.newaxis] if axis == -2 else fraction
    result += lower
    return result
