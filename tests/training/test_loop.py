"""Training that is interrupted goes on as if nothing had happened."""

import collections
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tiny_stage import TinyStage
from tiny_voc import labels_from_masks

from oaa_tf import train_cls
from oaa_tf.attention.history import read_history
from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.networks import load_network
from oaa_tf.runs.checkpoints import checkpoints_in
from oaa_tf.training import checkpoint as checkpoint_module
from oaa_tf.training import loop
from oaa_tf.training.checkpoint import TrainingCheckpoint

KINDS = ("cls", "seg")

# About what the fixture `eager` does not reach, rightly.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config")


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


@pytest.fixture
def eager():
    """For tests to which the graph does not matter: building it takes seconds."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def finished(records: RecordSet, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the folder of a finished run of the classifier."""
    return shutil.copytree(whole_run("cls", records, tmp_path_factory)[1], tmp_path / "finished")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch):
    """Does something in the middle of a step: `at_step(3, action)`."""

    def install(step: int, action) -> None:
        class WatchedProgress(Progress):
            def advance(self, count: int = 1, note: str = "") -> None:
                super().advance(count, note)
                if self._done == step * count:
                    action()

        monkeypatch.setattr(loop, "Progress", WatchedProgress)

    return install


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, records: RecordSet, tmp_path_factory: pytest.TempPathFactory):
    """An uninterrupted run: its kind, folder and results."""
    return whole_run(request.param, records, tmp_path_factory)


_whole_runs: dict[str, tuple[str, Path, dict[str, float]]] = {}


def whole_run(kind: str, records: RecordSet, tmp_path_factory: pytest.TempPathFactory):
    if kind not in _whole_runs:
        folder = tmp_path_factory.mktemp(kind)
        _whole_runs[kind] = kind, folder, TinyStage.make(kind, records, folder).train()
    return _whole_runs[kind]


def test_a_run_saves_its_last_two_checkpoints(whole) -> None:
    kind, folder, results = whole
    assert steps_on_disk(folder) == [4, 6]
    assert tf.train.latest_checkpoint(str(folder / "checkpoints")) == str(folder / "checkpoints" / "step-6")
    assert np.isfinite(list(results.values())).all()
    names = {"cls": {"loss", "gated_share", "exact_match"}, "seg": {"loss", "pixel_accuracy"}}
    assert results.keys() == names[kind]
    content = state(folder, 6)
    groups = collections.Counter(name.partition("/")[0] for name in content)
    num_layers = {"cls": 17, "seg": 16}[kind]
    assert groups["network"] == 2 * num_layers
    # Momentum and the step.
    assert groups["optimizer"] == 2 * num_layers + 1
    assert groups["attention"] == (4 if kind == "cls" else 0)
    # Two numbers per metric, and the states of the dropouts.
    states = [value for name, value in content.items() if name.startswith("rest") and value.shape == (2,)]
    assert len(states) == (0 if kind == "cls" else 2)
    assert groups["rest"] - len(states) >= 2 * len(results)
    # What the gate has let through since the last summary, by class.
    counts = [value for name, value in content.items() if name.startswith("rest") and value.shape == (3,)]
    assert sum(value.any() for value in counts) == (2 if kind == "cls" else 0)
    moved = state(folder, 4)
    assert sum(not np.array_equal(content[name], moved[name]) for name in content) > len(content) / 2


def test_after_ctrl_c_and_a_crash_the_run_ends_as_if_nothing_had_happened(
    whole, records: RecordSet, tmp_path: Path, at_step, capsys: pytest.CaptureFixture
) -> None:
    kind, folder, results = whole
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        TinyStage.make(kind, records, tmp_path).train()
    assert "tiny: checkpoint of step 3 written" in capsys.readouterr().out
    assert steps_on_disk(tmp_path) == [2, 3]

    def crash() -> None:
        raise MemoryError

    at_step(5, crash)
    with pytest.raises(MemoryError):
        TinyStage.make(kind, records, tmp_path).train()
    assert "tiny: going on from step 3 of 6" in capsys.readouterr().out
    assert steps_on_disk(tmp_path) == [3, 4]

    at_step(0, crash)
    assert TinyStage.make(kind, records, tmp_path).train() == results
    assert "tiny: going on from step 4 of 6" in capsys.readouterr().out
    assert_same_state(folder, tmp_path, 6)


