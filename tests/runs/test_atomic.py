"""Files are complete or absent."""

import ast
import os
import threading
from pathlib import Path

import pytest

from oaa_tf.runs import atomic
from oaa_tf.runs.atomic import atomic_write, remove_temporary_files, sync

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
    "tools/stage_process.py": "the log of a process",
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
