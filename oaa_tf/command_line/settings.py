"""Settings of commands: frozen dataclasses that check their fields at construction.

`oaa_tf.command_line.flags` turns settings into flags and back.
"""

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from oaa_tf.command_line.errors import UserError

# File names can't hold NUL; other control characters would break the lines of flags.txt.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# `pathlib` would make it a folder of this name.
_URL = re.compile(r"(https?|ftp|file|gs|s3a?|az|abfss?|hdfs|ram)://", re.IGNORECASE)


def setting(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field of a `Settings` class.

    Args:
        default: The value when none is given; without it the setting is required.
        help: One sentence for `--help`.
        choices: The allowed values.
        minimum: The least allowed number (inclusive).
        maximum: The greatest allowed number (inclusive).
        may_change: Whether a run may be resumed with another value, such as for the checkpoint frequency.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "may_change": may_change}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: checks every field at construction.

    A field is a `str`, `int`, `float`, `bool`, or a `tuple` of any number of `str`, `int` or `float`, made with
    `setting`; or the settings of another stage. `--help` shows the fields that a class adds in the group that it names:
    `class DataSettings(Settings, group="data")`.

    Raises:
        UserError: A value has the wrong type or is out of range; the message names the flag.
    """

    _group: ClassVar[str]

    def __init_subclass__(cls, group: str = "options") -> None:
        cls._group = group

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            if not is_stage(hints[field.name]):
                object.__setattr__(self, field.name, _checked(field, hints[field.name], getattr(self, field.name)))

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; those of a nested stage as `<stage>.<name>`."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                values |= {f"{field.name}.{name}": inner for name, inner in value.as_dict().items()}
            else:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def free_on_resume(cls) -> set[str]:
        """Names of the settings that may change when a run is resumed, as in `as_dict`."""
        free = set()
        for field in dataclasses.fields(cls):
            hint = get_type_hints(cls)[field.name]
            if is_stage(hint):
                free |= {f"{field.name}.{name}" for name in hint.free_on_resume()}
            elif field.metadata["may_change"]:
                free.add(field.name)
        return free

    def as_flags(self) -> str:
        """The settings as the text of a flagfile."""
        return "".join(f"{_flag(name, value)}\n" for name, value in self.as_dict().items())

    @classmethod
    def group_of(cls, name: str) -> str:
        """The group of a setting: that of the most basic class that has it."""
        bases = (base for base in reversed(cls.__mro__) if issubclass(base, Settings))
        return next(base for base in bases if name in inspect.get_annotations(base))._group

    @classmethod
    def defaults_as_flags(cls) -> str:
        """The settings that have a default, as the text of a flagfile; without those of nested stages."""
        fields = [field for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING]
        return "".join(f"{_flag(field.name, field.default)}\n" for field in fields)


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def name_and_value(line: str) -> tuple[str, str]:
    """Name and value in a line of `Settings.as_flags`; `--flip` and `--noflip` have the values "true" and "false"."""
    name, equals, value = line.removeprefix("--").partition("=")
    if equals:
        return name, value
    return name.removeprefix("no"), str(not name.startswith("no")).lower()


def is_stage(hint: Any) -> bool:
    """Whether the type of a field is the settings of another stage."""
    return isinstance(hint, type) and issubclass(hint, Settings)


def _checked(field: dataclasses.Field, hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UserError("expected a sequence of values", flag=field.name, value=repr(value))
        kind = get_args(hint)[0]
        try:
            value = tuple(kind(item) for item in value)
        except ValueError:
            joined = ",".join(map(str, value))
            raise UserError(f"expected {kind.__name__} values", flag=field.name, value=joined) from None
        # An empty list of names may mean all of them; an empty list of numbers means nothing.
        if not value and kind is not str:
            raise UserError("expected one number at least", flag=field.name, value="")
        items = value
    else:
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
            raise UserError(f"expected {hint.__name__}", flag=field.name, value=repr(value))
        items = (value,)
    rules = field.metadata
    for item in items:
        if isinstance(item, str) and _CONTROL.search(item):
            raise UserError("holds control characters or bytes that are no UTF-8", flag=field.name, value=repr(item))
        if isinstance(item, str) and _URL.match(item):
            raise UserError(
                "is a URL; copy it to a disk of this machine, or mount its storage as a folder",
                flag=field.name,
                value=item,
            )
        if rules["choices"] is not None and item not in rules["choices"]:
            raise UserError(f"expected one of {', '.join(map(str, rules['choices']))}", flag=field.name, value=item)
        # Written so that NaN fails too.
        if rules["minimum"] is not None and not item >= rules["minimum"]:
            raise UserError(f"expected at least {rules['minimum']}", flag=field.name, value=item)
        if rules["maximum"] is not None and not item <= rules["maximum"]:
            raise UserError(f"expected at most {rules['maximum']}", flag=field.name, value=item)
    return value
