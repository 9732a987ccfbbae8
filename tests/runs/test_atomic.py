"""Files are complete or absent."""

import ast
import errno
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from oaa_tf.runs import atomic
from oaa_tf.runs.atomic import atomic_write, complete_folder, remove_temporary_files, replace_folder, sync

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.json"
    path.write_bytes(b"old")
    return path


def test_the_new_file_takes_the_old_ones_place_at_the_end(file: Path) -> None:
    with atomic_write(file) as out:
        out.write(b"new")
        out.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == ["file.json"]


def test_what_raises_leaves_the_old_file(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as out:
        out.write(b"new")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == ["file.json"]


def test_data_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}") if Path("/proc/self/fd").exists() else ""
        synced.append((Path(name).name, os.fstat(descriptor).st_size, file.read_bytes()))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    with atomic_write(file) as out:
        out.write(b"newer")
    (temporary, size, before), (folder, _, after) = synced
    assert size == len(b"newer")
    assert (before, after) == (b"old", b"newer")
    if folder:
        assert folder == file.parent.name and temporary.endswith(".tmp")


def test_windows_flushes_files_that_are_open_for_writing_and_no_folders(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def note(path: Path, flags: int) -> int:
        opened.append((path, flags))
        return system_open(path, flags)

    system_open = os.open
    monkeypatch.setattr(atomic, "_ON_WINDOWS", True)
    monkeypatch.setattr(atomic.os, "open", note)
    sync(file.parent)
    assert opened == []
    sync(file)
    assert opened == [(file, os.O_RDWR)] and file.read_bytes() == b"old"


def test_two_threads_do_not_meet(file: Path) -> None:
    both_open = threading.Barrier(2)

    def write(content: bytes) -> None:
        with atomic_write(file) as out:
            out.write(content)
            both_open.wait(timeout=10)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in (b"a" * 1000, b"b" * 1000)


def test_a_full_disk_names_the_file(file: Path, small_files) -> None:
    with pytest.raises(OSError, match="File too large") as caught, small_files(100), atomic_write(file) as out:
        out.write(bytes(101))
    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == ["file.json"]


def test_only_its_own_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    kept = {"a.tmp", ".DS_Store", ".b.tmp", "folder/.c.12.tmp"}
    for name in {*kept, ".d.png.12-34.tmp", "folder/.e.json.12-34.tmp"}:
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept


needs_exchange = pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two folders in one step")
BOTH_WAYS = pytest.mark.parametrize("exchanges", [pytest.param(True, marks=needs_exchange), False])
CHANGES = ("rename", "unlink", "rmdir", "fsync")
# Replaces a folder, and dies at the n-th change of the disk.
KILLED = """
import itertools, os, sys
from pathlib import Path
from oaa_tf.runs import atomic

folder, kill_at, exchanges = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
count = itertools.count()

def deadly(function):
    def call(*arguments, **options):
        if next(count) == kill_at:
            os._exit(9)
        return function(*arguments, **options)
    return call

for name in ("rename", "unlink", "rmdir", "fsync"):
    setattr(os, name, deadly(getattr(os, name)))
if not exchanges:
    atomic._exchange = lambda one, other: False
atomic.replace_folder(folder / ".model.1.tmp", folder / "model")
"""


def make_folder(path: Path, content: str) -> None:
    path.mkdir()
    for name in ("a", "b"):
        (path / name).write_text(content)


def content_of(path: Path) -> str:
    """What `make_folder` has written, which must be complete."""
    (content,) = {(path / name).read_text() for name in ("a", "b")}
    return content


@BOTH_WAYS
def test_a_folder_is_complete_whenever_a_kill_comes(tmp_path: Path, exchanges: bool) -> None:
    contents = []
    for kill_at in itertools.count():
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        make_folder(folder / "model", "old")
        make_folder(folder / ".model.1.tmp", "new")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(kill_at), str(exchanges)], cwd=ROOT)
        contents.append(content_of(complete_folder(folder / "model")))
        if exchanges:
            # Other programs need no help.
            assert content_of(folder / "model") == contents[-1]
        # The next replacement cleans up.
        make_folder(folder / ".model.2.tmp", "newer")
        replace_folder(folder / ".model.2.tmp", folder / "model")
        assert content_of(folder / "model") == "newer"
        assert set(os.listdir(folder)) <= {"model", ".model.1.tmp"}
        if done.returncode == 0:
            break
        assert done.returncode == 9
    assert contents == sorted(contents, reverse=True) and contents[-1] == "new"
    assert len(contents) > 4 and (exchanges or contents[0] == "old")


