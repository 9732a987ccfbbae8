"""What a training stage fills in; `oaa_tf.training.run` takes it from settings to `metrics.json`.

TensorFlow is imported by the methods that need it, so that a stage's settings and help load without it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from oaa_tf.training.settings import TrainingSettings

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from oaa_tf.data.records.record_set import RecordSet
    from oaa_tf.data.views.targets import Targets
    from oaa_tf.models.trained_network import TrainedNetwork


class TrainingStage(abc.ABC):
    """A training stage: what it reads in its constructor, and what differs from the others in its methods.

    Attributes:
        name: The command's name.
        task: See `NetworkDescription`.
        settings: The stage's settings.
        records: The training images.
        supervision: What the network learns from, one of `SUPERVISIONS`; `initial_weights` included.
        inputs: Checksums of what the stage reads, by name.
        chosen: Positions of the images to train on, int64 `[n]`; None for all.
    """

    name: ClassVar[str]
    task: ClassVar[str]

    def __init__(
        self,
        settings: TrainingSettings,
        records: RecordSet,
        *,
        supervision: str,
        inputs: Mapping[str, str] | None = None,
        chosen: np.ndarray | None = None,
    ) -> None:
        """Takes what the subclass has read.

        Args:
            settings: The stage's settings.
            records: The training images.
            supervision: That of the stage's own labels, maps or masks.
            inputs: Checksums of what the stage reads besides the records, by name.
            chosen: Positions of the images to train on.

        Raises:
            UserError: `initial_weights` can't be used.
        """
        self.settings = settings
        self.records = records
        self.supervision = settings.supervision_with_initial_weights(supervision)
        self.inputs = {"records": records.checksum, **(inputs or {})}
        self.chosen = chosen

    @abc.abstractmethod
    def model(self, network: keras.Model) -> TrainedNetwork:
        """Wraps the network for training; called inside the distribution strategy's scope."""

    def targets(self) -> Targets | None:
        """Adds what the network is to learn to the batches; None where image labels are enough."""
        return None

    def state(self) -> dict[str, Sequence[tf.Variable]]:
        """Variables to save in checkpoints beside the model's, by name."""
        return {}

    def scalars(self) -> dict[str, float]:
        """Further numbers for every log entry."""
        return {}

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """What to write to TensorBoard at the start, every `pictures_every` steps and at the end, given the step."""
        return []

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Writes further results after the training, and returns further metrics."""
        return {}

    def batches(self, first_step: int) -> tf.data.Dataset:
        """The batches from `first_step` to the last step."""
        from oaa_tf.data.views.input_pipeline import training_batches

        return training_batches(
            self.records,
            self.settings.views,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            first_step=first_step,
            num_steps=self.settings.num_steps,
            chosen=self.chosen,
            targets=self.targets(),
        )
