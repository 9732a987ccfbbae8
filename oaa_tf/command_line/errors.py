"""The one exception that a user's mistake raises anywhere in OAA-TF, and how it quotes others."""

import re

_LONGEST = 160


class UserError(Exception):
    """Something that the user can put right: a wrong flag, file, record or checkpoint.

    The message is one line that names the culprit and says what to do. `oaa_tf.command_line.launch` prints it without a
    traceback and exits with code 2. What a terminal would obey instead of show, in the name of a file for example,
    comes escaped.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


def quoted(text: str) -> str:
    """A part of a file to quote in a `UserError`; not all of it when it is long."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def first_line(error: Exception) -> str:
    """The beginning of an error's message, to quote in a `UserError`: in TensorFlow it can have many lines, or none."""
    # Without the operation that TensorFlow puts in front of the reason.
    message = re.sub(r"^\{\{.*?\}\}\s*", "", str(error).strip())
    line = (message.splitlines() or [type(error).__name__])[0]
    # What matters comes last, behind a path.
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 4]} ... {line[-3 * _LONGEST // 4 :]}"