@pytest.mark.slow
def test_resnet101_resumes_as_exactly(records: RecordSet, tmp_path: Path) -> None:
    options = {"backbone": "resnet101", "num_steps": 3, "checkpoint_every": 1, "log_every": 1}
    results = TinyStage.make("seg", records, tmp_path / "whole", **options).train()
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for path in (tmp_path / "resumed/checkpoints").glob("step-3.*"):
        path.unlink()
    assert steps_on_disk(tmp_path / "resumed") == [2]
    assert TinyStage.make("seg", records, tmp_path / "resumed", **options).train() == results
    assert_same_state(tmp_path / "whole", tmp_path / "resumed", 3)
    # Every convolution has six weights with its normalisation, the three layers of the head have two.
    assert sum(name.startswith("network") for name in state(tmp_path / "whole", 3)) == 6 * 104 + 2 * 3


@pytest.mark.usefixtures("eager")
def test_a_mean_teacher_goes_on_as_exactly(records: RecordSet, tmp_path: Path, at_step) -> None:
    options = {"labels": labels_from_masks(records, tmp_path / "labels"), "teacher_after": 0.5}
    results = TinyStage.make("seg", records, tmp_path / "whole", **options).train()
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        TinyStage.make("seg", records, tmp_path / "stopped", **options).train()
    last = TinyStage.make("seg", records, tmp_path / "stopped", **options)
    assert last.train() == results
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 6)
    for mean, weight in zip(last.model.mean_weights, last.model.network.trainable_variables, strict=True):
        np.testing.assert_array_equal(mean.numpy(), weight.numpy())


@pytest.mark.usefixtures("eager")
def test_sigterm_leaves_through_the_error_boundary(records: RecordSet, tmp_path: Path, at_step) -> None:
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert guarded(TinyStage.make("cls", records, tmp_path).train) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps_on_disk(tmp_path)[-1] == 3


@pytest.mark.usefixtures("eager")
def test_what_was_stopped_before_its_first_checkpoint_is_begun_again_with_any_settings(
    records: RecordSet, tmp_path: Path, at_step
) -> None:
    def crash() -> None:
        raise MemoryError

    work_dir = tmp_path / "run"
    tiny = TinyStage.make("cls", records, tmp_path / "tiny").settings
    settings = dataclasses.replace(tiny, work_dir=str(work_dir), log_every=1)
    at_step(3, crash)
    with pytest.raises(MemoryError):
        train_cls.run(dataclasses.replace(settings, checkpoint_every=4, pictures_every=2))
    assert list(read_history(work_dir)) == [0, 2] and events(work_dir)["loss"].keys() == {1, 2}
    train_cls.run(dataclasses.replace(settings, width=3, num_steps=1))
    assert list(read_history(work_dir)) == [0, 1] and events(work_dir)["loss"].keys() == {1}
    assert load_network(work_dir)[0].width == 3
    with pytest.raises(UserError, match="was begun with --width=3, not --width=2"):
        train_cls.run(dataclasses.replace(settings, num_steps=1))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_that_stops_the_training_does_not_finish_it(
    records: RecordSet, tmp_path: Path, at_step, number: int
) -> None:
    # Background jobs of a script begin with SIGINT ignored.
    before = signal.signal(number, signal.SIG_IGN)
    at_step(3, lambda: os.kill(os.getpid(), number))
    settings = TinyStage.make("cls", records, tmp_path / "tiny").settings
    settings = dataclasses.replace(settings, work_dir=str(tmp_path / "run"))
    try:
        with pytest.raises(KeyboardInterrupt):
            train_cls.run(settings)
        assert steps_on_disk(tmp_path / "run")[-1] == 3
        assert not (tmp_path / "run/metrics.json").exists() and not (tmp_path / "run/attention").exists()
    finally:
        signal.signal(number, before)
    at_step(0, lambda: None)
    assert train_cls.run(settings)["num_pairs"] > 0


