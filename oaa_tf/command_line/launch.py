"""From a settings dataclass to a command: flags, presets, the error boundary.

A setting is written once, as a field of a frozen dataclass (see `oaa_tf.command_line.settings`). `launch` turns the
fields into absl flags when a file runs as a program, never at import, so notebooks and the pipeline call
`run(Settings(...))` directly.

A preset (`flags/*.flags`) holds settings of several stages, each line with the stage's name in front:
`--train_cls.num_steps=900`. A stage takes its own lines and passes over those of the other stages, so that one preset
serves every command. On a stage's own command line no prefix is needed, and a flag that would be passed over is an
error.
"""

import dataclasses
import difflib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_origin, get_type_hints

from absl import flags

from oaa_tf.command_line.boundary import guarded, output_to
from oaa_tf.command_line.console import COMMANDS
from oaa_tf.command_line.dry_run import dry_run_text
from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.command_line.help import REQUIRED, full_help, short_help
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.command_line.settings import Settings, is_stage

# Presets have lines for the package's commands, and for the repository's tools.
STAGES = (*COMMANDS, "benchmark", "ablation", "accumulation_study", "kill_test", "soak_test")

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull")

_COMMON = "every command"

FILLED_IN_LATER = "(filled in by the pipeline)"

_STAGE_FLAG = re.compile(r"--?(no)?([a-z_]+)\.([a-z0-9_]+)(=.*)?$", re.DOTALL)


def define_flags(settings_class: type[Settings], flag_values: flags.FlagValues, prefix: str = "") -> None:
    """Defines one absl flag per field of a settings class, `--<prefix><field>`.

    A field whose type is itself a `Settings` class is defined recursively as `--<field>.<name>`, but for what the outer
    command fills in: required settings (paths, mostly) and those that it has, before the stage, under the same name.
    """
    hints = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        hint = hints[field.name]
        if is_stage(hint):
            define_flags(hint, flag_values, prefix=f"{prefix}{field.name}.")
            continue
        name = prefix + field.name
        required = field.default is dataclasses.MISSING
        if prefix and (required or field.name in flag_values):
            continue
        default = None if required else field.default
        group = prefix + (REQUIRED if required else settings_class.group_of(field.name))
        text = f"{field.metadata['help']}{_allowed(field.metadata)}"
        if get_origin(hint) is tuple:
            # absl joins and splits lists at commas; `Settings` converts the items.
            default = None if default is None else [str(item) for item in default]
            flags.DEFINE_list(name, default, text, flag_values=flag_values, module_name=group)
        else:
            define = {
                str: flags.DEFINE_string,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                bool: flags.DEFINE_bool,
            }[hint]
            # absl keeps the module of each flag, for its own help; here it is the group.
            define(name, default, text, flag_values=flag_values, module_name=group)


def _allowed(rules: Mapping[str, Any]) -> str:
    """What a setting may be, as a sentence for its help."""
    text = ""
    if rules["choices"] is not None:
        text += f" One of: {', '.join(str(choice) or '(empty)' for choice in rules['choices'])}."
    if rules["minimum"] is not None and rules["maximum"] is not None:
        text += f" From {rules['minimum']} to {rules['maximum']}."
    elif rules["minimum"] is not None:
        text += f" At least {rules['minimum']}."
    elif rules["maximum"] is not None:
        text += f" At most {rules['maximum']}."
    return text + (" May change when a run is resumed." if rules["may_change"] else "")


