"""An experiment on paper: the same stages in the same order, noted instead of run."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oaa_tf import make_records
from oaa_tf.experiment import Experiment, ExperimentSettings, make_all_records
from oaa_tf.launch import Settings
from oaa_tf.training.plan import DONE, TO_DO, stage_state
from oaa_tf.work_dir import WorkDir

_SCORES = {"mean_iou": 0.0, "threshold": 0.0, "labelled_share": 0.0, "absent": [], "split": "", "supervision": ""}
_NO_METRICS = _SCORES | {"best": _SCORES, "fixed": _SCORES, "fallback_pairs": 0, "num_pairs": 0}
"""Passes for the metrics of a stage that has not run."""


@dataclasses.dataclass(frozen=True)
class PlannedExperiment(Experiment):
    """Notes the stages that an `Experiment` would run. Every method raises what can be known before they run.

    Attributes:
        states: By folder, how far its stage has come, in the order of the stages.
    """

    states: dict[str, str] = dataclasses.field(default_factory=dict)

    def train_classifier(self) -> dict[str, Any]:
        """Notes the stage."""
        return self._note(self._stage("train_cls", "train_cls"))

    def train_integral(self, name: str, loss: str) -> Path:
        """Notes the stage."""
        maps = self.root / "train_cls/attention/oaa"
        self._note(self._stage("train_integral", name, maps=str(maps), loss=loss))
        return self.root / name / "attention/oaa_plus"

    def make_labels(self, name: str, maps: Path, *, use_saliency: bool, **options) -> Path:
        """Notes the stage."""
        self._note(self._stage("make_pseudo_labels", name, maps=str(maps), use_saliency=use_saliency, **options))
        return self.root / name

    def train_segmentation(self, name: str, labels: Path, **options) -> dict[str, Any]:
        """Notes the stage."""
        return self._note(self._stage("train_seg", name, labels=str(labels), **options))

    def export(self, stage: str, name: str) -> Path:
        """Notes the export."""
        folder = self.root / name
        self.states[str(folder)] = DONE if folder.exists() else TO_DO
        return folder

    def evaluate(self, name: str, split: str, **inputs: str) -> dict[str, Any]:
        """Notes the evaluation."""
        folder = self.root / "evaluate" / name
        self.states[str(folder)] = stage_state(folder)
        return _NO_METRICS | (WorkDir(folder, None).finished_metrics() or {})

    def _note(self, settings: Settings) -> dict[str, Any]:
        work_dir = WorkDir.peek(settings, {})
        self.states[str(work_dir.path)] = stage_state(work_dir.path)
        return _NO_METRICS | (work_dir.finished_metrics() or {})


def plan_records(
    settings: ExperimentSettings, root: Path, seed: int
) -> tuple[dict[str, Any], tuple[str, str | None], tuple[bool, bool]]:
    """What `make_all_records` would do.

    Returns:
        Its states and numbers of images, for `oaa_tf.plan_text`; the manifests; whether each split will have masks.
    """
    if not settings.voc_dir and not settings.image_dir:
        demo_data = root / "demo_data"
        if not demo_data.exists():
            splits = (settings.train_split, settings.val_split)
            return {"demo_data": TO_DO}, tuple(str(root / f"records/{split}.json") for split in splits), (True, True)
        settings = dataclasses.replace(settings, voc_dir=str(demo_data))
    plans = []

    def note(one: make_records.MakeRecordsSettings) -> None:
        plans.append(make_records.plan(one))

    manifests = make_all_records(settings, root, seed, make=note)
    records = {one["split"]: f"{one['state']}, {one['listed_images']:,} images" for one in plans}
    have_masks = [one["with_masks"] for one in plans]
    return {"records": records}, manifests, (have_masks[0], len(have_masks) > 1 and have_masks[1])


def summary(states: Iterable[str]) -> dict[str, int]:
    """How many stages are done, begun and to do."""
    states = list(states)
    num_done, num_to_do = states.count(DONE), states.count(TO_DO)
    return {
        "stages_done": num_done,
        "stages_begun": len(states) - num_done - num_to_do,
        "stages_to_do": num_to_do,
    }
