"""Findings as text: those of `--dry_run`, and those of `make_records`."""

import re
from collections.abc import Mapping
from typing import Any

_SUFFIX = re.compile("_(bytes|seconds)$")

DONE, TO_DO = "done", "to do"
"""How far a stage has come."""


def dry_run_text(found: Mapping[str, Any]) -> str:
    """A line for every entry, in columns.

    Args:
        found: Numbers, texts, lists and dictionaries (a line for each item) by name. Names of sizes end in `_bytes`,
            those of times in `_seconds`; those of counts may begin with `num_`.
    """
    shown = {name: _lines(name, value) for name, value in found.items()}
    titles = {name: f"{_SUFFIX.sub('', name).removeprefix('num_').replace('_', ' ')}:" for name in found}
    width = max(map(len, titles.values()))
    lines = []
    for name, values in shown.items():
        for index, value in enumerate(values):
            lines.append(f"{titles[name] if index == 0 else '':{width}} {value}".rstrip())
    return "\n".join(lines)


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}: {_text(name, item)}" for key, item in value.items()] or ["-"]
    if isinstance(value, list | tuple):
        return [_text(name, item) for item in value] or ["-"]
    return [_text(name, value)]


def _text(name: str, value: Any) -> str:
    if value is None:
        return "not known"
    if name.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.2f} MB"
    if name.endswith("_seconds"):
        return f"about {value:.2g} s" if value < 60 else f"about {value / 60:.{1 if value < 600 else 0}f} min"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
