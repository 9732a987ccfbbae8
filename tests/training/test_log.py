import shlex
from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.training import log
from oaa_tf.training.log import command, settings_table, training_log


def steps(folder: Path) -> list[int]:
    found = []
    for path in folder.iterdir():
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            found += [event.step for value in event.summary.value if value.tag == "loss"]
    return sorted(found)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_log_that_fits_is_one_file_with_everything(tmp_path: Path) -> None:
    with training_log(tmp_path) as roll:
        for step in range(30):
            tf.summary.scalar("loss", 1.0, step=step)
            roll()
    assert len(list(tmp_path.iterdir())) == 1 and steps(tmp_path) == list(range(30))


def test_the_newest_entries_stay_and_the_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 500)
    monkeypatch.setattr(log, "TOTAL_BYTES", 3000)
    largest = 0
    for first in (0, 40):
        # Each start of a stage has a file of its own.
        with training_log(tmp_path) as roll:
            for step in range(first, first + 40):
                tf.summary.scalar("loss", 1.0, step=step)
                roll()
                largest = max(largest, size(tmp_path))
    assert 2000 < largest <= 3000
    kept = steps(tmp_path)
    assert 10 < len(kept) < 80 and kept == list(range(80 - len(kept), 80))


def test_what_is_no_log_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mine"), training_log(tmp_path):
        raise UserError("mine")
    with pytest.raises(tf.errors.InvalidArgumentError), training_log(tmp_path):
        raise tf.errors.InvalidArgumentError(None, None, "another")


SETTINGS = TrainClsSettings(records="my | records/a`b.json", work_dir="run", fusions=("max", "average"), flip=False)


def test_the_table_of_settings_marks_what_is_not_the_default() -> None:
    lines = settings_table(SETTINGS).splitlines()
    assert lines[:3] == [
        "| flag | value | default |",
        "|---|---|---|",
        "| records | **`` my | records/a`b.json ``** |  |",
    ]
    assert "| fusions | **`max,average`** | `max` |" in lines and "| flip | **`false`** | `true` |" in lines
    assert "| batch_size | `5` | `5` |" in lines and "| initial_weights | ` ` | ` ` |" in lines
    assert len(lines) == 2 + len(SETTINGS.as_dict())


def test_the_command_gives_the_same_settings_and_no_more_flags_than_needed() -> None:
    # A shell joins lines at a backslash; `shlex` does not.
    words = shlex.split(command("train_cls", SETTINGS).replace("\\\n", ""))
    assert words[:3] == ["python", "-m", "oaa_tf.train_cls"]
    assert sorted(word.partition("=")[0] for word in words[3:]) == ["--fusions", "--noflip", "--records", "--work_dir"]
    assert parse(TrainClsSettings, "train_cls", words[3:]) == SETTINGS
