"""Scores attention maps, masks or an exported model in mIoU.

    python -m oaa_tf.evaluate --records=records/train.json --maps=runs/cls/attention/oaa --work_dir=runs/eval/oaa
    python -m oaa_tf.evaluate --records=records/val.json --model=runs/seg/saved_model --work_dir=runs/eval/seg

What is written to `metrics.json` is described at `run`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.labels.label_files import DESCRIPTION_FILE
from oaa_tf.metrics import confusion_matrix, iou_per_class, labelled_share, scores_by_name
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.metrics_file import origin, run_once
from oaa_tf.runs.supervision import SUPERVISIONS
from oaa_tf.runs.threads import in_threads
from oaa_tf.runs.work_dir import METRICS_FILE, PREDICTIONS_FOLDER, WorkDir, files_checksum

SUBMISSION_FOLDER = Path("results/VOC2012/Segmentation/comp6_test_cls")

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """What is evaluated.

    Attributes:
        kind: "maps", "masks" or "model".
        checksum: Of its files.
        supervision: What it was trained with, if it says so.
        seed: Its seed, if it says so.
        results: Computes, from the work_dir, what is written.
    """

    kind: str
    checksum: str
    supervision: str | None
    seed: int | None
    results: Callable[[Path], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """What to evaluate, and on which images. Exactly one of `maps`, `masks` and `model` is given."""

    records: str = setting(help="Manifest of the records with the ground truth, from make_records (<split>.json).")
    work_dir: str = setting(help="Folder for metrics.json.")
    maps: str = setting("", help="Folder of attention maps (maps.json) made from these records.")
    masks: str = setting("", help="Folder of label images, <id>.png: pseudo labels or predictions.")
    model: str = setting("", help="Folder of a SavedModel with the signature 'segment', from export.")
    crf: bool = setting(False, help="With a model: refine its probabilities with a fully connected CRF.")
    threshold: float = setting(
        0.3, help="With maps: attention threshold to score beside the best one.", minimum=0, maximum=1
    )
    require_complete: bool = setting(False, help="With masks: refuse pixels without a label (255).")
    submission: bool = setting(
        False, help="With a model: write the masks in the folders that the VOC server wants; needs no ground truth."
    )
    supervision: str = setting(
        "",
        help="What the evaluated thing was trained with, if it does not say so itself; empty: as it says.",
        choices=("", *SUPERVISIONS),
    )
    num_workers: int = setting(0, help="Threads; 0 for one per core.", minimum=0, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{name}" for name in ("maps", "masks", "model") if getattr(self, name)]
        if len(given) != 1:
            raise UserError(f"expected one of --maps, --masks and --model, got {' and '.join(given) or 'none'}")
        if self.submission and not self.model:
            raise UserError(f"needs --model, not {given[0]}", flag="submission")
        if self.crf and not self.model:
            raise UserError(f"needs --model, not {given[0]}", flag="crf")
        if self.require_complete and not self.masks:
            raise UserError(f"is for --masks, not {given[0]}", flag="require_complete")


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluates and writes `metrics.json`; a model's predictions are written too, as palette PNGs, and resumed.

    Returns:
        The content of `metrics.json`. For masks and models: "mean_iou", "iou_per_class" by name (null and listed in
        "absent" if a label occurs neither in the truth nor in the prediction), "num_labels_in_mean", and
        "labelled_share", the share of the pixels with known truth that have a predicted label (the IoUs are over these
        only). For models, "crf" says whether the masks were refined with a CRF, and "inference" how the model looks at
        an image, if it says so. For maps: the same, at the best of 256 thresholds, under "best", and at
        `settings.threshold` under "fixed", with the "threshold"; and the whole "sweep". Without ground truth
        (submission): no scores.

    Raises:
        UserError: The settings and files do not go together; a prediction is missing, of another size, or has a value
            out of range.
    """
    records, evaluated = _inputs(settings)
    supervision = _supervision(settings, evaluated)
    described = origin("evaluate", settings, records.provenance, supervision=supervision)
    described |= {"seed": evaluated.seed, "evaluated": evaluated.kind, "evaluated_checksum": evaluated.checksum}
    return run_once(
        "evaluate",
        settings,
        _checksums(records, evaluated),
        lambda work_dir: described | evaluated.results(work_dir),
    )