def test_a_training_that_ends_early_is_not_finished(records: RecordSet, tmp_path: Path, monkeypatch) -> None:
    settings = TinyStage.make("cls", records, tmp_path / "tiny").settings
    settings = dataclasses.replace(settings, work_dir=str(tmp_path / "run"))
    batches = train_cls.ClassifierStage.batches
    monkeypatch.setattr(train_cls.ClassifierStage, "batches", lambda *args: batches(*args).take(3))
    with pytest.raises(UserError, match="run: stopped at step 2 of 6; run the same command to go on"):
        train_cls.run(settings)
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.usefixtures("eager")
def test_ctrl_c_in_the_last_step_finishes_the_training(records: RecordSet, tmp_path: Path, at_step) -> None:
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        TinyStage.make("cls", records, tmp_path, num_steps=2).train()
    stage = TinyStage.make("cls", records, tmp_path, num_steps=2)
    assert np.isfinite(list(stage.train().values())).all()
    assert int(stage.model.optimizer.iterations.numpy()) == 2


def test_a_finished_training_gives_its_results_again(whole, records: RecordSet) -> None:
    kind, folder, results = whole
    before = state(folder, 6)
    assert TinyStage.make(kind, records, folder).train() == results
    for name, value in state(folder, 6).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    records: RecordSet, finished: Path, capsys: pytest.CaptureFixture
) -> None:
    final = state(finished, 6)
    (data,) = (finished / "checkpoints").glob("step-6.data-*")
    data.write_bytes(data.read_bytes()[:5000])
    TinyStage.make("cls", records, finished).train()
    output = capsys.readouterr().out
    assert re.search(r"warning: .*step-6: cannot be restored \(.+\); going on from .*step-4\n", output)
    assert "going on from step 4 of 6" in output
    # The damaged one has been replaced.
    for name, value in state(finished, 6).items():
        np.testing.assert_array_equal(value, final[name])
    load_network(finished)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture(scope="module")
def stage(records: RecordSet, tmp_path_factory: pytest.TempPathFactory) -> TinyStage:
    return TinyStage.make("cls", records, tmp_path_factory.mktemp("stage"))


@pytest.mark.parametrize("damage", [cut, flip_a_bit, empty, Path.unlink])
@pytest.mark.parametrize("part", ["index", "data"])
def test_every_kind_of_damage_is_recognised_and_named(
    stage: TinyStage, finished: Path, capsys: pytest.CaptureFixture, damage, part: str
) -> None:
    expected = state(finished, 4)
    (path,) = (finished / "checkpoints").glob(f"step-6.{part}*")
    damage(path)
    checkpoint = TrainingCheckpoint(stage.model, finished, stage.state())
    assert checkpoint.restore() == checkpoint.saved_step == 4
    # Nothing of the damaged one is left in memory.
    weights = [expected[f"network/{number}/.ATTRIBUTES/VARIABLE_VALUE"] for number in range(34)]
    for weight, value in zip(stage.model.network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, value)
    warned = "step-6: cannot be restored (" in capsys.readouterr().out
    # Without its index it is no checkpoint, but what an interrupted write leaves.
    assert warned == ((part, damage) != ("index", Path.unlink))


def save(stage: TinyStage, work_dir: Path, steps: Sequence[int]) -> None:
    """Checkpoints as a training run writes them."""
    checkpoint = TrainingCheckpoint(stage.model, work_dir, stage.state())
    for step in steps:
        checkpoint.save(step)


def test_what_a_killed_write_has_left_is_removed_by_the_next(stage: TinyStage, tmp_path: Path) -> None:
    save(stage, tmp_path, [2, 4])
    folder = tmp_path / "checkpoints"
    (folder / ".partial/step-9_temp").mkdir(parents=True)
    for name in (".partial/step-9_temp/part-0", "step-3.data-00000-of-00001", "step-7.data-00000-of-00001"):
        (folder / name).touch()
    save(stage, tmp_path, [6])
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"step-4", "step-6", "checkpoint"}
    assert steps_on_disk(tmp_path) == [4, 6]


