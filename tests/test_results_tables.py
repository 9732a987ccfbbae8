"""The tables in the documentation say what their files say."""

import json
from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from tools.results_tables import PAGE, with_tables

ROOT = Path(__file__).parents[1]


def test_page_is_up_to_date() -> None:
    page = ROOT / PAGE
    assert "<!-- table: table2.json -->" in page.read_text()
    assert page.read_text() == with_tables(page)


def test_replaces_what_stands_between_the_marks(tmp_path) -> None:
    row = {"setting": "CAM", "measurement": "maps", "split": "train", "supervision": "image labels"}
    (tmp_path / "t.json").write_text(json.dumps({"rows": [row | {"mean": 0.25, "spread": None}]}))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: t.json -->\nold\n<!-- end of table -->\nafter\n")
    text = with_tables(page)
    assert text.startswith("before\n<!-- table: t.json -->\n\n|") and text.endswith("<!-- end of table -->\nafter\n")
    assert "| maps | train | image labels | 25.0 |" in text and "old" not in text
    page.write_text(text)
    assert with_tables(page) == text


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_missing_and_damaged(content: str | None, tmp_path) -> None:
    if content is not None:
        (tmp_path / "t.json").write_text(content)
    (tmp_path / "page.md").write_text("<!-- table: t.json -->\n<!-- end of table -->\n")
    with pytest.raises(UserError, match=r"t\.json"):
        with_tables(tmp_path / "page.md")
