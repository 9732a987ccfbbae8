"""Drawing tools of the demo data: noise, curves and a canvas for one shaded object.

Colors are float32 RGB in [0, 1]. Points are `[num_points, 2]` (x right, y down), in the sprite's coordinates: both axes
span [-REACH, REACH], and the object's body lies within [-1, 1].
"""

import colorsys

import cv2
import numpy as np

REACH = 1.4
"""Half the side of a sprite in its own coordinates; leaves room for parts that stand out of the body."""

_SHIFT = 4  # Sub-pixel bits of OpenCV's fixed-point polygon coordinates.


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """One color as float32 `[3]` RGB, from hue, saturation and value in [0, 1]; the hue wraps around."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, np.clip(saturation, 0, 1), np.clip(value, 0, 1)), np.float32)


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blends two colors or color images by a weight image `[height, width]`: 0 is the first, 1 the second."""
    weight = np.asarray(weight, np.float32)[..., None]
    return first * (1 - weight) + second * weight


def smoothstep(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """Rises smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3, aspect: float = 1.0
) -> np.ndarray:
    """Fractal noise: octaves of random grids, each twice as fine and half as strong as the one before.

    Args:
        rng: Source of randomness.
        height: Rows of the result.
        width: Columns of the result.
        cells: Grid cells of the first octave along the longer side.
        octaves: Number of octaves.
        aspect: How much longer than high a cell is; above 1 gives horizontal streaks.

    Returns:
        float32 `[height, width]` in [0, 1], with mean about 0.5.
    """
    total = np.zeros((height, width), np.float32)
    weights = 0.0
    longest = max(height, width)
    for octave in range(octaves):
        count = cells * 2**octave / longest
        grid = rng.random((max(2, round(height * count * aspect)) + 2, max(2, round(width * count)) + 2), np.float32)
        layer = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer * 0.5**octave
        weights += 0.5**octave
    return np.clip((total / weights - 0.5) * 1.5 + 0.5, 0, 1)


def smooth_curve(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through the given points, as a polygon with `steps` vertices per segment."""
    points = np.asarray(points, np.float32)
    padded = np.concatenate((points[-1:], points, points[:2]) if closed else (points[:1], points, points[-1:]))
    p0, p1, p2, p3 = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate((curve, points[-1:]))


def ellipse(center: np.ndarray, radii: tuple[float, float], angle: float = 0.0, steps: int = 40) -> np.ndarray:
    """An ellipse as a polygon; the angle is in radians and turns from x to y."""
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    local = np.stack((radii[0] * np.cos(t), radii[1] * np.sin(t)), -1)
    return np.asarray(center) + local @ rotation(angle).T


def rotation(angle: float) -> np.ndarray:
    """The matrix `[2, 2]` that turns column vectors by an angle in radians, from x to y."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def limb(points: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """A tapered, rounded limb along a smooth curve: polygons to be painted as one shape.

    Args:
        points: Joints `[num_joints, 2]`.
        radii: Half the thickness at each joint, `[num_joints]`.
    """
    curve = smooth_curve(np.asarray(points), closed=False, steps=6)
    along = np.linspace(0, len(points) - 1, len(curve))
    radii = np.interp(along, np.arange(len(points)), radii)
    tangent = np.gradient(curve, axis=0)
    normal = np.stack((-tangent[:, 1], tangent[:, 0]), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    sides = np.concatenate((curve + normal * radii[:, None], (curve - normal * radii[:, None])[::-1]))
    return [sides, ellipse(curve[0], (radii[0],) * 2, steps=20), ellipse(curve[-1], (radii[-1],) * 2, steps=20)]


class Sprite:
    """A square canvas that holds one object in its own coordinates.

    Attributes:
        size: Side in pixels.
        color: float32 `[size, size, 3]`, multiplied by `alpha`.
        alpha: float32 `[size, size]`, coverage by the object.
        distinctive: float32 `[size, size]`, coverage by the part that tells the class from its sibling.
        shadow: float32 `[size, size]`, darkness of the shadow on the ground.
        x: float32 `[size, size]`, horizontal coordinates of the pixels.
        y: float32 `[size, size]`, vertical coordinates of the pixels.
    """

    def __init__(self, size: int, light: np.ndarray) -> None:
        """Makes an empty canvas.

        Args:
            size: Side in pixels.
            light: Direction towards the light `[3]` (x right, y down, z towards the viewer).
        """
        self.size = size
        self.color = np.zeros((size, size, 3), np.float32)
        self.alpha = np.zeros((size, size), np.float32)
        self.distinctive = np.zeros((size, size), np.float32)
        self.shadow = np.zeros((size, size), np.float32)
        axis = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1) * REACH
        self.x, self.y = np.meshgrid(axis, axis)
        self._light = np.asarray(light, np.float32) / np.linalg.norm(light)

    def paint(
        self,
        polygons: np.ndarray | list[np.ndarray],
        color: np.ndarray,
        *,
        relief: float = 0.8,
        gloss: float = 0.0,
        distinctive: bool = False,
    ) -> None:
        """Paints the union of polygons as one rounded, shaded part over what is there.

        Args:
            polygons: One polygon or several, in sprite coordinates.
            color: One color `[3]`, or a texture `[size, size, 3]`.
            relief: How round the part looks; 0 is flat.
            gloss: Strength of the highlight.
            distinctive: Whether the part belongs to the distinctive one.
        """
        polygons = [polygons] if isinstance(polygons, np.ndarray) else polygons
        pixels = [(polygon / REACH + 1) * (self.size / 2) - 0.5 for polygon in polygons]
        corners = np.concatenate(pixels)
        left, top = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, self.size)
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 3, 0, self.size)
        if right - left < 1 or bottom - top < 1:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for polygon in pixels:
            fixed = np.round((polygon - (left, top)) * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        window = (slice(top, bottom), slice(left, right))
        texture = color if color.ndim == 1 else color[window]
        painted = self._shaded(mask, texture, relief, gloss)
        coverage = mask.astype(np.float32) / 255
        keep = 1 - coverage
        self.color[window] = self.color[window] * keep[..., None] + painted * coverage[..., None]
        self.alpha[window] = self.alpha[window] * keep + coverage
        self.distinctive[window] = self.distinctive[window] * keep + (coverage if distinctive else 0)

    def _shaded(self, mask: np.ndarray, texture: np.ndarray, relief: float, gloss: float) -> np.ndarray:
        """Lights a part as if it bulged towards the viewer, its height a quarter circle of the depth inside."""
        depth = cv2.distanceTransform(np.pad((mask > 127).astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        radius = max(float(depth.max()), 1.0)
        height = radius * relief * np.sqrt(1 - (1 - np.minimum(depth / radius, 1)) ** 2)
        height = cv2.GaussianBlur(height, (0, 0), max(0.18 * radius, 1.0))
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        toward_light = self._light[2] - slope_x * self._light[0] - slope_y * self._light[1]
        toward_light = np.maximum(toward_light / np.sqrt(1 + slope_x**2 + slope_y**2), 0)
        painted = texture * (0.42 + 0.72 * toward_light)[..., None]
        if gloss:
            painted += (gloss * toward_light**16)[..., None]
        return np.clip(painted, 0, 1)
