"""A training stage's network with its initial weights, its optimizer, devices and precision."""

import functools
import timeit
from pathlib import Path

import keras
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.backbones import freeze_blocks
from oaa_tf.models.networks import NetworkDescription, take_common_layers
from oaa_tf.models.optimizer import CaffeSGD, paper_optimizer
from oaa_tf.models.pretrained import HEAD_LAYERS, load_backbone_weights, load_head_weights
from oaa_tf.training.settings import TrainingSettings

_CPU_FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_GPU_WITH_BFLOAT16 = (8, 0)


def choose_strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine if there are several, else the one device."""
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return _all_gpus()
    return tf.distribute.get_strategy()


@functools.cache
def _all_gpus() -> tf.distribute.Strategy:
    # One for all stages of a process: TensorFlow mixes up the reductions of two strategies, and a
    # network of another size then ends in "Shape mismatch in the collective instance".
    return tf.distribute.MirroredStrategy()


def describe_network(task: str, classes: tuple[str, ...], settings: TrainingSettings) -> NetworkDescription:
    """The network that a training stage builds; see `NetworkDescription` for the task."""
    return NetworkDescription(task, classes, settings.inference_size, settings.width, settings.backbone)


def prepare_network(
    task: str, classes: tuple[str, ...], settings: TrainingSettings, work_dir: Path
) -> tuple[keras.Model, CaffeSGD]:
    """Builds a stage's network with its initial weights, and the optimizer; call it inside the strategy's scope.

    Args:
        task: See `NetworkDescription`.
        classes: Names of the classes.
        settings: The stage's settings.
        work_dir: Where the network's description is written.

    Returns:
        The network and its optimizer.

    Raises:
        UserError: The weights or the precision can't be used, or `work_dir` holds another network.
    """
    check_precision(settings.precision)
    check_head_weights(task, settings)
    keras.utils.set_random_seed(settings.seed)
    description = describe_network(task, classes, settings)
    network, backbone = description.build(
        initializer=settings.initializer,
        seed=settings.seed,
        precision=settings.precision,
        recompute=settings.recompute,
        attention_drop=settings.attention_drop,
    )
    if settings.initial_weights:
        take_common_layers(settings.initial_weights, description, network, backbone)
    else:
        load_backbone_weights(backbone, settings.backbone_weights)
    load_head_weights(network, settings.head_weights)
    # Only now, with the weights at hand, is the work_dir bound to these settings.
    description.write(work_dir)
    freeze_blocks(backbone, settings.freeze_blocks)
    optimizer = paper_optimizer(
        network,
        backbone,
        settings.schedule,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        new_layer_multiplier=settings.new_layer_multiplier,
        clip_norm=settings.clip_norm,
        pretrained_layers=HEAD_LAYERS if settings.head_weights != "none" else (),
    )
    return network, optimizer


def check_head_weights(task: str, settings: TrainingSettings) -> None:
    """Refuses weights for fc6 and fc7 from two places at once.

    Raises:
        UserError: Another stage's weights have them already, or its folder is no training stage's.
    """
    if settings.head_weights == "none" or not settings.initial_weights:
        return
    if NetworkDescription.read(Path(settings.initial_weights)).task == task:
        raise UserError(
            f"--initial_weights={settings.initial_weights} has fc6 and fc7 already; use one of the two",
            flag="head_weights",
            value=settings.head_weights,
        )


def check_precision(precision: str) -> None:
    """Refuses bfloat16 on hardware that only emulates it, and warns where float32 is faster.

    Raises:
        UserError: The GPUs, or without GPUs the CPU, have no bfloat16 arithmetic.
    """
    if precision != "bfloat16":
        return
    problem = ""
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        least = min(each.get("compute_capability", (0, 0)) for each in details)
        if least < _GPU_WITH_BFLOAT16:
            problem = f"needs GPUs of compute capability 8.0, here is {least}; use float32"
    elif not _CPU_FLAGS_OF_BFLOAT16 & cpu_flags():
        problem = "this CPU has no bfloat16 instructions; use --precision=float32"
    if problem:
        raise UserError(problem, flag="precision", value=precision)
    # Having the instructions does not mean having fast ones.
    speedup = bfloat16_speedup()
    if speedup < 1.0:
        print(
            f"warning: --precision=bfloat16: this machine computes a convolution in bfloat16 at {speedup:.2g} times the"
            " speed of float32; --precision=float32 is faster here"
        )


def bfloat16_speedup() -> float:
    """Speed of a convolution of VGG16's kind in bfloat16 over that in float32, measured in a fraction of a second."""

    def seconds(dtype: tf.DType) -> float:
        images = tf.cast(tf.random.stateless_normal((1, 32, 32, 256), (0, 1)), dtype)
        kernel = tf.cast(tf.random.stateless_normal((3, 3, 256, 256), (0, 2)), dtype)
        return min(timeit.repeat(lambda: tf.nn.conv2d(images, kernel, 1, "SAME").numpy(), number=1, repeat=6))

    return seconds(tf.float32) / seconds(tf.bfloat16)


def cpu_flags() -> set[str]:
    """The CPU's features by Linux' names; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    # "flags" on x86, "Features" on ARM.
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
