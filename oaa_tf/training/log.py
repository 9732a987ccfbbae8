"""The log for TensorBoard: a folder of event files that does not grow without bound."""

import contextlib
import dataclasses
import importlib.util
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.command_line.settings import Settings

FILE_BYTES = 64 * 2**20
"""Size from which a new file is begun."""

TOTAL_BYTES = 8 * FILE_BYTES
"""Size of the whole log from which the oldest files are removed."""


@contextlib.contextmanager
def training_log(folder: Path) -> Iterator[Callable[[], None]]:
    """Inside the block, summaries go to event files in this folder.

    Yields:
        A function to call now and then: when the file is full it begins a new one, and removes the oldest ones when all
        together are too large. The log stays below `TOTAL_BYTES` and what is written between two calls.

    Raises:
        UserError: The log can't be written.
    """

    def open_file() -> None:
        writer = tf.summary.create_file_writer(str(folder))
        opened.callback(writer.close)
        opened.enter_context(writer.as_default())

    def roll() -> None:
        tf.summary.flush()
        files = sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns)
        sizes = [path.stat().st_size for path in files]
        if not files or sizes[-1] < FILE_BYTES:
            return
        opened.close()
        open_file()
        total = sum(sizes)
        for path, size in zip(files, sizes, strict=True):
            if total <= TOTAL_BYTES - FILE_BYTES:
                break
            path.unlink()
            total -= size

    try:
        with contextlib.ExitStack() as opened:
            open_file()
            yield roll
    except tf.errors.OpError as error:
        if isinstance(error.__context__, UserError):
            # The disk that keeps the writer from closing its file has been reported already.
            raise error.__context__ from None
        if str(folder) not in str(error):
            raise
        raise UserError(
            f"{folder}: cannot write the log ({first_line(error)}); free space and run the same command again to go on"
            " from the last checkpoint"
        ) from None


def write_settings(stage: str, settings: Settings, step: int) -> None:
    """Writes a stage's settings and its command as texts, with the current default writer.

    Args:
        stage: The stage's name; a tool's that trains with a stage's settings has no command like that.
        settings: Its settings.
        step: The step at which it begins.
    """
    tf.summary.text("flags", settings_table(settings), step=step)
    if importlib.util.find_spec(f"oaa_tf.{stage}"):
        tf.summary.text("command", f"```\n{command(stage, settings)}\n```", step=step)


def settings_table(settings: Settings) -> str:
    """The settings as a Markdown table; values that are not the default are bold."""
    defaults = {
        field.name: _code(field.default)
        for field in dataclasses.fields(settings)
        if field.default is not dataclasses.MISSING
    }
    lines = ["| flag | value | default |", "|---|---|---|"]
    for name, value in settings.as_dict().items():
        shown, default = _code(value), defaults.get(name, "")
        lines.append(f"| {name} | {shown if shown == default else f'**{shown}**'} | {default} |")
    return "\n".join(lines)


def command(stage: str, settings: Settings) -> str:
    """A shell command that runs the stage with these settings, without those that have their default."""
    defaults = set(settings.defaults_as_flags().splitlines())
    flags = [shlex.quote(line) for line in settings.as_flags().splitlines() if line not in defaults]
    return " \\\n    ".join([f"python -m oaa_tf.{stage}", *flags])


def _code(value: object) -> str:
    """A setting's value as inline code."""
    if isinstance(value, bool):
        text = str(value).lower()
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    # With two of them around, there may be one inside.
    return f"`` {text} ``" if "`" in text else f"`{text or ' '}`"
