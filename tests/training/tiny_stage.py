"""A tiny training stage, which the tests of the training share."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.train_cls import ClassifierStage, TrainClsSettings
from oaa_tf.train_seg import SegmentationStage, TrainSegSettings
from oaa_tf.training.initial_network import prepare_network
from oaa_tf.training.loop import train
from oaa_tf.training.stage import TrainingStage


class TinyStage:
    """A stage called "tiny", with a network of width 2 on four tiny images, that writes no summaries of its own."""

    def __init__(self, stage: TrainingStage, model: TrainedNetwork, work_dir: Path) -> None:
        self.stage = stage
        self.records = stage.records
        self.batches = stage.batches
        self.settings = stage.settings
        self.model = model
        self.work_dir = work_dir

    @classmethod
    def make(
        cls, kind: str, records: RecordSet, work_dir: Path, strategy: tf.distribute.Strategy | None = None, **options
    ) -> "TinyStage":
        """`kind` is "cls", with the attention table, or "seg", with dropout."""
        work_dir.mkdir(exist_ok=True)
        common = {
            "records": str(records.manifest_path),
            "work_dir": str(work_dir),
            "image_size": 32,
            "batch_size": 3,
            "num_steps": 6,
            "learning_rate": 0.01,
            "clip_norm": 5.0,
            "new_layer_multiplier": 1.0,
            "initializer": "he",
            "backbone_weights": "none",
            "width": 2,
            "min_scale": 0.8,
            "max_scale": 1.3,
            "checkpoint_every": 2,
            "log_every": 4,
            "accumulate_steps": 1,
        }
        stage: TrainingStage
        if kind == "cls":
            own = {"gate": "none", "fusions": ("max", "average")}
            stage = ClassifierStage(TrainClsSettings(**common | own | options))
        else:
            stage = SegmentationStage(TrainSegSettings(**common | {"labels": "masks", "frame_size": 40} | options))
        stage.name = "tiny"
        with (strategy or tf.distribute.get_strategy()).scope():
            network, optimizer = prepare_network(
                stage.records.classes, stage.settings, work_dir, num_steps=stage.num_steps
            )
            model = stage.model(network)
            model.compile(optimizer=optimizer, jit_compile=False)
        return cls(stage, model, work_dir)

    def state(self) -> dict[str, Any]:
        """What checkpoints hold beside the model."""
        return self.stage.state()

    def train(
        self,
        summaries: Sequence[Callable[[int], None]] = (),
        summaries_every: int = 500,
        scalars: Callable[[], dict[str, float]] = dict,
    ) -> dict[str, float]:
        """Trains with these summaries and scalars."""
        self.stage.summaries = lambda model: list(summaries)
        self.stage.scalars = scalars
        self.stage.batches = self.batches
        self.stage.settings = dataclasses.replace(self.settings, pictures_every=summaries_every)
        return train(self.stage, self.model, self.work_dir)
