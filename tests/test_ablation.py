"""The paper's tables on tiny data: every row, both supervisions, a seed that comes later."""

import json
import statistics
from pathlib import Path

import pytest
from own_data import write_own_data
from test_pipeline import TINY
from tiny_voc import make_tiny_records

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from tools.ablation import ROWS, AblationSettings, _table, dry_run, run, table_text

COMMON = ("width=2", "image_size=48", "batch_size=2", "num_steps=3", "initializer=he", "clip_norm=10")


def settings(voc, work_dir, *extra: str) -> AblationSettings:
    arguments = [f"--voc_dir={voc}", f"--work_dir={work_dir}", "--backbone_weights=none"]
    for stage, own in TINY.items():
        arguments += [*(f"--{stage}.{option}" for option in COMMON), f"--{stage}.new_layer_multiplier=1", *own]
    return parse(AblationSettings, "ablation", [*arguments, *extra])


@pytest.mark.slow
def test_both_tables_and_another_seed(tiny_voc, tmp_path, capsys) -> None:
    (tiny_voc / "saliency/saliency.json").write_text(json.dumps({"network": "tiny", "sha256": "0123456789"}))
    with_saliency = "image labels + saliency (tiny 01234567)"
    output = f"--output_dir={tmp_path / 'results'}"
    chosen = settings(tiny_voc, tmp_path / "work", "--seeds=0", "--tables=2,3", output)
    before = dry_run(chosen)
    assert before["records"]["train"].startswith("to do") and not (tmp_path / "work").exists()
    tables = run(chosen, command="the command")
    assert dry_run(chosen)["records"]["train"].startswith("done")
    assert all(Path(path).exists() for path in before["writes"])
    assert tables.keys() == {"2", "3"}
    assert all(content["records_checksums"].keys() == {"train", "val"} for content in tables.values())
    for number, content in tables.items():
        assert json.loads((tmp_path / f"results/table{number}.json").read_text())["rows"] == content["rows"]
        for row in content["rows"]:
            assert row["seeds"] == [0] and row["values"] == [row["mean"]] and row["command"] == "the command"
            assert 0 <= row["mean"] <= 1 and row["spread"] is None
    found = {(row["setting"], row["measurement"], row["supervision"]): row["mean"] for row in tables["2"]["rows"]}
    assert len(found) == len(tables["2"]["rows"]) == 5 * (3 + 2 * 2 + 1)
    for name in ROWS:
        assert (name, "pseudo labels", "image labels") in found and (name, "pseudo labels", with_saliency) in found
        assert (name, "segmentation network", with_saliency) in found
    shares = tables["3"]["rows"]
    assert [row["setting"] for row in shares] == ["20 %", "50 %", "80 %", "100 %"]
    # The network of 100 % is that of Table 2's last row.
    assert shares[-1]["mean"] == found["OAA+ hybrid", "segmentation network", with_saliency]
    printed = capsys.readouterr().out
    assert table_text(tables["2"]) in printed and "Table 3" in printed

    # Another seed and supervision later: what is there stays.
    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("step-*")}
    both = "--supervisions=image labels,image labels + saliency"
    rows = run(settings(tiny_voc, tmp_path / "work", "--seeds=0,4", "--rows=cam", both, output))["2"]["rows"]
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints
    assert {row["supervision"] for row in rows if row["split"] == "val"} == {"image labels", with_saliency}
    for row in rows:
        assert row["seeds"] == [0, 4] and len(row["values"]) == 2
        assert row["mean"] == statistics.mean(row["values"])
        assert row["spread"] == pytest.approx(abs(row["values"][0] - row["values"][1]) / 2**0.5)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--seeds=1,1", "--seeds=1,1: expected one or more, each once"),
        ("--nouse_saliency", "--supervisions=image labels \\+ saliency: needs --use_saliency"),
        ("--rows=cam,gap", "--rows=gap: expected one of cam"),
    ],
)
def test_wrong_settings(extra: str, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        settings("voc", tmp_path, extra)


def test_numbers_in_the_table() -> None:
    row = {"split": "train", "supervision": "image labels", "seeds": [0, 1]}
    rows = [
        row | {"setting": "CAM", "measurement": "maps", "mean": 0.4, "spread": 0.012},
        row | {"setting": "OAA max", "measurement": "maps", "mean": 0.5, "spread": None},
        row | {"setting": "OAA+ MCE", "measurement": "maps", "mean": None, "spread": None},
    ]
    lines = table_text({"rows": rows}).splitlines()
    assert lines[0] == "|  | split | supervision | CAM | OAA max | OAA+ MCE |"
    assert lines[2:] == ["| maps | train | image labels | 40.0 ± 1.2 | 50.0 | - |"]


def test_a_seed_without_any_label_is_left_out_of_the_mean(tmp_path) -> None:
    records = make_tiny_records(tmp_path)
    key = ("CAM", "pseudo labels", "train", "image labels")
    for by_seed, seeds, values in (({0: None, 4: 0.5}, [4], [0.5]), ({0: None}, [], [])):
        (row,) = _table(settings("voc", tmp_path, "--seeds=0,4"), (records, records), "2", {key: by_seed}, "")["rows"]
        assert (row["seeds"], row["values"], row["spread"]) == (seeds, values, None)
        assert row["mean"] == (0.5 if values else None)


@pytest.mark.parametrize("command", [dry_run, run])
def test_photos_without_a_validation_split_are_refused(command, tiny_voc, tmp_path) -> None:
    data = [f"--{name}={value}" for name, value in write_own_data(tiny_voc, tmp_path, "coco").items()]
    chosen = settings("", tmp_path / "work", *data, "--val_share=0")
    with pytest.raises(UserError, match=r"--image_dir=.*photos: the tables need masks for both splits, train and val"):
        command(chosen)


def test_a_file_in_the_place_of_the_output_is_found_before_anything_runs(tiny_voc, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    chosen = settings(tiny_voc, tmp_path / "work", f"--output_dir={tmp_path / 'file'}")
    with pytest.raises(UserError, match=r"--output_dir=.*file: cannot be written \(.*file\); choose another folder"):
        dry_run(chosen)
    assert not (tmp_path / "work").exists()
    with pytest.raises(UserError, match=r"--output_dir=.*file: cannot be written \(File exists\); choose another"):
        run(chosen)
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name[0] != "."] == ["flags.txt"]
