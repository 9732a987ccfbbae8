"""kill -9 at any moment: the resumed run ends with the same table, weights, optimizer and maps, bit for bit."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from tools import kill_test
from tools.kill_test import STAGES, KillTestSettings, compare, kill_moments
from tools.stage_process import StageProcess


@pytest.mark.slow
def test_resumed_runs_are_bit_identical(tmp_path: Path) -> None:
    reports = kill_test.run(KillTestSettings(kills=3, quick=True, seed=1, work_dir=str(tmp_path / "runs")))
    assert [report.stage for report in reports] == list(STAGES)
    for report in reports:
        assert report.differences == []
        assert sum(report.kills.values()) >= 3
        assert report.kills["inside the write of a checkpoint"] >= 1
        assert report.kills.get("while maps were written", 0) == (report.stage != "train_seg")
        assert {"weights", "optimizer state", "metrics and random states", "metrics.json"} <= report.compared.keys()
    assert reports[0].compared["table of cumulative attention"] == 4
    # cam, oaa, oaa_average, each with its description.
    assert reports[0].compared["files of attention maps"] == 6
    assert reports[1].compared["files of attention maps"] == 2


@pytest.mark.slow
def test_a_stage_that_fails_is_no_success(tmp_path: Path) -> None:
    stage = StageProcess("train_cls", tmp_path / "work", ("--records=nowhere.json",))
    with pytest.raises(UserError, match=r"train_cls failed, with exit code 2: error: .*nowhere\.json"):
        stage.finish()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kills", [1, 3, 20])
def test_kill_moments(stage: str, kills: int) -> None:
    moments = kill_moments(stage, kills, random.Random(5))
    assert len(moments) == kills
    steps = [step for _, step in moments]
    assert steps == sorted(set(steps)) and all(step % 3 == 0 for step in steps)
    kinds = [kind for kind, _ in moments]
    assert "inside the write of a checkpoint" in kinds
    assert ("while maps were written" in kinds) == (kills > 2 and stage != "train_seg")
    assert moments == kill_moments(stage, kills, random.Random(5))
    assert kills == 1 or moments != kill_moments(stage, kills, random.Random(6))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder as train_cls leaves it, made by hand."""
    folder = tmp_path / "straight"
    (folder / "attention/oaa").mkdir(parents=True)
    np.save(folder / "attention/oaa/maps.npy", np.arange(8, dtype=np.uint8))
    (folder / "metrics.json").write_text(json.dumps({"loss": 0.1, "settings": {"work_dir": str(folder), "seed": 0}}))
    write_checkpoint(folder)
    return folder


def write_checkpoint(folder: Path, step: int = 3, without: str = "", **changes: tf.Variable) -> None:
    values = {
        "network": [tf.Variable([1.0, 0.0])],
        "optimizer": [tf.Variable(3), tf.Variable([np.nan])],
        "rest": [tf.Variable(0.5)],
        "attention": [tf.Variable([7, 8])],
    }
    values |= {name: [*values[name][:-1], value] for name, value in changes.items()}
    values.pop(without, None)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    tf.train.Checkpoint(**values).write(str(folder / f"checkpoints/step-{step}"))


@pytest.fixture
def killed(finished: Path, tmp_path: Path) -> Path:
    """The same with another name."""
    folder = shutil.copytree(finished, tmp_path / "killed")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["settings"]["work_dir"] = str(folder)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_equal_runs_are_equal(finished: Path, killed: Path) -> None:
    compared, differences = compare("train_cls", finished, killed)
    assert differences == []
    assert compared == {
        **{"last checkpoint": 1, "weights": 1, "optimizer state": 2, "metrics and random states": 1},
        **{"table of cumulative attention": 1, "files of attention maps": 1, "metrics.json": 2},
    }


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"network": tf.Variable([1.0, -0.0])}, "weights: network/0"),
        ({"optimizer": tf.Variable([-np.nan])}, "optimizer state: optimizer/1"),
        ({"optimizer": tf.Variable(np.nan)}, "optimizer state: optimizer/1"),
        ({"rest": tf.Variable(np.nextafter(np.float32(0.5), np.float32(1)))}, "metrics and random states: rest/0"),
        ({"attention": tf.Variable([7, 9])}, "table of cumulative attention: attention/0"),
        ({"attention": tf.Variable(np.int64([7, 8]))}, "table of cumulative attention: attention/0"),
        ({"step": 6}, "last checkpoint: name"),
        ({"without": "attention"}, "table of cumulative attention: attention/0"),
    ],
)
def test_one_bit_in_the_checkpoint_is_a_difference(finished: Path, killed: Path, changes: dict, kind: str) -> None:
    write_checkpoint(killed, **changes)
    (difference,) = compare("train_cls", finished, killed)[1]
    assert difference.startswith(kind)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("attention/oaa/maps.npy", b"", "files of attention maps: attention/oaa/maps.npy"),
        ("attention/oaa/.maps.npy.1-2.tmp", b"", "files of attention maps: attention/oaa/.maps.npy.1-2.tmp"),
        ("metrics.json", b'{"loss": 0.2, "settings": {"work_dir": "", "seed": 0}}', "metrics.json: loss"),
        ("metrics.json", b'{"loss": 0.1, "settings": {"work_dir": "", "seed": 1}}', "metrics.json: settings"),
    ],
)
def test_one_file_is_a_difference(finished: Path, killed: Path, file: str, content: bytes, expected: str) -> None:
    (killed / file).write_bytes(content)
    assert compare("train_cls", finished, killed)[1] == [expected]


def test_what_neither_run_has_left_is_a_difference(finished: Path, killed: Path) -> None:
    for folder in (finished, killed):
        write_checkpoint(folder, without="attention")
        shutil.rmtree(folder / "attention")
    assert compare("train_cls", finished, killed)[1] == [
        "files of attention maps: nothing there to compare",
        "table of cumulative attention: nothing there to compare",
    ]
    assert compare("train_seg", finished, killed)[1] == []


def test_the_exit_code_tells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    reports = [kill_test.StageReport(stage, {}, {}, []) for stage in STAGES]
    monkeypatch.setattr(kill_test, "run", lambda settings: reports)
    kill_test.run_and_judge(KillTestSettings())
    assert (
        capsys.readouterr().out
        == "kill_test: train_cls, train_integral, train_affinity, train_seg: bit-identical after kills\n"
    )
    reports[1].differences.append("weights: network/0")
    with pytest.raises(SystemExit) as caught:
        kill_test.run_and_judge(KillTestSettings())
    assert caught.value.code == "kill_test: NOT identical after kills: train_integral"


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--work_dir=.*: cannot be made \(File exists\); choose a new folder"):
        kill_test.run(KillTestSettings(work_dir=str(tmp_path)))