def dry_run(settings: EvaluateSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    records, evaluated = _inputs(settings)
    work_dir = WorkDir.peek(settings, _checksums(records, evaluated))
    return {
        "stage": "evaluate",
        "state": work_dir.state,
        "evaluated": f"{evaluated.kind}: {getattr(settings, evaluated.kind)}",
        "supervision": _supervision(settings, evaluated),
        "seed": evaluated.seed,
        "split": records.split,
        "images": len(records),
        "classes": len(records.classes),
        "writes": str(work_dir.path / METRICS_FILE),
    }


def _inputs(settings: EvaluateSettings) -> tuple[RecordSet, _Evaluated]:
    records = RecordSet.open(settings.records)
    if not records.has_masks and not settings.submission:
        raise UserError(
            "has no masks to compare with; make the records with masks", flag="records", value=settings.records
        )
    read = _maps if settings.maps else _masks if settings.masks else _model
    return records, read(settings, records)


def _checksums(records: RecordSet, evaluated: _Evaluated) -> dict[str, str]:
    return {"records": records.checksum, evaluated.kind: evaluated.checksum}


def _maps(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    maps = AttentionMaps.open(settings.maps, records)

    def results(work_dir: Path) -> dict[str, Any]:
        curves = maps.curves(num_workers=settings.num_workers)

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


def _masks(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    folder = Path(settings.masks)
    if not folder.is_dir():
        raise UserError("is not a folder", flag="masks", value=folder)
    paths = [folder / f"{image_id}.png" for image_id in records.image_ids]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: missing; a mask is needed for each of the {len(records)} images")

    def work(position: int) -> np.ndarray:
        predicted = read_indexed(paths[position])
        if settings.require_complete and (predicted == IGNORE_LABEL).any():
            raise UserError(f"{paths[position]}: has pixels without a label (255), which --require_complete refuses")
        return _confusion(records.record(position).mask, predicted, paths[position], records)

    def results(work_dir: Path) -> dict[str, Any]:
        return _confusion_scores(sum(_for_each_image(work, settings, records)), records)

    supervision, seed = _mask_provenance(folder, records)
    return _Evaluated(kind="masks", checksum=files_checksum(paths), supervision=supervision, seed=seed, results=results)


def _model(settings: EvaluateSettings, records: RecordSet) -> _Evaluated:
    from oaa_tf.models.segmenter import Segmenter  # Maps and masks are evaluated without models.

    segment = Segmenter.of_records(settings.model, records, crf=settings.crf)

    def results(work_dir: Path) -> dict[str, Any]:
        folder = work_dir / (SUBMISSION_FOLDER if settings.submission else PREDICTIONS_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)

        def work(position: int) -> np.ndarray | None:
            path = folder / f"{records.image_ids[position]}.png"
            record = records.record(position)
            if path.exists():
                predicted = read_indexed(path)
            else:
                predicted = segment(record.image)
                write_indexed(path, predicted)
            return None if record.mask is None else _confusion(record.mask, predicted, path, records)

        # TensorFlow uses all cores by itself.
        one_worker = dataclasses.replace(settings, num_workers=1)
        confusions = list(_for_each_image(work, one_worker, records))
        scores = _confusion_scores(sum(confusions), records) if records.has_masks else {}
        return {"predictions": folder, "crf": settings.crf, "inference": segment.inference, **scores}

    return _Evaluated(
        kind="model",
        checksum=segment.checksum,
        supervision=segment.supervision,
        seed=segment.seed,
        results=results,
    )


def _supervision(settings: EvaluateSettings, evaluated: _Evaluated) -> str | None:
    if evaluated.supervision and settings.supervision not in ("", evaluated.supervision):
        raise UserError(
            f"what is evaluated says that it was made from {evaluated.supervision}; leave the flag out",
            flag="supervision",
            value=settings.supervision,
        )
    return evaluated.supervision or settings.supervision or None


def _for_each_image(
    work: Callable[[int], _Result], settings: EvaluateSettings, records: RecordSet
) -> Iterator[_Result]:
    """Results of `work` by position, computed in threads."""
    return in_threads(work, range(len(records)), f"evaluate {records.split}", num_workers=settings.num_workers)


def _confusion(truth: np.ndarray, predicted: np.ndarray, path: Path, records: RecordSet) -> np.ndarray:
    try:
        return confusion_matrix(truth, predicted, len(records.classes))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _confusion_scores(confusion: np.ndarray, records: RecordSet) -> dict[str, Any]:
    scores = scores_by_name(iou_per_class(confusion), records.classes)
    return scores | {"labelled_share": labelled_share(confusion)}


def _mask_provenance(folder: Path, records: RecordSet) -> tuple[str | None, int | None]:
    """Supervision and seed of masks, from what make_pseudo_labels, or an evaluation of a model, wrote beside them.

    Raises:
        UserError: It is damaged, or says that the masks are of other classes or records.
    """
    has_predictions = folder.name == PREDICTIONS_FOLDER
    path = folder.parent / (METRICS_FILE if has_predictions else DESCRIPTION_FILE)
    if not path.exists():
        return None, None
    try:
        description = read_json(path)
        # A folder of that name can lie in any stage's work_dir.
        if has_predictions and description.get("evaluated") != "model":
            return None, None
        classes, made_from = tuple(description["classes"]), description["records_checksum"]
        supervision, seed = description["supervision"], description["seed"]
        if supervision not in (None, *SUPERVISIONS) or not all(isinstance(name, str) for name in classes):
            raise ValueError(supervision)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; run the stage that wrote it and --masks={folder} again") from None
    what = f"--masks={folder} ({path.name})"
    records.require_classes(what, classes)
    records.require_source(what, made_from)
    return supervision, seed


if __name__ == "__main__":
    launch(EvaluateSettings, run, "evaluate", dry_run)
