"""Checkpoints of everything that changes during training, so that a resumed run goes on exactly."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from oaa_tf.command_line.buckets import send_to_bucket
from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.runs.atomic import atomic_write, sync
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER, checkpoints_in, step_of

PARTIAL_FOLDER = ".partial"
"""Inside the folder of checkpoints, where a checkpoint is written before it is moved to its place."""

_NUM_KEPT = 2


class TrainingCheckpoint:
    """Saves and restores network, optimizer, metrics, random states and a stage's own variables.

    Attributes:
        num_bytes: Size of the saved variables, by name; a checkpoint on the disk is hardly larger.
        saved_step: Step of the newest checkpoint that this object has restored or saved; None before.
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
        with model.distribute_strategy.scope():
            model.optimizer.build(model.network.trainable_variables)
        own = {"network": model.network.weights, "optimizer": model.optimizer.variables}
        known = {id(variable) for variables in own.values() for variable in variables}
        # Everything else that Keras keeps: metrics and the states of random number generators.
        rest = {id(v): v for v in (*model.variables, *model.metrics_variables) if id(v) not in known}
        own["rest"] = list(rest.values())
        state = {name: [variable.value for variable in variables] for name, variables in own.items()}
        state |= {name: list(variables) for name, variables in (extra or {}).items()}
        self._checkpoint = tf.train.Checkpoint(**state)
        self._names = {
            f"{name}/{number}/.ATTRIBUTES/VARIABLE_VALUE" for name in state for number in range(len(state[name]))
        }
        self.num_bytes = {
            name: sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
            for name, variables in state.items()
        }
        self._work_dir = work_dir
        self._folder = work_dir / CHECKPOINT_FOLDER
        self.saved_step: int | None = None

    def is_finite(self) -> bool:
        """Whether all weights are finite; a gradient can overflow while the loss does not yet."""
        return all(bool(tf.reduce_all(tf.math.is_finite(weight.value))) for weight in self._model.network.weights)

    def restore(self, work_dir: Path | None = None) -> int:
        """Restores the newest readable checkpoint.

        Args:
            work_dir: The folder of the stage that has it; by default the one to write into.

        Returns:
            Its step; 0 if there is no checkpoint.

        Raises:
            UserError: There are checkpoints, but none can be read.
        """
        failures = []
        for path in reversed(checkpoints_in(work_dir or self._work_dir)):
            try:
                self._checkpoint.read(path).assert_consumed()
            except Exception as error:  # TensorFlow raises many types for a damaged file.
                self._check_version(path)
                failures.append(f"{path}: cannot be restored ({first_line(error)})")
                continue
            for failure in failures:
                print(f"warning: {failure}; going on from {path}")
            self.saved_step = step_of(path)
            break
        else:
            if failures:
                raise UserError(f"{failures[0]}; delete {self._folder} to begin again")
        return self.saved_step or 0

    def _check_version(self, path: str) -> None:
        """Tells a checkpoint of other code from a damaged one.

        Raises:
            UserError: It can be read, and has other variables.
        """
        try:
            found = {name for name, _ in tf.train.list_variables(path) if name.endswith("/.ATTRIBUTES/VARIABLE_VALUE")}
        except Exception:  # It is damaged.
            return
        if found != self._names:
            raise UserError(
                f"{path}: written by another version of this program, which keeps other variables; finish the run with"
                " that version, or begin again in another --work_dir"
            )

    def save(self, step: int) -> None:
        """Writes a checkpoint.

        Args:
            step: Number of steps done.

        Raises:
            UserError: It can't be written; the checkpoints before it stay.
        """
        if self.saved_step == step:
            return
        partial = self._folder / PARTIAL_FOLDER
        try:
            # A killed process may have left it.
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self._checkpoint.write(str(partial / f"step-{step}"))
            # The index last: without it, the rest is no checkpoint.
            for part in sorted(partial.iterdir()):
                sync(part)
                part.replace(self._folder / part.name)
            sync(self._folder)
            self.saved_step = step
            # Only now, when the new one is on the disk.
            self._delete_others(str(self._folder / f"step-{step}"))
            send_to_bucket(self._work_dir)
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"{self._folder}: cannot write the checkpoint of step {step} ({first_line(error)}); free space and"
                f" run the same command again to go on from step {self.saved_step or 0}"
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _delete_others(self, newest: str) -> None:
        # Checkpoints of later steps are damaged; `restore` has passed over them.
        checkpoints = checkpoints_in(self._work_dir)
        kept = checkpoints[: checkpoints.index(newest) + 1][-_NUM_KEPT:]
        # For tf.train.latest_checkpoint.
        with atomic_write(self._folder / "checkpoint") as file:
            file.write(f'model_checkpoint_path: "{Path(newest).name}"\n'.encode())
        names = {Path(path).name for path in kept}
        # The index first, for the same reason; a killed process may have left data without an index.
        for part in sorted(self._folder.glob("step-*.*"), reverse=True):
            if part.stem not in names:
                part.unlink()
