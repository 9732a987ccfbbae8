"""Segments image files with a SavedModel.

    python -m oaa_tf.predict --model=runs/demo/saved_models/segment --images=photos --output_dir=masks

Writes `<name>.png`, a palette mask (0 background, then the classes), and `<name>_overlay.jpg` for every image, and
`shares.json` with the share of each image's pixels that each class has. Masks and overlays are upright, as viewers show
the image. Masks of images from several folders go to folders of the same names.

    find photos -name "*.jpg" | python -m oaa_tf.predict --model=segment --images=- --output_dir=masks
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError, first_few
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.progress import Progress
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.images.image_files import fitting_size, read_image, resized
from oaa_tf.data.images.image_patterns import find_images, refuse_among_images
from oaa_tf.data.images.palette_png import write_indexed
from oaa_tf.report.visualization import overlay_mask
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.output_folder import check_folder, folder_errors
from oaa_tf.runs.threads import results_in_order

if TYPE_CHECKING:
    from oaa_tf.models.segmenter import Segmenter

SHARES_FILE = "shares.json"

_MAX_AHEAD = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """What to segment, and with which model."""

    model: str = setting(help="Folder of a SavedModel with the signature segment, from export.")
    images: tuple[str, ...] = setting(
        help="Image files, folders or globs (** for all subfolders), separated by commas; '-' reads them from stdin,"
        " one per line."
    )
    output_dir: str = setting(help="Folder for masks, overlays and shares.json.")
    max_side: int = setting(2000, help="Larger images are segmented at this size; masks have the full size.", minimum=8)
    crf: bool = setting(False, help="Refine the model's probabilities with a fully connected CRF.")
    overlays: bool = setting(True, help="Also write overlays.")


def run(settings: PredictSettings) -> dict[str, Any]:
    """Segments all images; images that can't be read are named at the end.

    Returns:
        The content of `shares.json`: "classes", the names of the labels, background first; "images", each with its
        "file", its "mask" and the "shares" of the labels that occur, by name; "skipped", the reason by file.

    Raises:
        UserError: There is no image, two images have the same name, the output would lie among the images, or some
            images could not be read (the others are written).
    """
    images_by_name, segmenter, output = _inputs(settings)
    with folder_errors("--output_dir", output):
        for folder in {(output / name).parent for name in images_by_name}:
            folder.mkdir(parents=True, exist_ok=True)
    skipped: dict[str, str] = {}
    labels = ["background", *segmenter.classes]

    def read(name: str) -> tuple[str, np.ndarray | None]:
        try:
            return name, read_image(images_by_name[name])
        except UserError as error:
            skipped[str(images_by_name[name])] = str(error)
            return name, None

    def write(job: tuple[str, np.ndarray, np.ndarray]) -> dict[str, Any]:
        name, image, mask = job
        write_indexed(output / f"{name}.png", mask)
        if settings.overlays:
            overlay = cv2.cvtColor(overlay_mask(image, mask), cv2.COLOR_RGB2BGR)
            with atomic_write(output / f"{name}_overlay.jpg") as file:
                file.write(cv2.imencode(".jpg", overlay)[1].tobytes())
        counts = np.bincount(mask.ravel(), minlength=len(labels))
        shares = {label: round(int(n) / mask.size, 6) for label, n in zip(labels, counts, strict=True) if n}
        return {"file": str(images_by_name[name]), "mask": f"{name}.png", "shares": shares}

    # While the network works on one image, threads decode the next ones and write the masks of earlier ones.
    with (
        Progress(len(images_by_name), "predict") as progress,
        ThreadPoolExecutor(1) as readers,
        ThreadPoolExecutor(1) as writers,
    ):
        segmented = (
            (name, image, _segment_large(segmenter, image, settings.max_side))
            for name, image in results_in_order(readers, read, images_by_name, max_ahead=_MAX_AHEAD)
            if image is not None
        )
        images = []
        for image in results_in_order(writers, write, segmented, max_ahead=_MAX_AHEAD):
            images.append(image)
            progress.advance()
    result = {"classes": labels, "images": images, "skipped": skipped}
    write_json(output / SHARES_FILE, result)
    if skipped:
        reasons = first_few(list(skipped.values()))
        raise UserError(f"{len(skipped)} of {len(images_by_name)} images were skipped: {reasons}", result=result)
    return result


def dry_run(settings: PredictSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    images, segmenter, output = _inputs(settings)
    check_folder("--output_dir", output)
    overlays = [f"{output}/<name>_overlay.jpg"] if settings.overlays else []
    return {
        "model": settings.model,
        "supervision": segmenter.supervision,
        "classes": len(segmenter.classes),
        "images": len(images),
        "writes": [f"{output}/<name>.png", *overlays, str(output / SHARES_FILE)],
    }


def _inputs(settings: PredictSettings) -> tuple[dict[str, Path], Segmenter, Path]:
    """The images by name of their masks, the model, and the folder to write."""
    from oaa_tf.models.segmenter import Segmenter

    images = find_images(settings.images)
    segmenter = Segmenter(settings.model, crf=settings.crf)
    output = Path(settings.output_dir)
    refuse_among_images(output, images, "images")
    return images, segmenter, output


def _segment_large(segmenter: Segmenter, image: np.ndarray, max_side: int) -> np.ndarray:
    """Segments an image at no more than `max_side` pixels per side, to bound the memory.

    Returns:
        uint8 `[height, width]`, at the size of the image.
    """
    height, width, _ = image.shape
    small = resized(image, fitting_size(height, width, max_side), cv2.INTER_AREA)
    return resized(segmenter(small), (height, width), cv2.INTER_NEAREST)


if __name__ == "__main__":
    launch(PredictSettings, run, "predict", dry_run)
