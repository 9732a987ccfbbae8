"""Folders of pseudo labels: written image by image, resumed, and compared with the masks where there are any."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings
from oaa_tf.data.images.palette_png import encode_grey, read_indexed, write_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.metrics import confusion_matrix, iou_per_class, labelled_share, scores_by_name
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.metrics_file import run_once
from oaa_tf.runs.supervision import SUPERVISIONS
from oaa_tf.runs.threads import in_threads
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir

LABELS_FOLDER = "SegmentationClass"
"""Folder of the label maps, `<id>.png`, inside the work_dir of the stage that made them."""

DESCRIPTION_FILE = "pseudo_labels.json"
"""What the labels belong to; its presence says that they are complete."""


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Pixels of one image."""

    num_pixels: int
    num_ignored: int
    num_foreground: int
    confusion: np.ndarray | None


def write_pseudo_labels(
    settings: Settings,
    inputs: Mapping[str, str],
    records: RecordSet,
    description: dict[str, Any],
    make: Callable[[int, Record], np.ndarray],
    *,
    num_workers: int,
) -> dict[str, Any]:
    """Claims the work_dir, makes the labels that are not there yet, and writes `DESCRIPTION_FILE` and `metrics.json`.

    Args:
        settings: The stage's settings.
        inputs: Checksums of what it reads, see `WorkDir.claim`.
        records: The images.
        description: From `metrics_file.origin`, and what else says where the labels come from.
        make: From an image's position and record to its label map, uint8 `[height, width]`: 0 background, `c + 1` for
            class index `c`, 255 ignore.
        num_workers: Threads; 0 for one per core.

    Returns:
        The content of `metrics.json`. When the records have masks, this includes the labels' quality:

        - "mean_iou", "iou_per_class": over the pixels that have a pseudo label; read it with "labelled_share".
        - "best_case": the same if every ignored pixel had the right label, the most that training on these labels
          could make of them.

    Raises:
        UserError: The work_dir holds another run, or a file among its labels is not of its image.
    """

    def work(work_dir: Path) -> dict[str, Any]:
        counts = _label_all(work_dir / LABELS_FOLDER, records, make, num_workers)
        write_json(work_dir / DESCRIPTION_FILE, description)
        return description | _summary(counts, records)

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
        made_from: What to say of where the labels come from.

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
    folder: Path, records: RecordSet, make: Callable[[int, Record], np.ndarray], num_workers: int
) -> list[_Counts]:
    folder.mkdir(exist_ok=True)

    def work(position: int) -> _Counts:
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
            confusion = None if record.mask is None else confusion_matrix(record.mask, labels, len(records.classes))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        num_ignored = np.count_nonzero(labels == IGNORE_LABEL)
        return _Counts(labels.size, num_ignored, np.count_nonzero(labels) - num_ignored, confusion)

    return list(in_threads(work, range(len(records)), "pseudo labels", num_workers=num_workers))


def require_saliency(records: RecordSet) -> None:
    """Refuses records without saliency maps.

    Raises:
        UserError: There are none.
    """
    if not records.has_saliency:
        raise UserError(
            f"{records.manifest_path} has no saliency maps; make the records with --saliency_dir, or use"
            " --nouse_saliency",
            flag="use_saliency",
        )


def read_pseudo_labels(folder: Path, records: RecordSet, flag: str = "labels") -> tuple[list[bytes], str]:
    """Reads the label maps of all images, each as the bytes of a grey PNG, and their supervision.

    Args:
        folder: The work_dir of make_pseudo_labels or relabel.
        records: The images.
        flag: Which flag names the folder, for errors.

    Raises:
        UserError: The folder is not complete, or its labels are of other records.
    """
    try:
        description = read_json(folder / DESCRIPTION_FILE)
        checksum, supervision = description["records_checksum"], description["supervision"]
        if supervision not in SUPERVISIONS:
            raise ValueError(supervision)
    except OSError:
        raise UserError(f"no {DESCRIPTION_FILE} in it; run make_pseudo_labels first", flag=flag, value=folder) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / DESCRIPTION_FILE}: damaged; run make_pseudo_labels again") from None
    records.require_source(f"--{flag}={folder}", checksum)
    files = []
    for image_id, size in zip(records.image_ids, records.sizes, strict=True):
        path = folder / LABELS_FOLDER / f"{image_id}.png"
        labels = read_indexed(path)
        if labels.shape != tuple(size):
            raise UserError(f"{path}: {labels.shape[1]}x{labels.shape[0]} pixels, the image has {size[1]}x{size[0]}")
        highest = labels[labels != IGNORE_LABEL].max(initial=0)
        if highest > len(records.classes):
            raise UserError(f"{path}: label {highest}, but there are {len(records.classes)} classes")
        files.append(encode_grey(labels))
    return files, supervision


def _summary(counts: list[_Counts], records: RecordSet) -> dict[str, Any]:
    num_pixels = sum(one.num_pixels for one in counts)
    summary = {
        "ignored_share": sum(one.num_ignored for one in counts) / num_pixels,
        "foreground_share": sum(one.num_foreground for one in counts) / num_pixels,
        "images_ignored_whole": sum(one.num_ignored == one.num_pixels for one in counts),
    }
    if records.has_masks:
        confusion = sum(one.confusion for one in counts)
        best_case = confusion[:, :-1] + np.diag(confusion[:, -1])
        summary |= scores_by_name(iou_per_class(confusion), records.classes)
        summary |= {
            "labelled_share": labelled_share(confusion),
            "best_case": scores_by_name(iou_per_class(best_case), records.classes),
        }
    return summary
