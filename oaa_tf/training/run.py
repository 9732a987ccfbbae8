"""Runs a training stage, from its settings to its `metrics.json`; and its dry run."""

import dataclasses
import math
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.command_line.dry_run import DONE
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import PRECISIONS
from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.runs.checkpoints import newest_step, stage_state
from oaa_tf.runs.metrics_file import origin, run_once
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.devices import choose_strategy, use_devices
from oaa_tf.training.initial_network import check_head_weights, choose_precision, prepare_network
from oaa_tf.training.loop import train
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.stage import TrainingStage
from oaa_tf.training.training_time import seconds_per_epoch
from oaa_tf.training.workers import agree, is_chief, of_chief, worker_errors


def run_training(stage_class: Callable[[Any], TrainingStage], settings: TrainingSettings) -> dict[str, Any]:
    """Trains in the settings' `work_dir`, from where an earlier run stopped, unless it is done there already.

    With several workers, all of them call this with the same settings.

    Args:
        stage_class: Makes the stage from its settings.
        settings: The settings.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    use_devices(settings)
    strategy = choose_strategy(settings.batch_size)
    with worker_errors(strategy):
        # The others wait here until the chief has all inputs, and in the end until it has written the results.
        if not agree(strategy, zlib.crc32(settings.as_flags().encode())):
            raise UserError("the workers have other settings: start the same command on all, with the same --work_dir")
        if is_chief(strategy):
            metrics = _run_as_chief(stage_class, settings, strategy)
        else:
            _help_chief(stage_class, settings, strategy)
        agree(strategy, 0)
    return metrics if is_chief(strategy) else WorkDir(Path(settings.work_dir)).finished_metrics() or {}


def _run_as_chief(
    stage_class: Callable[[Any], TrainingStage], settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    stage = stage_class(settings)

    def work(work_dir: Path) -> dict[str, Any]:
        model = compiled_model(stage, settings, work_dir, strategy)
        metrics = train(stage, model, work_dir) | stage.results(model.network, work_dir)
        return origin(stage.name, settings, stage.records.provenance, supervision=stage.supervision) | metrics

    return run_once(stage.name, settings, stage.inputs, work)


def _help_chief(
    stage_class: Callable[[Any], TrainingStage], settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> None:
    """Trains like the chief, but writes what it does anyway into a folder that nobody needs."""
    work_dir = Path(settings.work_dir)
    if WorkDir(work_dir).finished_metrics() is not None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        settings = dataclasses.replace(settings, work_dir=scratch)
        stage = stage_class(settings)
        model = compiled_model(stage, settings, Path(scratch), strategy)
        train(stage, model, Path(scratch), restored_from=work_dir)


def compiled_model(
    stage: TrainingStage, settings: TrainingSettings, work_dir: Path, strategy: tf.distribute.Strategy
) -> TrainedNetwork:
    """The model that a stage trains, with its initial weights; describes its network in `work_dir`.

    Raises:
        UserError: See `prepare_network`.
    """
    precisions = list(PRECISIONS)
    chosen = choose_precision(settings, work_dir) if is_chief(strategy) else precisions[0]
    settings = dataclasses.replace(settings, precision=precisions[of_chief(strategy, precisions.index(chosen))])
    with strategy.scope():
        network, optimizer = prepare_network(stage.records.classes, settings, work_dir, num_steps=stage.num_steps)
        model = stage.model(network)
        model.compile(optimizer=optimizer, jit_compile=False)
    return model


def dry_run_training(stage_class: Callable[[Any], TrainingStage], settings: TrainingSettings) -> dict[str, Any]:
    """What `run_training` would do, for `dry_run_text`; leaves nothing behind, and downloads no weights.

    Raises:
        UserError: As `run_training` would before its first step.
    """
    use_devices(settings)
    stage = stage_class(settings)
    records, views = stage.records, settings.views
    work_dir = WorkDir.peek(settings, stage.inputs).path
    state = stage_state(work_dir)
    canvases = choose_canvases(records.sizes, views.canvas, min_images=settings.batch_size, square=views.square)
    chosen = slice(None) if stage.chosen is None else stage.chosen
    shapes, sizes = [f"{width}x{height}" for height, width in canvases[chosen]], records.sizes[chosen]
    found = {
        "stage": stage.name,
        "state": state,
        "supervision": stage.supervision,
        "split": records.split,
        "images": len(shapes),
        "classes": len(records.classes),
        "images_by_canvas": {shape: shapes.count(shape) for shape in sorted(set(shapes))},
        "batch_size": settings.batch_size,
        "steps": stage.num_steps,
        "epochs": stage.num_steps * settings.batch_size / len(shapes),
    }
    if state == DONE:
        return found
    check_head_weights(settings)
    # Another stage's weights take the place of the backbone's.
    weights = ("head_weights",) if settings.initial_weights else ("backbone_weights", "head_weights")
    downloads = [name for name in weights if getattr(settings, name) == "imagenet"]
    with tempfile.TemporaryDirectory() as scratch:
        no_downloads: dict[str, Any] = dict.fromkeys(downloads, "none")
        without_downloads = dataclasses.replace(settings, **no_downloads)
        model = compiled_model(stage, without_downloads, Path(scratch), tf.distribute.get_strategy())
        num_bytes = TrainingCheckpoint(model, Path(scratch), stage.state()).num_bytes
    steps_left = stage.num_steps - newest_step(work_dir)
    epoch_seconds = seconds_per_epoch(records.classes, settings, sizes)
    return found | {
        "steps_left": steps_left,
        "epoch_seconds": epoch_seconds,
        "training_seconds": epoch_seconds * steps_left * settings.batch_size / len(sizes),
        "parameters": model.network.count_params(),
        "trained_parameters": sum(math.prod(weight.shape) for weight in model.network.trainable_weights),
        "checkpoint_bytes": num_bytes | {"in all": sum(num_bytes.values())},
        "downloads": downloads,
        "writes": [str(work_dir / name) for name in ("checkpoints", "tensorboard", METRICS_FILE)],
    }
