"""Checkpoints of everything that changes during training, so that a resumed run goes on exactly."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from oaa_tf.errors import UserError
from oaa_tf.models.networks import CHECKPOINT_FOLDER
from oaa_tf.models.trained_network import TrainedNetwork

_NUM_KEPT = 2


class TrainingCheckpoint:
    """Saves and restores network, optimizer, metrics, random states and a stage's own variables.

    The optimizer's `iterations`, incremented in the same graph as the weights, is the number of steps done.
    """

    def __init__(
        self, model: TrainedNetwork, work_dir: Path, extra: Mapping[str, Sequence[tf.Variable]] | None = None
    ) -> None:
        """Collects the variables.

        Args:
            model: A built and compiled model.
            work_dir: The stage's folder.
            extra: Further variables by name, such as the attention table's.
        """
        self._model = model
        model.optimizer.build(model.network.trainable_variables)
        weights = model.network.weights
        weight_paths = {id(weight) for weight in weights}
        # Everything else that Keras keeps: metrics and the states of random number generators.
        rest = [variable for variable in model.variables if id(variable) not in weight_paths]
        rest += [v for v in model.metrics_variables if all(v is not other for other in rest)]
        own = {id(variable) for variable in model.optimizer.variables}
        rest = [variable for variable in rest if id(variable) not in own]
        self._checkpoint = tf.train.Checkpoint(
            network=[weight.value for weight in weights],
            optimizer=[variable.value for variable in model.optimizer.variables],
            rest=[variable.value for variable in rest],
            **{name: list(variables) for name, variables in (extra or {}).items()},
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(work_dir / CHECKPOINT_FOLDER), max_to_keep=_NUM_KEPT, checkpoint_name="step"
        )
        self._saved_step: int | None = None

    @property
    def step(self) -> int:
        """Number of steps done."""
        return int(self._model.optimizer.iterations.numpy())

    @property
    def saved_step(self) -> int | None:
        """Step of the newest checkpoint that this object has restored or saved; damaged ones do not count."""
        return self._saved_step

    def is_finite(self) -> bool:
        """Whether all weights are finite; a gradient can overflow while the loss does not yet."""
        return all(bool(tf.reduce_all(tf.math.is_finite(weight.value))) for weight in self._model.network.weights)

    def restore(self) -> bool:
        """Restores the newest readable checkpoint; True if there was one.

        Raises:
            UserError: There are checkpoints, but none can be read.
        """
        failures = []
        for path in reversed(self._manager.checkpoints):
            try:
                self._checkpoint.restore(path).assert_consumed()
                for failure in failures:
                    print(f"warning: {failure}; going on from {path}")
                self._saved_step = self.step
                return True
            except (tf.errors.OpError, AssertionError, ValueError) as error:
                failures.append(f"{path}: cannot be restored ({str(error).strip().splitlines()[0][:160]})")
        if failures:
            raise UserError(f"{failures[0]}; delete {Path(self._manager.directory)} to begin again")
        return False

    def save(self) -> None:
        """Writes a checkpoint of the current step.

        Raises:
            UserError: It can't be written; the checkpoints before it stay.
        """
        if self.saved_step == self.step:
            return
        try:
            self._manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"{self._manager.directory}: cannot write the checkpoint of step {self.step}"
                f" ({str(error).strip().splitlines()[0][:120]}); free space and run the same command again to go on"
                f" from step {self.saved_step or 0}"
            ) from None
        self._saved_step = self.step
