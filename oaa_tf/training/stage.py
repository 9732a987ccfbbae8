"""A training stage from its settings to its `metrics.json`: what the three of them have in common."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.data.input_pipeline import Targets, training_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.metrics_file import origin, write_metrics
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.training.loop import Hooks, train
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.start import choose_strategy, prepare_network
from oaa_tf.work_dir import WorkDir


def run_training(
    stage: str,
    task: str,
    settings: TrainingSettings,
    records: RecordSet,
    make_model: Callable[[keras.Model], TrainedNetwork],
    *,
    supervision: str,
    inputs: Mapping[str, str] | None = None,
    chosen: np.ndarray | None = None,
    targets: Targets | None = None,
    make_hooks: Callable[[TrainedNetwork], Hooks] = lambda model: Hooks(),
    finish: Callable[[keras.Model, WorkDir], dict[str, Any]] = lambda network, work_dir: {},
) -> dict[str, Any]:
    """Trains in `settings.work_dir`, from where an earlier run stopped, unless it is done there already.

    Args:
        stage: The stage's name.
        task: See `NetworkDescription`.
        settings: The stage's settings.
        records: The training images.
        make_model: Wraps the network, inside the distribution strategy's scope.
        supervision: What the training knows about the images, for `metrics.json`.
        inputs: Checksums of what the stage reads besides the records, by name.
        chosen: Positions of the images to train on; all if None.
        targets: Adds the stage's own features to the input pipeline.
        make_hooks: What the stage adds to the loop, from the compiled model.
        finish: Called after the training; writes further results and returns further metrics.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    with WorkDir.claim(settings, {"records": records.checksum, **(inputs or {})}) as work_dir:
        if (metrics := work_dir.finished_metrics()) is not None:
            print(f"{stage}: {work_dir.path} is done")
            return metrics
        network, model = build_model(task, records, settings, make_model, work_dir.path)

        def batches(first_step: int) -> tf.data.Dataset:
            return training_batches(
                records,
                settings.views,
                batch_size=settings.batch_size,
                seed=settings.seed,
                first_step=first_step,
                num_steps=settings.num_steps,
                chosen=chosen,
                targets=targets,
            )

        results = train(model, batches, records, settings, work_dir.path, make_hooks(model), stage)
        results |= finish(network, work_dir)
        return write_metrics(work_dir.path, origin(stage, settings, records, supervision=supervision) | results)


def build_model(
    task: str,
    records: RecordSet,
    settings: TrainingSettings,
    make_model: Callable[[keras.Model], TrainedNetwork],
    work_dir: Path,
) -> tuple[keras.Model, TrainedNetwork]:
    """Builds the network, with its initial weights, and the compiled model around it; see `run_training`."""
    with choose_strategy().scope():
        network, optimizer = prepare_network(task, records, settings, settings.schedule, work_dir)
        model = make_model(network)
        model.compile(optimizer=optimizer, jit_compile=False)
    return network, model
