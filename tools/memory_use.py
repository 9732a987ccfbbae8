"""Memory that training takes."""

import concurrent.futures
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.demo.objects import CLASSES
from oaa_tf.models.largefov import DeepLabLargeFOV
from tools.benchmark_candidates import build_network, compiled, training_step


def in_a_process_of_its_own(measure: Callable[..., int], *arguments: Any, **options: Any) -> int:
    """What a function returns in a process that has done nothing else."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(measure, *arguments, **options).result()


def peak_memory(width: int, batch_size: int, *, recompute: bool = False, accumulate_steps: int = 1) -> int:
    """Trains the segmentation network for two steps on crops of 320 pixels.

    Args:
        width: Channels of the backbone's first block.
        batch_size: Images per step.
        recompute: As in `NetworkDescription.build`.
        accumulate_steps: As in `DeepLabLargeFOV`.

    Returns:
        The most memory in bytes that this process has ever had resident. Linux only.
    """
    network, backbone = build_network("segmentation", CLASSES, width, recompute=recompute)
    model = compiled(DeepLabLargeFOV(network, accumulate_steps=accumulate_steps), backbone)
    side = 320
    batch = {
        keys.IMAGE: tf.random.uniform((batch_size, side, side, 3), maxval=255.0),
        keys.SEGMENTATION: tf.zeros((batch_size, side, side), tf.uint8),
        keys.VALID: tf.ones((batch_size, side // STRIDE, side // STRIDE), tf.bool),
    }
    take_step = training_step(model, batch)
    take_step()
    take_step()
    # Not `ru_maxrss`, which a process inherits from the one that has started it.
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024
