"""A training stage from its settings to its `metrics.json`: what the three of them have in common."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import Targets, training_batches
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.runs.metrics_file import origin, read_training_metrics, run_once
from oaa_tf.runs.supervision import strongest_supervision
from oaa_tf.training.loop import Hooks, train
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.start import choose_strategy, prepare_network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A training stage with its settings and inputs, for `run_training` or `oaa_tf.training.plan.plan_training`.

    Attributes:
        stage: The stage's name.
        task: See `NetworkDescription`.
        settings: The stage's settings.
        records: The training images.
        make_model: Wraps the network, inside the distribution strategy's scope.
        supervision: What the network has learned from, see `supervision_with_start`.
        inputs: Checksums of what the stage reads besides the records, by name.
        chosen: Positions of the images to train on; all if None.
        targets: Adds the stage's own features to the input pipeline.
        make_hooks: What the stage adds to the loop, from the compiled model.
        finish: Called after the training with the network and the work_dir; writes further results and returns further
            metrics.
    """

    stage: str
    task: str
    settings: TrainingSettings
    records: RecordSet
    make_model: Callable[[keras.Model], TrainedNetwork]
    supervision: str
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    chosen: np.ndarray | None = None
    targets: Targets | None = None
    make_hooks: Callable[[TrainedNetwork], Hooks] = lambda model: Hooks()
    finish: Callable[[keras.Model, Path], dict[str, Any]] = lambda network, work_dir: {}

    @property
    def checksums(self) -> dict[str, str]:
        """Checksums of all that the stage reads, by name."""
        return {"records": self.records.checksum, **self.inputs}

    def batches(self, first_step: int, num_steps: int) -> tf.data.Dataset:
        """The batches of the steps from `first_step` up to, without, `num_steps`."""
        return training_batches(
            self.records,
            self.settings.views,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            first_step=first_step,
            num_steps=num_steps,
            chosen=self.chosen,
            targets=self.targets,
        )

    def build_model(self, work_dir: Path) -> tuple[keras.Model, TrainedNetwork]:
        """Builds the network, with its initial weights, and the compiled model around it.

        Raises:
            UserError: See `prepare_network`.
        """
        with choose_strategy().scope():
            network, optimizer = prepare_network(
                self.task, self.records, self.settings, self.settings.schedule, work_dir
            )
            model = self.make_model(network)
            model.compile(optimizer=optimizer, jit_compile=False)
        return network, model


def training_before(settings: TrainingSettings) -> dict[str, Any] | None:
    """The `metrics.json` of the training that has made a stage's `initial_weights`; None if it begins without.

    Raises:
        UserError: The initial weights are of no training, or of one that has not come to its end.
    """
    if not settings.initial_weights:
        return None
    stage_dir = Path(settings.initial_weights)
    metrics = read_training_metrics(stage_dir)
    if metrics is None:
        NetworkDescription.read(stage_dir)
        raise UserError(f"{stage_dir}: its training has not come to its end; run that stage again to finish it")
    return metrics


def supervision_with_start(supervision: str, settings: TrainingSettings) -> str:
    """What a network has learned from that begins with `initial_weights`: the stronger of two supervisions.

    Args:
        supervision: That of the stage's own labels, maps or masks.
        settings: The stage's settings.

    Raises:
        UserError: See `training_before`.
    """
    before = training_before(settings)
    return strongest_supervision(supervision, before["supervision"]) if before else supervision


def run_training(training: Training) -> dict[str, Any]:
    """Trains in the settings' `work_dir`, from where an earlier run stopped, unless it is done there already.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    stage, settings, records = training.stage, training.settings, training.records

    def work(work_dir: Path) -> dict[str, Any]:
        network, model = training.build_model(work_dir)

        def batches(first_step: int) -> tf.data.Dataset:
            return training.batches(first_step, settings.num_steps)

        results = train(model, batches, records, settings, work_dir, training.make_hooks(model), stage)
        results |= training.finish(network, work_dir)
        return origin(stage, settings, records.provenance, supervision=training.supervision) | results

    return run_once(stage, settings, training.checksums, work)
