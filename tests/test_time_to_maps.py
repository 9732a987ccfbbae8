"""PyTorch's training beside ours, from the start to files of maps."""

from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from tools import time_to_maps
from tools.time_to_maps import TimeToMapsSettings


def test_pytorch_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs PyTorch"):
        time_to_maps.run(TimeToMapsSettings(voc_dir=str(tmp_path), num_steps=1, work_dir=str(tmp_path / "work")))
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_both_write_maps_of_all_photos(tiny_voc: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    preset = tmp_path / "tiny.flags"
    preset.write_text("--train_cls.image_size=48\n--train_cls.batch_size=2\n--train_cls.num_pictures=0\n")
    names = {"voc_dir": str(tiny_voc), "preset": str(preset), "work_dir": str(tmp_path / "work")}
    found = time_to_maps.run(TimeToMapsSettings(**names, num_steps=2, num_epochs=2, backbone_weights="none"))
    assert all(found[name]["seconds"] > 0 and 0 <= found[name]["mean_iou"] <= 1 for name in ("pytorch", "oaa_tf"))
    assert found["speedup"] == found["pytorch"]["seconds"] / found["oaa_tf"]["seconds"]
