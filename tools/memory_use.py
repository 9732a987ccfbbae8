"""Memory that training takes, measured in processes of their own."""

import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records import keys
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.demo.objects import CLASSES
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.training.loop import step_function
from tools.benchmark_candidates import benchmark_records, build_network, compiled, training_step


def printed_by(call: str) -> list[int]:
    """The numbers that a function of this module prints in a process of its own."""
    code = f"from tools import memory_use; memory_use.{call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.splitlines() if line.isdigit()]


def print_memory_growth(image_size: int, num_steps: tuple[int, int] = (200, 1200)) -> None:
    """Trains a narrow network and prints the resident memory in bytes after each of two numbers of steps."""
    with tempfile.TemporaryDirectory() as folder:
        records = benchmark_records("", Path(folder))
        table = CumulativeAttention(records.first_slots, image_size // STRIDE)
        model = compiled(AttentionClassifier(build_network("attention", records.classes, 4)[0], table, gate="none"))
        views = ViewOptions(image_size)
        batches = training_batches(records, views, batch_size=4, seed=0, first_step=0, num_steps=num_steps[1])
        take_step = step_function(model, batches.element_spec)
        for number, batch in enumerate(batches, start=1):
            take_step(batch)
            if number in num_steps:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                print(pages * resource.getpagesize())


def peak_memory_bytes() -> int | None:
    """The most memory that this process has ever had resident, in bytes; None where the system does not say it.

    Not `ru_maxrss`, which a process inherits from the one that has started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else None


def print_peak_memory(width: int, batch_size: int, **options) -> None:
    """Trains the segmentation network for two steps on crops of 320 pixels and prints the peak memory in bytes.

    Args:
        width: Channels of the backbone's first block.
        batch_size: Images per step.
        **options: `recompute` or `accumulate_steps`.
    """
    network, backbone = build_network("segmentation", CLASSES, width, recompute=options.pop("recompute", False))
    model = compiled(DeepLabLargeFOV(network, **options), backbone)
    side = 320
    batch = {
        keys.IMAGE: tf.random.uniform((batch_size, side, side, 3), maxval=255.0),
        keys.SEGMENTATION: tf.zeros((batch_size, side, side), tf.uint8),
        keys.VALID: tf.ones((batch_size, side // STRIDE, side // STRIDE), tf.bool),
    }
    take_step = training_step(model, batch)
    take_step()
    take_step()
    print(peak_memory_bytes())
