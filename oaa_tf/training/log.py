"""The log for TensorBoard: a folder of event files."""

import contextlib
import dataclasses
import importlib.util
import shlex
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.command_line.settings import Settings


@contextlib.contextmanager
def training_log(folder: Path) -> Iterator[None]:
    """Inside the block, summaries go to an event file in this folder.

    Raises:
        UserError: The log can't be written.
    """
    try:
        with contextlib.closing(tf.summary.create_file_writer(str(folder))) as writer, writer.as_default():
            yield
    except tf.errors.OpError as error:
        if isinstance(error.__context__, UserError):
            # The same full disk has been reported already; now it keeps the writer from closing its file.
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
        stage: The stage's name; of a tool, which has no such command, only the settings are written.
        settings: Its settings.
        step: The step at which it begins.
    """
    tf.summary.text("flags", settings_table(settings), step=step)
    if importlib.util.find_spec(f"oaa_tf.{stage}"):
        tf.summary.text("command", f"```\n{command(stage, settings)}\n```", step=step)


def settings_table(settings: Settings) -> str:
    """The settings as a Markdown table, with values other than the default in bold."""
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
    """A shell command that runs the stage with these settings; defaults are left out."""
    defaults = set(settings.defaults_as_flags().splitlines())
    flags = [shlex.quote(line) for line in settings.as_flags().splitlines() if line not in defaults]
    return " \\\n    ".join([f"python -m oaa_tf.{stage}", *flags])


def _code(value: object) -> str:
    """A setting's value as inline code."""
    if isinstance(value, bool):
        text = str(value).lower()
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    # Markdown allows a backtick inside of two.
    return f"`` {text} ``" if "`" in text else f"`{text or ' '}`"
