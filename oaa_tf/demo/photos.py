"""One photo of the demo data: objects in a scene, with the mask and a flawed saliency map."""

import dataclasses
import itertools

import cv2
import numpy as np
from numpy.random import Generator

from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.demo.drawing import REACH, Sprite, noise, rotation, smoothstep
from oaa_tf.demo.objects import CLASSES, draw_object
from oaa_tf.demo.scenes import draw_scene

SPLITS = ("train", "val")

_OVERSAMPLING = 3


@dataclasses.dataclass(frozen=True)
class DemoImage:
    """One image of the demo data.

    Attributes:
        image: uint8 `[height, width, 3]`, RGB.
        mask: uint8 `[height, width]`; 0 background, class index + 1, 255 on the borders.
        saliency: uint8 `[height, width]`; a flawed guess at the foreground.
        labels: Ascending indices of the classes in the mask.
        objects: Class index and box (left, top, right, bottom; right and bottom exclusive) of each object.
    """

    image: np.ndarray
    mask: np.ndarray
    saliency: np.ndarray
    labels: tuple[int, ...]
    objects: tuple[tuple[int, tuple[int, int, int, int]], ...]


def draw_demo_image(seed: int, split: str, index: int, image_size: int) -> DemoImage:
    """Draws one image of the demo data with its mask and saliency map.

    Args:
        seed: Seed of the data set.
        split: One of `SPLITS`.
        index: Number of the image in its split.
        image_size: Length of the longer side in pixels.
    """
    pose = (seed, SPLITS.index(split), index)
    rng = np.random.default_rng(pose)
    short = round(image_size * rng.choice([0.67, 0.75, 0.85]))
    height, width = (short, image_size) if rng.random() < 0.6 else (image_size, short)
    fine_height, fine_width = height * _OVERSAMPLING, width * _OVERSAMPLING
    class_indices = _classes_of(rng, index)
    light = np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.7), -0.7, 0.65])
    picture, horizon = draw_scene(rng, fine_height, fine_width, light)
    # A slight blur, as by depth of field, sets the objects off from the scene.
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.2) * image_size / 128)

    largest = 0.82 if len(class_indices) == 1 else 0.6
    sprites, flips = [], []
    for number, class_index in enumerate(class_indices):
        # The body is 1.6 of the 2 * REACH that a sprite spans.
        length = rng.uniform(0.65 * largest, largest) * max(fine_height, fine_width)
        flips.append(rng.choice([-1, 1]))
        size = round(length * 2 * REACH / 1.6)
        sprites.append(draw_object(class_index, (*pose, number), size, light * (flips[-1], 1, 1)))
    affines, feet = _place(rng, sprites, flips, fine_height, fine_width, horizon)

    coverages = np.zeros((len(sprites), fine_height, fine_width), np.float32)
    for number in sorted(range(len(sprites)), key=feet.__getitem__):
        color, alpha, shadow = sprites[number].placed(affines[number], fine_width, fine_height)
        picture = picture * ((1 - shadow) * (1 - alpha))[..., None] + color
        coverages *= 1 - alpha
        coverages[number] = alpha
    layers = (picture, *coverages)
    picture, *shares = (cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA) for layer in layers)

    instances = np.argmax([1 - sum(shares), *shares], axis=0)
    mask = np.array([0, *(class_index + 1 for class_index in class_indices)], np.uint8)[instances]
    mask[_borders(instances)] = IGNORE_LABEL
    objects = []
    for number, class_index in enumerate(class_indices, 1):
        if np.any((instances == number) & (mask != IGNORE_LABEL)):
            left, top, columns, rows = cv2.boundingRect((instances == number).astype(np.uint8))
            objects.append((class_index, (left, top, left + columns, top + rows)))
    labels = tuple(sorted({class_index for class_index, _ in objects}))
    return DemoImage(_photographed(rng, picture), mask, _saliency(rng, shares), labels, tuple(objects))


