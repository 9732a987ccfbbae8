"""What tests want to know about a report page, by parsing it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img", "input"}
_URL_ATTRIBUTES = {"src", "href", "action", "srcset", "poster", "data"}


class ReportPage(HTMLParser):
    """A parsed page.

    Attributes:
        text: What stands in it, without styles and scripts.
        urls: Everything that a browser could load.
        tags: The names of all elements.
        articles: By image id, the descriptions of its pictures.
        charts: What the page's script gets about each chart.
        data: What it gets besides.
        styles: The text of its style sheet.
        elements: For each element, itself and the elements around it, from the outside to the inside; of each the tag
            and the attributes.
    """

    def __init__(self, page: str) -> None:
        """Parses, and checks that all elements are closed in order and that no id occurs twice."""
        super().__init__()
        self.text, self.urls, self.tags = "", [], []
        self.articles: dict[str, list[str]] = {}
        self.charts: list[dict] = []
        self.scripts: list[str] = []
        self.styles = ""
        self.elements: list[tuple[tuple[str, dict[str, str]], ...]] = []
        self._open: list[str] = []
        self._around: list[tuple[str, dict[str, str]]] = []
        self._ids: set[str] = set()
        self._name = ""
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        self.urls += re.findall(r"""(?:url\(|@import)\s*["']?([^"')]*)""", page)
        self.data = json.loads(self.scripts[0])

    @classmethod
    def read(cls, path: Path) -> "ReportPage":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attributes)
        assert len(values) == len(attributes), f"{tag} has an attribute twice: {attributes}"
        assert not any(name.startswith("on") for name in values), attributes
        if "id" in values:
            assert values["id"] not in self._ids, values["id"]
            self._ids.add(values["id"])
        self.urls += [value for name, value in values.items() if name in _URL_ATTRIBUTES]
        if values.get("role") == "img" and "article" in self._open:
            self.articles[self._name].append(values["aria-label"])
        if "data-chart" in values:
            self.charts.append(json.loads(values["data-chart"]))
        if tag == "img":
            assert "alt" in values
        element = (tag, {name: value or "" for name, value in attributes})
        self.elements.append((*self._around, element))
        if tag not in _VOID:
            self._open.append(tag)
            self._around.append(element)

    def handle_endtag(self, tag: str) -> None:
        # Self-closing parts of SVG come here, too.
        assert self._open.pop() == tag
        self._around.pop()

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        if where == "script":
            self.scripts.append(data)
        elif where == "style":
            self.styles += data
        else:
            self.text += data
        if where == "h3":
            self._name = data
            self.articles[data] = []
