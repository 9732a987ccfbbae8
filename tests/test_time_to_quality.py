"""The curve of mIoU over minutes: parts of a preset's steps, points that stay, and pipelines that fail."""

import json
import subprocess
from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.pipeline import PipelineSettings
from tools import time_to_quality
from tools.time_to_quality import TimeToQualitySettings

_ROW = {"split": "val", "mean_iou": 0.5}


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[PipelineSettings]:
    """The settings of the pipelines that ran, each of which only writes its metrics."""
    ran = []

    def call(command: list[str], **_: object) -> int:
        ran.append(parse(PipelineSettings, "pipeline", command[3:]))
        folder = Path(ran[-1].work_dir)
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"rows": [{"split": "train", "mean_iou": 0.9}, _ROW]}))
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    return ran


def settings(folder: Path, preset: str, **others: object) -> TimeToQualitySettings:
    path = folder / "tiny.flags"
    path.write_text(preset)
    shares = others.pop("shares", (0.1, 0.5))
    return TimeToQualitySettings(
        presets=(str(path),), shares=shares, voc_dir=str(folder), work_dir=str(folder / "work"), **others
    )


def test_every_training_takes_a_part_of_its_steps(tmp_path: Path, pipelines: list[PipelineSettings]) -> None:
    preset = "--pipeline.affinity\n--train_cls.num_steps=25\n--train_seg.num_epochs=4\n--train_seg.num_steps=10\n"
    found = time_to_quality.run(settings(tmp_path, preset))
    small, large = pipelines
    assert [each.train_cls.num_steps for each in pipelines] == [3, 13]
    assert (small.train_seg.num_steps, small.train_seg.num_epochs) == (1, pytest.approx(0.4))
    # The paper's steps, where the preset says nothing.
    assert large.train_integral.steps_for(num_images=100) == large.train_integral.paper_steps / 2
    assert small.affinity and small.voc_dir == str(tmp_path)
    assert [(row["share"], row["mean_iou"]) for row in found["rows"]] == [(0.1, 0.5), (0.5, 0.5)]
    assert json.loads((tmp_path / "work/time_to_quality.json").read_text()) == found


def test_points_stay_and_what_was_interrupted_begins_anew(tmp_path: Path, pipelines: list[PipelineSettings]) -> None:
    first = settings(tmp_path, "", shares=(0.1,))
    before = time_to_quality.run(first)
    (tmp_path / "work/tiny/0.5/train_cls").mkdir(parents=True)
    after = time_to_quality.run(settings(tmp_path, ""))
    assert [Path(each.work_dir).name for each in pipelines] == ["0.1", "0.5"]
    assert before["rows"][0] in after["rows"] and not (tmp_path / "work/tiny/0.5/train_cls").exists()
    with pytest.raises(UserError, match="was begun with"):
        time_to_quality.run(settings(tmp_path, "", backbone_weights="none"))


def test_a_wrong_preset_is_found_before_anything_runs(tmp_path: Path, pipelines: list[PipelineSettings]) -> None:
    with pytest.raises(UserError, match=r"num_stepz"):
        time_to_quality.run(settings(tmp_path, "--train_seg.num_stepz=3\n"))
    assert not pipelines and not (tmp_path / "work").exists()


@pytest.mark.parametrize("code", [0, 2])
def test_a_point_without_a_figure_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def call(command: list[str], **_: object) -> int:
        folder = Path(parse(PipelineSettings, "pipeline", command[3:]).work_dir)
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"rows": [_ROW | {"mean_iou": None}]}))
        return code

    monkeypatch.setattr(subprocess, "call", call)
    with pytest.raises(UserError, match="the pipeline failed; see .*log" if code else "val has no masks to measure on"):
        time_to_quality.run(settings(tmp_path, ""))


@pytest.mark.slow
def test_a_pipeline_from_the_command_to_the_exit(tiny_voc: Path, tmp_path: Path) -> None:
    common = ("width=2", "image_size=48", "batch_size=2", "num_steps=4", "initializer=he", "clip_norm=10")
    stages = ("train_cls", "train_integral", "train_seg")
    preset = "".join(f"--{stage}.{option}\n" for stage in stages for option in common)
    chosen = settings(tmp_path, f"{preset}--pipeline.compare_losses=false\n--train_seg.frame_size=56\n")
    found = time_to_quality.run(
        TimeToQualitySettings(
            presets=chosen.presets,
            shares=(0.5,),
            voc_dir=str(tiny_voc),
            backbone_weights="none",
            work_dir=str(tmp_path / "work"),
        )
    )
    (row,) = found["rows"]
    assert 0 < row["minutes"] < 10 and 0 <= row["mean_iou"] <= 1
    checkpoints = tmp_path / "work/tiny/0.5/train_seg/checkpoints"
    assert max(path.stem for path in checkpoints.glob("step-*.index")) == "step-2"
