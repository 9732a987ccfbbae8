"""Drawing tools of the demo data: colors, noise, outlines, and a canvas for one shaded object.

Colors are float32 RGB in [0, 1]. Points are `[num_points, 2]` (x right, y down), in the sprite's coordinates: both axes
span [-REACH, REACH], and the object's body lies within [-1, 1].
"""

import colorsys

import cv2
import numpy as np
from numpy.random import Generator

REACH = 1.4
"""Half the side of a sprite in its own coordinates; leaves room for parts that stand out of the body."""

_SHIFT = 4  # Sub-pixel bits of OpenCV's fixed-point polygon coordinates.

Pair = tuple[float, float]  # A range, a point, or two radii.


def draws(rng: Generator, *ranges: Pair) -> list[float]:
    """One uniform random number from each range."""
    return [rng.uniform(low, high) for low, high in ranges]


def hsv(hue: float | Pair, saturation: float | Pair, value: float | Pair, rng: Generator | None = None) -> np.ndarray:
    """One color as float32 `[3]` RGB.

    Hue (which wraps around), saturation and value are numbers in [0, 1], or ranges from which `rng` draws them.
    """
    h, s, v = (rng.uniform(*each) if isinstance(each, tuple) else each for each in (hue, saturation, value))
    return np.array(colorsys.hsv_to_rgb(h % 1.0, s, v), np.float32)


def mix(first: np.ndarray, second: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Blends two colors or color images by a weight, a number or `[height, width]`: 0 is the first, 1 the second."""
    weight = np.asarray(weight, np.float32)[..., None]
    return first * (1 - weight) + second * weight


def smoothstep(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """Rises smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: Generator, shape: tuple[int, int], cells: float, octaves: int = 2, aspect: float = 1.0) -> np.ndarray:
    """Fractal noise: octaves of random grids, each twice as fine and half as strong as the one before.

    Args:
        rng: Source of randomness.
        shape: Height and width of the result.
        cells: Grid cells of the first octave along the longer side.
        octaves: Number of octaves.
        aspect: How much longer than high a cell is; above 1 gives horizontal streaks.

    Returns:
        float32 `[height, width]` in [0, 1], with mean about 0.5.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave / max(shape)
        sides = max(2, round(shape[0] * count * aspect)) + 2, max(2, round(shape[1] * count)) + 2
        total += cv2.resize(rng.random(sides, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return np.clip((total / (2 - 0.5 ** (octaves - 1)) - 0.5) * 1.5 + 0.5, 0, 1)


def rotation(angle: float) -> np.ndarray:
    """The matrix `[2, 2]` that turns column vectors by an angle in radians, from x to y."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def polar(angles: float | np.ndarray, radii: float | np.ndarray = 1.0) -> np.ndarray:
    """Points `[..., 2]` around the origin; angles are in radians and turn from x to y."""
    return np.stack((np.cos(angles), np.sin(angles)), -1) * np.asarray(radii)[..., None]


def outline(text: str) -> np.ndarray:
    """Points `[num_points, 2]` from text such as "-72,4 -60,-17", in hundredths."""
    return np.array([pair.split(",") for pair in text.split()], np.float64) / 100