def settings_from_flags(settings_class: type[Settings], flag_values: flags.FlagValues, prefix: str = "") -> Settings:
    """Builds the settings from parsed flags.

    What a nested stage leaves to the outer command (see `define_flags`) is taken from there, or `FILLED_IN_LATER`.

    Raises:
        UserError: A required flag is missing, or a value is out of range.
    """
    hints = get_type_hints(settings_class)
    values = {}
    for field in dataclasses.fields(settings_class):
        hint = hints[field.name]
        if is_stage(hint):
            values[field.name] = settings_from_flags(hint, flag_values, prefix=f"{prefix}{field.name}.")
            continue
        name = prefix + field.name
        if name not in flag_values:
            name = field.name
        if name not in flag_values:
            values[field.name] = FILLED_IN_LATER
            continue
        value = flag_values[name].value
        if value is None:
            raise UserError(f"--{name} is required: {field.metadata['help']}")
        values[field.name] = tuple(value) if get_origin(hint) is tuple else value
    try:
        return settings_class(**values)
    except UserError as error:
        # A value taken from the outer command keeps the outer flag's name.
        if error.flag and f"{prefix}{error.flag}" in flag_values:
            raise error.with_flag(f"{prefix}{error.flag}") from None
        raise


def expand_presets(
    arguments: Sequence[str], stage: str, settings_class: type[Settings], flag_values: flags.FlagValues
) -> list[str]:
    """Reads the `--flagfile`s and leaves the flags that are meant for `stage`; the command line's own come last.

    `--<stage>.<name>` becomes `--<name>`. A preset is for all stages: its settings of stages that `stage` does not run,
    and those that `stage` fills in itself, are dropped. On the command line they would be without effect too, and are
    refused.

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
        negation, owner, name, value = match.groups()
        if owner not in STAGES:
            expected = f"expected one of {', '.join(STAGES)}"
            raise UserError(f"{argument[:80]}: {owner[:80]!r} is not a stage; {_meant(owner, STAGES, expected)}")
        if owner == stage:
            kept.append(f"--{negation or ''}{name}{value or ''}")
            continue
        if owner in run_here:
            known = {field.name for field in dataclasses.fields(run_here[owner])}
            # absl knows --no<stage>.<name> only.
            if value is None and name not in known and name.removeprefix("no") in known:
                negation, name = "no", name.removeprefix("no")
            # What is no setting at all is refused when the flags are parsed.
            if f"{owner}.{name}" in flag_values or name not in known:
                kept.append(f"--{negation or ''}{owner}.{name}{value or ''}")
                continue
        if not is_shared:
            outer = f"--{negation or ''}{name}" if name in flag_values else ""
            why = _why_without_effect(owner, stage, owner in run_here, outer)
            raise UserError(f"{argument.partition('=')[0][:80]}: {why}")
    return kept


def _why_without_effect(owner: str, stage: str, is_run: bool, outer: str) -> str:
    """Why `stage` has no use for a setting of `owner`, as the end of an error; `outer`: its own flag for it, or ""."""
    if is_run:
        return f"{stage} sets this for all its stages; use {outer}" if outer else f"{stage} fills this in; leave it out"
    advice = f"did you mean {outer}?" if outer else f"leave it out, or run {owner} by itself"
    return f"{stage} takes no settings of {owner}; {advice}"


def _meant(name: str, names: Sequence[str], otherwise: str, prefix: str = "") -> str:
    """What an unknown name was probably meant to be, as the end of an error."""
    # A flagfile can be anything, and one line of it very long.
    near = difflib.get_close_matches(name[:80], names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def _presets_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The `--flagfile`s, and all other flags: of two values for a flag, that of the command line counts."""
    presets, others = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--flagfile", "-flagfile"):
            presets += [argument, *itertools.islice(rest, 1)]
        else:
            (presets if re.match("--?flagfile=", argument) else others).append(argument)
    return presets, others


def _define_common_flags(flag_values: flags.FlagValues) -> None:
    """The flags that every command has and that are not among its settings."""
    common = {"flag_values": flag_values, "module_name": _COMMON}
    flags.DEFINE_string("flagfile", "", "Preset to read settings from; see flags/.", **common)
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Check everything and show what would be done, without doing it.",
        **common,
    )
    flags.DEFINE_bool("quiet", False, "Say nothing but errors.", **common)
    flags.DEFINE_bool(
        "json",
        False,
        "Write the result (with --dry_run, what it found) to stdout as JSON, all else to stderr.",
        **common,
    )


