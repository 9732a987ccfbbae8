"""The guides that lead through many commands: each command is a line of its own that its program takes."""

import re
import shlex
from pathlib import Path

import pytest
from test_flagfiles import ROOT, settings_class

from oaa_tf.command_line.launch import parse

GUIDES = ("getting-started.md", "how-to/own-photos.md")


def commands(guide: str) -> list[str]:
    """The lines of a guide's code blocks that run a program, with lines that go on joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "docs" / guide).read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python ")]


@pytest.mark.parametrize(("guide", "command"), [(guide, line) for guide in GUIDES for line in commands(guide)])
def test_commands_parse(guide: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    folder, stage = module.split(".")
    assert (ROOT / folder / f"{stage}.py").exists()
    parse(settings_class(stage), stage, arguments)


def test_guides_have_commands_and_name_files_that_are_there() -> None:
    for guide in GUIDES:
        assert len(commands(guide)) > 5
        page = ROOT / "docs" / guide
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / Path(link)).exists(), link
