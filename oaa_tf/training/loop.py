"""The project's training loop: any stage, exact resume, progress, logs, and a clean stop at any moment."""

import dataclasses
import math
import signal
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import reading_errors
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.log import training_log, write_settings
from oaa_tf.training.memory import memory_errors
from oaa_tf.training.settings import TrainingSettings


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


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a stage adds to the loop.

    Attributes:
        extra_state: Further variables to save and restore, by name.
        scalars: Called at each log entry; gives further numbers to log.
        summaries: Each is called with the number of steps done, at the start, every `summaries_every` steps and at the
            end, inside the summary writer's context.
        summaries_every: Steps between them.
    """

    extra_state: Mapping[str, Sequence[tf.Variable]] = dataclasses.field(default_factory=dict)
    scalars: Callable[[], dict[str, float]] = dict
    summaries: Sequence[Callable[[int], None]] = ()
    summaries_every: int = 500

    def write_summaries(self, step: int) -> None:
        """Calls all summaries."""
        for summary in self.summaries:
            summary(step)


def train(
    model: TrainedNetwork,
    batches: Callable[[int], tf.data.Dataset],
    records: RecordSet,
    settings: TrainingSettings,
    work_dir: Path,
    hooks: Hooks,
    label: str,
) -> dict[str, float]:
    """Trains until `settings.num_steps`, from the newest checkpoint if there is one.

    Args:
        model: A compiled model.
        batches: Makes the dataset that begins at a given step; see `oaa_tf.data.views.input_pipeline.training_batches`.
        records: Names the images of a batch in errors.
        settings: The stage's settings.
        work_dir: The stage's folder.
        hooks: What the stage adds.
        label: The stage's name.

    Returns:
        The metrics of the last log entry.

    Raises:
        UserError: The loss is not finite, there is not enough memory, a checkpoint can't be read or written, or a log
            can't be written.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    checkpoint = TrainingCheckpoint(model, work_dir, hooks.extra_state)
    if checkpoint.restore():
        print(f"{label}: going on from step {checkpoint.step} of {settings.num_steps}")
    strategy = model.distribute_strategy

    first_step = checkpoint.step
    dataset = strategy.experimental_distribute_dataset(batches(first_step))
    take_step = step_function(model, dataset.element_spec)
    total = settings.num_steps * settings.batch_size
    with (
        # Outside of the log, whose full disk is an error of the same type.
        memory_errors(model),
        StopRequest() as stop,
        training_log(work_dir / "tensorboard"),
        Progress(total, label, done=first_step * settings.batch_size) as progress,
        reading_errors(),
    ):
        # At every start: some settings may change.
        write_settings(label, settings, first_step)
        if first_step == 0:
            hooks.write_summaries(0)
        for step, batch in enumerate(dataset, first_step + 1):
            if (step - 1) % settings.log_every == 0:
                model.reset_metrics()
            results = take_step(batch)
            if not math.isfinite(results["loss"]):
                raise UserError(_diverged("loss is", step, strategy, batch, records, checkpoint))
            progress.advance(settings.batch_size, f"loss {results['loss']:.3f}")
            if step % settings.log_every == 0 or step == settings.num_steps:
                scalars = results | hooks.scalars() | {"images_per_second": progress.rate}
                scalars["learning_rate"] = float(model.optimizer.learning_rate.numpy())
                for name, value in scalars.items():
                    tf.summary.scalar(name, value, step=step)
            if step % hooks.summaries_every == 0 or step == settings.num_steps:
                hooks.write_summaries(step)
            if stop.received is not None or step % settings.checkpoint_every == 0 or step == settings.num_steps:
                if not checkpoint.is_finite():
                    raise UserError(_diverged("weights are", step, strategy, batch, records, checkpoint))
                checkpoint.save()
                # A process that is killed later leaves no gap in its curves.
                tf.summary.flush()
            if stop.received is not None and step < settings.num_steps:
                print(f"\n{label}: checkpoint of step {step} written")
                break
    if stop.received is not None:
        # Now with the usual handler in place.
        signal.raise_signal(stop.received)
    return _as_floats(model.metric_results())


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


def _diverged(
    what: str,
    step: int,
    strategy: tf.distribute.Strategy,
    batch: dict,
    records: RecordSet,
    checkpoint: TrainingCheckpoint,
) -> str:
    positions = [p for local in strategy.experimental_local_results(batch[keys.POSITION]) for p in local.numpy()]
    images = ", ".join(records.image_ids[position] for position in positions)
    kept = f"the checkpoint of step {checkpoint.saved_step} is kept" if checkpoint.saved_step else "no checkpoint yet"
    return (
        f"the {what} not finite at step {step} (images {images}): lower --learning_rate or --new_layer_multiplier, or"
        f" set --clip_norm=10, with another --work_dir; {kept}"
    )
