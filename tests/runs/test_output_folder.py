"""What is said about folders that can't be written, by a command and by its dry run."""

from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.runs.output_folder import check_folder, folder_errors


@pytest.mark.parametrize("inside", ["", "a", "a/b/c"])
def test_what_can_be_made_passes_and_is_not_made(tmp_path: Path, inside: str) -> None:
    check_folder("--output_dir", tmp_path / inside)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["file", "file/a", "file/a/b"])
def test_a_dry_run_and_a_run_refuse_the_same_folders(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / inside
    with pytest.raises(UserError) as planned:
        check_folder("--target", folder)
    with pytest.raises(UserError) as tried, folder_errors("--target", folder):
        folder.mkdir(parents=True, exist_ok=True)
    for message in (str(planned.value), str(tried.value)):
        assert message.startswith(f"--target={folder}: cannot be written (")
        assert message.endswith("); choose another folder")


def test_a_folder_below_the_one_we_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder("--output_dir", "new")
    Path("old").write_text("")
    with pytest.raises(UserError, match=r"--output_dir=old: cannot be written \(old\); choose another folder"):
        check_folder("--output_dir", "old")