def _classes_of(rng: Generator, index: int) -> list[int]:
    """One object for each class of the image, and sometimes a second one of its only class.

    The main class takes turns; over 24 images each is the main class four times, once of them with a second class.
    """
    main = index % len(CLASSES)
    other = (main + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    twice = rng.random() < 0.12
    return [main, other] if (index + index // len(CLASSES)) % 4 == 3 else [main] * (1 + twice)


def _place(
    rng: Generator, sprites: list[Sprite], flips: list[int], height: int, width: int, horizon: float
) -> tuple[list[np.ndarray], list[float]]:
    """Finds places on the ground where each object is mostly in the picture and hardly hidden by another one.

    Returns:
        For each sprite the matrix `[2, 3]` that maps its pixels to those of the picture, and the row of its feet.
    """
    outlines = [(_outline(sprite.alpha), _outline(sprite.distinctive)) for sprite in sprites]
    for attempt in itertools.count():
        affines, boxes = [], []
        for sprite, (outline, distinctive), flip in zip(sprites, outlines, flips, strict=True):
            turn = rotation(rng.uniform(-0.26, 0.26)) @ np.diag([flip, 1]) * 0.94 ** (attempt // 6)
            points, distinctive_points = ((each - sprite.size / 2) @ turn.T for each in (outline, distinctive))
            size = np.ptp(points, axis=0)
            left = rng.uniform(-0.08 * size[0], max(width - 0.92 * size[0], 0))
            highest_foot = min(max(horizon * height + 0.3 * size[1], 0.95 * size[1]), height)
            foot = rng.uniform(highest_foot, 1.03 * height)
            shift = np.array([left, foot]) - (points[:, 0].min(), points[:, 1].max())
            affines.append(np.column_stack((turn, shift - turn @ np.full(2, sprite.size / 2))))
            boxes.append([(each.min(0), each.max(0)) for each in (points + shift, distinctive_points + shift)])
        if _is_clear(np.array(boxes), width, height):
            return affines, [box[1][1] for box, _ in boxes]


def _is_clear(boxes: np.ndarray, width: int, height: int) -> bool:
    """Whether every object can be seen, and its distinctive part above all.

    Args:
        boxes: Of objects and parts, float `[num_objects, 2, 2, 2]`: object or part, first or last corner, x or y.
        width: Columns of the picture.
        height: Rows of the picture.
    """
    seen = _overlap(boxes, np.array([(0, 0), (width, height)])) >= (0.88, 0.92)
    hidden = _overlap(boxes[:, None], boxes[None, :, :1]) > (0.25, 0.2)
    feet = boxes[:, 0, 1, 1]
    in_front = (feet >= feet[:, None]) & ~np.eye(len(feet), dtype=bool)
    return seen.all() and not hidden[in_front].any()


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Shares of boxes `[..., 2, 2]` (first or last corner, x or y) that lie in other ones."""
    last, first = np.minimum(boxes[..., 1, :], others[..., 1, :]), np.maximum(boxes[..., 0, :], others[..., 0, :])
    return np.prod(np.maximum(last - first, 0), -1) / np.prod(boxes[..., 1, :] - boxes[..., 0, :], -1)


def _outline(coverage: np.ndarray) -> np.ndarray:
    """Convex outline of a part, `[num_points, 2]` in pixels (x, y)."""
    contours, _ = cv2.findContours((coverage > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64)


def _borders(instances: np.ndarray) -> np.ndarray:
    """Pixels beside a pixel of another instance, bool as `instances`: two pixels wide, one on either side."""
    neighbors = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.morphologyEx(instances.astype(np.uint8), cv2.MORPH_GRADIENT, neighbors) > 0


def _photographed(rng: Generator, picture: np.ndarray) -> np.ndarray:
    """Varies exposure, contrast and white balance, darkens the corners, and adds grain."""
    height, width = picture.shape[:2]
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    vignette = 1 - rng.uniform(0.0, 0.15) * (x * x + y * y)
    gain = rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.85, 1.15) * gain * vignette[..., None]
    picture += rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _saliency(rng: Generator, shares: list[np.ndarray]) -> np.ndarray:
    """Imitates the output of a salient-object network: blurred, with holes, missed objects and false alarms."""
    height, width = shares[0].shape
    seen = [share * (rng.uniform(0.2, 0.5) if rng.random() < 0.08 else rng.uniform(0.88, 1.0)) for share in shares]
    holes = smoothstep(0.7, 0.85, noise(rng, (height, width), 6))
    saliency = sum(seen) * (1 - rng.uniform(0.3, 0.8) * holes)
    if rng.random() < 0.3:
        center, radius = rng.random(2) * (height, width), rng.uniform(0.06, 0.12) * max(height, width)
        distance = np.hypot(np.arange(height)[:, None] - center[0], np.arange(width) - center[1]) / radius
        saliency = np.maximum(saliency, rng.uniform(0.3, 0.8) * smoothstep(1.2, 0.7, distance))
    saliency = cv2.GaussianBlur(saliency.astype(np.float32), (0, 0), rng.uniform(0.7, 1.6) * max(height, width) / 128)
    saliency += rng.normal(0, 0.02, saliency.shape)
    return np.round(np.clip(saliency, 0, 1) * 255).astype(np.uint8)
