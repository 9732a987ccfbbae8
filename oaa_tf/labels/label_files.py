"""Folders of pseudo labels: written image by image, resumed, and compared with masks, if there are any."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings
from oaa_tf.data.images.palette_png import encode_grey, read_indexed, write_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL, MAX_MASK_CLASSES
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.metrics import confusion_matrix, iou_per_class, labelled_share, scores_by_name
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.metrics_file import run_once
from oaa_tf.runs.parallel import in_parallel
from oaa_tf.runs.supervision import is_supervision
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir

LABELS_FOLDER = "SegmentationClass"
"""Folder of the label maps, `<id>.png`, inside the work_dir of the stage that made them."""

DESCRIPTION_FILE = "pseudo_labels.json"
"""The file that describes the labels; it is written last, when they are complete."""

MASKS = "masks"
"""In place of a folder of labels: the records' own masks."""


def write_pseudo_labels(
    settings: Settings,
    inputs: Mapping[str, str],
    records: RecordSet,
    description: dict[str, Any],
    make: Callable[[int, Record], np.ndarray],
    *,
    num_workers: int,
    scheduler: str = "",
) -> dict[str, Any]:
    """Claims the work_dir, makes the labels that are not there yet, and writes `DESCRIPTION_FILE` and `metrics.json`.

    Args:
        settings: The stage's settings.
        inputs: Checksums of the stage's inputs, see `WorkDir.claim`.
        records: The images.
        description: The content of `DESCRIPTION_FILE`: that of `metrics_file.origin`, and more about where the labels
            come from.
        make: Function from the position and the record of an image to its label map, uint8 `[height, width]`: 0
            background, `c + 1` for class index `c`, 255 ignore.
        num_workers: Threads; 0 for one per core.
        scheduler: See `in_parallel`.

    Returns:
        The content of `metrics.json`. If the records have masks, this includes the quality of the labels:

        - "mean_iou", "iou_per_class": over the pixels with a pseudo label, whose share is "labelled_share".
        - "best_case": the same, if every ignored pixel had the right label.

    Raises:
        UserError: The work_dir holds another run, or one of its labels does not fit its image.
    """

    def work(work_dir: Path) -> dict[str, Any]:
        summary = _label_all(work_dir / LABELS_FOLDER, records, make, num_workers=num_workers, scheduler=scheduler)
        write_json(work_dir / DESCRIPTION_FILE, description)
        return description | summary

    return run_once(description["stage"], settings, inputs, work)


def dry_run_pseudo_labels(
    stage: str, settings: Settings, inputs: Mapping[str, str], records: RecordSet, made_from: dict[str, Any]
) -> dict[str, Any]:
    """What `write_pseudo_labels` would do, for `dry_run_text`.

    Args:
        stage: Name of the stage.
        settings: As for `write_pseudo_labels`.
        inputs: As for `write_pseudo_labels`.
        records: The images.
        made_from: Where the labels come from, for the text.

    Raises:
        UserError: The work_dir holds another run.
    """
    work_dir = WorkDir.peek(settings, inputs)
    folder = work_dir.path / LABELS_FOLDER
    return {
        "stage": stage,
        "state": work_dir.state,
        **made_from,
        "split": records.split,
        "images": len(records),
        "images_left": sum(not (folder / f"{image_id}.png").exists() for image_id in records.image_ids),
        "classes": len(records.classes),
        "writes": [str(work_dir.path / name) for name in (LABELS_FOLDER, DESCRIPTION_FILE, METRICS_FILE)],
    }


