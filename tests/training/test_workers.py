"""Several workers that train one network."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_voc import make_tiny_records

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.training import devices, workers
from oaa_tf.training.devices import choose_strategy
from oaa_tf.training.workers import addresses_and_index
from tools import scale_test
from tools.kill_test import compare
from tools.scale_test import ScaleTestSettings, free_ports, tf_config
from tools.stage_process import TINY, StageProcess

COMMON = (*TINY, "--width=2", "--image_size=32", "--batch_size=4", "--num_steps=6", "--checkpoint_every=2")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    return make_tiny_records(tmp_path_factory.mktemp("records"))


def test_one_process_needs_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert addresses_and_index() == ([], 0)
    assert workers.strategy_of_workers() is None
    strategy = tf.distribute.get_strategy()
    assert workers.is_chief(strategy) and workers.agree(strategy, 7) and workers.of_chief(strategy, 7) == 7


def test_a_cluster_of_one_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", tf_config(["here:1"], 0))
    assert workers.strategy_of_workers() is None


@pytest.mark.parametrize(
    ("cluster", "task", "index"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, 1),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "worker", "index": 0}, 1),
        # As some schedulers write it.
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "chief", "index": "0"}, 0),
    ],
)
def test_the_chief_comes_first(cluster: dict, task: dict, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert addresses_and_index() == (["a:1", "b:1"], index)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": null}}',
    ],
)
def test_a_configuration_that_names_no_workers_is_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r"TF_CONFIG=.*: expected workers and one of them, such as"):
        addresses_and_index()


def test_every_replica_needs_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(devices, "strategy_of_workers", Four)
    with pytest.raises(UserError, match="--batch_size=3: expected at least 4, one image for each"):
        choose_strategy(3)
    assert isinstance(choose_strategy(4), Four)


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "num_replicas"), [(8, 3, 3), (10, 2, 4), (5, 2, 4), (6, 1, 2), (4, 1, 1)]
)
def test_parts_make_up_the_batch(records: RecordSet, batch_size: int, num_workers: int, num_replicas: int) -> None:
    options = {"batch_size": batch_size, "seed": 3, "num_steps": 4, "first_step": 1}
    views = ViewOptions(32, min_scale=0.8, max_scale=1.2)
    of_workers = []
    for worker in range(num_workers):
        context = tf.distribute.InputContext(num_workers, worker, num_replicas)
        of_workers.append(training_batches(records, views, context=context, **options).as_numpy_iterator())
    for batch in training_batches(records, views, **options).as_numpy_iterator():
        parts = [next(parts) for parts in of_workers for _ in range(num_replicas // num_workers)]
        sizes = [len(part[keys.POSITION]) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
        for name, whole in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole)
    assert not any(list(parts) for parts in of_workers)


def start(records: RecordSet, work_dirs: list[Path], *arguments: str, stage: str = "train_cls") -> list[StageProcess]:
    """Starts a worker for each folder."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(work_dirs))]
    given = (*COMMON, f"--records={records.manifest_path}", *arguments)
    return [
        StageProcess(stage, work_dir, given, log=str(index), environment={"TF_CONFIG": tf_config(addresses, index)})
        for index, work_dir in enumerate(work_dirs)
    ]


def log_of(worker: StageProcess, index: int) -> str:
    return Path(f"{worker.work_dir}.{index}.log").read_text()


@pytest.mark.slow
def test_workers_are_as_good_as_devices_and_survive_a_kill(tmp_path: Path) -> None:
    settings = ScaleTestSettings(quick=True, stages=("train_cls",), work_dir=str(tmp_path / "runs"))
    assert scale_test.run(settings) == []


@pytest.mark.slow
def test_closed_gates_and_a_stop_of_one_worker(records: RecordSet, tmp_path: Path) -> None:
    # No worker has anything to accumulate, and all take the chief's choice.
    closed = ("--accumulate_from_epoch=100", "--precision=auto")
    for worker in start(records, [tmp_path / "whole"] * 2, *closed):
        worker.finish()

    long = (*closed, "--num_steps=20000", "--checkpoint_every=50")
    stopped = start(records, [tmp_path / "stopped"] * 2, *long)
    stopped[0].wait_until(lambda: stopped[0].newest_step > 0)
    stopped[1].process.send_signal(signal.SIGTERM)
    for worker in stopped:
        worker.wait()
    assert [worker.process.returncode for worker in stopped] == [2, 128 + signal.SIGTERM]
    step = stopped[0].newest_step
    assert 0 < step < 20000
    assert f"stopped: stopped at step {step} of 20000; run the same command to go on" in log_of(stopped[0], 0)
    assert f"train_cls: checkpoint of step {step} written" in log_of(stopped[1], 1)
    # Another number of workers goes on.
    (alone,) = start(records, [tmp_path / "stopped"], *long)
    alone.wait_until(lambda: alone.newest_step > step)
    alone.kill()
    assert f"train_cls: going on from step {step} of 20000" in log_of(alone, 0)

    # A finished folder is left alone.
    again = start(records, [tmp_path / "whole"] * 2, *closed)
    for worker in again:
        worker.finish()
    assert "is done" in log_of(again[0], 0)


@pytest.mark.slow
def test_workers_with_different_folders_are_refused(records: RecordSet, tmp_path: Path) -> None:
    workers = start(records, [tmp_path / "one", tmp_path / "other"])
    for worker, index in zip(workers, range(2), strict=True):
        worker.wait()
        assert worker.process.returncode == 2
        assert "error: the workers have other settings: start the same command on all" in log_of(worker, index)


@pytest.mark.slow
def test_the_pipeline_runs_on_workers(tmp_path: Path) -> None:
    """They train together, with a teacher at the end, and the chief does everything else."""
    root = Path(__file__).parents[2]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    tiny = ("--width=2", "--image_size=32", "--batch_size=4", "--num_steps=2", *TINY[1:])
    arguments = [f"--{stage}.{flag[2:]}" for stage in ("train_cls", "train_integral", "train_seg") for flag in tiny]
    arguments += ["--train_seg.frame_size=32", "--train_seg.teacher_after=0.5", f"--work_dir={tmp_path / 'run'}"]
    command = ["-m", "oaa_tf.pipeline", "--flagfile=flags/demo.flags", "--backbone_weights=none", "--nocompare_losses"]
    processes = [
        subprocess.Popen(
            [os.sys.executable, *command, *arguments],
            cwd=root,
            env=os.environ | {"TF_CONFIG": tf_config(addresses, index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][-2000:] + outputs[1][-2000:]
    assert (tmp_path / "run/report.html").exists()
    assert "segmentation" in outputs[0] and "report" not in outputs[1]


@pytest.mark.slow
def test_other_numbers_of_workers_fill_the_same_table(records: RecordSet, tmp_path: Path) -> None:
    still = ("--learning_rate=0", "--gate=none", "--accumulate_from_epoch=0", "--batch_size=6")
    for number in (1, 3):
        for worker in start(records, [tmp_path / str(number)] * number, *still):
            worker.finish()
    _, differences = compare("train_cls", tmp_path / "1", tmp_path / "3")
    assert [name for name in differences if "attention" in name] == []
