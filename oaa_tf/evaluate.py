"""Scores maps, masks or a model in mIoU, or by the tags of the images.

    python -m oaa_tf.evaluate --records=records/train.json --maps=runs/cls/attention/oaa --work_dir=runs/eval/oaa
    python -m oaa_tf.evaluate --records=records/val.json --model=runs/seg/saved_model --work_dir=runs/eval/seg

`run` describes what it writes to `metrics.json`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import ParallelSettings
from oaa_tf.command_line.settings import setting
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import SIZES_ADVICE, Record, RecordSet
from oaa_tf.labels.label_files import DESCRIPTION_FILE, LABELS_FOLDER
from oaa_tf.metrics import (
    confusion_matrix,
    image_scores,
    iou_counts,
    iou_per_class,
    labelled_share,
    paired_difference,
    scores_by_name,
)
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.metrics_file import origin, run_once
from oaa_tf.runs.parallel import in_parallel
from oaa_tf.runs.supervision import SUPERVISIONS, is_supervision
from oaa_tf.runs.work_dir import METRICS_FILE, PREDICTIONS_FOLDER, WorkDir, files_checksum

SUBMISSION_FOLDER = Path("results/VOC2012/Segmentation/comp6_test_cls")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings(ParallelSettings):
    """What to evaluate, and on which images; exactly one of `maps`, `masks` and `model`."""

    records: str = setting(
        help="Manifest of the records with the ground truth, from make_records (<split>.json): masks, or tags alone."
    )
    work_dir: str = setting(help="Folder for metrics.json.")
    maps: str = setting("", help="Folder of attention maps that were made from these records.")
    masks: str = setting(
        "",
        help="Folder of label images of the records' sizes, <id>.png: pseudo labels or predictions. Or the work_dir of"
        " the stage that wrote them.",
    )
    model: str = setting("", help="Folder of a segmentation model from export: SavedModel, ONNX or LiteRT.")
    crf: bool = setting(False, help="With a model: refine its probabilities with a fully connected CRF.")
    threshold: float = setting(
        0.3, help="With maps: attention threshold to score beside the best one.", minimum=0, maximum=1
    )
    compare: str = setting(
        "",
        help="With masks or a model: other label images of the same photos, given like masks. A paired bootstrap over"
        " the photos says whether the scores differ.",
    )
    require_complete: bool = setting(False, help="With masks: refuse pixels without a label (255).")
    submission: bool = setting(
        False, help="With a model: write the masks in the folder layout of the VOC server; needs no ground truth."
    )
    supervision: str = setting(
        "",
        help="Supervision of what is evaluated, if its own files do not record it; empty: as they record.",
        choices=("", *SUPERVISIONS),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{name}" for name in ("maps", "masks", "model") if getattr(self, name)]
        if len(given) != 1:
            raise UserError(f"expected one of --maps, --masks and --model, got {' and '.join(given) or 'none'}")
        for flag in ("submission", "crf"):
            if getattr(self, flag) and not self.model:
                raise UserError(f"needs --model, not {given[0]}", flag=flag)
        if self.compare and self.maps:
            raise UserError("is for --masks and --model, not --maps", flag="compare", value=self.compare)
        if self.require_complete and not self.masks:
            raise UserError(f"is for --masks, not {given[0]}", flag="require_complete")


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluates and writes `metrics.json`; also writes a model's masks as palette PNGs, and resumes them.

    Returns:
        The content of `metrics.json`. For masks and models: "mean_iou"; "iou_per_class" by name, null for labels that
        occur neither in the truth nor in the prediction, which "absent" lists; "num_labels_in_mean"; and
        "labelled_share", the share of the pixels with known truth that have a predicted label (IoUs are over these
        pixels only). "num_masks" is the number of images with ground truth: only these are measured. "images" are
        the `image_scores` of the share that each class has of an image's mask, over all images. Records without masks
        have these alone, with a "mean_iou" of null. With `compare`, "compared" is the `Difference` from the other
        masks, with "is_difference". For models also "crf", whether a CRF refined the masks, and "inference", the
        settings of the exported model, null if unknown. For maps: the same scores, with "threshold", "precision" and
        "recall", at the best of 256 thresholds under "best" and at `settings.threshold` under "fixed", and all
        thresholds under "sweep". Without ground truth (submission): no scores.

    Raises:
        UserError: The settings and files do not go together; a prediction is missing, has another size than its image,
            or a value out of range.
    """
    records, evaluated, checksums = _inputs(settings)
    described = origin("evaluate", settings, records.provenance, supervision=evaluated.supervision)
    described |= {
        "num_masks": len(records.masked),
        "seed": evaluated.seed,
        "evaluated": evaluated.kind,
        "evaluated_checksum": evaluated.checksum,
    }

    def work(work_dir: Path) -> dict[str, Any]:
        results = described | evaluated.results(work_dir)
        if settings.compare:
            own = _mask_folder(settings.masks) if settings.masks else results["predictions"]
            results["compared"] = _compared_with(settings, own, records)
        return results

    return run_once("evaluate", settings, checksums, work)


