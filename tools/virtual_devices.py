"""A training stage on several devices that are all the CPU: what `tools.scale_test` compares workers with.

    python -m tools.virtual_devices 2 train_cls --records=records/train.json --work_dir=runs/cls

The first word is the number of devices.
"""

import importlib
import sys

import tensorflow as tf

from oaa_tf.command_line.launch import launch
from oaa_tf.experiment import ExperimentSettings
from oaa_tf.training import run as run_module


def main(num_devices: int, stage: str) -> None:
    """Runs a stage with the rest of the command line; never returns."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(num_devices)])
    run_module.choose_strategy = lambda batch_size: strategy
    launch(ExperimentSettings.__annotations__[stage], importlib.import_module(f"oaa_tf.{stage}").run, stage)


if __name__ == "__main__":
    main(int(sys.argv.pop(1)), sys.argv.pop(1))