@BOTH_WAYS
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_folder_is_complete_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, error: BaseException
) -> None:
    def failing(function: Callable) -> Callable:
        def call(*arguments, **options):
            if next(count) == fail_at:
                raise error
            return function(*arguments, **options)

        return call

    if not exchanges:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    count, fail_at = itertools.count(), -1
    for name in CHANGES:
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    for step in range(8):
        folder = tmp_path / str(step)
        folder.mkdir()
        make_folder(folder / "model", "old")
        make_folder(folder / "new", "new")
        count, fail_at = itertools.count(), step
        try:
            replace_folder(folder / "new", folder / "model")
        except (KeyboardInterrupt, OSError) as raised:
            assert raised is error
        assert content_of(folder / "model") in ("old", "new")
        assert not (folder / ".model.old").exists() or content_of(folder / "model") == "new"


@BOTH_WAYS
def test_a_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    if not exchanges:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    for content in ("first", "second"):
        make_folder(tmp_path / "new", content)
        replace_folder(tmp_path / "new", tmp_path / "model")
        assert content_of(complete_folder(tmp_path / "model")) == content
        assert os.listdir(tmp_path) == ["model"]


@needs_exchange
def test_this_system_exchanges_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", "a")
    make_folder(tmp_path / "b", "b")
    assert atomic._exchange(tmp_path / "a", tmp_path / "b")
    assert (content_of(tmp_path / "a"), content_of(tmp_path / "b")) == ("b", "a")
    assert not atomic._exchange(tmp_path / "a", tmp_path / "c")


# Writers that are no `atomic_write`, by file; each with the reason why it may.
ALLOWED = {
    "oaa_tf/command_line/boundary.py": "nowhere",
    "oaa_tf/runs/atomic.py": "is it",
    "oaa_tf/runs/work_dir.py": "the lock, which has no content",
    "oaa_tf/models/exported.py": "inside the temporary folder",
    "oaa_tf/data/records/record_writer.py": "inside the temporary folder",
    "oaa_tf/training/log.py": "the log of TensorBoard, which grows",
    "oaa_tf/training/checkpoint.py": "inside the temporary folder",
    "tools/benchmark.py": "--output is opened to see whether it can be written",
    "tools/benchmark_candidates.py": "inside a temporary folder",
    "tools/benchmark_measurements.py": "inside a temporary folder",
    "tools/pytorch_training.py": "as the authors' code, which it is compared with",
    "tools/size_test.py": "in a new folder, which is of no use unless all of it is there",
    "tools/stage_process.py": "the log of a process",
    "tools/time_to_quality.py": "the log of a process",
}
WRITERS = {
    *("write_text", "write_bytes", "imwrite", "tofile", "touch", "imsave"),
    *("TFRecordWriter", "create_file_writer", "copytree", "copyfile"),
}


def writes(path: Path) -> list[str]:
    """Calls by which a file writes to the disk other than through a file object of `atomic_write`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        short = name.rpartition(".")[2]
        arguments = [ast.unparse(argument) for argument in [*node.args, *(keyword.value for keyword in node.keywords)]]
        opens = short == "open" and any(set(argument) & set("wax+") for argument in arguments if argument[0] in "'\"")
        saves = short in ("save", "savez", "savez_compressed", "savefig", "dump") and arguments[:1] not in (
            ["file"],
            ["content"],
        )
        is_library = name.split(".")[0] in ("np", "tf", "figure", "json", "pickle")
        writes_checkpoint = name.endswith("_checkpoint.write")
        if opens or (saves and is_library) or writes_checkpoint or (short in WRITERS and name.split(".")[0] != "os"):
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}({', '.join(arguments)})")
    return found


def test_every_file_is_written_atomically() -> None:
    found = {
        str(path.relative_to(ROOT)): writes(path)
        for part in ("oaa_tf", "tools")
        for path in (ROOT / part).rglob("*.py")
    }
    assert [call for name, calls in found.items() if name not in ALLOWED for call in calls] == []
    # No reason is out of date.
    assert [name for name in ALLOWED if not found[name]] == []


def test_direct_writes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "module.py"
    for line in ("path.write_text(x)", "open(path, 'w')", "path.open('ab')", "np.save(path, x)", "cv2.imwrite(p, x)"):
        path.write_text(line)
        assert len(writes(path)) == 1, line
    for line in ("open(path)", "path.open('rb')", "np.save(file, x)", "file.write(x)"):
        path.write_text(line)
        assert writes(path) == [], line
