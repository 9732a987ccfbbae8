"""The project's training loop: any stage, exact resume, progress, logs, and a clean stop at any moment."""

import contextlib
import math
import signal
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.views.input_pipeline import reading_errors
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.log import training_log, write_settings
from oaa_tf.training.stage import TrainingStage


class StopRequest:
    """Turns SIGTERM and Ctrl-C into a wish that the loop grants between two steps.

    Use it as a context manager; signals are as before behind the block.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        """Nothing is wished yet."""
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        """Listens."""
        for number in self._SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Stops listening."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: types.FrameType | None) -> None:
        self.received = signum


def train(stage: TrainingStage, model: TrainedNetwork, work_dir: Path) -> dict[str, float]:
    """Trains until `settings.num_steps`, from the newest checkpoint if there is one.

    Args:
        stage: What to train on, for how long, and what to write on the way.
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
    if checkpoint.restore():
        print(f"{stage.name}: going on from step {checkpoint.step} of {settings.num_steps}")
    first_step = checkpoint.step
    dataset = model.distribute_strategy.experimental_distribute_dataset(stage.batches(first_step))
    take_step = step_function(model, dataset.element_spec)
    summaries = stage.summaries(model)
    total = settings.num_steps * settings.batch_size
    with (
        # Outside of the log, whose full disk is an error of the same type.
        memory_errors(model),
        StopRequest() as stop,
        training_log(work_dir / "tensorboard"),
        Progress(total, stage.name, done=first_step * settings.batch_size) as progress,
        reading_errors(records),
    ):
        # At every start: some settings may change.
        write_settings(stage.name, settings, first_step)
        if first_step == 0:
            write_summaries(summaries, 0)
        for step, batch in enumerate(dataset, first_step + 1):
            is_last = step == settings.num_steps
            if (step - 1) % settings.log_every == 0:
                model.reset_metrics()
            results = take_step(batch)
            if not math.isfinite(results["loss"]):
                raise diverged("loss is", step, batch, stage, model, checkpoint)
            progress.advance(settings.batch_size, f"loss {results['loss']:.3f}")
            if step % settings.log_every == 0 or is_last:
                write_scalars(results | stage.scalars(), model, progress, step)
            if step % settings.pictures_every == 0 or is_last:
                write_summaries(summaries, step)
            if stop.received is not None or step % settings.checkpoint_every == 0 or is_last:
                if not checkpoint.is_finite():
                    raise diverged("weights are", step, batch, stage, model, checkpoint)
                checkpoint.save()
                # A process that is killed later leaves no gap in its curves.
                tf.summary.flush()
            if stop.received is not None and not is_last:
                print(f"\n{stage.name}: checkpoint of step {step} written")
                break
    if stop.received is not None:
        # Now with the usual handler in place.
        signal.raise_signal(stop.received)
    return _as_floats(model.metric_results())


def write_scalars(values: Mapping[str, float], model: TrainedNetwork, progress: Progress, step: int) -> None:
    """Writes a log entry: these values, the speed and the learning rate."""
    speed = {"images_per_second": progress.rate, "learning_rate": float(model.optimizer.learning_rate.numpy())}
    for name, value in {**values, **speed}.items():
        tf.summary.scalar(name, value, step=step)


def write_summaries(summaries: Sequence[Callable[[int], None]], step: int) -> None:
    """Calls all summaries with the number of steps done."""
    for summary in summaries:
        summary(step)


def step_function(model: TrainedNetwork, batch_spec: Any) -> Callable[[Any], dict[str, float]]:
    """A compiled model's training step: from a batch, on one or several replicas, to the metrics.

    Args:
        model: A compiled model.
        batch_spec: The dataset's `element_spec`. With it, batches on canvases of different shapes share one graph.
    """

    @tf.function(input_signature=[batch_spec])
    def train_step(batch):
        model.distribute_strategy.run(model.train_step, args=(batch,))

    def take_step(batch: Any) -> dict[str, float]:
        train_step(batch)
        # Not what the step returns: with several replicas, each knows its own part of the batch only.
        return _as_floats(model.metric_results())

    return take_step


def _as_floats(values: Mapping[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def diverged(
    what: str,
    step: int,
    batch: dict[str, Any],
    stage: TrainingStage,
    model: TrainedNetwork,
    checkpoint: TrainingCheckpoint,
) -> UserError:
    """The error of a training whose loss or weights are not finite; it names the batch's images."""
    # With several replicas, each has its own part of the batch.
    parts = model.distribute_strategy.experimental_local_results(batch[keys.POSITION])
    images = ", ".join(stage.records.image_ids[position] for part in parts for position in part.numpy())
    kept = f"the checkpoint of step {checkpoint.saved_step} is kept" if checkpoint.saved_step else "no checkpoint yet"
    return UserError(
        f"the {what} not finite at step {step} (images {images}): lower --learning_rate or --new_layer_multiplier, or"
        f" set --clip_norm=10, with another --work_dir; {kept}"
    )


@contextlib.contextmanager
def memory_errors(model: TrainedNetwork) -> Iterator[None]:
    """Where a compiled model is trained inside this block, `UserError` says that it needs more memory than there is.

    Where the system itself ends the process for that, nobody can say anything.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise UserError(
            f"out of memory after {model.optimizer.iterations.numpy()} steps: set --recompute or raise"
            " --accumulate_steps, for the same updates, or lower --batch_size or --image_size; with another --work_dir"
            " if there is a checkpoint in this one, which is kept"
        ) from None
