"""Stage 3: turns attention maps into pseudo segmentation labels (paper, Sec. 4).

    python -m oaa_tf.make_pseudo_labels --records=records/train.json --maps=runs/integral/attention/oaa_plus \
        --work_dir=runs/pseudo_labels

Writes `SegmentationClass/<id>.png` with the VOC palette (0 background, c + 1 class c, 255 ignored), and last
`pseudo_labels.json`, which says that the folder is complete and what it belongs to.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data.keys import IGNORE_LABEL
from oaa_tf.data.palette_png import read_indexed, write_indexed
from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.launch import launch, setting
from oaa_tf.metrics import confusion_matrix, iou_per_class, labelled_share, scores_by_name
from oaa_tf.metrics_file import origin, write_json, write_metrics
from oaa_tf.plan_text import DONE, TO_DO
from oaa_tf.progress import in_threads
from oaa_tf.pseudo_labels import (
    DESCRIPTION_FILE,
    LABELS_FOLDER,
    PseudoLabelOptions,
    background_scores,
    min_max_normalized,
    pseudo_label,
)
from oaa_tf.refinement.refined_attention import METHODS, refined_attention
from oaa_tf.work_dir import METRICS_FILE, WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakePseudoLabelsSettings(PseudoLabelOptions):
    """The stage's settings: the rule's numbers, and what to apply it to."""

    records: str = setting(help="Manifest of the training records, from make_records (<split>.json).")
    maps: str = setting(help="Folder of attention maps, such as attention/oaa_plus of train_integral.")
    work_dir: str = setting(help="Folder for the labels; run again in it to resume.")
    use_saliency: bool = setting(False, help="Take the background from the records' saliency maps, as the paper does.")
    refine: str = setting(
        "none",
        help="Fit the maps to the image's edges before the rule: local refinement (PAMR) or a fully connected CRF.",
        choices=("none", *METHODS),
    )
    num_workers: int = setting(0, help="Threads; 0 for one per core.", minimum=0, may_change=True)


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Pixels of one image."""

    num_pixels: int
    num_ignored: int
    num_foreground: int
    confusion: np.ndarray | None


def run(settings: MakePseudoLabelsSettings) -> dict[str, Any]:
    """Makes the labels of all images that do not have them yet.

    Returns:
        The content of `metrics.json`. When the records have masks, this includes the labels' quality:

        - "mean_iou", "iou_per_class": over the pixels that have a pseudo label; read it with "labelled_share".
        - "best_case": the same if every ignored pixel had the right label, the most that training on these labels
          could make of them.

    Raises:
        UserError: The records, the maps and the settings do not go together, or work_dir holds another run.
    """
    records, maps = _inputs(settings)
    with WorkDir.claim(settings, {"records": records.checksum, "maps": maps.checksum}) as work_dir:
        if (metrics := work_dir.finished_metrics()) is not None:
            print(f"make_pseudo_labels: {work_dir.path} is done")
            return metrics
        counts = _label_all(settings, records, maps, work_dir.path / LABELS_FOLDER)
        supervision = "image labels + saliency" if settings.use_saliency else maps.supervision
        description = origin("make_pseudo_labels", settings, records, supervision=supervision) | {
            "seed": maps.seed,
            "maps_kind": maps.kind,
            "maps_checksum": maps.checksum,
        }
        write_json(work_dir.path / DESCRIPTION_FILE, description)
        return write_metrics(work_dir.path, description | _summary(counts, records))


def plan(settings: MakePseudoLabelsSettings) -> dict[str, Any]:
    """What `run` would do, for `oaa_tf.plan_text`; raises what it would raise before it begins."""
    records, maps = _inputs(settings)
    work_dir = WorkDir.peek(settings, {"records": records.checksum, "maps": maps.checksum})
    folder = work_dir.path / LABELS_FOLDER
    num_left = sum(not (folder / f"{image_id}.png").exists() for image_id in records.image_ids)
    return {
        "stage": "make_pseudo_labels",
        "state": TO_DO if work_dir.finished_metrics() is None else DONE,
        "maps": f"{maps.kind}: {settings.maps}",
        "split": records.split,
        "images": len(records),
        "images_left": num_left,
        "classes": len(records.classes),
        "writes": [str(folder), *(str(work_dir.path / name) for name in (DESCRIPTION_FILE, METRICS_FILE))],
    }


def _inputs(settings: MakePseudoLabelsSettings) -> tuple[RecordSet, AttentionMaps]:
    records = RecordSet.open(settings.records)
    if settings.use_saliency and not records.has_saliency:
        raise UserError(
            f"--use_saliency: {settings.records} has no saliency maps; make the records with --saliency_dir, or use "
            "--nouse_saliency"
        )
    return records, AttentionMaps.open(settings.maps, records)


def _label_all(
    settings: MakePseudoLabelsSettings, records: RecordSet, maps: AttentionMaps, folder: Path
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
            classes, attention = maps.at_image_size(position)
            saliency = record.saliency if settings.use_saliency else None
            if settings.refine != "none":
                # The scores among which the rule chooses.
                attention = min_max_normalized(attention)
                background = background_scores(attention, saliency, settings)
                attention = refined_attention(settings.refine, attention, background, record.image)
            labels = pseudo_label(attention, classes, saliency, settings)
            write_indexed(path, labels)
        try:
            confusion = None if record.mask is None else confusion_matrix(record.mask, labels, len(records.classes))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        num_ignored = np.count_nonzero(labels == IGNORE_LABEL)
        return _Counts(labels.size, num_ignored, np.count_nonzero(labels) - num_ignored, confusion)

    return list(in_threads(work, range(len(records)), "pseudo labels", num_workers=settings.num_workers))


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


if __name__ == "__main__":
    launch(MakePseudoLabelsSettings, run, "make_pseudo_labels", "turns attention maps into pseudo labels", plan)
