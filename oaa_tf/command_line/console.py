"""The installed program `oaa-tf`: `oaa-tf train_cls ...` is `python -m oaa_tf.train_cls ...`, and so on."""

import ast
import runpy
import sys
from pathlib import Path

from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.errors import UserError, did_you_mean, quoted

COMMANDS = (
    "pipeline",
    "make_demo_data",
    "make_saliency",
    "make_records",
    "train_cls",
    "train_integral",
    "make_maps",
    "make_pseudo_labels",
    "train_affinity",
    "train_seg",
    "relabel",
    "evaluate",
    "export",
    "predict",
    "convert",
    "make_report",
)
"""The commands, each the file `oaa_tf/<command>.py`: the whole pipeline, then its steps in their order."""

_PACKAGE = Path(__file__).parents[1]


def main() -> None:
    """Runs the command that the first argument names; lists all of them for `--help`, or if there is no argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-help", "-h"):
        sys.exit(guarded(lambda: print(overview())))
    if name not in COMMANDS:
        sys.exit(guarded(lambda: _refuse(name)))
    del sys.argv[1]
    runpy.run_module(f"oaa_tf.{name}", run_name="__main__", alter_sys=True)


def overview() -> str:
    """The text of `oaa-tf --help`."""
    lines = [f"  {name:<18}  {description_of(name)}" for name in COMMANDS]
    usage = "usage: oaa-tf COMMAND --<setting>=<value> ..."
    return "\n".join([usage, "", *lines, "", "oaa-tf COMMAND --help shows the settings of a command."])


def description_of(command: str) -> str:
    """The first line of a command's docstring; its file is not imported, which would take longer."""
    docstring = ast.get_docstring(ast.parse((_PACKAGE / f"{command}.py").read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def _refuse(name: str) -> None:
    advice = did_you_mean(name, COMMANDS, "oaa-tf --help lists the commands")
    raise UserError(f"{quoted(name)} is not a command; {advice}")
