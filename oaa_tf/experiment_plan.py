"""An experiment on paper: the same stages in the same order, noted instead of run."""

import collections
import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from oaa_tf import export, make_records, train_cls, train_integral, train_seg
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.plan_text import DONE, TO_DO
from oaa_tf.data.records.manifest import ImageEntry
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.records.record_writer import RecordWriter, serialize
from oaa_tf.demo.data_set import has_demo_data
from oaa_tf.experiment import Experiment, ExperimentSettings, make_all_records
from oaa_tf.models.networks import newest_step
from oaa_tf.runs.work_dir import WorkDir
from oaa_tf.training.plan import stage_state

_SCORES = {"mean_iou": 0.0, "threshold": 0.0, "labelled_share": 0.0, "absent": [], "split": "", "supervision": ""}
_NO_METRICS = _SCORES | {"best": _SCORES, "fixed": _SCORES, "fallback_pairs": 0, "num_pairs": 0}
"""Passes for the metrics of a stage that has not run."""


@dataclasses.dataclass(frozen=True)
class PlannedExperiment(Experiment):
    """Notes the stages that an `Experiment` would run. Every method raises what can be known before they run.

    Attributes:
        states: By folder, how far its stage has come, in the order of the stages.
        steps_left: By stage, how many steps of training all its runs still have to take.
    """

    states: dict[str, str] = dataclasses.field(default_factory=dict)
    steps_left: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def export(self, stage: str, name: str) -> Path:
        """Notes the export."""
        folder = self.root / name
        stays = stage_state(self.root / stage) == DONE and export.is_current(self._export(stage, name))
        self.states[str(folder)] = DONE if stays else TO_DO
        return folder

    def evaluate(self, name: str, split: str, **inputs: str) -> dict[str, Any]:
        """Notes the evaluation."""
        folder = self.root / "evaluate" / name
        self.states[str(folder)] = stage_state(folder)
        return _NO_METRICS | (WorkDir(folder, None).finished_metrics() or {})

    def _run(self, stage: str, name: str, **inputs: Any) -> dict[str, Any]:
        settings = self._stage(stage, name, **inputs)
        work_dir = WorkDir.peek(settings, {})
        folder = str(work_dir.path)
        # Tables may ask for the same run twice.
        is_new = folder not in self.states
        self.states[folder] = stage_state(work_dir.path)
        if stage.startswith("train") and is_new and self.states[folder] != DONE:
            self.steps_left[stage] += settings.num_steps - newest_step(work_dir.path)
        return _NO_METRICS | (work_dir.finished_metrics() or {})


def plan_records(
    settings: ExperimentSettings, root: Path, seed: int
) -> tuple[dict[str, Any], tuple[str, str | None], tuple[bool, bool]]:
    """What `make_all_records` would do.

    Returns:
        Its states and numbers of images, for `plan_text`; the manifests; whether each split will have masks.
    """
    if not settings.voc_dir and not settings.image_dir:
        demo_data = root / "demo_data"
        if not has_demo_data(demo_data, seed=seed):
            splits = (settings.train_split, settings.val_split)
            return {"demo_data": TO_DO}, tuple(str(root / f"records/{split}.json") for split in splits), (True, True)
        settings = dataclasses.replace(settings, voc_dir=str(demo_data))
    plans = []

    def note(one: make_records.MakeRecordsSettings) -> dict[str, Any]:
        plans.append(make_records.plan(one))
        return plans[-1]

    manifests = make_all_records(settings, root, seed, make=note)
    records = {one["split"]: f"{one['state']}, {one['listed_images']:,} images" for one in plans}
    have_masks = [one["with_masks"] for one in plans]
    return {"records": records}, manifests, (have_masks[0], len(have_masks) > 1 and have_masks[1])


def training_seconds(settings: ExperimentSettings, steps_left: Mapping[str, int]) -> dict[str, float]:
    """Expected time of the training by stage, and in all, from a few steps of each on noise.

    An experiment's own images may not be there yet, let alone its maps and labels; a step takes as long with others of
    the same size. What stages do beside their steps comes on top.

    Args:
        settings: The settings.
        steps_left: As in `PlannedExperiment`.
    """
    seconds = {}
    for stage, num_steps in steps_left.items():
        # A run that was stopped behind its last step has none left.
        if num_steps:
            with tempfile.TemporaryDirectory() as scratch:
                seconds[stage] = num_steps * _step_seconds(stage, getattr(settings, stage), Path(scratch))
    return seconds | {"in all": sum(seconds.values())}


def _step_seconds(stage: str, settings: Any, scratch: Path) -> float:
    records = _noise(scratch, 2 * settings.batch_size)
    inputs: dict[str, Any] = {
        "records": str(records.manifest_path),
        "work_dir": str(scratch / stage),
        "initial_weights": "",
    }
    if stage == "train_integral":
        side = settings.views.grid
        maps = np.zeros([len(records), side, side], np.uint8)
        AttentionMaps.save(scratch / "maps", maps, records, kind="noise", image_size=settings.image_size)
        inputs["maps"] = str(scratch / "maps")
    if stage == "train_seg":
        # Which weights it starts from does not change a step's time, and the experiment may name others than the stage.
        inputs |= {"labels": train_seg.MASKS, "share": 1.0, "backbone_weights": "none"}
    plan = {"train_cls": train_cls.plan, "train_integral": train_integral.plan, "train_seg": train_seg.plan}[stage]
    return plan(dataclasses.replace(settings, **inputs))["step_seconds"]


def _noise(folder: Path, num_images: int) -> RecordSet:
    """Records of noise in the most frequent size of VOC's images, with one class."""
    size = 375, 500
    image = np.random.default_rng(0).integers(0, 256, [*size, 3], np.uint8)
    image_data, mask_data = cv2.imencode(".jpg", image)[1], cv2.imencode(".png", np.ones(size, np.uint8))[1]
    with RecordWriter(folder, "train", images_per_shard=num_images) as writer:
        for number in range(num_images):
            entry = ImageEntry(f"noise_{number}", (0,), *size)
            writer.write(entry, serialize(entry, image_data.tobytes(), mask_data.tobytes()))
        path = writer.commit(classes=("noise",), labels_from="list", has_masks=True, has_saliency=False)
    return RecordSet.open(path)


def summary(states: Iterable[str]) -> dict[str, int]:
    """How many stages are done, begun and to do."""
    states = list(states)
    num_done, num_to_do = states.count(DONE), states.count(TO_DO)
    return {
        "stages_done": num_done,
        "stages_begun": len(states) - num_done - num_to_do,
        "stages_to_do": num_to_do,
    }