def dry_run(settings: EvaluateSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    records, evaluated, checksums = _inputs(settings)
    work_dir = WorkDir.peek(settings, checksums)
    return {
        "stage": "evaluate",
        "state": work_dir.state,
        "evaluated": f"{evaluated.kind}: {getattr(settings, evaluated.kind)}",
        "supervision": evaluated.supervision,
        "seed": evaluated.seed,
        "split": records.split,
        "images": len(records),
        "classes": len(records.classes),
        "writes": str(work_dir.path / METRICS_FILE),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """What is evaluated.

    Attributes:
        kind: "maps", "masks" or "model".
        checksum: Checksum of its files.
        supervision: Its supervision, None if unknown.
        seed: Its seed, None if unknown.
        results: Scores it, given the work_dir, and returns the scores for `metrics.json`.
    """

    kind: str
    checksum: str
    supervision: str | None
    seed: int | None
    results: Callable[[Path], dict[str, Any]]


def _inputs(settings: EvaluateSettings) -> tuple[RecordSet, _Evaluated, dict[str, str]]:
    """The records, what is evaluated, and the checksums for `run_once`."""
    records = RecordSet.open(settings.records)
    if settings.maps and not records.has_masks:
        raise UserError(
            "has no masks to compare maps with; make the records with masks", flag="records", value=settings.records
        )
    read = _maps if settings.maps else _masks if settings.masks else _model
    evaluated = read(settings, records)
    if evaluated.supervision and settings.supervision not in ("", evaluated.supervision):
        raise UserError(
            f"what is evaluated says that it was made from {evaluated.supervision}; leave the flag out",
            flag="supervision",
            value=settings.supervision,
        )
    evaluated = dataclasses.replace(evaluated, supervision=evaluated.supervision or settings.supervision or None)
    checksums = {"records": records.checksum, evaluated.kind: evaluated.checksum}
    if settings.compare:
        checksums["compare"] = files_checksum(_other_masks(settings, records).values())
    return records, evaluated, checksums


def _maps(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    maps = AttentionMaps.open(settings.maps, records)

    def results(work_dir: Path) -> dict[str, Any]:
        curves = maps.curves(num_workers=settings.num_workers, scheduler=settings.scheduler)

        def scores(index: int) -> dict[str, Any]:
            return {
                "threshold": curves.thresholds[index],
                **scores_by_name(curves.iou_per_class[index], records.classes),
                "precision": curves.precision[index],
                "recall": curves.recall[index],
            }

        return {
            "maps_kind": maps.kind,
            "best": scores(curves.best),
            "fixed": scores(curves.nearest(settings.threshold)),
            "sweep": {
                "threshold": curves.thresholds,
                "mean_iou": curves.mean_iou,
                "precision": curves.precision,
                "recall": curves.recall,
            },
        }

    return _Evaluated(
        kind="maps", checksum=maps.checksum, supervision=maps.supervision, seed=maps.seed, results=results
    )


def _mask_folder(given: str) -> Path:
    """The folder of label images: the given one, or the one in a work_dir."""
    inside = (Path(given) / name for name in (LABELS_FOLDER, PREDICTIONS_FOLDER))
    return next((folder for folder in inside if folder.is_dir()), Path(given))


def _masks(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    folder = _mask_folder(settings.masks)
    if not folder.is_dir():
        raise UserError("is not a folder", flag="masks", value=folder)
    paths = [folder / f"{image_id}.png" for image_id in records.image_ids]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: missing; a mask is needed for each of the {len(records)} images")

    def compared(position: int) -> tuple[np.ndarray, np.ndarray]:
        predicted = read_indexed(paths[position])
        if settings.require_complete and (predicted == IGNORE_LABEL).any():
            raise UserError(f"{paths[position]}: has pixels without a label (255), which --require_complete refuses")
        return _compared(records.record(position), predicted, paths[position], records)

    def results(work_dir: Path) -> dict[str, Any]:
        return _scores(compared, records, num_workers=settings.num_workers, scheduler=settings.scheduler)

    supervision, seed = _mask_provenance(folder, records)
    return _Evaluated(kind="masks", checksum=files_checksum(paths), supervision=supervision, seed=seed, results=results)


def _model(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    from oaa_tf.models.segmenter import Segmenter  # Maps and masks are evaluated without models.

    segment = Segmenter.of_records(settings.model, records, crf=settings.crf)

    def results(work_dir: Path) -> dict[str, Any]:
        folder = work_dir / (SUBMISSION_FOLDER if settings.submission else PREDICTIONS_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)

        def compared(position: int) -> tuple[np.ndarray, np.ndarray]:
            path = folder / f"{records.image_ids[position]}.png"
            record = records.record(position)
            if path.exists():
                predicted = read_indexed(path)
            else:
                predicted = segment(record.image)
                write_indexed(path, predicted)
            return _compared(record, predicted, path, records)

        # TensorFlow uses all cores by itself, the CRF one.
        num_workers = settings.num_workers if settings.crf else 1
        scores = _scores(compared, records, num_workers=num_workers, scheduler=settings.scheduler)
        if settings.submission and not records.has_masks:
            scores = {}  # The tags are made up.
        return {"predictions": folder, "crf": settings.crf, "inference": segment.inference, **scores}

    return _Evaluated(
        kind="model",
        checksum=segment.checksum,
        supervision=segment.supervision,
        seed=segment.seed,
        results=results,
    )


def _compared(record: Record, predicted: np.ndarray, path: Path, records: RecordSet) -> tuple[np.ndarray, np.ndarray]:
    """The confusion matrix of one image, all zeros without a mask, and the share of each class, float64 `[C]`."""
    num_classes = len(records.classes)
    shares = np.bincount(predicted.ravel(), minlength=256)[1 : num_classes + 1] / predicted.size
    truth = np.full(record.image.shape[:2], IGNORE_LABEL, np.uint8) if record.mask is None else record.mask
    try:
        return confusion_matrix(truth, predicted, num_classes), shares
    except ValueError as error:
        advice = f"; {SIZES_ADVICE}" if predicted.shape != truth.shape else ""
        raise UserError(f"{path}: {error}{advice}") from None


def _scores(
    compared: Callable[[int], tuple[np.ndarray, np.ndarray]], records: RecordSet, **options: Any
) -> dict[str, Any]:
    """The scores over all images; without masks, those of the tags alone."""
    num_images, num_classes = len(records), len(records.classes)
    shares = np.zeros((num_images, num_classes))
    confusion = np.zeros((num_classes + 1, num_classes + 2), np.int64)
    per_image = in_parallel(compared, range(num_images), f"evaluate {records.split}", **options)
    for position, (of_image, shares_of_image) in enumerate(per_image):
        confusion += of_image
        shares[position] = shares_of_image
    images = image_scores(shares, records.labels, records.classes, threshold=0)
    if not records.has_masks:
        return {"mean_iou": None, "images": images}
    return scores_by_name(iou_per_class(confusion), records.classes) | {
        "labelled_share": labelled_share(confusion),
        "images": images,
    }


def _other_masks(settings: EvaluateSettings, records: RecordSet) -> dict[int, Path]:
    """The files to compare with, by the positions of the images with ground truth.

    Raises:
        UserError: One is missing, or there is no ground truth.
    """
    blamed = {"flag": "compare", "value": settings.compare}
    if not records.has_masks:
        raise UserError(f"{settings.records} has no masks; only mIoU is compared", **blamed)
    folder = _mask_folder(settings.compare)
    paths = {position: folder / f"{records.image_ids[position]}.png" for position in records.masked}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise UserError(f"{missing[0].name} is not in it; expected a mask for each image with ground truth", **blamed)
    return paths


def _compared_with(settings: EvaluateSettings, folder: Path, records: RecordSet) -> dict[str, Any]:
    """The entry "compared" of `metrics.json`, for the masks in a folder."""
    others = _other_masks(settings, records)

    def counts(position: int) -> list[np.ndarray]:
        record, own = records.record(position), folder / f"{records.image_ids[position]}.png"
        return [iou_counts(_compared(record, read_indexed(path), path, records)[0]) for path in (own, others[position])]

    per_image = [*in_parallel(counts, list(others), "compare", num_workers=settings.num_workers)]
    found = paired_difference(*np.moveaxis(np.array(per_image), 1, 0))
    print(
        f"evaluate: {100 * found.difference:+.1f} points against {settings.compare} (95 %: {100 * found.low:+.1f} to"
        f" {100 * found.high:+.1f}): {'a difference' if found.is_one else 'no difference to be sure of'}"
    )
    return dataclasses.asdict(found) | {"with": settings.compare, "is_difference": found.is_one}


def _mask_provenance(folder: Path, records: RecordSet) -> tuple[str | None, int | None]:
    """Supervision and seed of masks, from the file that make_pseudo_labels or evaluate wrote beside them, if any.

    Raises:
        UserError: The file is damaged, or the masks have other classes or come from other records.
    """
    has_predictions = folder.name == PREDICTIONS_FOLDER
    path = folder.parent / (METRICS_FILE if has_predictions else DESCRIPTION_FILE)
    if not path.exists():
        return None, None
    try:
        description = read_json(path)
        # Another stage's work_dir may have a folder of this name.
        if has_predictions and description.get("evaluated") != "model":
            return None, None
        classes, made_from = tuple(description["classes"]), description["records_checksum"]
        supervision, seed = description["supervision"], description["seed"]
        if not (supervision is None or is_supervision(supervision)) or not all(
            isinstance(name, str) for name in classes
        ):
            raise ValueError(supervision)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; run the stage that wrote it and --masks={folder} again") from None
    what = f"--masks={folder} ({path.name})"
    records.require_classes(what, classes)
    records.require_source(what, made_from)
    return supervision, seed


if __name__ == "__main__":
    launch(EvaluateSettings, run, "evaluate", dry_run)
