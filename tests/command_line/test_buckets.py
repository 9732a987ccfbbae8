"""Commands on data in a bucket, with TensorFlow's `ram://`, which lives as long as this process."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_voc import LABELS, make_tiny_records

from oaa_tf import evaluate, export, make_records, train_cls, train_seg
from oaa_tf.command_line import buckets
from oaa_tf.command_line.buckets import cache_folder, local_copies, send_to_bucket
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.training.checkpoint import TrainingCheckpoint

gfile = tf.io.gfile
BUCKET = "ram://bucket"
TRAINING = ("--image_size=32", "--batch_size=2", "--width=2", "--backbone_weights=none", "--num_pictures=0")
RECORDS = f"--records={BUCKET}/records/train.json"


@pytest.fixture(autouse=True)
def empty_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gfile.makedirs(BUCKET)

    def copy_to_ram(source: str, target: str, overwrite: bool = False) -> None:
        # ram:// writes behind what a file has.
        if overwrite and target.startswith("ram:") and gfile.exists(target):
            gfile.remove(target)
        copy(source, target, overwrite)

    copy = gfile.copy
    monkeypatch.setattr(gfile, "copy", copy_to_ram)
    yield
    gfile.rmtree(BUCKET)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command as from a command line; returns what it writes to stderr."""

    def run_command(module, settings: type, *arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        function = getattr(module, "run_command", module.run)
        with pytest.raises(SystemExit) as exit:
            launch(settings, function, module.__name__.rpartition(".")[2], module.dry_run)
        error = capfd.readouterr().err
        assert exit.value.code == code, error
        return error

    return run_command


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            target = f"{url}/{path.relative_to(folder).as_posix()}"
            gfile.makedirs(target.rpartition("/")[0])
            gfile.copy(str(path), target)


def files_in(url: str) -> set[str]:
    return {f"{folder.removeprefix(url)}/{name}".lstrip("/") for folder, _, names in gfile.walk(url) for name in names}


def forget_copies() -> None:
    """As on another machine."""
    gfile.rename(str(cache_folder()), f"{cache_folder()}_of_before{len(list(cache_folder().parent.iterdir()))}")


def test_records_checkpoints_and_saved_models(tmp_path: Path, run: Callable[..., str]) -> None:
    """Every command finds in the bucket what the one before left there."""
    make_tiny_records(tmp_path)
    upload(tmp_path / "voc", f"{BUCKET}/voc")
    arguments = (f"--voc_dir={BUCKET}/voc", "--classes=cat,dog,cow", f"--output_dir={BUCKET}/records")
    run(make_records, make_records.CommandSettings, *arguments)
    assert files_in(f"{BUCKET}/records") == {"train.json", "train-00000-of-00001.tfrecord"}
    forget_copies()
    seg = (RECORDS, *TRAINING, "--labels=masks", "--num_steps=2")
    run(train_seg, train_seg.TrainSegSettings, *seg, f"--work_dir={BUCKET}/seg")
    assert {"metrics.json", "network.json", "checkpoints/step-2.index"} <= files_in(f"{BUCKET}/seg")
    forget_copies()
    run(export, export.ExportSettings, f"--stage_dir={BUCKET}/seg", f"--output_dir={BUCKET}/model")
    assert "saved_model.pb" in files_in(f"{BUCKET}/model")
    assert tf.saved_model.load(f"{BUCKET}/model").signatures["segment"]
    forget_copies()
    model = (RECORDS, f"--model={BUCKET}/model", f"--work_dir={BUCKET}/val")
    run(evaluate, evaluate.EvaluateSettings, *model)
    with gfile.GFile(f"{BUCKET}/val/metrics.json") as file:
        assert json.load(file)["num_images"] == len(LABELS)


@pytest.mark.slow
def test_a_training_goes_on_on_another_machine(
    tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that vanishes leaves its last checkpoint in the bucket."""
    make_tiny_records(tmp_path)
    upload(tmp_path / "records", f"{BUCKET}/records")
    command = (train_cls, train_cls.TrainClsSettings, RECORDS, *TRAINING, "--num_steps=8", "--checkpoint_every=2")
    run(*command, f"--work_dir={BUCKET}/whole")

    def save_and_vanish(self: TrainingCheckpoint, step: int) -> None:
        save(self, step)
        if step == 4:
            # Whatever comes after the checkpoint does not reach the bucket.
            buckets._copies.clear()
            raise UserError("the machine is gone")

    save = TrainingCheckpoint.save
    with monkeypatch.context() as patches:
        patches.setattr(TrainingCheckpoint, "save", save_and_vanish)
        assert "the machine is gone" in run(*command, f"--work_dir={BUCKET}/cls", code=2)
    kept = {"checkpoints/step-2.index", "checkpoints/step-4.index"}
    assert {name for name in files_in(f"{BUCKET}/cls") if name.endswith(".index")} == kept
    forget_copies()
    run(*command, f"--work_dir={BUCKET}/cls")
    kept = {"checkpoints/step-6.index", "checkpoints/step-8.index"}
    assert {name for name in files_in(f"{BUCKET}/cls") if name.endswith(".index")} == kept
    with local_copies({"records": f"{BUCKET}/whole", "work_dir": f"{BUCKET}/cls"}):
        checkpoints = (cache_folder() / f"ram/bucket/{name}/checkpoints/step-8" for name in ("cls", "whole"))
        ended, whole = (tf.train.load_checkpoint(str(path)) for path in checkpoints)
    # Keras numbers the models of a process in the names of their variables, which are not part of it.
    for name in [name for name in whole.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]:
        np.testing.assert_array_equal(ended.get_tensor(name), whole.get_tensor(name))


def test_inputs_stay_as_they_are(tmp_path: Path, run: Callable[..., str]) -> None:
    """Someone who empties the cache while a command works does not empty the bucket."""
    make_tiny_records(tmp_path)
    upload(tmp_path / "records", f"{BUCKET}/records")
    before = files_in(f"{BUCKET}/records")
    with local_copies({"records": f"{BUCKET}/records"}) as copied:
        copy = Path(copied["records"])
        assert copy == cache_folder() / "ram/bucket/records"
        assert {path.name for path in copy.iterdir()} == before
        shutil.rmtree(copy)
    assert files_in(f"{BUCKET}/records") == before


def test_a_folder_comes_back_once(tmp_path: Path) -> None:
    """What changed is sent, what was deleted beside it is deleted, and hidden files stay here."""
    (tmp_path / "old").mkdir()
    for name in ("kept", "changed", "deleted"):
        (tmp_path / "old" / name).write_text("old")
    upload(tmp_path / "old", f"{BUCKET}/run/checkpoints")
    with local_copies({"work_dir": f"{BUCKET}/run/"}) as copied:
        folder = Path(copied["work_dir"]) / "checkpoints"
        (folder / "changed").write_text("newer")
        (folder / "deleted").unlink()
        (folder / ".lock").touch()
        (folder / "new.index").write_text("new")
        send_to_bucket(folder)
        assert files_in(f"{BUCKET}/run") == {f"checkpoints/{name}" for name in ("kept", "changed", "new.index")}
        gfile.remove(f"{BUCKET}/run/checkpoints/kept")
    # It did not change here.
    assert "checkpoints/kept" not in files_in(f"{BUCKET}/run")
    with gfile.GFile(f"{BUCKET}/run/checkpoints/changed") as file:
        assert file.read() == "newer"


def test_several_flags_may_name_the_same_folder() -> None:
    with local_copies({"records": f"{BUCKET}/one", "work_dir": f"{BUCKET}/one/"}) as copied:
        assert copied["records"] == copied["work_dir"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"--work_dir={BUCKET}/cls", "--records=s3://bucket/train.json"), "s3://bucket/train.json: is a URL; copy"),
        ((f"--work_dir={BUCKET}/cls", RECORDS), "train.json: "),
    ],
)
def test_what_is_not_there(arguments: tuple[str, ...], message: str, run: Callable[..., str]) -> None:
    assert message in run(train_cls, train_cls.TrainClsSettings, *arguments, code=2)


def test_machines_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"work_dir": f"{BUCKET}/run"}
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(UserError, match="--work_dir: several machines need one folder"), local_copies(values):
        pass


def test_an_error_of_the_bucket_names_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments, **options) -> None:
        raise tf.errors.PermissionDeniedError(None, None, "no access")

    values = {"work_dir": f"{BUCKET}/run"}
    message = rf"--work_dir={BUCKET}/run: cannot be written \(no access\)"
    with pytest.raises(UserError, match=message), local_copies(values) as copied:
        folder = Path(copied["work_dir"])
        folder.mkdir(parents=True)
        (folder / "result").write_text("done")
        monkeypatch.setattr(gfile, "copy", fail)
    assert (folder / "result").read_text() == "done"
