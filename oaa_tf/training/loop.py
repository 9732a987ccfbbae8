"""The training loop of every stage: exact resume, progress, logs, and a clean stop at any moment."""

import contextlib
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


def train(stage: TrainingStage, model: TrainedNetwork, work_dir: Path) -> dict[str, float]:
    """Trains until `stage.num_steps`, from the newest checkpoint if there is one.

    Args:
        stage: The settings, the images and the summaries.
        model: Its compiled model.
        work_dir: Its folder.

    Returns:
        The metrics of the last log entry.

    Raises:
        UserError: The loss is not finite, there is not enough memory, a checkpoint can't be read or written, or a log
            can't be written.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    settings, records = stage.settings, stage.records
    checkpoint = TrainingCheckpoint(model, work_dir, stage.state())
    if first_step := checkpoint.restore():
        print(f"{stage.name}: going on from step {first_step} of {stage.num_steps}")
    dataset = model.distribute_strategy.experimental_distribute_dataset(stage.batches(first_step))
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
                take_step(batch)
            except tf.errors.InvalidArgumentError as error:
                if _NOT_FINITE not in error.message:
                    raise
                raise diverged("loss is", step, batch[keys.POSITION], records, model, checkpoint) from None
            progress.advance(settings.batch_size, shown)
            if step % settings.log_every == 0 or is_last:
                # Only here: reading from a GPU makes the program wait for it.
                results = _as_floats(model.get_metrics_result())
                shown = f"loss {results['loss']:.3f}"
                write_scalars(results | stage.scalars(), model, progress, step)
            if step % settings.pictures_every == 0 or is_last:
                write_summaries(summaries, step)
            if stops or step % settings.checkpoint_every == 0 or is_last:
                if not checkpoint.is_finite():
                    raise diverged("weights are", step, batch[keys.POSITION], records, model, checkpoint)
                checkpoint.save(step)
                # So that a process that is killed later leaves no gap in its curves.
                tf.summary.flush()
            if stops and not is_last:
                print(f"\n{stage.name}: checkpoint of step {step} written")
                break
    if stops:
        # Now with the usual handler in place. One that ignores the signal, as in background jobs of a script, raises
        # nothing; the training has stopped all the same.
        signal.raise_signal(stops[-1])
        raise KeyboardInterrupt
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


def step_function(model: TrainedNetwork, batch_spec: Any) -> Callable[[Any], None]:
    """A compiled model's training step, on one or several replicas.

    Args:
        model: A compiled model.
        batch_spec: The dataset's `element_spec`. With it, batches on canvases of different shapes share one graph.

    Returns:
        Takes a step with a batch; raises `tf.errors.InvalidArgumentError` with `_NOT_FINITE` if the loss is not finite.
    """

    def step_of_replica(batch):
        model.train_step(batch)
        # A sum since the metrics were reset: it stays infinite or NaN.
        total = model.loss_mean.total.value
        tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(total)), [_NOT_FINITE])

    @tf.function(input_signature=[batch_spec])
    def train_step(batch):
        model.distribute_strategy.run(step_of_replica, args=(batch,))

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
