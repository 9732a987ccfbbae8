"""Runs the paper's Tables 2 and 3 for several seeds.

Which attention maps make the better masks, and how many images does it take?

    python -m tools.ablation --flagfile=flags/voc12_animals_ablation.flags --voc_dir=VOC12_ANIMALS \
        --backbone_weights=VGG16.weights.h5 --seeds=0,1 --work_dir=runs/ablation

One classifier run gives the maps of the rows CAM, OAA average and OAA max: they differ in what is kept of the same
training. The integral attention models of the last two rows learn its cumulative attention (max). Table 3 trains the
segmentation network on random shares of the images, with the labels of the last row. What a run has finished is not
done again; stop it at any moment and start it again.
"""

import dataclasses
import functools
import json
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.experiment import Experiment, ExperimentSettings, check_networks
from oaa_tf.experiment_records import dry_run_records, make_all_records
from oaa_tf.labels.label_files import LABELS_FOLDER
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import versions
from oaa_tf.runs.output_folder import check_folder, folder_errors
from oaa_tf.runs.work_dir import WorkDir
from oaa_tf.train_integral import MAPS_FOLDER
from oaa_tf.training.settings import LARGEST_SEED
from tools.plots import plot_map_curves

ROWS = {
    "CAM": "cam",
    "OAA average": "oaa_average",
    "OAA max": "oaa_max",
    "OAA+ MCE": "oaa_plus_mce",
    "OAA+ hybrid": "oaa_plus_hybrid",
}
"""The rows of Table 2 with the names of their folders."""

TABLES = ("2", "3")
SHARES = (0.2, 0.5, 0.8)
"""The rows of Table 3 but the last, which is the last one of Table 2."""

_LAST_ROW = "OAA+ hybrid"
_LABELS_ONLY, _WITH_SALIENCY = "image labels", "image labels + saliency"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AblationSettings(ExperimentSettings):
    """What to compare, and the stages' own settings as `--<stage>.<setting>`; both fusions are always accumulated."""

    seeds: tuple[int, ...] = setting(
        (0,), help="Seeds, one run of everything each.", minimum=0, maximum=LARGEST_SEED, may_change=True
    )
    tables: tuple[str, ...] = setting(("2",), help="The paper's tables.", choices=TABLES, may_change=True)
    rows: tuple[str, ...] = setting(
        tuple(ROWS.values()), help="Rows of Table 2.", choices=tuple(ROWS.values()), may_change=True
    )
    supervisions: tuple[str, ...] = setting(
        (_WITH_SALIENCY,),
        help="For which pseudo labels networks are trained.",
        choices=(_LABELS_ONLY, _WITH_SALIENCY),
        may_change=True,
    )
    output_dir: str = setting("", help="Folder for table2.json and table3.json; work_dir if empty.", may_change=True)

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError("expected one or more, each once", flag="seeds", value=",".join(map(str, self.seeds)))
        if _WITH_SALIENCY in self.supervisions and not self.use_saliency:
            raise UserError("needs --use_saliency", flag="supervisions", value=_WITH_SALIENCY)


def run(settings: AblationSettings, command: str = "") -> dict[str, Any]:
    """Runs what is not done yet, writes `table2.json` and `table3.json`, and prints them; draws `map_curves.png`.

    Args:
        settings: What to compare.
        command: The command line, which the tables name.

    Returns:
        By table ("2", "3"), the content of its file: "rows", each with setting, measurement, split, supervision, seeds,
        "values" (one per seed), "mean", "spread" (standard deviation over seeds, null for one) and "command"; the
        settings and versions. A seed whose labels leave out every pixel has no mIoU and is not among the seeds.

    Raises:
        UserError: Anything that the user can put right.
    """
    settings = _with_both_fusions(settings)
    check_networks(settings, load_weights=True)
    with WorkDir.claim(settings) as work_dir:
        root = work_dir.path
        output = _output(settings, root)
        # Now, and not when hours of training are to be written down.
        with folder_errors("--output_dir", output):
            output.mkdir(parents=True, exist_ok=True)
        manifests = make_all_records(settings, root, settings.seeds[0])
        records = [RecordSet.open(manifest) for manifest in manifests if manifest]
        _check_masks(settings, len(records) == 2 and all(of_split.has_masks for of_split in records))
        found: dict[str, dict[tuple, dict[int, float | None]]] = {table: {} for table in settings.tables}
        tables = {}
        for seed in settings.seeds:
            experiment = Experiment(settings, root / f"seed{seed}", *manifests, seed)
            for table, key, value in _measurements(experiment, settings):
                found[table].setdefault(key, {})[seed] = value
                # Written after every figure: what is measured is not lost.
                tables[table] = _table(settings, records, table, found[table], command)
                write_json(output / f"table{table}.json", tables[table])
        if "2" in tables:
            plot_map_curves(output / "map_curves.png", _sweeps(root, settings))
        for table, content in tables.items():
            print(f"\nTable {table}\n{table_text(content)}")
        return tables


