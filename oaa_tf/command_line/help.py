"""The text of a command's `--help` and `--helpfull`."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import get_type_hints

from oaa_tf.command_line.flags import COMMON, REQUIRED, flags_by_group
from oaa_tf.command_line.settings import Settings, is_stage

Group = Sequence[tuple[str, str]]
"""Flags, each with its default as on a command line, and its help."""

Groups = Mapping[str, Group]

_WIDTH = 80
_HEIGHT = 45
"""Columns and lines of a screen."""

_LONGEST = 29
"""Characters of a flag and its default in front of its help."""


def help_text(settings_class: type[Settings], stage: str, description: str, *, full: bool = False) -> str:
    """The text of `--help`, or of `--helpfull`."""
    groups = flags_by_group(settings_class)
    heading = f"{stage}: {description}"
    if full:
        return full_help(heading, groups)
    stages = [name for name, hint in get_type_hints(settings_class).items() if is_stage(hint)]
    own = {group: members for group, members in groups.items() if group.partition(".")[0] not in stages}
    return short_help(heading, own, own.pop(COMMON), stages)


def short_help(heading: str, groups: Groups, common: Group, stages: Sequence[str] = ()) -> str:
    """One screen: every flag with its default, and the first sentence of its help if there is room for that.

    Args:
        heading: The first line.
        groups: The command's flags by the name of their group, required flags first.
        common: The flags that every command has.
        stages: Stages that the command runs; their flags are left out.
    """
    footer = _wrapped(f"every command: {'  '.join(flag.partition('=')[0] for flag, _ in common)}", "")
    if stages:
        prefixes = ", ".join(f"--{stage}.<name>" for stage in stages)
        footer += _wrapped(f"settings of the stages, with --helpfull: {prefixes}", "")
    footer.append("--helpfull: all that there is to say about each")
    for gap, is_explained in (([""], True), ([], True), ([], False)):
        lines = [heading]
        for name, flags in groups.items():
            lines += [*gap, f"{name}:"]
            if is_explained or name == REQUIRED:
                lines += [_one_line(*flag) for flag in flags]
            else:
                lines += _wrapped("  ".join(flag for flag, _ in flags), "  ")
        lines += [*gap, *footer]
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
    first_sentence = re.split(r"\.(?: (?=[A-Z])|$)", text, maxsplit=1)[0]
    return begin + textwrap.shorten(first_sentence, _WIDTH - len(begin), placeholder=" ...")


def _wrapped(text: str, indent: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [indent + line for line in lines]
