"""Segments image files with an exported model.

    python -m oaa_tf.predict --model=runs/demo/saved_models/segment --images=photos --output_dir=masks

Writes `<name>.png`, a palette mask (0 background, then the classes), and `<name>_overlay.jpg` for every image, and
`shares.json` with the share of each image's pixels that each class has. Masks and overlays are upright, as viewers show
the image. Masks of images from several folders go to folders of the same names.

    find photos -name "*.jpg" | python -m oaa_tf.predict --model=segment --images=- --output_dir=masks
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError, first_few
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import SchedulerSettings
from oaa_tf.command_line.progress import Progress
from oaa_tf.command_line.settings import setting
from oaa_tf.data.images.image_files import fitting_size, read_image, resized
from oaa_tf.data.images.image_patterns import find_images, refuse_among_images
from oaa_tf.data.images.palette_png import write_indexed
from oaa_tf.report.visualization import overlay_mask
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.output_folder import check_folder, folder_errors
from oaa_tf.runs.parallel import in_parallel, results_in_order

if TYPE_CHECKING:
    from oaa_tf.models.segmenter import Segmenter

SHARES_FILE = "shares.json"

_MAX_AHEAD = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictSettings(SchedulerSettings):
    """What to segment, and with which model."""

    model: str = setting(help="Folder of a segmentation model from export: SavedModel, ONNX or LiteRT.")
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
    prediction = _Prediction(images_by_name, segmenter, output, settings.max_side, settings.overlays)
    names, skipped, images = list(images_by_name), {}, []
    if settings.scheduler or settings.crf:
        # TensorFlow uses all cores by itself, the CRF one.
        described = in_parallel(prediction, names, "predict", scheduler=settings.scheduler)
    else:
        described = prediction.of_all(names)
    for name, one in zip(names, described, strict=True):
        if isinstance(one, UserError):
            skipped[str(images_by_name[name])] = str(one)
        else:
            images.append(one)
    result = {"classes": prediction.labels, "images": images, "skipped": skipped}
    write_json(output / SHARES_FILE, result)
    if skipped:
        reasons = first_few(list(skipped.values()))
        raise UserError(f"{len(skipped)} of {len(images_by_name)} images were skipped: {reasons}", result=result)
    return result


@dataclasses.dataclass(frozen=True)
class _Prediction:
    """Segments images by the names of their masks, and describes them for `shares.json`; or says what is wrong."""

    images_by_name: dict[str, Path]
    segmenter: Segmenter
    output: Path
    max_side: int
    overlays: bool

    @property
    def labels(self) -> list[str]:
        return ["background", *self.segmenter.classes]

    def __call__(self, name: str) -> dict[str, Any] | UserError:
        return self._write(self._segment(self._read(name)))

    def of_all(self, names: Sequence[str]) -> Iterator[dict[str, Any] | UserError]:
        """The same for many: while the network works, threads decode the next images and write the masks of others."""
        with (
            Progress(len(names), "predict") as progress,
            ThreadPoolExecutor(1) as readers,
            ThreadPoolExecutor(1) as writers,
        ):
            read = results_in_order(readers, self._read, names, max_ahead=_MAX_AHEAD)
            segmented = map(self._segment, read)
            for described in results_in_order(writers, self._write, segmented, max_ahead=_MAX_AHEAD):
                progress.advance()
                yield described

    def _read(self, name: str) -> tuple[str, np.ndarray] | UserError:
        try:
            return name, read_image(self.images_by_name[name])
        except UserError as error:
            return error

    def _segment(self, read: tuple[str, np.ndarray] | UserError) -> tuple[str, np.ndarray, np.ndarray] | UserError:
        if isinstance(read, UserError):
            return read
        name, image = read
        return name, image, _segment_large(self.segmenter, image, self.max_side)

    def _write(self, segmented: tuple[str, np.ndarray, np.ndarray] | UserError) -> dict[str, Any] | UserError:
        if isinstance(segmented, UserError):
            return segmented
        name, image, mask = segmented
        write_indexed(self.output / f"{name}.png", mask)
        if self.overlays:
            overlay = cv2.cvtColor(overlay_mask(image, mask), cv2.COLOR_RGB2BGR)
            with atomic_write(self.output / f"{name}_overlay.jpg") as file:
                file.write(cv2.imencode(".jpg", overlay)[1].tobytes())
        labels = self.labels
        counts = np.bincount(mask.ravel(), minlength=len(labels))
        shares = {label: round(int(n) / mask.size, 6) for label, n in zip(labels, counts, strict=True) if n}
        return {"file": str(self.images_by_name[name]), "mask": f"{name}.png", "shares": shares}


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
    small = resized(image, fitting_size(image, max_side), cv2.INTER_AREA)
    return resized(segmenter(small), (height, width), cv2.INTER_NEAREST)


if __name__ == "__main__":
    launch(PredictSettings, run, "predict", dry_run)
