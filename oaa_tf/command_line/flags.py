"""Settings as absl flags, and flags back as settings; nothing outside of this folder reads a flag."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

from absl import flags

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings, is_stage, setting

REQUIRED = "required"
"""The group of the flags without a default."""

COMMON = "every command"
"""The group of the flags that every command has."""

FILLED_IN_LATER = "(filled in by the pipeline)"

_DEFINE: dict[Any, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    # Its items stay text, which `Settings` converts.
    tuple: flags.DEFINE_list,
}

S = TypeVar("S", bound=Settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonSettings(Settings, group=COMMON):
    """What every command can be told beside its own settings."""

    flagfile: str = setting("", help="Preset to read settings from; see flags/.")
    dry_run: bool = setting(False, help="Check everything and show what would be done, without doing it.")
    quiet: bool = setting(False, help="Say nothing but errors.")
    json: bool = setting(
        False, help="Write the result (with --dry_run, what it found) to stdout as JSON, all else to stderr."
    )


def command_flags(settings_class: type[Settings]) -> flags.FlagValues:
    """The flags of a command, not parsed yet: those of its settings, then those of `CommonSettings`."""
    flag_values = flags.FlagValues()
    define_flags(settings_class, flag_values)
    define_flags(CommonSettings, flag_values)
    return flag_values


def define_flags(settings_class: type[Settings], flag_values: flags.FlagValues, prefix: str = "") -> None:
    """Defines one absl flag per field of a settings class, `--<prefix><field>`.

    The fields of a nested `Settings` class become `--<field>.<name>`, except for those that the outer command fills in:
    required settings (mostly paths), and settings that the outer command has under the same name, before the stage.
    """
    hints = get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        hint, required = hints[field.name], field.default is dataclasses.MISSING
        if is_stage(hint):
            define_flags(hint, flag_values, prefix=f"{prefix}{field.name}.")
            continue
        if prefix and (required or field.name in flag_values):
            continue
        default = None if required else field.default
        # absl keeps the module of each flag, for its own help; here it is the group.
        group = prefix + (REQUIRED if required else settings_class.group_of(field.name))
        _DEFINE[get_origin(hint) or hint](
            prefix + field.name,
            list(map(str, default)) if isinstance(default, tuple) else default,
            f"{field.metadata['help']}{_allowed(field.metadata)}",
            flag_values=flag_values,
            module_name=group,
        )


def _allowed(rules: Mapping[str, Any]) -> str:
    """The rules of a setting as sentences for its help."""
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


def settings_from_flags(settings_class: type[S], flag_values: flags.FlagValues, prefix: str = "") -> S:
    """Builds the settings from parsed flags.

    A nested setting without a flag of its own (see `define_flags`) takes the value of the outer command's flag, or
    `FILLED_IN_LATER`.

    Raises:
        UserError: A required flag is missing, or a value is out of range.
    """
    hints = get_type_hints(settings_class)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings_class):
        hint = hints[field.name]
        name = prefix + field.name if prefix + field.name in flag_values else field.name
        if is_stage(hint):
            values[field.name] = settings_from_flags(hint, flag_values, prefix=f"{prefix}{field.name}.")
        elif name not in flag_values:
            values[field.name] = FILLED_IN_LATER
        elif (value := flag_values[name].value) is None:
            raise UserError(f"--{name} is required: {field.metadata['help']}")
        else:
            values[field.name] = value
    try:
        return settings_class(**values)
    except UserError as error:
        # A value taken from the outer command keeps the outer flag's name.
        if error.flag and f"{prefix}{error.flag}" in flag_values:
            raise error.with_flag(f"{prefix}{error.flag}") from None
        raise


def flags_by_group(settings_class: type[Settings]) -> dict[str, list[tuple[str, str]]]:
    """For a command's help: every flag with its default, such as `--seed=0`, and its help, by group; required first."""
    groups = {
        group: [(_with_default(flag), flag.help or "") for flag in members]
        for group, members in command_flags(settings_class).flags_by_module_dict().items()
    }
    return {REQUIRED: groups[REQUIRED], **groups} if REQUIRED in groups else groups


def _with_default(flag: flags.Flag) -> str:
    default = flag.default
    if default is None:
        return f"--{flag.name}"
    if isinstance(default, list):
        default = ",".join(default)
    return f"--{flag.name}={str(default).lower() if isinstance(default, bool) else default}"
