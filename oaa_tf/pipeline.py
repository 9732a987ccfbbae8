"""All stages in a row: from images with labels, or the demo data, to masks, a table, a report and SavedModels.

    python -m oaa_tf.pipeline --flagfile=flags/demo.flags --work_dir=runs/demo

Every stage works in its own folder below `--work_dir` and can be run again alone. Running the pipeline again goes on
where it stopped.
"""

import dataclasses
from pathlib import Path
from typing import Any

from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.experiment import Experiment, ExperimentSettings, check_weights, make_all_records
from oaa_tf.experiment_plan import PlannedExperiment, plan_records, summary, training_seconds
from oaa_tf.labels.label_files import LABELS_FOLDER
from oaa_tf.make_report import MakeReportSettings
from oaa_tf.make_report import run as make_report
from oaa_tf.report.picture_grid import write_picture_grid
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import versions
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir
from oaa_tf.train_cls import OAA_FOLDER
from oaa_tf.training.pictures import fixed_positions
from oaa_tf.training.settings import LARGEST_SEED

_LOSS_NAMES = {"mce": "OAA+ MCE", "hybrid": "OAA+ hybrid"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings(ExperimentSettings):
    """The pipeline's own settings, and those of each training stage as `--<stage>.<setting>`."""

    compare_losses: bool = setting(
        True, help="Also train the integral attention model with the other loss, for the table (the paper's Table 2)."
    )
    self_training: bool = setting(
        False,
        help="Train the segmentation network a second time, from its own weights, on labels that it gives the training"
        " images (see relabel).",
    )
    seed: int = setting(0, help="Seed of all stages.", minimum=0, maximum=LARGEST_SEED)
    num_pictures: int = setting(6, help="Rows of the picture grid.", minimum=1, may_change=True)


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Runs what is not done yet, prints the summary table and writes `metrics.json`, `pictures.png` and `report.html`.

    Returns:
        The content of `metrics.json`: a list of rows, each with its measurement, split and supervision, and the labels
        that never occur and are not in its mean ("absent").

    Raises:
        UserError: Anything that the user can put right.
    """
    check_weights(settings)
    with WorkDir.claim(settings) as work_dir:
        root = work_dir.path
        stages = Experiment(settings, root, *make_all_records(settings, root, settings.seed), settings.seed)
        records = RecordSet.open(stages.train_records)
        val_records = RecordSet.open(stages.val_records) if stages.val_records else None
        results = _run_stages(stages, settings, records.has_masks, bool(val_records and val_records.has_masks))
        cls, maps, rows, models = results.classifier, results.maps, results.rows, results.models

        pictures = root / "pictures.png"
        write_picture_grid(
            pictures,
            records,
            fixed_positions(len(records), settings.num_pictures),
            maps={
                "CAM": maps["CAM"],
                "OAA": root / "train_cls" / OAA_FOLDER,
                "OAA+": maps[_LOSS_NAMES[settings.train_integral.loss]],
            },
            label_folder=results.label_folder,
            model=models["segment"],
        )
        metrics = {
            "rows": rows,
            "classes": list(records.classes),
            "fallback_pairs": cls["fallback_pairs"],
            "num_pairs": cls["num_pairs"],
            "seed": settings.seed,
            "records_checksums": {each.split: each.checksum for each in (records, val_records) if each},
            "versions": versions(),
            "settings": settings.as_dict(),
        }
        write_json(root / METRICS_FILE, metrics)
        print(table_text(rows) if rows else "no masks to compare with: no table")
        make_report(MakeReportSettings(work_dir=str(root)))
        print(f"{'pictures:':<17} {pictures}")
        for name, folder in models.items():
            print(f"{f'{name} model:':<17} {folder}")
        print(f"{'all figures:':<17} {root / METRICS_FILE}")
        print(f"{'curves, images:':<17} tensorboard --logdir={root}")
        return metrics


def plan(settings: PipelineSettings) -> dict[str, Any]:
    """What `run` would do, for `oaa_tf.command_line.plan_text`; raises what can be known before the stages run."""
    check_weights(settings)
    root = WorkDir.peek(settings).path
    records, manifests, have_masks = plan_records(settings, root, settings.seed)
    stages = PlannedExperiment(settings, root, *manifests, settings.seed)
    _run_stages(stages, settings, *have_masks)
    writes = [str(root / name) for name in (METRICS_FILE, "pictures.png", "report.html")]
    return (
        records
        | {"stages": stages.states}
        | summary(stages.states.values())
        | {"training_seconds": training_seconds(settings, stages.steps_left), "writes": writes}
    )


@dataclasses.dataclass(frozen=True)
class _Results:
    """What the stages have left.

    Attributes:
        classifier: The classifier's metrics.
        maps: Folders of attention maps by the name of their row.
        label_folder: Folder of the pseudo labels that the network has learned from.
        models: Folders of the SavedModels by name.
        rows: The summary table.
    """

    classifier: dict[str, Any]
    maps: dict[str, Path]
    label_folder: Path
    models: dict[str, Path]
    rows: list[dict[str, Any]]


def _run_stages(stages: Experiment, settings: PipelineSettings, train_has_masks: bool, val_has_masks: bool) -> _Results:
    cls = stages.train_classifier()
    maps = stages.classifier_maps()
    main_loss = settings.train_integral.loss
    for loss in _LOSS_NAMES if settings.compare_losses else (main_loss,):
        name = "train_integral" if loss == main_loss else f"train_integral_{loss}"
        maps[_LOSS_NAMES[loss]] = stages.train_integral(name, loss)
    labels = stages.make_labels("make_pseudo_labels", maps[_LOSS_NAMES[main_loss]], use_saliency=settings.use_saliency)
    # By the name of their row: the folders of labels, and of networks with their supervision.
    label_folders = {"pseudo labels": labels / LABELS_FOLDER}
    models, networks = {}, {}
    if settings.self_training:
        first = stages.train_segmentation("train_seg_first", labels)
        models["segment_first"] = stages.export("train_seg_first", "saved_models/segment_first")
        networks["segmentation, first"] = models["segment_first"], first["supervision"]
        labels = stages.relabel("relabel", models["segment_first"], use_saliency=settings.use_saliency)
        label_folders["pseudo labels, second"] = labels / LABELS_FOLDER
        seg = stages.train_segmentation(
            "train_seg", labels, initial_weights=str(stages.root / "train_seg_first"), head_weights="none"
        )
    else:
        seg = stages.train_segmentation("train_seg", labels)
    models["attention"] = stages.export("train_integral", "saved_models/attention")
    models["segment"] = stages.export("train_seg", "saved_models/segment")
    networks["segmentation"] = models["segment"], seg["supervision"]
    rows = []
    # Own photos with tags have no masks to compare with: the pipeline works all the same.
    if train_has_masks:
        for name, folder in maps.items():
            rows.append(_maps_row(name, stages.evaluate(_folder_name(name), "train", maps=str(folder))))
        for name, folder in label_folders.items():
            rows.append(_masks_row(name, stages.evaluate(_folder_name(name), "train", masks=str(folder))))
    if val_has_masks:
        for name, (model, supervision) in networks.items():
            metrics = stages.evaluate(_folder_name(name), "val", model=str(model), supervision=supervision)
            rows.append(_masks_row(name, metrics))
    return _Results(cls, maps, labels / LABELS_FOLDER, models, rows)


def _folder_name(row: str) -> str:
    return row.lower().replace(",", "").replace(" ", "_").replace("+", "_plus")


def _maps_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    best = metrics["best"]
    return _row(name, "maps, best threshold", metrics, best) | {"threshold": best["threshold"]}


def _masks_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return _row(name, "labelled pixels", metrics, metrics) | {"labelled_share": metrics["labelled_share"]}


def _row(name: str, measurement: str, metrics: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "measurement": measurement,
        "split": metrics["split"],
        "supervision": metrics["supervision"],
        "mean_iou": scores["mean_iou"],
        "absent": scores["absent"],
    }


def table_text(rows: list[dict[str, Any]]) -> str:
    """The summary table as text, mIoU in percent."""
    header = ("", "measured", "split", "supervision", "mIoU", "")
    lines = [header]
    for row in rows:
        if "threshold" in row:
            note = f"threshold {row['threshold']:.2f}"
        else:
            note = f"{100 * row['labelled_share']:.1f} % of the pixels"
        # The mean is over fewer labels than one would think.
        if row["absent"]:
            note += f"; without {', '.join(row['absent'])}, which never occur"
        mean_iou = "-" if row["mean_iou"] is None else f"{100 * row['mean_iou']:.1f}"
        lines.append((row["name"], row["measurement"], row["split"], row["supervision"], mean_iou, note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in cells).rstrip() for cells in padded)


if __name__ == "__main__":
    launch(PipelineSettings, run, "pipeline", "runs all stages in a row", plan)
