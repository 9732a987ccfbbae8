"""What a training stage would do: how much, how long, how large. What `--dry_run` shows."""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from oaa_tf.command_line.plan_text import DONE, TO_DO
from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.data.views.input_pipeline import reading_errors
from oaa_tf.models.networks import newest_step
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.loop import step_function
from oaa_tf.training.memory import memory_errors, peak_memory_bytes
from oaa_tf.training.stage import Training
from oaa_tf.training.start import check_head_weights

_TIMED_STEPS = 3


def plan_training(training: Training) -> dict[str, Any]:
    """Says what `run_training` would do, and leaves nothing behind.

    Time and memory are those of a few steps that it takes with the real network and data; the maps and measurements
    that a stage makes beside its steps come on top. Weights that Keras would download are left out.

    Returns:
        For `oaa_tf.command_line.plan_text`.

    Raises:
        UserError: As `run_training` would.
    """
    settings, records, chosen = training.settings, training.records, training.chosen
    work_dir = WorkDir.peek(settings, training.checksums)
    views, state = settings.views, stage_state(work_dir.path)
    num_images = len(records) if chosen is None else len(chosen)
    canvases = choose_canvases(records.sizes, views.canvas, min_images=settings.batch_size, square=views.square)
    shapes = [f"{width}x{height}" for height, width in (canvases if chosen is None else canvases[chosen])]
    plan = {
        "stage": training.stage,
        "state": state,
        "supervision": training.supervision,
        "split": records.split,
        "images": num_images,
        "classes": len(records.classes),
        "images_by_canvas": {shape: shapes.count(shape) for shape in sorted(set(shapes))},
        "batch_size": settings.batch_size,
        "steps": settings.num_steps,
        "epochs": settings.num_steps * settings.batch_size / num_images,
    }
    if state == DONE:
        return plan
    steps_left = settings.num_steps - newest_step(work_dir.path)
    check_head_weights(training.task, settings)
    # Another stage's weights take the place of the backbone's.
    names = ("head_weights",) if settings.initial_weights else ("backbone_weights", "head_weights")
    downloaded = [name for name in names if getattr(settings, name) == "imagenet"]
    here = dataclasses.replace(settings, **dict.fromkeys(downloaded, "none"))
    with tempfile.TemporaryDirectory() as scratch:
        network, model = dataclasses.replace(training, settings=here).build_model(Path(scratch))
        checkpoint = TrainingCheckpoint(model, Path(scratch), training.make_hooks(model).extra_state)
        seconds = _seconds_per_step(model, training.batches(0, 1 + _TIMED_STEPS))
    return plan | {
        "steps_left": steps_left,
        "parameters": network.count_params(),
        "trained_parameters": sum(int(np.prod(weight.shape)) for weight in network.trainable_weights),
        "checkpoint_bytes": checkpoint.num_bytes | {"in all": sum(checkpoint.num_bytes.values())},
        "timed_steps": _TIMED_STEPS,
        "step_seconds": seconds,
        "training_seconds": seconds * steps_left,
        "memory_of_these_steps_bytes": peak_memory_bytes(),
        "downloads": downloaded,
        "writes": [str(work_dir.path / name) for name in ("checkpoints", "tensorboard", METRICS_FILE)],
    }


def stage_state(work_dir: Path) -> str:
    """How far a stage has come: `DONE`, `TO_DO`, or the step from which it goes on.

    Raises:
        UserError: Its `metrics.json` is damaged.
    """
    state, step = WorkDir(work_dir, None).state, newest_step(work_dir)
    return f"goes on from step {step}" if state == TO_DO and step else state


def _seconds_per_step(model: TrainedNetwork, dataset: tf.data.Dataset) -> float:
    """Median seconds of a step and of reading its batch; the first one, which builds the graph, does not count."""
    distributed = model.distribute_strategy.experimental_distribute_dataset(dataset)
    take_step = step_function(model, distributed.element_spec)
    with memory_errors(model), reading_errors():
        batches = iter(distributed)
        take_step(next(batches))
        seconds, began = [], time.perf_counter()
        for batch in batches:
            take_step(batch)
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
    return statistics.median(seconds)
