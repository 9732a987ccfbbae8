"""The study puts together afterwards what a run with those settings would have accumulated."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from tiny_voc import make_tiny_records

from oaa_tf import train_cls
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from tools import accumulation_study
from tools.accumulation_study import AccumulationStudySettings
from tools.accumulation_visits import accumulated

_TINY = {
    **{"width": 2, "image_size": 48, "batch_size": 2, "num_steps": 9, "divide_at": 1, "learning_rate": 0.05},
    **{"backbone_weights": "none", "initializer": "he", "new_layer_multiplier": 1.0, "clip_norm": 10.0},
    **{"min_scale": 0.8, "max_scale": 1.5},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    records = make_tiny_records(root)
    common = {"records": str(records.manifest_path), **_TINY}
    accumulation_study.run(settings(records, root / "study"))
    return root, records, common


def settings(records, work_dir) -> AccumulationStudySettings:
    arguments = [f"--train_cls.{name}={value}" for name, value in _TINY.items() if name != "backbone_weights"]
    arguments += [f"--records={records.manifest_path}", f"--work_dir={work_dir}", "--backbone_weights=none"]
    return parse(AccumulationStudySettings, "accumulation_study", arguments)


@pytest.mark.parametrize(("gate", "first"), [("paper", 1), ("topk", 2)])
def test_equals_a_run_with_these_settings(study, gate: str, first: int) -> None:
    root, records, common = study
    work_dir = root / f"{gate}{first}"
    train_cls.run(
        train_cls.TrainClsSettings(
            work_dir=str(work_dir), gate=gate, accumulate_from_epoch=first, fusions=("max", "average"), **common
        )
    )
    kept = dict(np.load(root / "study/visits.npz"))
    last = len(kept["scores"]) - 1
    for fusion, folder in (("max", "oaa"), ("average", "oaa_average")):
        maps, missing = accumulated(kept, records, gate, fusion, first, last)
        written = AttentionMaps.open(work_dir / "attention" / folder, records)
        assert missing == written.fallback_slots < len(maps)
        got_some = maps.any(axis=(1, 2))
        # The average is made of maps that the study rounds first.
        tolerance = 1e-6 if fusion == "max" else 0.004
        np.testing.assert_allclose(maps[got_some], written.maps[got_some] / 255, atol=tolerance)


def test_rows(study) -> None:
    root, _, _ = study
    rows = json.loads((root / "study/accumulation_study.json").read_text())["rows"]
    of_max = [r for r in rows if (r["gate"], r["fusion"], r["first_epoch"]) == ("none", "max", 1)]
    # What is accumulated for longer covers more.
    recalls = [r["recall_at_0.3"] for r in sorted(of_max, key=lambda row: row["last_epoch"])]
    assert len(recalls) > 2 and recalls == sorted(recalls)
    assert len({(r["gate"], r["fusion"], r["first_epoch"], r["last_epoch"]) for r in rows}) == len(rows)
    height, width, _ = cv2.imread(str(root / "study/by_epoch.png")).shape
    assert width > 3 * height, "three plots beside each other"


def test_needs_two_epochs(tmp_path) -> None:
    records = make_tiny_records(tmp_path)
    chosen = settings(records, tmp_path / "work")
    short = dataclasses.replace(chosen.train_cls, num_steps=len(records) - 1)
    with pytest.raises(UserError, match=rf"--train_cls.num_steps=\d+: expected at least {len(records)}, two epochs"):
        accumulation_study.run(dataclasses.replace(chosen, train_cls=short))


def test_needs_masks(tmp_path) -> None:
    records = make_tiny_records(tmp_path, masks=False)
    with pytest.raises(UserError, match="has no masks to compare with"):
        accumulation_study.run(settings(records, tmp_path / "work"))
