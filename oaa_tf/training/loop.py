"""The training loop of every stage: exact resume, progress, logs, and a clean stop at any moment."""

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.command_line.boundary import stop_signals
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import reading_errors
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.log import training_log, write_settings
from oaa_tf.training.stage import TrainingStage
from oaa_tf.training.workers import agree, num_workers

_NOT_FINITE = "the loss is not finite"


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Inside the block, `stop_signals` only append their number to the list, for the loop to stop between steps."""
    received: list[int] = []
    with contextlib.ExitStack() as handlers:
        for number in stop_signals():
            before = signal.signal(number, lambda number, frame: received.append(number))
            handlers.callback(signal.signal, number, before)
        yield received


def train(
    stage: TrainingStage, model: TrainedNetwork, work_dir: Path, *, restored_from: Path | None = None
) -> dict[str, float]:
    """Trains until `stage.num_steps`, from the newest checkpoint if there is one.

    Args:
        stage: The settings, the images and the summaries.
        model: Its compiled model.
        work_dir: The folder to write into.
        restored_from: The folder with the checkpoints to go on from; by default `work_dir`.

    Returns:
        The metrics of the last log entry.

    Raises:
        UserError: The loss is not finite, there is not enough memory, a checkpoint can't be read or written, a log
            can't be written, the training was stopped, or a worker is lost or has another folder.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    settings, records, strategy = stage.settings, stage.records, model.distribute_strategy
    checkpoint = TrainingCheckpoint(model, work_dir, stage.state())
    restored_from = restored_from or work_dir
    if first_step := checkpoint.restore(restored_from):
        print(f"{stage.name}: going on from step {first_step} of {stage.num_steps}")
    if not agree(strategy, first_step):
        raise UserError(f"{restored_from}: other workers find other checkpoints in it; it must be one folder for all")
    dataset = strategy.distribute_datasets_from_function(functools.partial(stage.batches, first_step))
    take_step = step_function(model, dataset.element_spec)
    summaries = stage.summaries(model)
    total = stage.num_steps * settings.batch_size
    with (
        # Outside of the log: a disk that is too full for it raises an error of the same type.
        memory_errors(model),
        stop_requests() as stops,
        training_log(work_dir / "tensorboard"),
        Progress(total, stage.name, done=first_step * settings.batch_size) as progress,
        reading_errors(records),
    ):
        # On every run, since some settings may change when a run is resumed.
        write_settings(stage.name, settings, first_step)
        if first_step == 0:
            write_summaries(summaries, 0)
        shown = ""
        for step, batch in enumerate(dataset, first_step + 1):
            is_last = step == stage.num_steps
            if (step - 1) % settings.log_every == 0:
                model.reset_metrics()
            try:
                is_asked = take_step(batch, bool(stops))
            except tf.errors.InvalidArgumentError as error:
                if _NOT_FINITE not in error.message:
                    raise
                raise diverged("loss is", step, batch[keys.POSITION], records, model, checkpoint) from None
            if is_last:
                model.finish()
            progress.advance(settings.batch_size, shown)
            if step % settings.log_every == 0 or is_last:
                # Only here: reading from a GPU makes the program wait for it.
                results = _as_floats(model.get_metrics_result())
                shown = f"loss {results['loss']:.3f}"
                write_scalars(results | stage.scalars(), model, progress, step)
            if step % settings.pictures_every == 0 or is_last:
                write_summaries(summaries, step)
            # Every worker stops at the same step; one alone does not wait for the graph.
            is_stopped = bool(is_asked) if num_workers(strategy) > 1 else bool(stops)
            if is_stopped or step % settings.checkpoint_every == 0 or is_last:
                if not checkpoint.is_finite():
                    raise diverged("weights are", step, batch[keys.POSITION], records, model, checkpoint)
                checkpoint.save(step)
                # So that a process that is killed later leaves no gap in its curves.
                tf.summary.flush()
            if is_stopped and not is_last:
                print(f"\n{stage.name}: checkpoint of step {step} written")
                break
    if stops:
        # Now with the usual handler in place. One that ignores the signal, as in background jobs of a script, raises
        # nothing; the training has stopped all the same.
        signal.raise_signal(stops[-1])
        raise KeyboardInterrupt
    if checkpoint.saved_step != stage.num_steps:
        raise UserError(
            f"{restored_from}: stopped at step {checkpoint.saved_step} of {stage.num_steps}; run the same command to go"
            " on"
        )
    return _as_floats(model.get_metrics_result())


