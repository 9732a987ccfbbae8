import shlex
from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.training.log import command, settings_table, training_log


def steps(folder: Path) -> list[int]:
    found = []
    for path in folder.iterdir():
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            found += [event.step for value in event.summary.value if value.tag == "loss"]
    return sorted(found)


def test_each_start_has_one_file_with_everything(tmp_path: Path) -> None:
    for num_files, first in ((1, 0), (2, 30)):
        with training_log(tmp_path):
            for step in range(first, first + 30):
                tf.summary.scalar("loss", 1.0, step=step)
        assert len(list(tmp_path.iterdir())) == num_files and steps(tmp_path) == list(range(first + 30))


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
