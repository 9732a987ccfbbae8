"""Writes the demo data: a small synthetic data set in VOC layout.

python -m oaa_tf.make_demo_data --output_dir=demo_data
"""

import dataclasses
from typing import Any

from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.demo.data_set import write_demo_data


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeDemoDataSettings(Settings):
    """How many demo images to write, and where."""

    output_dir: str = setting(help="Folder to write, new or empty.")
    num_train: int = setting(200, help="Number of training images.", minimum=1)
    num_val: int = setting(50, help="Number of validation images.", minimum=1)
    image_size: int = setting(128, help="Longer side of the images in pixels.", minimum=64, maximum=1024)
    seed: int = setting(0, help="Seed of the images.", minimum=0)


def run(settings: MakeDemoDataSettings) -> dict[str, Any]:
    """Writes the data and returns their parameters, see `write_demo_data`."""
    return write_demo_data(**settings.as_dict())


if __name__ == "__main__":
    launch(MakeDemoDataSettings, run, "make_demo_data")
