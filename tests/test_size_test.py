"""The size test runs the stages, and sees which of them needs more memory for more images."""

from pathlib import Path

import pytest
from stages import settings_class

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.records.record_set import RecordSet
from tools import size_test
from tools.size_test import Cost, SizeTestSettings, arguments_of


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match="--num_labels=10: expected 1000 to 80000, one label for each image or more"):
        SizeTestSettings(num_images=1000, num_labels=10)


@pytest.mark.parametrize(("extra", "code"), [(4 * 2**30, 0), (4 * 2**30 + 1, 1)])
def test_more_than_four_gigabytes_fail(monkeypatch: pytest.MonkeyPatch, extra: int, code: int) -> None:
    monkeypatch.setattr(size_test, "run", lambda settings: {"train_cls": (Cost(1.0, 1000), Cost(9.0, 1000 + extra))})
    try:
        size_test.run_and_judge(SizeTestSettings())
        found = 0
    except SystemExit as end:
        found = end.code
    assert found == code


def test_all_commands_know_their_arguments(tmp_path: Path) -> None:
    for command, arguments in arguments_of(tmp_path, 304).items():
        parse(settings_class(command), command, arguments)


@pytest.mark.slow
def test_a_small_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(size_test, "_FEW", 20)
    settings = SizeTestSettings(
        num_images=1000, num_classes=5, num_labels=3000, commands=("make_records",), work_dir=str(tmp_path / "size")
    )
    found = size_test.run(settings)
    assert list(found) == ["make_records"] and min(cost.num_bytes for cost in found["make_records"]) > 10**8
    records = RecordSet.open(tmp_path / "size/many/records/train.json")
    assert len(records) == len(records.masked) == 1000 and records.first_slots[-1] == 3000
    assert set(records.record(0).mask.ravel()) == {0, *(label + 1 for label in records.labels[0])}
    assert "1,000 images" in capsys.readouterr().out
