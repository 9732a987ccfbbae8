"""Memory of this process, and what to do when it is not enough."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.trained_network import TrainedNetwork


@contextlib.contextmanager
def memory_errors(model: TrainedNetwork) -> Iterator[None]:
    """Where a compiled model is trained inside this block, `UserError` says that it needs more memory than there is.

    Where the system itself ends the process for that, nobody can say anything.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise UserError(
            f"out of memory after {model.optimizer.iterations.numpy()} steps: set --recompute or raise"
            " --accumulate_steps, for the same updates, or lower --batch_size or --image_size; with another --work_dir"
            " if there is a checkpoint in this one, which is kept"
        ) from None


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