def smooth_curve(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through the given points, as a polygon with `steps` vertices per segment."""
    points = np.asarray(points, np.float32)
    padded = np.concatenate((points[-1:], points, points[:2]) if closed else (points[:1], points, points[-1:]))
    p0, p1, p2, p3 = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate((curve, points[-1:]))


def ellipse(center: np.ndarray, radii: float | Pair, angle: float = 0.0, steps: int = 40) -> np.ndarray:
    """An ellipse or, with one radius, a circle, as a polygon with `steps` vertices, turned by an angle in radians."""
    return center + polar(np.linspace(0, 2 * np.pi, steps, endpoint=False)) * radii @ rotation(angle).T


class Sprite:
    """A square canvas that holds one object in its own coordinates.

    Attributes:
        size: Side in pixels.
        color: float32 `[size, size, 3]`, multiplied by `alpha`.
        alpha: float32 `[size, size]`, coverage by the object.
        distinctive: float32 `[size, size]`, coverage by what has been painted since this was last set to 0.
        shadow: float32 `[size, size]`, darkness of the shadow on the ground.
        x: float32 `[size, size]`, horizontal coordinates of the pixels.
        y: float32 `[size, size]`, vertical coordinates of the pixels.
        anchor: Origin and angle (x, y, angle) of the points that `at`, `blob`, `limb` and `ellipse` take.
    """

    def __init__(self, size: int, light: np.ndarray) -> None:
        """Makes an empty canvas.

        Args:
            size: Side in pixels.
            light: Direction towards the light `[3]` (x right, y down, z towards the viewer).
        """
        self.size = size
        self.color = np.zeros((size, size, 3), np.float32)
        self.alpha, self.distinctive, self.shadow = np.zeros((3, size, size), np.float32)
        axis = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1) * REACH
        self.x, self.y = np.meshgrid(axis, axis)
        self.anchor = np.zeros(3)
        self._light = np.asarray(light, np.float32) / np.linalg.norm(light)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Points `[..., 2]` at the anchor, in the sprite's coordinates."""
        return self.anchor[:2] + np.asarray(points, np.float64) @ rotation(self.anchor[2]).T

    def noise(self, rng: Generator, cells: float, octaves: int = 2, aspect: float = 1.0) -> np.ndarray:
        """As the function `noise`, for the whole canvas."""
        return noise(rng, (self.size, self.size), cells, octaves, aspect)

    def cast_shadow(self, center: Pair, radii: Pair, darkness: float, falloff: float) -> None:
        """Draws the shadow as a soft ellipse, the softer the smaller `falloff` is."""
        x, y = (self.x - center[0]) / radii[0], (self.y - center[1]) / radii[1]
        self.shadow = (darkness * np.exp(-1.3 * (x * x + y * y) ** falloff)).astype(np.float32)

    def blob(self, points: np.ndarray, color: np.ndarray, steps: int = 8, **look: float) -> None:
        """Paints the inside of a smooth closed curve through points; `steps` as in `smooth_curve`."""
        self.paint([smooth_curve(self.at(points), steps=steps)], color, **look)

    def ellipse(
        self, center: Pair, radii: float | Pair, color: np.ndarray, angle: float = 0.0, steps: int = 40, **look: float
    ) -> None:
        """Paints an ellipse."""
        self.paint([ellipse(self.at(center), radii, angle, steps)], color, **look)

    def limb(self, points: np.ndarray, radii: float | np.ndarray, color: np.ndarray, **look: float) -> None:
        """Paints a tapered, rounded limb along a smooth curve.

        Args:
            points: Joints `[num_joints, 2]`.
            radii: Half the thickness, at all joints or at each.
            color: As in `paint`.
            **look: As in `paint`.
        """
        curve = smooth_curve(self.at(points), closed=False, steps=6)
        along = np.linspace(0, len(points) - 1, len(curve))
        radii = np.interp(along, np.arange(len(points)), np.broadcast_to(radii, len(points)))
        tangent = np.gradient(curve, axis=0)
        normal = np.stack((-tangent[:, 1], tangent[:, 0]), -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
        sides = np.concatenate((curve + normal * radii[:, None], (curve - normal * radii[:, None])[::-1]))
        self.paint([sides, *(ellipse(curve[end], radii[end], steps=20) for end in (0, -1))], color, **look)

    def paint(self, polygons: list[np.ndarray], color: np.ndarray, relief: float = 0.8, gloss: float = 0.0) -> None:
        """Paints the union of polygons as one rounded, shaded part over what is there.

        Args:
            polygons: Outlines in sprite coordinates.
            color: One color `[3]`, or a texture `[size, size, 3]`.
            relief: How round the part looks; 0 is flat.
            gloss: Strength of the highlight.
        """
        pixels = [(polygon / REACH + 1) * (self.size / 2) - 0.5 for polygon in polygons]
        corners = np.concatenate(pixels)
        left, top = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, self.size)
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 3, 0, self.size)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for polygon in pixels:
            fixed = np.round((polygon - (left, top)) * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        window = (slice(top, bottom), slice(left, right))
        painted = self._shaded(mask, color if color.ndim == 1 else color[window], relief, gloss)
        coverage = mask.astype(np.float32) / 255
        self.color[window] = self.color[window] * (1 - coverage)[..., None] + painted * coverage[..., None]
        for layer in (self.alpha, self.distinctive):
            layer[window] = layer[window] * (1 - coverage) + coverage

    def placed(self, affine: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Color, alpha and shadow in a picture of that size; `affine` `[2, 3]` maps pixels of the canvas to its."""
        layers = (self.color, self.alpha, self.shadow)
        return tuple(cv2.warpAffine(layer, affine, (width, height), flags=cv2.INTER_LINEAR) for layer in layers)

    def _shaded(self, mask: np.ndarray, texture: np.ndarray, relief: float, gloss: float) -> np.ndarray:
        """Lights a part as if it bulged towards the viewer, its height a quarter circle of the depth inside."""
        depth = cv2.distanceTransform(np.pad((mask > 127).astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        radius = max(float(depth.max()), 1.0)
        height = radius * relief * np.sqrt(1 - (1 - np.minimum(depth / radius, 1)) ** 2)
        height = cv2.GaussianBlur(height, (0, 0), max(0.18 * radius, 1.0))
        slope_x, slope_y = (cv2.Sobel(height, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
        toward_light = self._light[2] - slope_x * self._light[0] - slope_y * self._light[1]
        toward_light = np.maximum(toward_light / np.sqrt(1 + slope_x**2 + slope_y**2), 0)
        painted = texture * (0.42 + 0.72 * toward_light)[..., None] + (gloss * toward_light**16)[..., None]
        return np.clip(painted, 0, 1)
