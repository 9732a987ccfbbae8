"""kill -9 at any moment: the resumed run ends with the same table, weights, optimizer and maps, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.data.demo import write_demo_data
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records

ROOT = Path(__file__).parents[1]
NUM_STEPS = 12
COMMON = (
    *("--width=4", "--image_size=64", "--batch_size=4", f"--num_steps={NUM_STEPS}", "--checkpoint_every=3"),
    *("--backbone_weights=none", "--initializer=he", "--new_layer_multiplier=1", "--clip_norm=10", "--seed=3"),
)

pytestmark = pytest.mark.slow


def start(stage: str, work_dir: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", f"oaa_tf.{stage}", f"--work_dir={work_dir}", *COMMON, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr


def newest_step(work_dir: Path) -> int:
    newest = tf.train.latest_checkpoint(str(work_dir / "checkpoints"))
    return 0 if newest is None else int(newest.rsplit("-", 1)[1])


def run_with_kills(stage: str, work_dir: Path, arguments: tuple[str, ...], kill_after_steps: list[int]) -> None:
    """Runs a stage to its end, killing it when its newest checkpoint has reached each of the steps."""
    for steps in kill_after_steps:
        process = start(stage, work_dir, *arguments)
        deadline = time.monotonic() + 300
        while newest_step(work_dir) < steps:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.02)  # Somewhere in the steps behind the checkpoint.
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(stage, work_dir, *arguments))


def state(work_dir: Path) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint and all maps."""
    reader = tf.train.load_checkpoint(str(work_dir / "checkpoints"))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.endswith("VALUE")}
    assert newest_step(work_dir) == NUM_STEPS
    assert values
    maps = {str(path.relative_to(work_dir)): np.load(path) for path in work_dir.rglob("maps.npy")}
    return values | maps


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("kill")
    write_demo_data(root / "voc", num_train=16, num_val=1, image_size=64)
    make_records(
        MakeRecordsSettings(
            voc_dir=str(root / "voc"), output_dir=str(root / "records"), saliency_dir=str(root / "voc/saliency")
        )
    )
    return root / "records/train.json"


@pytest.mark.parametrize("stage", ["train_cls", "train_integral", "train_seg"])
def test_resumed_run_is_bit_identical(records, tmp_path, stage):
    arguments = (f"--records={records}",)
    if stage == "train_cls":
        arguments += ("--fusions=max,average", "--accumulate_from_epoch=1", "--gate=none", "--max_scale=1.4")
    elif stage == "train_integral":
        finish(start("train_cls", tmp_path / "cls", *arguments, "--gate=none"))
        arguments += (f"--maps={tmp_path / 'cls/attention/oaa'}",)
    else:
        arguments += ("--labels=masks", "--frame_size=80")
    finish(start(stage, tmp_path / "straight", *arguments))
    run_with_kills(stage, tmp_path / "killed", arguments, kill_after_steps=[3, 6])

    straight, killed = state(tmp_path / "straight"), state(tmp_path / "killed")
    assert straight.keys() == killed.keys()
    for name, value in straight.items():
        np.testing.assert_array_equal(killed[name], value, err_msg=name)
