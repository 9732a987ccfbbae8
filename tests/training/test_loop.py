"""Training that is interrupted goes on as if nothing had happened."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import TinyStage
from tensorboard.compat.proto.event_pb2 import Event

from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.launch import guarded
from oaa_tf.models.networks import checkpoints_in, load_network

KINDS = ("cls", "seg")


def state(work_dir: Path, step: int) -> dict[str, np.ndarray]:
    """Everything in a checkpoint."""
    reader = tf.train.load_checkpoint(str(work_dir / "checkpoints" / f"step-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_state(one: Path, other: Path, step: int) -> None:
    expected, found = state(one, step), state(other, step)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def steps_on_disk(work_dir: Path) -> list[int]:
    return [int(path.rpartition("-")[2]) for path in checkpoints_in(work_dir)]


def interrupt_at(stage: TinyStage, step: int, number: signal.Signals = signal.SIGINT):
    """A hook that sends the signal in the middle of a step; for `log_every=1`."""

    def scalars() -> dict[str, float]:
        if int(stage.model.optimizer.iterations.numpy()) == step:
            os.kill(os.getpid(), number)
        return {}

    return scalars


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, records: RecordSet, tmp_path_factory: pytest.TempPathFactory):
    """An uninterrupted run: its kind, folder and results."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, TinyStage.make(request.param, records, folder).train()


def test_a_run_saves_its_last_two_checkpoints(whole) -> None:
    kind, folder, results = whole
    assert steps_on_disk(folder) == [4, 6]
    assert tf.train.latest_checkpoint(str(folder / "checkpoints")) == str(folder / "checkpoints" / "step-6")
    assert np.isfinite(list(results.values())).all()
    names = {"cls": {"loss", "gated_share", "exact_match"}, "seg": {"loss", "pixel_accuracy"}}
    assert results.keys() == names[kind]
    content = state(folder, 6)
    # 17 layers or 16, with momentum; step and learning rate; metrics; and the table or the states of the dropouts.
    num_layers = {"cls": 17, "seg": 16}[kind]
    assert len(content) == 4 * num_layers + 2 + {"cls": 3 * 2 + 4, "seg": 2 * 2 + 2}[kind]
    moved = state(folder, 4)
    assert sum(not np.array_equal(content[name], moved[name]) for name in content) > len(content) / 2


@pytest.mark.parametrize("step", [1, 3, 4])
def test_ctrl_c_and_going_on_is_the_same_as_going_on(whole, records: RecordSet, tmp_path: Path, step: int) -> None:
    kind, folder, results = whole
    first = TinyStage.make(kind, records, tmp_path)
    # Logging must not matter; steps 5 and 6 are the last window of `log_every=4`.
    calls = interrupt_at(first, step)
    with pytest.raises(KeyboardInterrupt):
        first.train(scalars=calls) if step % 4 == 0 else _train_with_signal(first, step)
    assert steps_on_disk(tmp_path)[-1] == step
    second = TinyStage.make(kind, records, tmp_path)
    assert second.train() == results
    assert_same_state(folder, tmp_path, 6)


def _train_with_signal(stage: TinyStage, step: int) -> None:
    """Sends Ctrl-C while batch number `step` is made."""
    batches = stage.batches

    def interrupted(first_step: int):
        for number, batch in enumerate(batches(first_step), first_step + 1):
            if number == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    def dataset(first_step: int):
        spec = batches(first_step).element_spec
        return tf.data.Dataset.from_generator(lambda: interrupted(first_step), output_signature=spec)

    stage.batches = dataset
    stage.train()