def test_the_one_before_stays_until_the_new_one_is_on_the_disk(stage: TinyStage, tmp_path: Path, monkeypatch) -> None:
    synced = []
    monkeypatch.setattr(checkpoint_module, "sync", lambda path: synced.append((path.name, steps_on_disk(tmp_path))))
    save(stage, tmp_path, [2, 4, 6])
    data = "data-00000-of-00001"
    assert synced[-3:] == [(f"step-6.{data}", [2, 4]), ("step-6.index", [2, 4]), ("checkpoints", [2, 4, 6])]
    assert steps_on_disk(tmp_path) == [4, 6]


@pytest.mark.usefixtures("eager")
def test_a_damaged_checkpoint_never_outlives_a_good_one(records: RecordSet, finished: Path) -> None:
    (data,) = (finished / "checkpoints").glob("step-6.data-*")
    data.write_bytes(data.read_bytes()[:5000])
    # Now step 5 is saved before step 6 is reached again.
    stage = TinyStage.make("cls", records, finished)
    checkpoint = TrainingCheckpoint(stage.model, finished, stage.state())
    assert checkpoint.restore() == checkpoint.saved_step == 4
    stage.model.train_step(next(iter(stage.batches(4))))
    checkpoint.save(5)
    assert checkpoint.saved_step == 5
    assert steps_on_disk(finished) == [4, 5]
    load_network(finished)


def test_without_any_readable_checkpoint_training_does_not_begin_again_by_itself(
    records: RecordSet, finished: Path
) -> None:
    for data in (finished / "checkpoints").glob("*.data-*"):
        data.write_bytes(b"")
    with pytest.raises(UserError, match=r"step-6: cannot be restored \(.+\); delete .*/checkpoints to begin again"):
        TinyStage.make("cls", records, finished).train()


def test_a_checkpoint_of_other_variables_is_told_from_a_damaged_one(records: RecordSet, finished: Path) -> None:
    with pytest.raises(UserError, match=r"step-6: written by another version of this program, .* another --work_dir"):
        TinyStage.make("cls", records, finished, fusions=("max",)).train()


def names_of(records: RecordSet, stage: TinyStage, step: int) -> str:
    batch = next(iter(stage.batches(step - 1)))
    return ", ".join(records.image_ids[position] for position in batch["position"].numpy())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("poisoned", "found", "what"),
    [
        pytest.param(3, 4, "the loss is", id="the next loss is NaN"),
        pytest.param(4, 4, "the weights are", id="the loss is still finite when the weights overflow"),
    ],
)
def test_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(
    records: RecordSet, tmp_path: Path, at_step, poisoned: int, found: int, what: str
) -> None:
    stage = TinyStage.make("cls", records, tmp_path)
    bias = stage.model.network.get_layer("class_aware_conv").bias
    at_step(poisoned, lambda: bias.assign(tf.fill(bias.shape, np.nan)))
    with pytest.raises(UserError) as caught:
        stage.train()
    message = str(caught.value)
    assert message.startswith(f"{what} not finite at step {found} (images {names_of(records, stage, found)}): lower")
    assert "--learning_rate" in message and "--clip_norm=10" in message
    assert message.endswith("the checkpoint of step 2 is kept")
    assert steps_on_disk(tmp_path) == [2]
    for value in state(tmp_path, 2).values():
        assert np.all(np.isfinite(value))


@pytest.mark.usefixtures("eager")
def test_too_little_memory_is_one_line_and_costs_the_steps_since_the_last_checkpoint(
    records: RecordSet, tmp_path: Path, at_step
) -> None:
    at_step(3, lambda: tf.zeros([1 << 24, 1 << 24]))
    with pytest.raises(UserError, match=r"out of memory after 3 steps: set --recompute or raise --accumulate_steps"):
        TinyStage.make("cls", records, tmp_path).train()
    assert steps_on_disk(tmp_path) == [2]
    load_network(tmp_path)