def dry_run(settings: AblationSettings) -> dict[str, Any]:
    """Checks settings and inputs, and says what `run` would write; raises what can be known before the stages run."""
    check_networks(settings, load_weights=False)
    root = WorkDir.peek(settings).path
    output = _output(settings, root)
    check_folder("--output_dir", output)
    records, _, have_masks, _ = dry_run_records(settings, root, settings.seeds[0])
    _check_masks(settings, all(have_masks))
    return records | {
        "seeds": settings.seeds,
        "writes": [str(output / f"table{each}.json") for each in settings.tables],
    }


def _output(settings: AblationSettings, root: Path) -> Path:
    return Path(settings.output_dir or root)


def _with_both_fusions(settings: AblationSettings) -> AblationSettings:
    return dataclasses.replace(settings, train_cls=dataclasses.replace(settings.train_cls, fusions=("max", "average")))


def _check_masks(settings: AblationSettings, has_masks: bool) -> None:
    if not has_masks:
        raise UserError(
            f"the tables need masks for both splits, {settings.train_split} and {settings.val_split}",
            flag="image_dir" if settings.image_dir else "voc_dir",
            value=settings.image_dir or settings.voc_dir,
        )


def _sweeps(root: Path, settings: AblationSettings) -> dict[str, list[dict[str, list[float]]]]:
    """Precision and recall of each row's maps at all thresholds, one sweep per seed."""
    return {
        row: [
            json.loads((root / f"seed{seed}/evaluate/{folder}/maps/metrics.json").read_text())["sweep"]
            for seed in settings.seeds
        ]
        for row, folder in ROWS.items()
        if folder in settings.rows
    }


def _measurements(experiment: Experiment, settings: AblationSettings) -> Iterator[tuple[str, tuple, float | None]]:
    """Runs the stages of one seed and yields (table, (setting, measurement, split, supervision), share or None)."""
    for row, maps in _maps(experiment, settings):
        folder = ROWS[row]
        metrics = experiment.evaluation(f"{folder}/maps", "train", maps=str(maps)).run()
        threshold = metrics["best"]["threshold"]
        if "2" in settings.tables:
            supervision = metrics["supervision"]
            yield "2", (row, "maps, best threshold", "train", supervision), metrics["best"]["mean_iou"]
            yield "2", (row, "maps, best threshold: the threshold", "train", supervision), threshold
            yield "2", (row, "maps, threshold 0.3", "train", supervision), metrics["fixed"]["mean_iou"]
        for kind in (_LABELS_ONLY, *([_WITH_SALIENCY] if settings.use_saliency else [])):
            with_saliency = kind == _WITH_SALIENCY
            name = f"{folder}/{'with_saliency' if with_saliency else 'labels_only'}"
            # Without saliency, the background's score is the threshold at which the maps are best.
            options = {} if with_saliency else {"background_score": max(threshold, 1 / 255), "drop_below": 0.0}
            step = experiment.pseudo_labels(f"{name}/labels", maps, use_saliency=with_saliency, **options)
            # With the network of the saliency maps, if it is known.
            supervision = step.run()["supervision"]
            labels = step.folder
            if "2" in settings.tables:
                masks = experiment.evaluation(f"{name}/labels", "train", masks=str(labels / LABELS_FOLDER)).run()
                yield "2", (row, "pseudo labels", "train", supervision), masks["mean_iou"]
                yield "2", (row, "pseudo labels: labelled pixels", "train", supervision), masks["labelled_share"]
            if kind not in settings.supervisions:
                continue
            if "2" in settings.tables:
                value = _segmentation(experiment, f"{name}/segmentation", labels)
                yield "2", (row, "segmentation network", "val", supervision), value
            if "3" in settings.tables and row == _LAST_ROW:
                for share in SHARES:
                    value = _segmentation(experiment, f"{name}/segmentation_{share}", labels, share=share)
                    yield "3", (f"{100 * share:.0f} %", "segmentation network", "val", supervision), value
                value = _segmentation(experiment, f"{name}/segmentation", labels)
                yield "3", ("100 %", "segmentation network", "val", supervision), value


