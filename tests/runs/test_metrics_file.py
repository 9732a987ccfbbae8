"""metrics.json and inputs.json."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from oaa_tf.command_line.json_values import json_ready
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import origin, versions, write_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeededSettings(Settings):
    work_dir: str = setting(help="Folder.")
    seed: int = setting(7, help="Seed.")


def test_numpy_values_and_nan(tmp_path):
    metrics = {
        "mean_iou": np.float64(0.5),
        "iou": np.array([0.25, np.nan]),
        "count": np.int64(3),
        "infinite": float("inf"),
        "nested": {"done": np.bool_(True), "path": Path("a/b"), 5: ("x", None)},
    }
    written = write_metrics(tmp_path / "new" / "folder", metrics)
    assert json.loads((tmp_path / "new" / "folder" / "metrics.json").read_text()) == written
    assert written.pop("versions") == versions()
    assert written == {
        "mean_iou": 0.5,
        "iou": [0.25, None],
        "count": 3,
        "infinite": None,
        "nested": {"done": True, "path": "a/b", "5": ["x", None]},
    }
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["metrics.json"]


def test_a_failure_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "metrics.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "metrics.json", {"a": object()})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1}


def test_versions_name_what_runs_here():
    found = versions()
    assert found["numpy"] == np.__version__
    assert all(isinstance(version, str) and version[0].isdigit() for version in found.values())


def test_origin():
    records = {"split": "train", "num_images": 3, "classes": ("cat",), "records_checksum": "ab"}
    described = json_ready(origin("train_cls", SeededSettings(work_dir="w"), records, supervision="image labels"))
    assert described == {
        "stage": "train_cls",
        "split": "train",
        "num_images": 3,
        "classes": ["cat"],
        "supervision": "image labels",
        "seed": 7,
        "records_checksum": "ab",
        "settings": {"work_dir": "w", "seed": 7},
    }
