"""What is written for users: commands that exist, links that lead somewhere, a complete API reference."""

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from stages import ROOT, settings_class

import oaa_tf
from oaa_tf.command_line.launch import parse
from oaa_tf.command_line.presets import STAGES

README, BUILD = ROOT / "README.md", ROOT / "BUILD.md"
RESULTS = ROOT / "docs/results/results.md"
DOCUMENTS = [README, BUILD, *sorted((ROOT / "docs").rglob("*.md"))]

_CODE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def commands(document: Path) -> list[tuple[str, str, list[str]]]:
    """Package, stage and arguments of every command line in a document's blocks of code."""
    code = "\n".join(_CODE.findall(document.read_text())).replace("\\\n", " ")
    variables = dict(re.findall(r'^([A-Z]\w*)="(.*)"$', code, re.MULTILINE))
    for name, value in variables.items():
        code = code.replace(f"${name}", value)
    found = (re.search(r"python -m (oaa_tf|tools)\.(\w+)( [^|&;]*|$)", line) for line in code.splitlines())
    return [
        (match[1], match[2], shlex.split(match[3], comments=True)) for match in found if match and match[2] in STAGES
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_in_documents_have_the_right_flags(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = commands(document)
    assert found or document not in (README, RESULTS)
    for package, stage, arguments in found:
        assert (ROOT / package / f"{stage}.py").exists(), f"{package}.{stage}"
        # A command on a bucket parses the paths of its copies.
        parse(settings_class(stage), stage, [argument.replace("gs://", "/") for argument in arguments])


def prose(document: Path) -> str:
    return _CODE.sub("", document.read_text())


def anchors(document: Path) -> set[str]:
    """What links to the headings of a document have behind `#`, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    links = [urlsplit(link) for link in re.findall(r"\]\(([^)\s]+)\)", prose(document))]
    assert links or document != README
    for link in links:
        target = document.parent / link.path if link.path else document
        assert link.scheme or target.exists(), link.geturl()
        assert link.scheme or not link.fragment or link.fragment in anchors(target), link.geturl()


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200
    assert len((ROOT / "docs/README.md").read_text().splitlines()) <= 30


class Page(HTMLParser):
    """The links of a page and the places in it that links can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            self.ids.add(values["id"])
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])


@pytest.mark.slow
def test_the_reference_is_complete(tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="needs pdoc (requirements-dev.txt)")
    _, _, recipe = (ROOT / "Makefile").read_text().replace("\\\n", "").partition("\ndocs: $(DEV_STAMP)\n")
    command = next(line for line in recipe.splitlines() if "pdoc" in line).strip().replace("$$", "$")
    site = tmp_path / "site"
    command = command.replace("$(VENV)/bin/python", sys.executable).replace("-directory site", f"-directory {site}")
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert set(oaa_tf.__all__) <= pages[site / "oaa_tf.html"].ids
    modules = [path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "oaa_tf").rglob("[a-z]*.py")]
    assert {site / module for module in modules} <= pages.keys()
    for path, page in pages.items():
        for link in map(urlsplit, page.links):
            if link.scheme:
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            assert target in pages, f"{path}: {link.geturl()}"
            # pdoc links an inherited method as if it stood with the class, but shows it with the base.
            owner = unquote(link.fragment).partition(".")[0]
            assert not owner or owner in pages[target].ids, f"{path}: {link.geturl()}"
