"""All stages in a row: from a VOC-layout folder, or the demo data, to masks, a table and SavedModels.

    python -m oaa_tf.pipeline --flagfile=flags/demo.flags --work_dir=runs/demo

Every stage works in its own folder below `--work_dir` and can be run again alone. Running the pipeline again goes on
where it stopped.
"""

import dataclasses
from pathlib import Path
from typing import Any

from oaa_tf import evaluate, export, make_pseudo_labels, make_records, train_cls, train_integral, train_seg
from oaa_tf.data.demo import write_demo_data
from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.launch import Settings, launch, setting
from oaa_tf.metrics_file import versions, write_json
from oaa_tf.picture_grid import write_picture_grid
from oaa_tf.training.pictures import fixed_positions
from oaa_tf.work_dir import METRICS_FILE, WorkDir

_LOSS_NAMES = {"mce": "OAA+ MCE", "hybrid": "OAA+ hybrid"}
WARM_STARTS = ("train_integral", "train_seg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings(Settings):
    """The pipeline's own settings, and those of each training stage as `--<stage>.<setting>`."""

    work_dir: str = setting(help="Folder for everything; run again in it to resume.")
    voc_dir: str = setting("", help="Folder in VOC layout; the demo data are made if empty.")
    train_split: str = setting("train", help="Training split.")
    val_split: str = setting("val", help="Validation split, with masks.")
    classes: tuple[str, ...] = setting((), help="Classes to keep; all if empty.")
    mask_dir: str = setting("SegmentationClass", help="Folder of the masks inside voc_dir; empty for no masks.")
    labels_from: str = setting("list", help="Where image labels come from.", choices=("list", "annotations", "masks"))
    use_saliency: bool = setting(True, help="Use the saliency maps in <voc_dir>/saliency for the pseudo labels.")
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of one of Keras' h5 files.")
    seg_backbone_weights: str = setting(
        "", help="As backbone_weights, for the segmentation network alone; the same if empty."
    )
    warm_start: tuple[str, ...] = setting(
        (), help="Stages that start from the classifier's weights instead.", choices=WARM_STARTS
    )
    compare_losses: bool = setting(
        True, help="Also train the integral attention model with the other loss, for the table (the paper's Table 2)."
    )
    seed: int = setting(0, help="Seed of all stages.", minimum=0)
    num_pictures: int = setting(6, help="Rows of the picture grid.", minimum=1, may_change=True)
    train_cls: train_cls.TrainClsSettings
    train_integral: train_integral.TrainIntegralSettings
    make_pseudo_labels: make_pseudo_labels.MakePseudoLabelsSettings
    train_seg: train_seg.TrainSegSettings

    def __post_init__(self) -> None:
        """Checks the combination of stages."""
        super().__post_init__()
        backbone = self.train_seg.backbone
        if self.seg_backbone_weights and "train_seg" in self.warm_start:
            raise UserError(
                "--warm_start=train_seg: starts from the classifier's weights, not from"
                f" --seg_backbone_weights={self.seg_backbone_weights}; use one of the two"
            )
        if backbone == self.train_cls.backbone:
            return
        if "train_seg" in self.warm_start:
            raise UserError(
                f"--warm_start=train_seg: the classifier's weights are {self.train_cls.backbone}'s, not for"
                f" --train_seg.backbone={backbone}; leave train_seg out of --warm_start"
            )
        has_own_weights = self.seg_backbone_weights or self.train_seg.initial_weights
        if not has_own_weights and self.backbone_weights not in ("imagenet", "none"):
            raise UserError(
                f"--train_seg.backbone={backbone}: --backbone_weights={self.backbone_weights} is for"
                f" {self.train_cls.backbone}; name weights of its own with --seg_backbone_weights"
            )


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Runs what is not done yet, prints the summary table and writes `metrics.json` and `pictures.png`.

    Returns:
        The content of `metrics.json`: a list of rows, each with its measurement, split and supervision.

    Raises:
        UserError: Anything that the user can put right.
    """
    _check_weights_files(settings)
    with WorkDir.claim(settings) as work_dir:
        root = work_dir.path
        train_records, val_records = _make_records(settings, root)

        cls = train_cls.run(
            dataclasses.replace(settings.train_cls, records=train_records, work_dir=str(root / "train_cls"))
        )
        maps = {"CAM": root / "train_cls/attention/cam"}
        for rank, fusion in enumerate(settings.train_cls.fusions):
            maps[f"OAA {fusion}"] = root / "train_cls/attention" / (f"oaa_{fusion}" if rank else "oaa")
        main_loss = settings.train_integral.loss
        for loss in _LOSS_NAMES if settings.compare_losses else (main_loss,):
            stage_dir = root / ("train_integral" if loss == main_loss else f"train_integral_{loss}")
            train_integral.run(
                dataclasses.replace(
                    settings.train_integral,
                    records=train_records,
                    maps=str(root / "train_cls/attention/oaa"),
                    initial_weights=_start(settings, "train_integral"),
                    loss=loss,
                    work_dir=str(stage_dir),
                )
            )
            maps[_LOSS_NAMES[loss]] = stage_dir / "attention/oaa_plus"

        make_pseudo_labels.run(
            dataclasses.replace(
                settings.make_pseudo_labels,
                records=train_records,
                maps=str(maps[_LOSS_NAMES[main_loss]]),
                use_saliency=settings.use_saliency,
                work_dir=str(root / "make_pseudo_labels"),
            )
        )
        seg = train_seg.run(
            dataclasses.replace(
                settings.train_seg,
                records=train_records,
                labels=str(root / "make_pseudo_labels"),
                backbone_weights=settings.seg_backbone_weights or settings.backbone_weights,
                initial_weights=_start(settings, "train_seg"),
                work_dir=str(root / "train_seg"),
            )
        )
        models = {}
        for name, stage in (("attention", "train_integral"), ("segment", "train_seg")):
            models[name] = root / "saved_models" / name
            if not models[name].exists():
                export.run(export.ExportSettings(stage_dir=str(root / stage), output_dir=str(models[name])))

        label_folder = root / "make_pseudo_labels/SegmentationClass"
        rows = []
        # Own photos with tags have no masks to compare with: the pipeline works all the same.
        if RecordSet.open(train_records).has_masks:
            for name, folder in maps.items():
                rows.append(_maps_row(name, _evaluate(root, name, records=train_records, maps=str(folder))))
            labels = _evaluate(root, "pseudo labels", records=train_records, masks=str(label_folder))
            rows.append(_masks_row("pseudo labels", labels))
        if RecordSet.open(val_records).has_masks:
            inputs = {"model": str(models["segment"]), "supervision": seg["supervision"]}
            rows.append(_masks_row("segmentation", _evaluate(root, "segmentation", records=val_records, **inputs)))

        pictures = root / "pictures.png"
        records = RecordSet.open(train_records)
        write_picture_grid(
            pictures,
            records,
            fixed_positions(len(records), settings.num_pictures),
            maps={"CAM": maps["CAM"], "OAA": root / "train_cls/attention/oaa", "OAA+": maps[_LOSS_NAMES[main_loss]]},
            label_folder=label_folder,
            model=models["segment"],
        )
        metrics = {
            "rows": rows,
            "classes": list(records.classes),
            "fallback_pairs": cls["fallback_pairs"],
            "num_pairs": cls["num_pairs"],
            "seed": settings.seed,
            "versions": versions(),
            "settings": settings.as_dict(),
        }
        write_json(root / METRICS_FILE, metrics)
        print(table_text(rows) if rows else "no masks to compare with: no table")
        print(f"{'pictures:':<17} {pictures}")
        for name, folder in models.items():
            print(f"{f'{name} model:':<17} {folder}")
        print(f"{'all figures:':<17} {root / METRICS_FILE}")
        print(f"{'curves, images:':<17} tensorboard --logdir={root}")
        return metrics


def _check_weights_files(settings: PipelineSettings) -> None:
    """Refuses a missing file now and not hours later, when the segmentation network wants it."""
    flags = {
        "seg_backbone_weights": settings.seg_backbone_weights,
        "train_seg.head_weights": settings.train_seg.head_weights,
    }
    for name, value in flags.items():
        if value not in ("", "imagenet", "none") and not Path(value).is_file():
            raise UserError(f"--{name}={value}: no such file; expected imagenet, none or the path of an h5 file")


def _make_records(settings: PipelineSettings, root: Path) -> tuple[str, str]:
    voc_dir = settings.voc_dir
    if not voc_dir:
        voc_dir = str(root / "demo_data")
        write_demo_data(voc_dir, seed=settings.seed)
    for split in (settings.train_split, settings.val_split):
        is_train = split == settings.train_split
        make_records.run(
            make_records.MakeRecordsSettings(
                voc_dir=voc_dir,
                split=split,
                output_dir=str(root / "records"),
                labels_from=settings.labels_from,
                classes=settings.classes,
                mask_dir=settings.mask_dir,
                saliency_dir=str(Path(voc_dir) / "saliency") if settings.use_saliency and is_train else "",
            )
        )
    return tuple(str(root / "records" / f"{split}.json") for split in (settings.train_split, settings.val_split))


def _start(settings: PipelineSettings, stage: str) -> str:
    """The classifier's folder if the stage starts from it, else what the stage's own settings say."""
    own = getattr(settings, stage).initial_weights
    return str(Path(settings.work_dir) / "train_cls") if stage in settings.warm_start else own


def _evaluate(root: Path, name: str, **inputs: str) -> dict[str, Any]:
    folder = root / "evaluate" / name.lower().replace(" ", "_").replace("+", "_plus")
    return evaluate.run(evaluate.EvaluateSettings(work_dir=str(folder), **inputs))


def _maps_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    best = metrics["best"]
    return _row(name, "maps, best threshold", metrics, best["mean_iou"]) | {"threshold": best["threshold"]}


def _masks_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    row = _row(name, "labelled pixels", metrics, metrics["mean_iou"])
    return row | {"labelled_share": metrics["labelled_share"]}


def _row(name: str, measurement: str, metrics: dict[str, Any], mean_iou: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "measurement": measurement,
        "split": metrics["split"],
        "supervision": metrics["supervision"],
        "mean_iou": mean_iou,
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
        mean_iou = "-" if row["mean_iou"] is None else f"{100 * row['mean_iou']:.1f}"
        lines.append((row["name"], row["measurement"], row["split"], row["supervision"], mean_iou, note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    launch(PipelineSettings, run, "pipeline", "runs all stages in a row")