def write_scalars(values: Mapping[str, float], model: TrainedNetwork, progress: Progress, step: int) -> None:
    """Writes a log entry: these values, the speed and the learning rate."""
    speed = {"images_per_second": progress.rate, "learning_rate": float(model.optimizer.learning_rate.numpy())}
    for name, value in {**values, **speed}.items():
        tf.summary.scalar(name, value, step=step)


def write_summaries(summaries: Sequence[Callable[[int], None]], step: int) -> None:
    """Calls all summaries with the number of steps done."""
    for summary in summaries:
        summary(step)


def step_function(model: TrainedNetwork, batch_spec: Any) -> Callable[[Any, bool], tf.Tensor]:
    """A compiled model's training step, on one or several replicas.

    Args:
        model: A compiled model.
        batch_spec: The dataset's `element_spec`. With it, batches on canvases of different shapes share one graph.

    Returns:
        Takes a step with a batch and a request to stop behind it; raises `tf.errors.InvalidArgumentError` with
        `_NOT_FINITE` if the loss is not finite. Returns whether any worker was asked to stop, bool.
    """
    strategy = model.distribute_strategy

    def step_of_replica(batch, is_asked):
        model.train_step(batch)
        # A sum since the metrics were reset: it stays infinite or NaN.
        is_finite = tf.reduce_all(tf.math.is_finite(model.loss_mean.total.value))
        flags = tf.cast(tf.stack([~is_finite, is_asked]), tf.int32)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            flags = context.all_reduce(tf.distribute.ReduceOp.SUM, flags)
        tf.debugging.Assert(flags[0] == 0, [_NOT_FINITE])
        return flags[1] > 0

    @tf.function(input_signature=[batch_spec, tf.TensorSpec([], tf.bool)], autograph=False)
    def train_step(batch, is_asked):
        asked = strategy.run(step_of_replica, args=(batch, is_asked))
        return strategy.experimental_local_results(asked)[0]

    return train_step


def _as_floats(values: Mapping[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def diverged(
    what: str, step: int, positions: Any, records: RecordSet, model: TrainedNetwork, checkpoint: TrainingCheckpoint
) -> UserError:
    """The error when loss or weights are not finite; it names the batch's images by their positions in the records."""
    # With several replicas, each has its own part of the batch.
    parts = model.distribute_strategy.experimental_local_results(positions)
    images = ", ".join(records.image_ids[position] for part in parts for position in part.numpy())
    kept = f"the checkpoint of step {checkpoint.saved_step} is kept" if checkpoint.saved_step else "no checkpoint yet"
    return UserError(
        f"the {what} not finite at step {step} (images {images}): lower --learning_rate or --new_layer_multiplier, or"
        f" set --clip_norm=10, with another --work_dir; {kept}"
    )


@contextlib.contextmanager
def memory_errors(model: TrainedNetwork) -> Iterator[None]:
    """Inside the block, where a compiled model is trained, too little memory is a `UserError`.

    If the system ends the process for that, there is no message.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise UserError(
            f"out of memory after {model.optimizer.iterations.numpy()} steps: set --recompute or raise"
            " --accumulate_steps, for the same updates, or lower --batch_size or --image_size; with another --work_dir"
            " if there is a checkpoint in this one, which is kept"
        ) from None