def _label_all(
    folder: Path, records: RecordSet, make: Callable[[int, Record], np.ndarray], **options: Any
) -> dict[str, Any]:
    """Makes the labels that are not there yet, and measures all of them; see `write_pseudo_labels`."""
    folder.mkdir(exist_ok=True)
    num_classes = len(records.classes)

    def work(position: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Number of pixels by label, int64 `[256]`, and the confusion matrix, if there is a mask."""
        path = folder / f"{records.image_ids[position]}.png"
        record = records.record(position)
        if path.exists():
            labels = read_indexed(path)
            if labels.shape != record.image.shape[:2]:
                raise UserError(f"{path}: is not of its image's size; delete it and run the stage again")
        else:
            labels = make(position, record)
            write_indexed(path, labels)
        try:
            confusion = None if record.mask is None else confusion_matrix(record.mask, labels, num_classes)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        return np.bincount(labels.ravel(), minlength=256), confusion

    num_ignored_whole = 0
    num_pixels = np.zeros(256, np.int64)
    confusion = np.zeros((num_classes + 1, num_classes + 2), np.int64)
    for counts, matrix in in_parallel(work, range(len(records)), "pseudo labels", **options):
        num_ignored_whole += int(counts[IGNORE_LABEL] == counts.sum())
        num_pixels += counts
        if matrix is not None:
            confusion += matrix
    summary: dict[str, Any] = {
        "ignored_share": num_pixels[IGNORE_LABEL] / num_pixels.sum(),
        "foreground_share": num_pixels[1:IGNORE_LABEL].sum() / num_pixels.sum(),
        "images_ignored_whole": num_ignored_whole,
    }
    if records.has_masks:
        best_case = confusion[:, :-1] + np.diag(confusion[:, -1])
        summary |= scores_by_name(iou_per_class(confusion), records.classes)
        summary |= {
            "labelled_share": labelled_share(confusion),
            "best_case": scores_by_name(iou_per_class(best_case), records.classes),
        }
    return summary


def require_few_classes(num_classes: int, records: str | Path) -> None:
    """Refuses more classes than label maps can number.

    Args:
        num_classes: Number of classes.
        records: The records' manifest, for the message.

    Raises:
        UserError: There are more.
    """
    if num_classes > MAX_MASK_CLASSES:
        raise UserError(
            f"{records}: {num_classes} classes, but label maps can number {MAX_MASK_CLASSES}; choose some with"
            " --classes of make_records"
        )


def require_saliency(records: RecordSet) -> None:
    """Checks that records have saliency maps.

    Raises:
        UserError: They have none.
    """
    if not records.has_saliency:
        raise UserError(
            f"{records.manifest_path} has no saliency maps; make the records with --saliency_dir, or use"
            " --nouse_saliency",
            flag="use_saliency",
        )


def labels_or_masks(folder: str, records: RecordSet) -> "PseudoLabels | None":
    """The labels that a training learns from, or None for the records' masks.

    Args:
        folder: The work_dir of make_pseudo_labels or relabel, or `MASKS`.
        records: The images.

    Raises:
        UserError: There are no labels, or they are of other records; or an image has no mask.
    """
    if folder != MASKS:
        return PseudoLabels(Path(folder), records)
    if len(records.masked) < len(records):
        found = f"only {len(records.masked)} of the {len(records)} images" if records.has_masks else "no image"
        raise UserError(f"{found} of {records.manifest_path} has a mask", flag="labels", value=MASKS)
    return None


class PseudoLabels(Sequence[np.ndarray]):
    """The label maps of all images, in the order of positions, uint8 `[height, width]`; each is read when it is needed.

    Attributes:
        supervision: One of `SUPERVISIONS`.
        checksum: SHA-256 (hex) of all label maps.
    """

    def __init__(self, folder: Path, records: RecordSet, flag: str = "labels") -> None:
        """Checks all label maps.

        Args:
            folder: The work_dir of make_pseudo_labels or relabel.
            records: The images.
            flag: The flag that names the folder, for errors.

        Raises:
            UserError: The folder is not complete, its labels belong to other records, or one of them is wrong.
        """
        try:
            description = read_json(folder / DESCRIPTION_FILE)
            checksum, self.supervision = description["records_checksum"], description["supervision"]
            if not is_supervision(self.supervision):
                raise ValueError(self.supervision)
        except OSError:
            raise UserError(
                f"no {DESCRIPTION_FILE} in it; run make_pseudo_labels first", flag=flag, value=folder
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{folder / DESCRIPTION_FILE}: damaged; run make_pseudo_labels again") from None
        records.require_source(f"--{flag}={folder}", checksum)
        self._folder = folder / LABELS_FOLDER
        self._records = records
        digest = hashlib.sha256()
        for encoded in in_parallel(lambda position: encode_grey(self[position]), range(len(self)), "labels"):
            digest.update(encoded)
        self.checksum = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, position: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, position: slice) -> list[np.ndarray]: ...
    def __getitem__(self, position: int | slice) -> np.ndarray | list[np.ndarray]:
        """Reads a label map; raises a `UserError` if it is missing, damaged, or not of its image."""
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        try:
            return self._read(position)
        except UserError as error:
            # In an input pipeline, TensorFlow turns it into an error of its own.
            self._records.read_error = error
            raise

    def _read(self, position: int) -> np.ndarray:
        path = self._folder / f"{self._records.image_ids[position]}.png"
        labels, size = read_indexed(path), self._records.sizes[position]
        if labels.shape != tuple(size):
            raise UserError(f"{path}: {labels.shape[1]}x{labels.shape[0]} pixels, the image has {size[1]}x{size[0]}")
        highest = labels[labels != IGNORE_LABEL].max(initial=0)
        if highest > len(self._records.classes):
            raise UserError(f"{path}: label {highest}, but there are {len(self._records.classes)} classes")
        return labels
