"""Presets, `flags/*.flags`: settings of several stages, each line with the stage's name in front.

`--train_cls.num_steps=900` is a setting of the stage `train_cls`. A command takes its own lines and passes over those
of stages that it does not run, so that one preset serves every command. On a stage's own command line no prefix is
needed, and a flag that would be passed over is an error.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import get_type_hints

from absl import flags

from oaa_tf.command_line.console import COMMANDS
from oaa_tf.command_line.errors import UserError, did_you_mean
from oaa_tf.command_line.settings import Settings, is_stage

# Presets have lines for the package's commands, and for the repository's tools.
STAGES = (
    *COMMANDS,
    "benchmark",
    "backbone_table",
    "ablation",
    "accumulation_study",
    "kill_test",
    "scale_test",
    "size_test",
    "soak_test",
    "time_to_maps",
    "time_to_quality",
)

_STAGE_FLAG = re.compile(r"--?(no)?([a-z_]+)\.([a-z0-9_]+)(=.*)?$", re.DOTALL)


def expand_presets(
    arguments: Sequence[str], stage: str, settings_class: type[Settings], flag_values: flags.FlagValues
) -> list[str]:
    """Reads the `--flagfile`s and leaves the flags that are meant for `stage`; the command line's own come last.

    `--<stage>.<name>` becomes `--<name>`. Settings of stages that `stage` does not run, and those that `stage` fills in
    itself, are dropped if they come from a preset, which is for all stages, and refused on the command line.

    Raises:
        UserError: A flagfile is missing, a prefix is not a stage, or a flag of the command line is without effect.
    """
    presets, own = _presets_apart(arguments)
    try:
        shared = flag_values.read_flags_from_files(presets, force_gnu=True)
    except (flags.Error, OSError, ValueError, RecursionError) as error:
        raise UserError(str(error), flag="flagfile") from None
    run_here = {name: hint for name, hint in get_type_hints(settings_class).items() if is_stage(hint)}
    kept = []
    for argument, is_shared in [*((line, True) for line in shared), *((flag, False) for flag in own)]:
        match = _STAGE_FLAG.match(argument)
        if match is None:
            kept.append(argument)
            continue
        negation, owner, name, value = (part or "" for part in match.groups())
        if owner not in STAGES:
            expected = f"expected one of {', '.join(STAGES)}"
            raise UserError(f"{argument[:80]}: {owner[:80]!r} is not a stage; {did_you_mean(owner, STAGES, expected)}")
        if owner == stage:
            kept.append(f"--{negation}{name}{value}")
            continue
        if owner in run_here:
            known = {field.name for field in dataclasses.fields(run_here[owner])}
            # absl knows --no<stage>.<name> only.
            if not value and name not in known and name.removeprefix("no") in known:
                negation, name = "no", name.removeprefix("no")
            # What is no setting at all is refused when the flags are parsed.
            if f"{owner}.{name}" in flag_values or name not in known:
                kept.append(f"--{negation}{owner}.{name}{value}")
                continue
        if not is_shared:
            outer = f"--{negation}{name}" if name in flag_values else ""
            why = _why_without_effect(owner, stage, owner in run_here, outer)
            raise UserError(f"{argument.partition('=')[0][:80]}: {why}")
    return kept


def _why_without_effect(owner: str, stage: str, is_run: bool, outer: str) -> str:
    """Why `stage` has no use for a setting of `owner`, as the end of an error; `outer`: its own flag for it, or ""."""
    if is_run:
        return f"{stage} sets this for all its stages; use {outer}" if outer else f"{stage} fills this in; leave it out"
    advice = f"did you mean {outer}?" if outer else f"leave it out, or run {owner} by itself"
    return f"{stage} takes no settings of {owner}; {advice}"


def _presets_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The `--flagfile`s, and all other flags: of two values for a flag, that of the command line counts."""
    presets: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--flagfile", "-flagfile"):
            presets += [argument, *itertools.islice(rest, 1)]
        else:
            (presets if re.match("--?flagfile=", argument) else others).append(argument)
    return presets, others
