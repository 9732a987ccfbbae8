"""The same seed gives the same bits on the same machine, whatever the parallelism of the input pipeline."""

from pathlib import Path

import pytest
import tensorflow as tf

from oaa_tf import train_affinity, train_cls, train_integral, train_seg
from tools.kill_test import STAGES, compare
from tools.stage_process import demo_records

pytestmark = pytest.mark.slow

COMMON = {
    **{"width": 4, "image_size": 64, "batch_size": 4, "num_steps": 12, "checkpoint_every": 5, "clip_norm": 10.0},
    **{"backbone_weights": "none", "initializer": "he", "new_layer_multiplier": 1.0},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_records(tmp_path_factory.mktemp("records"), num_images=16, image_size=64)


@pytest.fixture(scope="module")
def maps(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("maps")
    run("train_cls", records, work_dir, None)
    return work_dir / "attention/oaa"


def run(stage: str, records: Path, work_dir: Path, maps: Path | None, **changes) -> None:
    common = COMMON | {"records": str(records), "work_dir": str(work_dir)} | changes
    if stage == "train_cls":
        scales = {"min_scale": 0.8, "max_scale": 1.4}
        train_cls.run(train_cls.TrainClsSettings(fusions=("max", "average"), gate="none", **scales, **common))
    elif stage == "train_integral":
        train_integral.run(train_integral.TrainIntegralSettings(maps=str(maps), **common))
    elif stage == "train_affinity":
        train_affinity.run(train_affinity.TrainAffinitySettings(maps=str(maps), labels="masks", **common))
    else:
        train_seg.run(train_seg.TrainSegSettings(labels="masks", frame_size=80, **common))


@pytest.mark.parametrize("stage", STAGES)
def test_parallelism_logs_and_pictures_change_no_bit(
    stage: str, records: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.data, "AUTOTUNE", 1)
    run(stage, records, tmp_path / "plain", maps, num_pictures=0, num_measured=0)
    monkeypatch.setattr(tf.data, "AUTOTUNE", 7)
    run(stage, records, tmp_path / "pictures", maps, num_pictures=3, num_measured=5, pictures_every=2)
    compared, differences = compare(stage, tmp_path / "plain", tmp_path / "pictures")
    assert differences == ["metrics.json: settings"]
    assert compared["weights"] >= 30


def test_another_seed_changes_them(records: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        run("train_seg", records, tmp_path / str(seed), None, seed=seed)
    differences = compare("train_seg", tmp_path / "0", tmp_path / "1")[1]
    assert sum(difference.startswith("weights") for difference in differences) >= 15
