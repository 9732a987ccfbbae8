"""`make docs`: the API reference has every module and all public names, and its links lead somewhere."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import oaa_tf

ROOT = Path(__file__).parents[1]


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
