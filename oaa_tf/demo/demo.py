"""The demo data set: a small, synthetic folder in the layout of PASCAL VOC, to try the method out without a download.

    write_demo_data("/tmp/demo")

Six invented classes in three pairs that share a body (see `demo_objects`); a quarter of the images show two classes.
Image, mask and saliency are a pure function of (seed, split, index).
"""

import dataclasses
import os
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import encode_grey, write_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.demo.demo_drawing import REACH, Sprite, noise, rotation, smoothstep
from oaa_tf.demo.demo_objects import CLASSES, draw_object
from oaa_tf.demo.demo_scenes import draw_scene
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.threads import in_threads

SPLITS = ("train", "val")
MARKER = "demo.json"

_VERSION = 1  # To be raised when the drawing changes, so that an old folder is not taken for a current one.
_OVERSAMPLING = 3
_JPEG_QUALITY = 95
_NUM_TRAIN, _NUM_VAL, _IMAGE_SIZE = 200, 50, 128


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


@dataclasses.dataclass(frozen=True)
class _Placement:
    """Where a sprite lies in the picture: `affine` maps its pixels; boxes are (left, top, right, bottom)."""

    affine: np.ndarray
    box: np.ndarray
    distinctive_box: np.ndarray


def write_demo_data(
    output_dir: str | os.PathLike,
    *,
    num_train: int = _NUM_TRAIN,
    num_val: int = _NUM_VAL,
    image_size: int = _IMAGE_SIZE,
    seed: int = 0,
) -> dict:
    """Writes the demo data, or does nothing if the folder already holds them with the same parameters.

    A run that was stopped is completed by the next one: the file `demo.json` says last that the folder is complete.

    Args:
        output_dir: Folder to write; new, empty, or written by this function with the same parameters.
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Length of the longer side of the images in pixels.
        seed: Seed of everything random.

    Returns:
        What `demo.json` holds: the parameters, the classes and a version.

    Raises:
        UserError: The folder holds something else, or demo data with other parameters.
    """
    output_dir = Path(output_dir)
    counts = dict(zip(SPLITS, (num_train, num_val), strict=True))
    parameters = _parameters(num_train, num_val, image_size, seed)
    if _is_complete(output_dir, parameters):
        print(f"demo data: {output_dir} is complete already", flush=True)
        return parameters
    output_dir.mkdir(parents=True, exist_ok=True)
    # Before everything else, so that a run that is killed leaves a folder that the next one knows as its own.
    _write_marker(output_dir, parameters, complete=False)
    for folder in ("JPEGImages", "SegmentationClass", "saliency", "Annotations", "ImageSets/Segmentation"):
        (output_dir / folder).mkdir(parents=True, exist_ok=True)

    def write(job: tuple[str, int]) -> tuple[int, ...]:
        demo_image = draw_demo_image(seed, *job, image_size)
        _write_image(output_dir, _image_id(*job), demo_image)
        return demo_image.labels

    jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
    labels = dict(zip(jobs, in_threads(write, jobs, "demo data"), strict=True))
    for split in SPLITS:
        ids = [_image_id(split, index) for index in range(counts[split])]
        tags = [" ".join(map(str, (image_id, *labels[split, index]))) for index, image_id in enumerate(ids)]
        _write_lines(output_dir / f"ImageSets/Segmentation/{split}.txt", ids)
        _write_lines(output_dir / f"ImageSets/Segmentation/{split}_cls.txt", tags)
    _write_lines(output_dir / "classes.txt", CLASSES)
    _write_marker(output_dir, parameters, complete=True)
    print(f"demo data: {num_train} training and {num_val} validation images in {output_dir}", flush=True)
    return parameters


