"""HTML from values: everything that comes from data is escaped here, and nowhere else."""

import base64
import html
import json
import math
import re
from collections.abc import Mapping
from typing import Any


def text(value: object) -> str:
    """A value as HTML text, also for attributes in double quotes."""
    return html.escape(str(value))


def element(tag: str, *content: str, **attributes: object) -> str:
    """An element; `content` is HTML already, attribute values are escaped.

    Args:
        tag: Its name.
        *content: What is inside.
        **attributes: By name, with `_` for `-` and at the end of Python's keywords (`class_`); True for one without a
            value, None or False for none.
    """
    parts = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(name)
        elif value is not None and value is not False:
            parts.append(f'{name}="{text(value)}"')
    start = f"<{' '.join(parts)}>"
    return start if tag in ("img", "input") else f"{start}{''.join(content)}</{tag}>"


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A template with each `{{name}}` replaced, in one pass: what a part contains is left alone."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def script_data(value: Any) -> str:
    """JSON that can stand inside a script element, whatever strings it has."""
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return encoded.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def data_uri(kind: str, data: bytes) -> str:
    """An image as part of the page; `kind` is "webp", for example."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def percent(value: float | None) -> str:
    """A share as "55.0"; a dash for one that is not known."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.1f}"
