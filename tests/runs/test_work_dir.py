"""Who may write into a work_dir, and with which settings."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import lock_descriptor

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.runs import work_dir as work_dir_module
from oaa_tf.runs.work_dir import WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSettings(Settings):
    work_dir: str = setting(help="Where to work.")
    records: str = setting("train.json", help="Records.")
    num_steps: int = setting(30, help="Steps.")
    flip: bool = setting(True, help="Mirror.")
    fusions: tuple[str, ...] = setting(("max",), help="Fusions.")
    log_every: int = setting(20, help="Logs.", may_change=True)
    overlays: bool = setting(True, help="Pictures.", may_change=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineSettings(Settings):
    work_dir: str = setting(help="Where to work.")
    train_cls: StageSettings


# Checksums.
INPUTS = {"records": "abc", "maps": "def"}


def begun(folder: Path, **values) -> Path:
    """A work_dir in which a run has left something."""
    with WorkDir.claim(StageSettings(work_dir=str(folder), **values), INPUTS) as work_dir:
        (work_dir.path / "checkpoints").mkdir()
    return folder


def claim(folder: Path, inputs: dict[str, str] = INPUTS, **values) -> None:
    with WorkDir.claim(StageSettings(work_dir=str(folder), **values), inputs):
        pass


def test_claiming_makes_the_folder_and_writes_the_flags(tmp_path: Path) -> None:
    settings = StageSettings(work_dir=str(tmp_path / "a/b"), flip=False, fusions=("max", "average"))
    with WorkDir.claim(settings) as work_dir:
        assert work_dir.path == tmp_path / "a/b"
        assert work_dir.finished_metrics() is None
    assert parse(StageSettings, "train_cls", [f"--flagfile={tmp_path}/a/b/flags.txt"]) == settings


def test_the_same_settings_resume(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", num_steps=5)
    claim(folder, num_steps=5)
    claim(folder, num_steps=5, log_every=1, overlays=False)
    # The file says how the run went on.
    assert "--log_every=1\n" in (folder / "flags.txt").read_text()


def test_what_a_killed_process_has_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    left = folder / "checkpoints/.maps.npy.123-456.tmp"
    left.touch()
    with pytest.raises(UserError):
        claim(folder, num_steps=40)
    assert left.exists()
    claim(folder)
    assert not left.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": 40}, "was begun with --num_steps=30, not --num_steps=40"),
        ({"flip": False}, "was begun with --flip, not --noflip"),
        ({"fusions": ("average",)}, "was begun with --fusions=max, not --fusions=average"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, values: dict, message: str) -> None:
    folder = begun(tmp_path / "run")
    before = (folder / "flags.txt").read_text()
    with pytest.raises(UserError) as caught:
        claim(folder, **values)
    assert str(caught.value) == (
        f"--work_dir={folder} {message}: use the same settings to resume, or another --work_dir"
    )
    assert (folder / "flags.txt").read_text() == before
    # The refusal does not keep the folder locked.
    claim(folder)


def test_peeking_leaves_no_trace(tmp_path: Path) -> None:
    settings = StageSettings(work_dir=str(tmp_path / "a/b"))
    assert WorkDir.peek(settings, INPUTS).finished_metrics() is None
    assert list(tmp_path.iterdir()) == []
    folder = begun(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    WorkDir.peek(StageSettings(work_dir=str(folder)), INPUTS)
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    # Nor does it lock the folder.
    claim(folder)


def test_peeking_refuses_what_claiming_refuses(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with pytest.raises(UserError, match="was begun with --num_steps=30, not --num_steps=40"):
        WorkDir.peek(StageSettings(work_dir=str(folder), num_steps=40), INPUTS)
    with pytest.raises(UserError, match="was begun with other maps"):
        WorkDir.peek(StageSettings(work_dir=str(folder)), INPUTS | {"maps": "other"})
    # What the inputs will be may not be known yet, nor where they will be: the settings count.
    WorkDir.peek(StageSettings(work_dir=str(folder), records="moved/train.json"), {})
    with pytest.raises(UserError, match="was begun with --flip, not --noflip"):
        WorkDir.peek(StageSettings(work_dir=str(folder), flip=False), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be written"):
        WorkDir.peek(StageSettings(work_dir=str(tmp_path / "file/run")), INPUTS)
    settings = StageSettings(work_dir=str(folder))
    with WorkDir.claim(settings, INPUTS), pytest.raises(UserError, match="another process is at work in it"):
        WorkDir.peek(settings, INPUTS)


def test_settings_of_nested_stages_count_too(tmp_path: Path) -> None:
    def settings(**values) -> PipelineSettings:
        return PipelineSettings(work_dir=str(tmp_path), train_cls=StageSettings(work_dir="x", **values))

    with WorkDir.claim(settings(), INPUTS):
        (tmp_path / "train_cls").mkdir()
    with WorkDir.claim(settings(log_every=3), INPUTS):
        pass
    with pytest.raises(UserError, match=r"was begun with --train_cls.flip, not --notrain_cls.flip"):
        WorkDir.claim(settings(flip=False), INPUTS)
    # A command that only runs others leaves the checks to them.
    with WorkDir.claim(settings(flip=False)):
        pass


def test_settings_that_a_later_version_adds_or_drops_are_named(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    flags = (folder / "flags.txt").read_text()
    (folder / "flags.txt").write_text(flags.replace("--num_steps=30\n", "--gone=1\n"))
    with pytest.raises(UserError, match="was begun with --gone=1, not without --gone"):
        claim(folder)


def test_a_setting_that_a_later_version_adds_had_its_default(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    flags = (folder / "flags.txt").read_text()
    (folder / "flags.txt").write_text(flags.replace("--flip\n", ""))
    with pytest.raises(UserError, match="was begun with --flip, not --noflip"):
        claim(folder, flip=False)
    claim(folder)
    assert "--flip\n" in (folder / "flags.txt").read_text()


def test_a_run_that_stopped_at_a_mistyped_flag_does_not_bind_the_next(tmp_path: Path) -> None:
    settings = StageSettings(work_dir=str(tmp_path), fusions=("mxa",))
    with pytest.raises(UserError), WorkDir.claim(settings, {"records": "others"}):
        (tmp_path / "tensorboard").mkdir()
        raise UserError("--fusions=mxa: no such fusion")
    claim(tmp_path, fusions=("max",))
    assert "--fusions=max\n" in (tmp_path / "flags.txt").read_text()
    (tmp_path / "checkpoints").mkdir()
    claim(tmp_path, fusions=("max",))


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        claim(folder, {"records": "abc", "maps": "other"})
    assert str(caught.value) == (
        f"--work_dir={folder} was begun with other maps, which have been replaced since: choose another --work_dir, or"
        " delete this one to begin again"
    )
    claim(folder)


def test_inputs_are_known_by_their_content_not_by_their_path(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", records="train.json")
    claim(folder, records="moved/train.json")
    with pytest.raises(UserError, match="begun with other records"):
        claim(folder, {"records": "other", "maps": "def"}, records="moved/train.json")


@pytest.mark.parametrize("name", ["thesis.tex", "network.json", "tensorboard"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=r"holds files, but no flags\.txt of an earlier run: choose a new or empty"):
        claim(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}


def test_hidden_files_are_nobodys_results(tmp_path: Path) -> None:
    for name in (".DS_Store", ".flags.txt.123-4.tmp"):
        (tmp_path / name).write_text("")
    claim(tmp_path)
    claim(tmp_path, num_steps=1)


def test_a_damaged_list_of_inputs_is_no_crash(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    (folder / "inputs.json").write_text("{")
    with pytest.raises(UserError, match="begun with other records"):
        claim(folder)


def test_a_moved_folder_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path / "run")
    moved = folder.rename(tmp_path / "moved")
    claim(moved)
    monkeypatch.chdir(tmp_path)
    claim(Path("moved"))
    with pytest.raises(UserError, match="--work_dir=moved was begun with"):
        claim(Path("moved"), num_steps=1)


def test_metrics_mean_that_a_stage_is_done(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    (folder / "metrics.json").write_text(json.dumps({"loss": 0.5}))
    with WorkDir.claim(StageSettings(work_dir=str(folder))) as work_dir:
        assert work_dir.finished_metrics() == {"loss": 0.5}


def test_damaged_metrics_are_named(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    (folder / "metrics.json").write_text('{"loss": 0.')
    with (
        WorkDir.claim(StageSettings(work_dir=str(folder))) as work_dir,
        pytest.raises(UserError, match=r"metrics\.json: damaged; delete it and run the stage again"),
    ):
        work_dir.finished_metrics()


def test_two_claims_at_once_are_refused(tmp_path: Path) -> None:
    with WorkDir.claim(StageSettings(work_dir=str(tmp_path)), INPUTS):
        with pytest.raises(UserError, match="another process is at work in it; wait or choose another"):
            claim(tmp_path)
        # Other folders are free, also inside this one.
        claim(tmp_path / "train_cls")
    claim(tmp_path)


def test_without_locks_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def no_lock(*arguments, **keywords) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(work_dir_module, "lock_descriptor", no_lock)
    warning = (
        f"warning: --work_dir={tmp_path}: cannot be locked (No locks available); run one process in it at a time\n"
    )
    claim(tmp_path)
    assert capsys.readouterr().out == warning
    WorkDir.peek(StageSettings(work_dir=str(tmp_path)), INPUTS)
    assert capsys.readouterr().out == warning


@pytest.mark.parametrize("method", [WorkDir.peek, WorkDir.claim])
def test_a_peek_gets_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Callable) -> None:
    claim(tmp_path)
    with open(tmp_path / ".lock", "r+") as lock:
        assert lock_descriptor(lock.fileno(), blocking=False)
        # Another process' peek ends while this one waits.
        monkeypatch.setattr(work_dir_module.time, "sleep", lambda seconds: lock.close())
        with method(StageSettings(work_dir=str(tmp_path)), INPUTS):
            assert lock.closed


def test_another_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    script = (
        "import sys; from test_work_dir import *\n"
        "with WorkDir.claim(StageSettings(work_dir=sys.argv[1])):\n"
        "    print('claimed', flush=True); sys.stdin.read()\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(UserError, match="another process is at work in it"):
            claim(tmp_path)
    finally:
        # A killed process leaves no lock behind.
        process.kill()
        process.wait()
    claim(tmp_path)


@pytest.mark.parametrize("inside", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        claim(tmp_path / inside)
    message = str(caught.value)
    assert message.startswith(f"--work_dir={tmp_path / inside}: cannot be written (")
    assert message.endswith("); choose another folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        claim(tmp_path)