def has_demo_data(output_dir: str | os.PathLike, *, seed: int = 0) -> bool:
    """Whether `write_demo_data(output_dir, seed=seed)` would have nothing to do.

    Raises:
        UserError: As it would.
    """
    return _is_complete(Path(output_dir), _parameters(_NUM_TRAIN, _NUM_VAL, _IMAGE_SIZE, seed))


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
    height, width = _sides(rng, image_size)
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
        flip = rng.choice([-1, 1])
        sprites.append(draw_object(class_index, (*pose, number), round(length * 2 * REACH / 1.6), light * (flip, 1, 1)))
        flips.append(flip)
    placements = _place(rng, sprites, flips, fine_height, fine_width, horizon)

    coverages: dict[int, np.ndarray] = {}
    for number in sorted(range(len(sprites)), key=lambda number: placements[number].box[3]):
        sprite, affine = sprites[number], placements[number].affine
        color, alpha, shadow = (
            cv2.warpAffine(layer, affine, (fine_width, fine_height), flags=cv2.INTER_LINEAR)
            for layer in (sprite.color, sprite.alpha, sprite.shadow)
        )
        picture = picture * ((1 - shadow) * (1 - alpha))[..., None] + color
        coverages = {other: coverage * (1 - alpha) for other, coverage in coverages.items()}
        coverages[number] = alpha
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    shares = [
        cv2.resize(coverages[number], (width, height), interpolation=cv2.INTER_AREA) for number in range(len(sprites))
    ]

    instances = np.argmax(np.stack([1 - sum(shares), *shares]), axis=0)
    mask = np.array([0, *(class_index + 1 for class_index in class_indices)], np.uint8)[instances]
    mask[_borders(instances)] = IGNORE_LABEL
    objects = tuple(
        (class_index, _box_of(instances == number + 1))
        for number, class_index in enumerate(class_indices)
        if np.any((instances == number + 1) & (mask != IGNORE_LABEL))
    )
    labels = tuple(sorted({class_index for class_index, _ in objects}))
    return DemoImage(_photographed(rng, picture), mask, _saliency(rng, shares), labels, objects)


def _sides(rng: np.random.Generator, image_size: int) -> tuple[int, int]:
    short = round(image_size * rng.choice([0.67, 0.75, 0.85]))
    return (short, image_size) if rng.random() < 0.6 else (image_size, short)


