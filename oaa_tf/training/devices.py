"""The devices of a training, and the number format in which they compute."""

import functools
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.workers import strategy_of_workers

_CPU_FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_GPU_WITH_BFLOAT16 = (8, 0)
_GPU_WITH_FAST_FLOAT16 = (7, 0)
_LEAST_SPEEDUP = 1.2


def use_devices(settings: TrainingSettings) -> None:
    """Chooses the GPUs and how they compute; call it before TensorFlow uses them.

    Raises:
        UserError: There is no such GPU, or TensorFlow uses others already.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if settings.devices:
        numbers = settings.devices.split(",")
        if not all(number.isdecimal() and int(number) < len(gpus) for number in numbers):
            found = f"numbers from 0 to {len(gpus) - 1}" if gpus else "nothing, as TensorFlow finds no GPU here"
            raise UserError(f"expected {found}", flag="devices", value=settings.devices)
        gpus = [gpus[number] for number in sorted({int(number) for number in numbers})]
        if gpus != tf.config.get_visible_devices("GPU"):
            try:
                tf.config.set_visible_devices(gpus, "GPU")
            except RuntimeError:
                raise UserError(
                    "this process uses other GPUs already; give all stages the same",
                    flag="devices",
                    value=settings.devices,
                ) from None
    if settings.deterministic and gpus:
        tf.config.experimental.enable_op_determinism()


def choose_strategy(batch_size: int) -> tf.distribute.Strategy:
    """All workers if there are several, else all GPUs in use, else the one device.

    Warns if a GPU gets fewer than two images a step. Call it before TensorFlow computes anything.

    Raises:
        UserError: Some get no image, or the workers can't be connected.
    """
    num_gpus = len(tf.config.get_visible_devices("GPU"))
    strategy = strategy_of_workers()
    if strategy is None:
        strategy = _all_gpus() if num_gpus > 1 else tf.distribute.get_strategy()
    num_replicas = strategy.num_replicas_in_sync
    if batch_size < num_replicas:
        raise UserError(f"expected at least {num_replicas}, one image for each", flag="batch_size", value=batch_size)
    if num_gpus and num_replicas > 1 and batch_size < 2 * num_replicas:
        print(
            f"warning: --batch_size={batch_size} on {num_replicas} GPUs: some get fewer than two"
            " images a step; raise it, or use fewer with --devices"
        )
    return strategy


@functools.cache
def _all_gpus() -> tf.distribute.Strategy:
    # One for all stages of a process: TensorFlow mixes up the reductions of two strategies, and a
    # network of another size then ends in "Shape mismatch in the collective instance".
    return tf.distribute.MirroredStrategy()


def check_precision(precision: str) -> None:
    """Refuses bfloat16 on hardware that only emulates it, and warns of a CPU on which float32 is faster.

    Raises:
        UserError: The GPUs, or without GPUs the CPU, have no bfloat16 arithmetic.
    """
    if precision == "float32":
        return
    gpus = tf.config.get_visible_devices("GPU")
    problem = ""
    if precision == "bfloat16" and gpus:
        if (least := _compute_capability(gpus)) < _GPU_WITH_BFLOAT16:
            problem = f"needs GPUs of compute capability 8.0, here is {least}; use float16 or float32"
    elif precision == "bfloat16" and not _CPU_FLAGS_OF_BFLOAT16 & cpu_flags():
        problem = "this CPU has no bfloat16 instructions; use --precision=float32"
    if problem:
        raise UserError(problem, flag="precision", value=precision)
    # Having the instructions does not mean having fast ones. A GPU is not judged by one small convolution.
    if not gpus and (speedup := cpu_speedup(precision)) < 1.0:
        print(
            f"warning: --precision={precision}: this CPU computes a convolution in {precision} at {speedup:.2g} times"
            " the speed of float32; --precision=float32 is faster here"
        )


@functools.cache
def fastest_precision() -> str:
    """The fastest precision in which trainings here are as good as in float32; on a CPU measured once, and said."""
    if gpus := tf.config.get_visible_devices("GPU"):
        capability = _compute_capability(gpus)
        if capability >= _GPU_WITH_BFLOAT16:
            return "bfloat16"
        return "float16" if capability >= _GPU_WITH_FAST_FLOAT16 else "float32"
    # float16 is slower on CPUs than float32.
    if not _CPU_FLAGS_OF_BFLOAT16 & cpu_flags():
        return "float32"
    speedup = cpu_speedup("bfloat16")
    chosen = "bfloat16" if speedup > _LEAST_SPEEDUP else "float32"
    print(f"precision: {chosen}; a convolution in bfloat16 has {speedup:.2g} times the speed of one in float32 here")
    return chosen


def _compute_capability(gpus: Sequence[Any]) -> tuple[int, int]:
    """The least of some GPUs."""
    details = map(tf.config.experimental.get_device_details, gpus)
    return min(each.get("compute_capability", (0, 0)) for each in details)


@functools.cache
def cpu_speedup(precision: str) -> float:
    """Speed of a convolution of VGG16's kind over that in float32, measured once, in a second at most."""

    def convolution(dtype: str) -> Callable[[], Any]:
        images = tf.cast(tf.random.stateless_normal((1, 32, 32, 256), (0, 1)), dtype)
        kernel = tf.cast(tf.random.stateless_normal((3, 3, 256, 256), (0, 2)), dtype)
        return lambda: tf.nn.conv2d(images, kernel, 1, "SAME").numpy()

    both = [convolution("float32"), convolution(precision)]
    # In turns, so that other work on the machine hits both.
    seconds = [[timeit.timeit(compute, number=1) for compute in both] for _ in range(25)]
    in_float32, in_precision = map(min, zip(*seconds, strict=True))
    return in_float32 / in_precision


def cpu_flags() -> set[str]:
    """The CPU's features by Linux' names; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    # "flags" on x86, "Features" on ARM.
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
