"""The demo data set: a small, synthetic folder in the layout of PASCAL VOC, to try the method out without a download.

    write_demo_data("/tmp/demo")

Six invented classes in three pairs that share a body (see `objects`); a quarter of the images show two classes.
Image, mask and saliency are a pure function of (seed, split, index).
"""

import os
from pathlib import Path
from xml.etree import ElementTree

import cv2

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import encode_grey, write_indexed
from oaa_tf.demo.objects import CLASSES
from oaa_tf.demo.photos import DemoImage, draw_demo_image
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.parallel import in_parallel

MARKER = "demo.json"

_VERSION = 1  # To be raised when the drawing changes, so that an old folder is not taken for a current one.


def write_demo_data(
    output_dir: str | os.PathLike, *, num_train: int = 200, num_val: int = 50, image_size: int = 128, seed: int = 0
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
    parameters = _parameters(num_train, num_val, image_size, seed)
    if _is_complete(output_dir, parameters):
        print(f"demo data: {output_dir} is complete already", flush=True)
        return parameters
    # Before everything else, so that a run that is killed leaves a folder that the next one knows as its own.
    write_json(output_dir / MARKER, {**parameters, "complete": False})
    for folder in ("JPEGImages", "SegmentationClass", "saliency", "Annotations", "ImageSets/Segmentation"):
        (output_dir / folder).mkdir(parents=True, exist_ok=True)

    def write(job: tuple[str, int]) -> tuple[str, tuple[int, ...]]:
        split, index = job
        image_id = f"{split}_{index:05d}"
        demo_image = draw_demo_image(seed, split, index, image_size)
        _write_image(output_dir, image_id, demo_image)
        return image_id, demo_image.labels

    jobs = [("train", index) for index in range(num_train)] + [("val", index) for index in range(num_val)]
    written = list(in_parallel(write, jobs, "demo data"))
    lists = output_dir / "ImageSets/Segmentation"
    for split, part in (("train", written[:num_train]), ("val", written[num_train:])):
        _write_lines(lists / f"{split}.txt", [image_id for image_id, _ in part])
        _write_lines(lists / f"{split}_cls.txt", [" ".join(map(str, (image_id, *labels))) for image_id, labels in part])
    _write_lines(output_dir / "classes.txt", CLASSES)
    write_json(output_dir / MARKER, {**parameters, "complete": True})
    print(f"demo data: {num_train} training and {num_val} validation images in {output_dir}", flush=True)
    return parameters


def has_demo_data(output_dir: str | os.PathLike, *, seed: int = 0) -> bool:
    """Whether `write_demo_data(output_dir, seed=seed)` would have nothing to do.

    Raises:
        UserError: As it would.
    """
    arguments = {**(write_demo_data.__kwdefaults__ or {}), "seed": seed}
    return _is_complete(Path(output_dir), _parameters(**arguments))


def _parameters(num_train: int, num_val: int, image_size: int, seed: int) -> dict:
    """What `demo.json` holds of the demo data."""
    sizes = {"num_train": num_train, "num_val": num_val, "image_size": image_size}
    return {"version": _VERSION, **sizes, "seed": seed, "classes": list(CLASSES)}


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
    except (ValueError, KeyError):
        raise UserError(f"{marker} is no record of demo data: choose a new or empty --output_dir") from None
    differing = [f"{name}={found.get(name)!r}" for name in parameters if found.get(name) != parameters[name]]
    if differing:
        raise UserError(
            f"{output_dir} holds demo data with {', '.join(differing)}: choose a new --output_dir, or delete the folder"
        )
    return complete is True


def _write_image(output_dir: Path, image_id: str, demo_image: DemoImage) -> None:
    # Encoded first and written by Python, since `cv2.imwrite` does not raise when the disk is full.
    jpeg = cv2.imencode(".jpg", demo_image.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    _write(output_dir / f"JPEGImages/{image_id}.jpg", jpeg.tobytes())
    write_indexed(output_dir / f"SegmentationClass/{image_id}.png", demo_image.mask)
    _write(output_dir / f"saliency/{image_id}.png", encode_grey(demo_image.saliency))
    _write(output_dir / f"Annotations/{image_id}.xml", _annotation(image_id, demo_image))


def _annotation(image_id: str, demo_image: DemoImage) -> bytes:
    """The objects in VOC's XML; box corners are 1-based and inclusive there."""
    height, width, depth = demo_image.image.shape
    objects = "".join(
        f"<object><name>{CLASSES[class_index]}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
        f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for class_index, (left, top, right, bottom) in demo_image.objects
    )
    root = ElementTree.fromstring(
        f"<annotation><filename>{image_id}.jpg</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>{depth}</depth></size><segmented>1</segmented>{objects}</annotation>"
    )
    ElementTree.indent(root)
    return ElementTree.tostring(root) + b"\n"


def _write_lines(path: Path, lines: list[str] | tuple[str, ...]) -> None:
    _write(path, "".join(f"{line}\n" for line in lines).encode())


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)