def _classes_of(rng: np.random.Generator, index: int) -> list[int]:
    """One object for each class of the image, and sometimes a second one of its only class.

    The main class takes turns; over 24 images each is the main class four times, once of them with a second class.
    """
    main = index % len(CLASSES)
    other = (main + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    twice = rng.random() < 0.12
    if (index + index // len(CLASSES)) % 4 == 3:
        return [main, other]
    return [main, main] if twice else [main]


def _place(
    rng: np.random.Generator, sprites: list[Sprite], flips: list[int], height: int, width: int, horizon: float
) -> list[_Placement]:
    """Finds places on the ground where each object is mostly in the picture and hardly hidden by another one."""
    frame = np.array([0, 0, width, height])
    outlines = [(_outline(sprite.alpha), _outline(sprite.distinctive)) for sprite in sprites]
    attempt = 0
    while True:
        shrinkage = 0.94 ** (attempt // 6)
        placements = []
        for sprite, (outline, distinctive), flip in zip(sprites, outlines, flips, strict=True):
            turn = rotation(rng.uniform(-0.26, 0.26)) @ np.diag([flip, 1]) * shrinkage
            points = (outline - sprite.size / 2) @ turn.T
            size = np.ptp(points, axis=0)
            left = rng.uniform(-0.08 * size[0], max(width - 0.92 * size[0], 0))
            highest_foot = min(max(horizon * height + 0.3 * size[1], 0.95 * size[1]), height)
            foot = rng.uniform(highest_foot, 1.03 * height)
            shift = np.array([left, foot]) - (points[:, 0].min(), points[:, 1].max())
            affine = np.concatenate((turn, (shift - turn @ np.full(2, sprite.size / 2))[:, None]), 1)
            placements.append(
                _Placement(affine, _bounds(points + shift), _bounds((distinctive - sprite.size / 2) @ turn.T + shift))
            )
        if _is_clear(placements, frame):
            return placements
        attempt += 1


def _is_clear(placements: list[_Placement], frame: np.ndarray) -> bool:
    """Whether every object, and its distinctive part above all, can be seen."""
    for one in placements:
        if _overlap(one.box, frame) < 0.88 or _overlap(one.distinctive_box, frame) < 0.92:
            return False
        for other in placements:
            in_front = other is not one and other.box[3] >= one.box[3]
            if in_front and (_overlap(one.box, other.box) > 0.25 or _overlap(one.distinctive_box, other.box) > 0.2):
                return False
    return True


def _outline(coverage: np.ndarray) -> np.ndarray:
    """Convex outline of a part, `[num_points, 2]` in pixels (x, y)."""
    contours, _ = cv2.findContours((coverage > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float64)


def _bounds(points: np.ndarray) -> np.ndarray:
    return np.concatenate((points.min(0), points.max(0)))


def _overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Share of a box that lies in another one."""
    common = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0)
    return float(np.prod(common) / np.prod(box[2:] - box[:2]))


def _borders(instances: np.ndarray) -> np.ndarray:
    """Pixels beside a pixel of another instance, bool as `instances`: two pixels wide, one on either side."""
    borders = np.zeros(instances.shape, bool)
    across, down = instances[:, 1:] != instances[:, :-1], instances[1:] != instances[:-1]
    borders[:, 1:] |= across
    borders[:, :-1] |= across
    borders[1:] |= down
    borders[:-1] |= down
    return borders


def _box_of(region: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _photographed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Varies exposure, contrast and white balance, darkens the corners, and adds grain."""
    height, width = picture.shape[:2]
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    vignette = 1 - rng.uniform(0.0, 0.15) * (x * x + y * y)
    gain = rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.85, 1.15) * gain * vignette[..., None]
    picture += rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _saliency(rng: np.random.Generator, shares: list[np.ndarray]) -> np.ndarray:
    """Imitates the output of a salient-object network: blurred, with holes, missed objects and false alarms."""
    height, width = shares[0].shape
    seen = [share * (rng.uniform(0.2, 0.5) if rng.random() < 0.08 else rng.uniform(0.88, 1.0)) for share in shares]
    holes = smoothstep(0.7, 0.85, noise(rng, height, width, 6, 2))
    saliency = sum(seen) * (1 - rng.uniform(0.3, 0.8) * holes)
    if rng.random() < 0.3:
        center, radius = rng.random(2) * (height, width), rng.uniform(0.06, 0.12) * max(height, width)
        distance = np.hypot(np.arange(height)[:, None] - center[0], np.arange(width) - center[1]) / radius
        saliency = np.maximum(saliency, rng.uniform(0.3, 0.8) * smoothstep(1.2, 0.7, distance))
    saliency = cv2.GaussianBlur(saliency.astype(np.float32), (0, 0), rng.uniform(0.7, 1.6) * max(height, width) / 128)
    saliency += rng.normal(0, 0.02, saliency.shape)
    return np.round(np.clip(saliency, 0, 1) * 255).astype(np.uint8)


def _parameters(num_train: int, num_val: int, image_size: int, seed: int) -> dict:
    """What `demo.json` holds of the demo data."""
    return {
        "version": _VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "image_size": image_size,
        "seed": seed,
        "classes": list(CLASSES),
    }


def _image_id(split: str, index: int) -> str:
    return f"{split}_{index:05d}"


def _write_image(output_dir: Path, image_id: str, demo_image: DemoImage) -> None:
    bgr = demo_image.image[..., ::-1]
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    write_indexed(output_dir / "SegmentationClass" / f"{image_id}.png", demo_image.mask)
    for path, data in (
        (output_dir / "JPEGImages" / f"{image_id}.jpg", jpeg.tobytes()),
        (output_dir / "saliency" / f"{image_id}.png", encode_grey(demo_image.saliency)),
        (output_dir / "Annotations" / f"{image_id}.xml", _annotation(image_id, demo_image)),
    ):
        # Encoded first and written by Python, since `cv2.imwrite` does not raise when the disk is full.
        with atomic_write(path) as file:
            file.write(data)


def _annotation(image_id: str, demo_image: DemoImage) -> bytes:
    """The objects in VOC's XML; box corners are 1-based and inclusive there."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{image_id}.jpg"
    size = ElementTree.SubElement(root, "size")
    height, width, depth = demo_image.image.shape
    for name, value in (("width", width), ("height", height), ("depth", depth)):
        ElementTree.SubElement(size, name).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "1"
    for class_index, (left, top, right, bottom) in demo_image.objects:
        node = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(node, "name").text = CLASSES[class_index]
        ElementTree.SubElement(node, "difficult").text = "0"
        box = ElementTree.SubElement(node, "bndbox")
        for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            ElementTree.SubElement(box, name).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root) + b"\n"


def _write_lines(path: Path, lines: list[str] | tuple[str, ...]) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def _write_marker(output_dir: Path, parameters: dict, *, complete: bool) -> None:
    write_json(output_dir / MARKER, {**parameters, "complete": complete})


def _is_complete(output_dir: Path, parameters: dict) -> bool:
    """Whether the folder holds these very data.

    Raises:
        UserError: The folder holds something that must not be overwritten.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"{output_dir} is not a folder: choose another --output_dir")
    marker = output_dir / MARKER
    if not marker.is_file():
        if output_dir.is_dir() and any(not path.name.startswith(f".{MARKER}.") for path in output_dir.iterdir()):
            raise UserError(f"{output_dir} is not empty and holds no demo data: choose a new or empty --output_dir")
        return False
    try:
        found = read_json(marker)
        complete = found["complete"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{marker} is no record of demo data: choose a new or empty --output_dir") from None
    differing = [f"{name}={found.get(name)!r}" for name in parameters if found.get(name) != parameters[name]]
    if differing:
        raise UserError(
            f"{output_dir} holds demo data with {', '.join(differing)}: choose a new --output_dir, or delete the folder"
        )
    return complete is True
