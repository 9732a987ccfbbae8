"""The base class of the training stages; `oaa_tf.training.run` takes a stage from settings to `metrics.json`.

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


def open_records(settings: TrainingSettings) -> RecordSet:
    """Opens the training images; of several workers, the chief verifies their content for all.

    Raises:
        UserError: See `RecordSet.open`.
    """
    from oaa_tf.data.records.record_set import RecordSet
    from oaa_tf.training.workers import addresses_and_index

    return RecordSet.open(settings.records, verify=addresses_and_index()[1] == 0)


class TrainingStage(abc.ABC):
    """A training stage: its constructor reads the inputs, its methods are what differs between stages.

    Attributes:
        name: The command's name.
        settings: The stage's settings.
        records: The training images.
        supervision: What the network learns from, including its `initial_weights`; one of `SUPERVISIONS`.
        inputs: Checksums of the input data, by name.
        chosen: Positions of the images to train on, int64 `[n]`; None for all.
        num_steps: Steps of the training.
    """

    name: ClassVar[str]

    def __init__(
        self,
        settings: TrainingSettings,
        records: RecordSet,
        *,
        supervision: str,
        inputs: Mapping[str, str] | None = None,
        chosen: np.ndarray | None = None,
    ) -> None:
        """Keeps the inputs, which the subclass has read.

        Args:
            settings: The stage's settings.
            records: The training images.
            supervision: That of the stage's own labels, maps or masks.
            inputs: Checksums of input data other than the records, by name.
            chosen: Positions of the images to train on.

        Raises:
            UserError: `initial_weights` can't be used.
        """
        self.settings = settings
        self.records = records
        self.supervision = settings.supervision_with_initial_weights(supervision)
        self.inputs = {"records": records.checksum, **(inputs or {})}
        self.chosen = chosen
        self.num_steps = settings.steps_for(len(records))

    @abc.abstractmethod
    def model(self, network: keras.Model) -> TrainedNetwork:
        """Wraps the network for training; called inside the distribution strategy's scope."""

    def targets(self) -> Targets | None:
        """Adds the training targets to the batches; None where image labels are enough."""
        return None

    def state(self) -> dict[str, Sequence[tf.Variable]]:
        """Variables to save in checkpoints beside the model's, by name."""
        return {}

    def scalars(self) -> dict[str, float]:
        """More numbers for every log entry."""
        return {}

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """Writers to TensorBoard, called with the step at the start, every `pictures_every` steps and at the end."""
        return []

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Writes more results after the training, and returns more metrics."""
        return {}

    def batches(self, first_step: int, context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """The batches from `first_step` to the last step, or the parts of them that are for some replicas."""
        from oaa_tf.data.views.input_pipeline import training_batches

        return training_batches(
            self.records,
            self.settings.views,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            first_step=first_step,
            num_steps=self.num_steps,
            chosen=self.chosen,
            targets=self.targets(),
            context=context,
        )
