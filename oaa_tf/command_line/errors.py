"""The one exception that a user's mistake raises anywhere in OAA-TF, and what its messages are made of."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 160
_MOST = 10
_MOST_NAMES = 40


class UserError(Exception):
    """A mistake that the user can correct: a wrong flag, file, record or checkpoint.

    The message is one line that names the culprit and says what to do. Commands print it without a traceback and exit
    with code 2. Control characters, which a file's name can hold, are escaped.

        raise UserError("expected a multiple of 8", flag="image_size", value=100)   # --image_size=100: expected ...

    Attributes:
        message: What is wrong and what to do, without the flag.
        flag: Name of the flag to blame, without dashes; None if no flag is to blame.
        value: The flag's value; None to leave it out.
        result: What the command has done all the same, for `--json`; None if nothing.
    """

    def __init__(self, message: str, *, flag: str | None = None, value: Any = None, result: Any = None) -> None:
        self.message, self.flag, self.value, self.result = message, flag, value, result
        blamed = "" if flag is None else f"--{flag}: " if value is None else f"--{flag}={value}: "
        line = " ".join(f"{blamed}{message}".split())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))

    def with_flag(self, flag: str) -> "UserError":
        """The same mistake under the name that its flag has on another command line."""
        return UserError(self.message, flag=flag, value=self.value)


def first_few(reasons: Sequence[object]) -> str:
    """Up to ten reasons for a `UserError`, with bars between them, and how many more there are."""
    return " | ".join(_first(reasons, _MOST))


def first_names(classes: Sequence[str]) -> str:
    """Up to forty names for a `UserError`, and how many more there are."""
    return ", ".join(_first(classes, _MOST_NAMES))


def _first(items: Sequence[object], most: int) -> list[str]:
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return [*map(str, items[:most]), *more]


def raise_all(mistakes: Sequence[UserError]) -> None:
    """Raises mistakes that were found together as one: the first ten, and how many more there are.

    Raises:
        UserError: There are any.
    """
    if not mistakes:
        return
    if len(mistakes) == 1:
        raise mistakes[0]
    heads, _, advice = zip(*(str(mistake).partition("; ") for mistake in mistakes), strict=True)
    # What they all advise is said once.
    if len(set(advice)) == 1 and advice[0]:
        raise UserError(f"{first_few(heads)}; {advice[0]}")
    raise UserError(first_few(mistakes))


def quoted(text: str) -> str:
    """Text from a file or command line, quoted for a `UserError` and shortened if it is long."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def did_you_mean(name: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """The advice at the end of an error about an unknown name: the nearest known name, or `otherwise` if none is near.

    Args:
        name: The unknown name; it may come from a file, and be long.
        known: The names that exist.
        otherwise: The advice if no name is near.
        prefix: What to write before the nearest name, such as "--".
    """
    near = difflib.get_close_matches(name[:80], list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def first_line(error: Exception) -> str:
    """The beginning of an error's message, to quote in a `UserError`: TensorFlow's can have many lines, or none."""
    # Without the operation that TensorFlow puts in front of the reason.
    message = re.sub(r"^\{\{.*?\}\}\s*", "", str(error).strip())
    line = (message.splitlines() or [type(error).__name__])[0]
    # The reason comes last, after a path.
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 4]} ... {line[-3 * _LONGEST // 4 :]}"
