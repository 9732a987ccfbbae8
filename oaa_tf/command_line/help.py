"""The text of a command's `--help` and `--helpfull`."""

import re
import textwrap
from collections.abc import Mapping, Sequence

Group = Sequence[tuple[str, str]]
"""Flags, each as it is given by default, and its help."""

Groups = Mapping[str, Group]

REQUIRED = "required"

_WIDTH = 80
_HEIGHT = 45
"""Columns and lines of a screen."""

_LONGEST = 29


def short_help(heading: str, groups: Groups, common: Group, stages: Sequence[str] = ()) -> str:
    """One screen: every flag with its default, and the beginning of its help if there is room for that.

    Args:
        heading: The first line.
        groups: The command's flags by the name of their group, what is required first.
        common: The flags that every command has.
        stages: Stages that the command runs, whose flags are not among them.
    """
    names = "  ".join(flag.partition("=")[0] for flag, _ in common)
    footer = _wrapped(f"every command: {names}", "")
    if stages:
        prefixes = ", ".join(f"--{stage}.<name>" for stage in stages)
        footer += _wrapped(f"settings of the stages, with --helpfull: {prefixes}", "")
    footer.append("--helpfull: all that there is to say about each")
    for is_spaced, is_explained in ((True, True), (False, True), (False, False)):
        lines = [heading]
        for name, flags in groups.items():
            lines += ["", f"{name}:"] if is_spaced else [f"{name}:"]
            if is_explained or name == REQUIRED:
                lines += [_one_line(*flag) for flag in flags]
            else:
                lines += _wrapped("  ".join(flag for flag, _ in flags), "  ")
        lines += ["", *footer] if is_spaced else footer
        if len(lines) <= _HEIGHT:
            break
    return "\n".join(lines)


def full_help(heading: str, groups: Groups) -> str:
    """Every flag with its default and all of its help."""
    lines = [heading]
    for name, flags in groups.items():
        lines += ["", f"{name}:"]
        for flag, text in flags:
            lines += [f"  {flag}", *_wrapped(text, "      ")]
    return "\n".join(lines)


def _one_line(flag: str, text: str) -> str:
    if len(flag) > _LONGEST:
        flag = f"{flag[: _LONGEST - 3]}..."
    begin = f"  {flag:{_LONGEST}}  "
    # Up to the end of its first sentence.
    text = re.split(r"\.(?: (?=[A-Z])|$)", text, maxsplit=1)[0]
    return begin + textwrap.shorten(text, _WIDTH - len(begin), placeholder=" ...")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