@pytest.mark.usefixtures("eager")
def test_a_learning_rate_that_is_far_too_high_is_noticed(records: RecordSet, tmp_path: Path) -> None:
    stage = TinyStage.make("seg", records, tmp_path, learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(UserError, match=r"not finite at step 2 .*no checkpoint yet"):
        stage.train()
    assert steps_on_disk(tmp_path) == []


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("num_bytes", "message"),
    [
        pytest.param(
            20_000,
            r".*/checkpoints: cannot write the checkpoint of step 4 \(.*; File too large \[Op:SaveV2\]\); free space"
            r" and run the same command again to go on from step 2",
            id="a checkpoint does not fit",
        ),
        pytest.param(
            200,
            r".*/tensorboard: cannot write the log \(.*; File too large\); free space and run the same command again to"
            r" go on from the last checkpoint",
            id="not even the log fits",
        ),
    ],
)
def test_a_disk_that_gets_full_is_one_line_and_costs_the_steps_since_the_last_checkpoint(
    records: RecordSet, tmp_path: Path, at_step, small_files, num_bytes: int, message: str
) -> None:
    with contextlib.ExitStack() as until_there_is_space:
        at_step(3, lambda: until_there_is_space.enter_context(small_files(num_bytes)))
        with pytest.raises(UserError) as caught:
            TinyStage.make("cls", records, tmp_path, log_every=1).train()
    assert re.fullmatch(message, str(caught.value))
    assert steps_on_disk(tmp_path) == [2]
    # No half of a checkpoint keeps the disk full.
    assert not (tmp_path / "checkpoints/.partial").exists()
    stage = TinyStage.make("cls", records, tmp_path, log_every=1)
    assert TrainingCheckpoint(stage.model, tmp_path, stage.state()).restore()


