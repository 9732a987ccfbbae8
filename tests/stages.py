"""What every command hands to `launch`."""

import ast
import importlib
from pathlib import Path

from oaa_tf.command_line.settings import Settings

ROOT = Path(__file__).parents[1]


def launch_call(stage: str) -> tuple[Path, ast.Call]:
    """The file of a stage, and the call of `launch` in it."""
    candidates = [ROOT / "tools" / f"{stage}.py", ROOT / "oaa_tf" / f"{stage}.py"]
    for path in candidates:
        for node in ast.walk(ast.parse(path.read_text() if path.exists() else "")):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "launch":
                return path, node
    raise AssertionError(f"{stage} does not call launch")


def settings_class(stage: str) -> type[Settings]:
    """The class that the stage's program hands to `launch`."""
    path, call = launch_call(stage)
    module = importlib.import_module(f"{path.parent.name}.{stage}")
    value = module
    for name in ast.unparse(call.args[0]).split("."):
        value = getattr(value, name)
    return value