def parse(settings_class: type[Settings], stage: str, arguments: Sequence[str]) -> Settings:
    """Parses a command line (without the program's name) into settings.

    Raises:
        UserError: An unknown flag (the nearest name is suggested), a wrong value, or an argument that is no flag.
    """
    return settings_from_flags(settings_class, _parsed_flags(settings_class, stage, arguments))


def _parsed_flags(settings_class: type[Settings], stage: str, arguments: Sequence[str]) -> flags.FlagValues:
    flag_values = flags.FlagValues()
    define_flags(settings_class, flag_values)
    _define_common_flags(flag_values)
    try:
        rest = flag_values([stage, *expand_presets(arguments, stage, settings_class, flag_values)])
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        raise UserError(f"unknown flag --{name[:80]}; {_meant(name, list(flag_values), 'see --help', '--')}") from None
    except flags.Error as error:
        raise UserError(str(error)[:500]) from None
    if len(rest) > 1:
        raise UserError(f"unexpected argument {quoted(rest[1])}: every setting is a --flag")
    return flag_values


def help_text(settings_class: type[Settings], stage: str, description: str, *, full: bool = False) -> str:
    """The text of `--help`, or of `--helpfull`."""
    flag_values = flags.FlagValues()
    define_flags(settings_class, flag_values)
    _define_common_flags(flag_values)
    groups = {
        group: [(_flag_with_default(flag), flag.help) for flag in members]
        for group, members in flag_values.flags_by_module_dict().items()
    }
    if REQUIRED in groups:
        groups = {REQUIRED: groups[REQUIRED]} | groups
    heading = f"{stage}: {description}"
    if full:
        return full_help(heading, groups)
    stages = [name for name, hint in get_type_hints(settings_class).items() if is_stage(hint)]
    own = {group: shown for group, shown in groups.items() if group.partition(".")[0] not in stages}
    return short_help(heading, own, own.pop(_COMMON), stages)


def _flag_with_default(flag: flags.Flag) -> str:
    default = flag.default
    if default is None:
        return f"--{flag.name}"
    if isinstance(default, list):
        default = ",".join(default)
    return f"--{flag.name}={str(default).lower() if isinstance(default, bool) else default}"


def launch(
    settings_class: type[Settings],
    run: Callable[[Any], Any],
    stage: str,
    description: str,
    dry_run: Callable[[Any], Mapping[str, Any]] | None = None,
) -> None:
    """The body of `if __name__ == "__main__":` in every command. Never returns.

    Args:
        settings_class: The command's settings.
        run: Does what they say; its result is what `--json` writes.
        stage: The command's name, one of `STAGES`.
        description: What it does, for `--help`.
        dry_run: Checks what can be checked before `run`, and returns what `run` would do, by name (see `dry_run_text`).
            It leaves nothing behind. Without it, `--dry_run` shows the settings.
    """
    arguments = sys.argv[1:]
    asked = [argument for argument in arguments if argument in HELP_FLAGS]
    if asked:
        text = help_text(settings_class, stage, description, full=asked[0].endswith("full"))
        guarded(lambda: print(text))
        sys.exit(0)

    def carry_out() -> None:
        flag_values = _parsed_flags(settings_class, stage, arguments)
        settings = settings_from_flags(settings_class, flag_values)
        quiet, json_wanted, is_dry = (flag_values[name].value for name in ("quiet", "json", "dry_run"))
        _import_tensorflow_quietly()
        with output_to(quiet, json_wanted):
            result = (dry_run or _settings_only)(settings) if is_dry else run(settings)
        if json_wanted:
            print(json.dumps(json_ready(result), indent=1, ensure_ascii=False, allow_nan=False))
        elif is_dry and not quiet:
            print(dry_run_text(result))

    sys.exit(guarded(carry_out))


def _settings_only(settings: Settings) -> dict[str, Any]:
    return {"settings": settings.as_flags().splitlines()}


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up messages, unless TF_CPP_MIN_LOG_LEVEL asks for them.

    Setting the variable is not enough: TensorFlow writes some messages before it sets up its log.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