def events(work_dir: Path) -> dict[str, dict[int, tf.Tensor]]:
    """Scalars of the event files by tag and step; other summaries as None."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted((work_dir / "tensorboard").glob("events*")):
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = float(array) if array.dtype == np.float32 else None
    return found


@pytest.mark.usefixtures("eager")
def test_tensorboard_has_the_curves(records: RecordSet, tmp_path: Path) -> None:
    stage = TinyStage.make("cls", records, tmp_path, log_every=2, num_steps=5, divide_at=0.6)
    pictures = []

    def draw(step: int) -> None:
        pictures.append(step)
        tf.summary.image("drawn", np.zeros((1, 4, 4, 3), np.uint8), step=step)

    results = stage.train(scalars=lambda: {"coverage": 0.25}, summaries=(draw,), summaries_every=2)
    found = events(tmp_path)
    assert found.keys() == {
        *("loss", "gated_share", "exact_match", "coverage", "images_per_second", "learning_rate"),
        # No command of this name, so no text with one.
        *("flags", "drawn"),
    }
    # Every second step, and the last one; the last window is step 5 alone.
    assert list(found["loss"]) == [2, 4, 5]
    assert found["loss"][5] == pytest.approx(results["loss"])
    assert found["coverage"] == {2: 0.25, 4: 0.25, 5: 0.25}
    assert [round(rate, 6) for rate in found["learning_rate"].values()] == [0.01, 0.001, 0.001]
    assert all(rate > 0 for rate in found["images_per_second"].values())
    assert pictures == [0, 2, 4, 5] == list(found["drawn"])
    assert list(found["flags"]) == [0]


def test_metrics_are_read_for_log_entries_only(records: RecordSet, tmp_path: Path, monkeypatch) -> None:
    reads = []
    as_floats = loop._as_floats
    monkeypatch.setattr(loop, "_as_floats", lambda values: reads.append(1) or as_floats(values))
    TinyStage.make("seg", records, tmp_path, num_steps=5, log_every=2, checkpoint_every=5).train()
    # Steps 2, 4 and 5, and the result.
    assert len(reads) == 4


@pytest.mark.slow
def test_float16_resumes_exactly_after_a_step_that_its_loss_scale_has_skipped(
    records: RecordSet, tmp_path: Path, at_step
) -> None:
    def make(folder: str) -> TinyStage:
        stage = TinyStage.make("cls", records, tmp_path / folder, precision="float16", num_steps=4, checkpoint_every=1)
        # With this scale, the first gradients overflow.
        stage.model.optimizer.initial_scale = 2.0**40
        return stage

    make("whole").train()
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        make("run").train()
    at_step(0, lambda: None)
    stage = make("run")
    stage.train()
    assert stage.model.optimizer.iterations < 4
    assert_same_state(tmp_path / "whole", tmp_path / "run", 4)


@pytest.mark.slow
def test_every_operation_of_a_training_has_a_deterministic_kernel_and_no_code_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs at least: TensorFlow refuses an operation that has none. Code that it converts, it writes to a file."""
    script = """
        import sys
        import tempfile
        from pathlib import Path
        from tiny_stage import TinyStage
        from tiny_voc import make_tiny_records

        tf.config.experimental.enable_op_determinism()
        root = Path(sys.argv[1])
        records = make_tiny_records(root / "records")
        for kind in ("cls", "seg"):
            for name in ("one", "other"):
                (root / kind).mkdir(exist_ok=True)
                TinyStage.make(kind, records, root / kind / name, num_steps=2).train()
        assert not list(Path(tempfile.gettempdir()).glob("__autograph_generated_file*"))
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run_with_two_devices(script, tmp_path)
    for kind in KINDS:
        assert_same_state(tmp_path / kind / "one", tmp_path / kind / "other", 2)


@pytest.mark.slow
def test_overflow_in_any_replica_skips_the_step(tmp_path: Path) -> None:
    script = """
        import keras
        import numpy as np

        from oaa_tf.models.optimizer import CaffeSGD
        from oaa_tf.models.trained_network import TrainedNetwork

        class MeanScore(TrainedNetwork):
            def compute_loss_of(self, batch, training=True):
                scores = self.network(batch["image"])
                return tf.reduce_mean(scores), tf.constant(1.0), scores

        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            inputs = keras.Input((1,))
            model = MeanScore(keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs)))
            model.compile(keras.optimizers.LossScaleOptimizer(CaffeSGD(0.1)))
            model.optimizer.build(model.network.trainable_variables)
        before = model.network.get_weights()[0]

        @tf.function
        def step(replica):
            def step_of_replica():
                is_hit = tf.distribute.get_replica_context().replica_id_in_sync_group == replica
                # The loss is finite, but not its product with the loss scale.
                model.train_step({"image": tf.where(is_hit, 1e36, 1.0) * tf.ones([1, 1])})
            strategy.run(step_of_replica)

        for replica in (0, 1):
            step(tf.constant(replica))
            np.testing.assert_array_equal(model.network.get_weights()[0], before)
        step(tf.constant(2))
        np.testing.assert_allclose(model.network.get_weights()[0], before - 0.1, rtol=1e-5)
    """
    run_with_two_devices(script, tmp_path)


@pytest.mark.slow
def test_two_replicas_train_as_one(tmp_path: Path) -> None:
    script = """
        import dataclasses
        import sys
        from pathlib import Path

        import numpy as np
        import tensorflow as tf

        from oaa_tf.command_line.errors import UserError
        from tiny_stage import TinyStage
        from tiny_voc import make_tiny_records

        root = Path(sys.argv[1])
        records = make_tiny_records(root / "records")
        # 5 images: three for one replica, two for the other.
        options = {"batch_size": 5, "num_steps": 3, "log_every": 1, "clip_norm": 1.0, "learning_rate": 0.02}
        one = TinyStage.make("cls", records, root / "one", **options)
        expected = one.train()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        two = TinyStage.make("cls", records, root / "two", strategy, **options)
        before = two.model.network.get_weights()
        results = two.train()
        for name, value in expected.items():
            np.testing.assert_allclose(results[name], value, rtol=1e-4, err_msg=name)
        changes = []
        for first, value, other in zip(before, one.model.network.get_weights(), two.model.network.get_weights()):
            np.testing.assert_allclose(other, value, atol=1e-4)
            changes.append(np.abs(value - first).max())
        assert max(changes) > 1e-2
        table, other = one.model.cumulative_attention, two.model.cumulative_attention
        np.testing.assert_array_equal(other.num_updates, table.num_updates)
        assert np.abs(np.int32(other.maximum.numpy()) - table.maximum.numpy()).max() <= 1
        counters = [stage.model.gated_share_by_class.variables for stage in (one, two)]
        # Three epochs, and three of the four images, one of which has two labels.
        assert sum(counters[0][1].numpy()) in (18, 19), counters[0][1]
        for counter, other in zip(*counters):
            np.testing.assert_array_equal(other.numpy(), counter.numpy())
        assert np.isfinite(two.model.gated_share_by_class.take()).any()
        assert not any(counter.numpy().any() for counter in counters[1])

        # The second replica's part of the batch counts as much as the first one's.
        def poisoned(first_step, context):
            def poison(number, part):
                return part | {"labels": tf.where(number % 2 == 1, np.float32(np.inf), 1) * part["labels"]}
            return two.batches_without_poison(first_step, context).enumerate().map(poison)

        two.batches_without_poison, two.batches = two.batches, poisoned
        two.stage.num_steps = 4
        try:
            two.train()
        except UserError as error:
            assert "the loss is not finite at step 4" in str(error), error
            assert str(error).count(",") >= 4, error
        else:
            raise AssertionError("NaN in the second replica went unnoticed")
    """
    run_with_two_devices(script, tmp_path)


@pytest.mark.slow
def test_every_stage_draws_and_measures_with_two_replicas(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path

        import tensorflow as tf

        from event_summaries import read_pictures
        from oaa_tf import train_affinity, train_cls, train_integral, train_seg
        from oaa_tf.report.event_files import read_scalars
        from oaa_tf.training import run
        from tiny_voc import labels_from_masks, make_tiny_records

        root = Path(sys.argv[1])
        records = make_tiny_records(root / "records")
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        run.choose_strategy = lambda batch_size: strategy
        common = {"records": str(records.manifest_path), "width": 2, "image_size": 32, "batch_size": 4, "num_steps": 2}
        common |= {"backbone_weights": "none", "initializer": "he", "new_layer_multiplier": 1.0, "clip_norm": 5.0}
        for module, settings, tag in (
            (
                train_cls,
                train_cls.TrainClsSettings(work_dir=str(root / "cls"), gate="none", **common),
                "cam/recall_at_0.3",
            ),
            (
                train_integral,
                train_integral.TrainIntegralSettings(
                    work_dir=str(root / "integral"), maps=str(root / "cls/attention/oaa"), **common
                ),
                "integral_attention/recall_at_0.3",
            ),
            (
                train_affinity,
                train_affinity.TrainAffinitySettings(
                    work_dir=str(root / "affinity"),
                    maps=str(root / "cls/attention/oaa"),
                    labels="masks",
                    num_epochs=0.0,
                    **common,
                ),
                "spread_attention/recall_at_0.3",
            ),
            (
                train_seg,
                train_seg.TrainSegSettings(
                    work_dir=str(root / "seg"),
                    labels=labels_from_masks(records, root / "labels"),
                    teacher_after=0.5,
                    frame_size=40,
                    **common,
                ),
                "prediction/recall",
            ),
        ):
            module.run(settings)
            log = Path(settings.work_dir) / "tensorboard"
            assert len(read_pictures(log)) == 2 * 4, tag
            assert list(read_scalars(log)[tag]) == [0, 2], tag
        shares = read_scalars(root / "cls/tensorboard")
        assert {tag: shares[tag] for tag in shares if "by_class" in tag} == {
            f"gated_share_by_class/{name}": {2: 1.0} for name in ("cat", "dog")
        }
    """
    run_with_two_devices(script, tmp_path)


TWO_DEVICES = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def run_with_two_devices(script: str, folder: Path) -> None:
    """Runs a script in a process of its own: the number of devices is fixed once TensorFlow has started."""
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (tests, tests.parent, tests.parents[1])))
    result = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES + textwrap.dedent(script), str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert result.returncode == 0, result.stderr[-3000:]
