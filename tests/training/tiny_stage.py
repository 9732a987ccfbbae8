"""A tiny training stage, which the tests of the training share."""

import dataclasses
from pathlib import Path

import tensorflow as tf

from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.train_seg import TrainSegSettings, segmentation_targets
from oaa_tf.training.loop import Hooks, train
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.start import prepare_network


@dataclasses.dataclass
class TinyStage:
    """A stage with a network of width 2 on four tiny images."""

    records: RecordSet
    settings: TrainingSettings
    model: TrainedNetwork
    hooks: Hooks
    work_dir: Path

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
        }
        if kind == "cls":
            settings = TrainClsSettings(**common | {"gate": "none", "fusions": ("max", "average")} | options)
            table = CumulativeAttention(records.first_slots, settings.views.grid, fusions=settings.fusions)
            with (strategy or tf.distribute.get_strategy()).scope():
                network, optimizer = prepare_network("attention", records, settings, settings.schedule, work_dir)
                model = AttentionClassifier(network, table, gate=settings.gate)
                model.compile(optimizer=optimizer, jit_compile=False)
            hooks = Hooks(extra_state={"attention": table.variables})
        else:
            settings = TrainSegSettings(**common | {"labels": "masks", "frame_size": 40} | options)
            network, optimizer = prepare_network("segmentation", records, settings, settings.schedule, work_dir)
            model = DeepLabLargeFOV(network)
            model.compile(optimizer=optimizer, jit_compile=False)
            hooks = Hooks()
        return cls(records, settings, model, hooks, work_dir)

    def batches(self, first_step: int):
        """As the stages make them."""
        is_segmentation = isinstance(self.settings, TrainSegSettings)
        return training_batches(
            self.records,
            self.settings.views,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            first_step=first_step,
            num_steps=self.settings.num_steps,
            targets=segmentation_targets(None) if is_segmentation else None,
        )

    def train(self, **hooks) -> dict[str, float]:
        """Trains with further hooks."""
        hooks = dataclasses.replace(self.hooks, **hooks)
        return train(self.model, self.batches, self.records, self.settings, self.work_dir, hooks, "tiny")
