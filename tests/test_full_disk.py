"""A disk that is really full, a file system of half a megabyte: one line, and the last checkpoint is intact."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_voc import make_tiny_records

from oaa_tf import train_cls
from oaa_tf.command_line.launch import parse
from oaa_tf.models.networks import load_network
from oaa_tf.runs.checkpoints import checkpoints_in

ROOT = Path(__file__).parents[1]
# A checkpoint takes 190 kB: there is space for two, but not for a third one before the first one is removed.
SCRIPT = """
mount -t tmpfs -o size=512k tmpfs "$0" || exit
cd "$1" && shift && "$@"
code=$?
cp -a "$0/." "$0.copy"
exit $code
"""


def in_small_folder(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Runs a command while a file system of 512 kB is mounted at `folder`, and copies that to `<folder>.copy`."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, str(folder), str(ROOT)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([*unshare, *command], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_training_on_a_full_disk(tmp_path: Path) -> None:
    small, copy = tmp_path / "small", Path(f"{tmp_path / 'small'}.copy")
    small.mkdir()
    try:
        tried = in_small_folder(small, "true")
    except FileNotFoundError:
        pytest.skip("no unshare on this system: no small file system can be mounted")
    if tried.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {tried.stderr.strip()}")
    records = make_tiny_records(tmp_path)
    arguments = [
        *(f"--records={records.manifest_path}", "--image_size=32", "--batch_size=2", "--num_steps=8", "--width=2"),
        *("--checkpoint_every=2", "--backbone_weights=none", "--initializer=he", "--new_layer_multiplier=1"),
        *("--fusions=max,average", "--num_pictures=0", "--clip_norm=10"),
    ]
    done = in_small_folder(small, sys.executable, "-m", "oaa_tf.train_cls", f"--work_dir={small / 'run'}", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    # Progress lines come before it.
    (line,) = (line for line in done.stderr.splitlines() if "images/s" not in line)
    assert line.startswith(f"error: {small}/run/checkpoints: cannot write the checkpoint of step 6 (")
    assert "No space left on device" in line
    assert line.endswith("free space and run the same command again to go on from step 4")

    run = copy / "run"
    assert [Path(path).name for path in checkpoints_in(run)] == ["step-2", "step-4"]
    load_network(run)
    # With space, it goes on.
    resumed = train_cls.run(parse(train_cls.TrainClsSettings, "train_cls", [f"--work_dir={run}", *arguments]))
    whole = train_cls.run(
        parse(train_cls.TrainClsSettings, "train_cls", [f"--work_dir={tmp_path / 'whole'}", *arguments])
    )
    assert resumed["loss"] == whole["loss"]
    assert (run / "attention/oaa/maps.npy").read_bytes() == (tmp_path / "whole/attention/oaa/maps.npy").read_bytes()