def _maps(experiment: Experiment, settings: AblationSettings) -> Iterator[tuple[str, Path]]:
    """The maps of each row that is asked for, made when they are needed."""
    experiment.classifier().run()
    folders = experiment.classifier_maps()
    for row, name in ROWS.items():
        # Table 3 has the labels of one row.
        if name not in (settings.rows if "2" in settings.tables else (ROWS[_LAST_ROW],)):
            continue
        if row in folders:
            yield row, folders[row]
        else:
            step = experiment.integral_model(f"train_integral_{name}", row.removeprefix("OAA+ ").lower())
            step.run()
            yield row, step.folder / MAPS_FOLDER


def _segmentation(experiment: Experiment, name: str, labels: Path, **options: float) -> float | None:
    """The mIoU on val of a segmentation network that is trained on these labels."""
    experiment.segmentation_network(name, labels, **options).run()
    model = experiment.exported(name, f"{name}_saved_model")
    model.run()
    return experiment.evaluation(name, "val", model=str(model.folder)).run()["mean_iou"]


def _table(
    settings: AblationSettings,
    records: Sequence[RecordSet],
    table: str,
    found: dict[tuple, dict[int, float | None]],
    command: str,
) -> dict[str, Any]:
    """The content of a table's file."""
    rows = []
    for (name, measurement, split, supervision), by_seed in found.items():
        # Labels that leave out every pixel have no mIoU.
        values = [value for value in by_seed.values() if value is not None]
        rows.append(
            {
                "setting": name,
                "measurement": measurement,
                "split": settings.train_split if split == "train" else settings.val_split,
                "supervision": supervision,
                "seeds": [seed for seed, value in by_seed.items() if value is not None],
                "values": values,
                "mean": statistics.mean(values) if values else None,
                "spread": statistics.stdev(values) if len(values) > 1 else None,
                "command": command,
            }
        )
    return {
        "table": table,
        "num_training_images": len(records[0]),
        "classes": records[0].classes,
        "records_checksums": {of_split.split: of_split.checksum for of_split in records},
        "rows": rows,
        "versions": versions(),
        "settings": settings.as_dict(),
    }


def table_text(content: dict[str, Any]) -> str:
    """A table as Markdown: a line per measurement, a column per setting; mean and spread over seeds, in percent."""
    lines = list(dict.fromkeys((row["measurement"], row["split"], row["supervision"]) for row in content["rows"]))
    names = list(dict.fromkeys(row["setting"] for row in content["rows"]))
    cells = {
        (row["setting"], (row["measurement"], row["split"], row["supervision"])): _percent(row["mean"], row["spread"])
        for row in content["rows"]
    }
    table = [["", "split", "supervision", *names], ["---"] * (3 + len(names))]
    table += [[*line, *(cells.get((name, line), "") for name in names)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _percent(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" if spread is None else f"{100 * mean:.1f} ± {100 * spread:.1f}"


if __name__ == "__main__":
    command_line = shlex.join(["python", "-m", "tools.ablation", *sys.argv[1:]])
    run_and_name_it = functools.partial(run, command=command_line)
    launch(AblationSettings, run_and_name_it, "ablation", dry_run)
