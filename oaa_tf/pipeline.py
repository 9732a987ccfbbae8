"""Runs all stages, from images with labels to a report and SavedModels.

    python -m oaa_tf.pipeline --flagfile=flags/demo.flags --work_dir=runs/demo

Every stage has its own folder below `--work_dir` and can be run again alone. The pipeline resumes when it is run again.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf import make_report
from oaa_tf.command_line.dry_run import DONE, TO_DO
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.conversion import Findings
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.experiment import Experiment, ExperimentSettings, Step, check_networks
from oaa_tf.experiment_records import dry_run_records, make_all_records, manifests
from oaa_tf.labels.label_files import LABELS_FOLDER
from oaa_tf.runs.checkpoints import newest_step
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import versions
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir
from oaa_tf.train_affinity import MAPS_FOLDER as SPREAD_FOLDER
from oaa_tf.train_cls import OAA_FOLDER
from oaa_tf.train_integral import MAPS_FOLDER
from oaa_tf.training.settings import LARGEST_SEED, TRAININGS

_LOSS_NAMES = {"mce": "OAA+ MCE", "hybrid": "OAA+ hybrid"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings(ExperimentSettings):
    """The pipeline's own settings, and those of each stage as `--<stage>.<setting>`."""

    compare_losses: bool = setting(
        True, help="Also train the integral attention model with the other loss, for the table (the paper's Table 2)."
    )
    affinity: bool = setting(
        False,
        help="Learn from the pseudo labels what belongs together, spread the maps accordingly, and label once more.",
    )
    first_background_score: float = setting(
        0.0,
        help="With affinity, without saliency: the background score of the labels that teach it; 0 for that of"
        " make_pseudo_labels.",
        minimum=0,
        maximum=1,
    )
    seed: int = setting(0, help="Seed of all stages.", minimum=0, maximum=LARGEST_SEED)
    num_pictures: int = setting(6, help="Rows of the picture grid.", minimum=1, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_background_score and (self.use_saliency or not self.affinity):
            raise UserError("needs --affinity and --nouse_saliency", flag="first_background_score")


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Runs what is not done yet, prints the summary table and writes `metrics.json`, `pictures.png` and `report.html`.

    Returns:
        The content of `metrics.json`, with a list of "rows": each has its measurement, split, supervision and
        "mean_iou", null without masks, and the labels that never occur and are not in its mean ("absent"). A network
        also has "found", the share of the photos with a class on which its masks show it, and "false_alarms", that
        share of the photos without it, both as means over the classes. Empty on a worker that is not the chief.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.report.picture_grid import write_picture_grid
    from oaa_tf.training.devices import use_devices
    from oaa_tf.training.pictures import fixed_positions
    from oaa_tf.training.workers import is_chief, strategy_of_workers

    # Before TensorFlow computes anything.
    use_devices(settings.train_cls)
    workers = strategy_of_workers()
    if workers and not is_chief(workers):
        return _help_chief(settings)
    check_networks(settings, load_weights=True)
    with WorkDir.claim(settings) as work_dir:
        root = work_dir.path
        experiment = Experiment(settings, root, *make_all_records(settings, root, settings.seed), settings.seed)
        records = RecordSet.open(experiment.train_records)
        val_records = RecordSet.open(experiment.val_records) if experiment.val_records else None
        stages = _pipeline(experiment, settings, records.has_masks)
        classifier, *_ = [step.run() for step in stages.steps]
        rows = [_row(name, step.run()) for name, step in stages.evaluations.items()]

        pictures = root / "pictures.png"
        write_picture_grid(
            pictures,
            records,
            fixed_positions(len(records), settings.num_pictures),
            maps={
                "CAM": stages.maps["CAM"],
                "OAA": root / "train_cls" / OAA_FOLDER,
                "OAA+": stages.maps[_LOSS_NAMES[settings.train_integral.loss]],
            },
            label_folder=stages.labels,
            model=stages.models["segment"],
        )
        metrics = {
            "rows": rows,
            "classes": list(records.classes),
            "fallback_pairs": classifier["fallback_pairs"],
            "num_pairs": classifier["num_pairs"],
            "seed": settings.seed,
            "records_checksums": {each.split: each.checksum for each in (records, val_records) if each},
            "versions": versions(),
            "settings": settings.as_dict(),
        }
        write_json(root / METRICS_FILE, metrics)
        if rows:
            print(table_text(rows))
        make_report.run(make_report.MakeReportSettings(work_dir=str(root)))
        print(f"{'pictures:':<17} {pictures}")
        for name, folder in stages.models.items():
            print(f"{f'{name} model:':<17} {folder}")
        print(f"{'all figures:':<17} {root / METRICS_FILE}")
        print(f"{'curves, images:':<17} tensorboard --logdir={root}")
        if not records.has_masks and not (val_records and val_records.has_masks):
            print("\n".join(make_report.WITHOUT_MASKS))
        return metrics


def _help_chief(settings: PipelineSettings) -> dict[str, Any]:
    """Takes part in the trainings, each of which waits until the chief comes to it."""
    root = Path(settings.work_dir)
    experiment = Experiment(settings, root, *manifests(settings, root), settings.seed)
    for step in _pipeline(experiment, settings, train_has_masks=False).steps:
        if step.command in TRAININGS:
            step.run()
    return {}


def dry_run(settings: PipelineSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what can be known before the stages run."""
    check_networks(settings, load_weights=False)
    root = WorkDir.peek(settings).path
    records, made, have_masks, train_photos = dry_run_records(settings, root, settings.seed)
    stages = _pipeline(Experiment(settings, root, *made, settings.seed), settings, have_masks[0])
    states = {str(step.folder): step.state() for step in (*stages.steps, *stages.evaluations.values())}
    counts = Counter(states.values())
    trainings = [step for step in stages.steps if step.command in TRAININGS and states[str(step.folder)] != DONE]
    return records | {
        "stages": states,
        "stages_done": counts[DONE],
        "stages_begun": len(states) - counts[DONE] - counts[TO_DO],
        "stages_to_do": counts[TO_DO],
        **(_training_times(trainings, train_photos) if train_photos else {}),
        "writes": [str(root / name) for name in (METRICS_FILE, "pictures.png", "report.html")],
    }


def _training_times(trainings: Sequence[Step], photos: Findings) -> dict[str, Any]:
    """How long trainings will take, by command, measured on random images: the entries of the dry run."""
    from oaa_tf.training.training_time import seconds_per_epoch

    sizes = np.array([(image.height, image.width) for image in photos.images])
    steps: dict[str, int] = {}
    epochs: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for step in trainings:
        name, own = step.command, step.settings
        left = own.steps_for(len(sizes)) - newest_step(step.folder)
        if name not in epochs:
            epochs[name] = seconds_per_epoch(photos.classes, own, sizes)
        steps[name] = steps.get(name, 0) + left
        seconds[name] = seconds.get(name, 0.0) + epochs[name] * left * own.batch_size / len(sizes)
    return {
        "training_steps_left": steps,
        "epoch_seconds": epochs,
        "training_seconds": {**seconds, "in all": sum(seconds.values())},
    }


@dataclasses.dataclass(frozen=True)
class _Pipeline:
    """What the pipeline runs, and where the results will be.

    Attributes:
        steps: The stages and exports in order, the classifier first.
        evaluations: By name of the table's row, in the order of the rows.
        maps: Folders of attention maps by name of the row.
        labels: Folder of the pseudo labels that the network learns from.
        models: Folders of the SavedModels by name.
    """

    steps: list[Step]
    evaluations: dict[str, Step]
    maps: dict[str, Path]
    labels: Path
    models: dict[str, Path]


def _pipeline(experiment: Experiment, settings: PipelineSettings, train_has_masks: bool) -> _Pipeline:
    steps: list[Step] = []

    def after(step: Step) -> Path:
        """Adds a step and returns its folder for later steps."""
        steps.append(step)
        return step.folder

    after(experiment.classifier())
    maps = experiment.classifier_maps()
    main_loss, use_saliency = settings.train_integral.loss, settings.use_saliency
    for loss in _LOSS_NAMES if settings.compare_losses else (main_loss,):
        name = "train_integral" if loss == main_loss else f"train_integral_{loss}"
        maps[_LOSS_NAMES[loss]] = after(experiment.integral_model(name, loss)) / MAPS_FOLDER
    main_maps = maps[_LOSS_NAMES[main_loss]]
    if settings.affinity:
        score = settings.first_background_score or settings.make_pseudo_labels.background_score
        first_labels = after(
            experiment.pseudo_labels(
                "make_pseudo_labels_first", main_maps, use_saliency=use_saliency, background_score=score
            )
        )
        main_maps = after(experiment.spread_maps("train_affinity", main_maps, first_labels)) / SPREAD_FOLDER
        maps[f"{_LOSS_NAMES[main_loss]}, spread"] = main_maps
    labels = after(experiment.pseudo_labels("make_pseudo_labels", main_maps, use_saliency=use_saliency))
    label_maps = labels / LABELS_FOLDER
    after(experiment.segmentation_network("train_seg", labels))
    models = {
        "attention": after(experiment.exported("train_integral", "saved_models/attention")),
        "segment": after(experiment.exported("train_seg", "saved_models/segment")),
    }

    # Users' own photos often have tags but no masks: then only what the networks find can be measured.
    evaluations = {}
    if train_has_masks:
        for name, folder in maps.items():
            evaluations[name] = experiment.evaluation(_folder_name(name), "train", maps=str(folder))
        evaluations["pseudo labels"] = experiment.evaluation("pseudo_labels", "train", masks=str(label_maps))
    if experiment.val_records:
        evaluations["segmentation"] = experiment.evaluation("segmentation", "val", model=str(models["segment"]))
    return _Pipeline(steps, evaluations, maps, label_maps, models)


def _folder_name(row: str) -> str:
    return row.lower().replace(",", "").replace(" ", "_").replace("+", "_plus")


def _row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, from an evaluation's metrics."""
    scores, images = metrics.get("best", metrics), metrics.get("images", {})
    absent = scores.get("absent")
    if metrics["evaluated"] == "maps":
        measured = {"measurement": "maps, best threshold", "threshold": scores["threshold"]}
    elif "labelled_share" in scores:
        measured = {"measurement": "labelled pixels", "labelled_share": scores["labelled_share"]}
    else:
        measured = {"measurement": "tags"}
        absent = [label for label, of_class in images.items() if not of_class["num_with"]]
    origin = {"split": metrics["split"], "supervision": metrics["supervision"]}
    row = {"name": name, **measured, **origin, "mean_iou": scores["mean_iou"], "absent": absent}
    # Pseudo labels are made from the tags, and find what these say.
    if metrics["evaluated"] == "model":
        row |= {"found": _mean(images, "detection_rate"), "false_alarms": _mean(images, "false_alarms")}
    return row


def _mean(images: dict[str, dict[str, float | None]], key: str) -> float | None:
    """The mean over the classes for which it is known."""
    known = [value for of_class in images.values() if (value := of_class[key]) is not None]
    return sum(known) / len(known) if known else None


def table_text(rows: list[dict[str, Any]]) -> str:
    """The summary table as text, scores in percent."""
    header = ("", "measured", "split", "supervision", "mIoU", "found", "false alarms", "")
    lines = [header]
    for row in rows:
        if "threshold" in row:
            note = f"threshold {row['threshold']:.2f}"
        else:
            share = row.get("labelled_share")
            note = "" if share is None else f"{100 * share:.1f} % of the pixels"
        # Say so, since the mean is over fewer labels than expected.
        if row["absent"]:
            note += f"{'; ' if note else ''}without {', '.join(row['absent'])}, which never occur"
        scores = [
            "" if name not in row else "-" if row[name] is None else f"{100 * row[name]:.1f}"
            for name in ("mean_iou", "found", "false_alarms")
        ]
        lines.append((row["name"], row["measurement"], row["split"], row["supervision"], *scores, note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in cells).rstrip() for cells in padded)


if __name__ == "__main__":
    launch(PipelineSettings, run, "pipeline", dry_run)
