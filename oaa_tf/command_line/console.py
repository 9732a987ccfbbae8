"""The installed commands: `oaa-train-cls` is `python -m oaa_tf.train_cls`, and so on for every stage and tool.

A top-level package called `tools` would get in the way of others, so the wheel has the folder `tools` inside this
package, as `oaa_tf.tools`. There, the tools know each other by the name that they have in the repository all the same.
"""

import importlib
import importlib.util
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Runs the command that the program is called by."""
    stage = Path(sys.argv[0]).stem.removeprefix("oaa-").replace("-", "_")
    module = f"oaa_tf.{stage}"
    if importlib.util.find_spec("oaa_tf.tools") and importlib.util.find_spec(f"oaa_tf.tools.{stage}"):
        sys.modules["tools"] = importlib.import_module("oaa_tf.tools")
        module = f"tools.{stage}"
    runpy.run_module(module, run_name="__main__", alter_sys=True)
