"""The plan of a command, what `--dry_run` finds out, as text."""

from collections.abc import Mapping
from typing import Any

DONE, TO_DO = "done", "to do"
"""How far something has come, in every plan."""

_UNITS = ("_bytes", "_seconds")


def plan_text(plan: Mapping[str, Any]) -> str:
    """A line for every entry, in columns.

    Args:
        plan: Values by name: numbers, text, lists (a line for each item) and dictionaries; sizes have names that end in
            `_bytes`, estimated times in `_seconds`.
    """
    shown = {name: _lines(name, value) for name, value in plan.items()}
    titles = {name: f"{_title(name)}:" for name in plan}
    width = max(map(len, titles.values()))
    lines = []
    for name, values in shown.items():
        lines += [f"{title:{width}} {value}" for title, value in zip([titles[name], *[""] * len(values)], values)]  # noqa: B905
    return "\n".join(line.rstrip() for line in lines)


def _title(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name.replace("_", " ")


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
        for size, unit in ((3600, "h"), (60, "min")):
            if value >= 2 * size:
                return f"about {value / size:.{0 if value >= 10 * size else 1}f} {unit}"
        return f"about {value:.2g} s"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
