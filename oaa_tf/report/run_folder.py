"""The contents of a run's folder: stages, finished or not, their records, and evaluations."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import name_and_value
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.work_dir import FLAGS_FILE, INPUTS_FILE, METRICS_FILE

STAGES = ("train_cls", "train_integral", "train_affinity", "make_pseudo_labels", "train_seg", "relabel")

# The kinds of evaluations, in the order of the page.
_NAMES = {
    "cam": "CAM",
    "oaa_max": "OAA max",
    "oaa_average": "OAA average",
    "oaa_harmonic": "OAA harmonic",
    "oaa_plus_mce": "OAA+ MCE",
    "oaa_plus_hybrid": "OAA+ hybrid",
    "oaa_plus_mce_spread": "OAA+ MCE, spread",
    "oaa_plus_hybrid_spread": "OAA+ hybrid, spread",
    "masks": "pseudo labels",
    "model": "segmentation",
}
# The report needs these in an evaluation's metrics.
_KEYS = {"classes", "split", "num_images", "supervision"}
_MAPS_KEYS = _KEYS | {"maps_kind", "best", "sweep"}


@dataclasses.dataclass(frozen=True)
class StageFolder:
    """A stage's work_dir.

    Attributes:
        path: The folder.
        name: The stage's name, for example "train_cls".
        flags: Its settings as in `flags.txt`, by name; "--flip" and "--noflip" as "true" and "false".
        metrics: The content of `metrics.json`; None if the stage has not finished.
    """

    path: Path
    name: str
    flags: dict[str, str]
    metrics: dict[str, Any] | None

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The stage in a folder; None if there is none.

        Raises:
            UserError: Its `metrics.json` is damaged.
        """
        if not (path / FLAGS_FILE).is_file():
            return None
        metrics = _json_if_there(path / METRICS_FILE)
        name = (metrics or {}).get("stage")
        if metrics is None:
            # Before a stage has finished, only the name of its folder identifies it.
            name = next((stage for stage in STAGES if path.name.startswith(stage)), None)
        lines = (path / FLAGS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        return cls(path, name, dict(map(name_and_value, lines)), metrics) if name else None

    def number(self, name: str) -> int:
        """The value of a setting.

        Raises:
            UserError: `flags.txt` does not have it.
        """
        try:
            return int(self.flags[name])
        except (KeyError, ValueError):
            path = self.path / FLAGS_FILE
            raise UserError(f"{path}: damaged; write the line --{name}=<number> of that run into it") from None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `oaa_tf.evaluate` for maps, masks or a model.

    Attributes:
        name: For example "OAA max", "pseudo labels" or "segmentation".
        path: Its folder.
        metrics: The content of `metrics.json`.
    """

    name: str
    path: Path
    metrics: dict[str, Any]

    @property
    def kind(self) -> str:
        """What was evaluated: a kind of maps, for example "cam"; or "masks" or "model"."""
        return self.metrics.get("maps_kind") or self.metrics["evaluated"]

    @property
    def scores(self) -> dict[str, Any]:
        """The scores, such as "mean_iou" and "iou_per_class"; for maps, at the best threshold."""
        return self.metrics.get("best", self.metrics)

    @property
    def iou_per_class(self) -> dict[str, float | None]:
        """IoU by label; empty if there were no masks to compare with."""
        return self.scores.get("iou_per_class", {})


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder, written by the pipeline or by stages that were run one by one below it.

    Attributes:
        root: The folder.
        stages: The first stage of each name, `train_integral` before `train_integral_mce`.
        evaluations: Evaluations with scores, attention maps first.
        train_records: The training images; None if the records no longer exist.
        val_records: The images that the segmentation was evaluated on; None without such an evaluation.
    """

    root: Path
    stages: dict[str, StageFolder]
    evaluations: tuple[Evaluation, ...]
    train_records: RecordSet | None
    val_records: RecordSet | None

    @classmethod
    def open(cls, root: Path) -> Self:
        """Searches a folder and two levels below it.

        Raises:
            UserError: It holds no stage, or a file is damaged.
        """
        folders = [root, *sorted([*root.glob("*/"), *root.glob("*/*/")])]
        found = [stage for folder in folders if (stage := StageFolder.open(folder))]
        stages: dict[str, StageFolder] = {}
        for stage in found:
            stages.setdefault(stage.name, stage)
        evaluated = [(stage, stage.metrics) for stage in found if stage.name == "evaluate" and stage.metrics]
        stages.pop("evaluate", None)
        if not stages and not evaluated:
            raise UserError(
                "no stage has been run in it; give the work_dir of the pipeline", flag="work_dir", value=root
            )
        of_models = [stage for stage, metrics in evaluated if metrics.get("evaluated") == "model"]
        return cls(
            root,
            stages,
            _evaluations(evaluated),
            _records(root, [stages[name] for name in STAGES if name in stages]),
            _records(root, of_models),
        )

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of all finished stages, then of all evaluations."""
        stages = [stage.metrics for stage in self.stages.values() if stage.metrics]
        return stages + [one.metrics for one in self.evaluations]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        if self.train_records is not None:
            return tuple(self.train_records.classes)
        return next((tuple(metrics["classes"]) for metrics in self.metrics), ())

    def evaluation(self, kind: str) -> Evaluation | None:
        """The first evaluation of a kind."""
        return next((one for one in self.evaluations if one.kind == kind), None)


def _evaluations(stages: list[tuple[StageFolder, dict[str, Any]]]) -> tuple[Evaluation, ...]:
    """The evaluations with scores, from stages and their metrics."""
    found: dict[str, Evaluation] = {}
    for stage, metrics in stages:
        evaluated = metrics.get("evaluated")
        keys = _MAPS_KEYS if evaluated == "maps" else _KEYS
        if evaluated not in ("maps", "masks", "model") or keys - metrics.keys():
            raise _damaged(stage.path / METRICS_FILE)
        one = Evaluation("", stage.path, metrics)
        if "mean_iou" not in one.scores:
            continue  # A submission without ground truth.
        name = _NAMES.get(one.kind, one.kind) + (" + CRF" if metrics.get("crf") else "")
        if name in found:
            name = f"{name} ({stage.path.name})"
        found[name] = dataclasses.replace(one, name=name)
    rank = {kind: number for number, kind in enumerate(_NAMES)}
    return tuple(sorted(found.values(), key=lambda one: (rank.get(one.kind, len(rank)), one.name)))


def _records(root: Path, stages: list[StageFolder]) -> RecordSet | None:
    """The records of some stages, found by checksum, since the folders may have been moved."""
    for stage in stages:
        checksum = (_json_if_there(stage.path / INPUTS_FILE) or {}).get("records")
        for path in (*sorted(root.glob("records/*.json")), Path(stage.flags.get("records", ""))):
            if checksum is not None and (_json_if_there(path) or {}).get("checksum") == checksum:
                return RecordSet.open(path, verify=False)
    return None


def _json_if_there(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except OSError:
        return None
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: damaged; delete it and run the stage again")
