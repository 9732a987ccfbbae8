"""Names that come with data do not lead out of its folder."""

import ntpath
import posixpath
from types import ModuleType, SimpleNamespace

import pytest

from oaa_tf.runs import file_names
from oaa_tf.runs.file_names import is_plain_name


@pytest.mark.parametrize("system", [posixpath, ntpath])
def test_plain_names_are_files_directly_in_a_folder(monkeypatch: pytest.MonkeyPatch, system: ModuleType) -> None:
    monkeypatch.setattr(file_names, "os", SimpleNamespace(path=system))
    for name in ("2007_000032", "a b.c", ".hidden", "...", "Ä" * 100):
        assert is_plain_name(name), name
    for name in ("", ".", "..", "a/b", "a\\b", "/a", "\\a", "a/", "a/.", "./a", "a\n", "Ä" * 101, 1, None):
        assert not is_plain_name(name), name


def test_a_drive_of_windows_is_no_plain_name_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_names, "os", SimpleNamespace(path=ntpath))
    assert not is_plain_name("C:a") and not is_plain_name("C:")
