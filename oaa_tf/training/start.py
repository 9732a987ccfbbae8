"""What every training stage does before its first step: seed, strategy, network, optimizer."""

from pathlib import Path

import keras
import tensorflow as tf

from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.models.networks import NetworkDescription, take_common_layers
from oaa_tf.models.vgg import freeze_blocks, load_backbone_weights
from oaa_tf.training.optimizer import CaffeSGD, paper_optimizer
from oaa_tf.training.settings import TrainingSettings

_CPU_FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_GPU_WITH_BFLOAT16 = (8, 0)


def choose_strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine if there are several, else the one device."""
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def prepare_network(
    task: str, records: RecordSet, settings: TrainingSettings, schedule, work_dir: Path
) -> tuple[keras.Model, CaffeSGD]:
    """Builds a stage's network with its initial weights, and the optimizer; call it inside the strategy's scope.

    Args:
        task: See `NetworkDescription`.
        records: Gives the classes.
        settings: The stage's settings.
        schedule: Learning rate or Keras schedule.
        work_dir: Where the network's description is written.

    Returns:
        The network and its optimizer.

    Raises:
        UserError: The weights or the precision can't be used, or `work_dir` holds another network.
    """
    check_precision(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    description = NetworkDescription(task, records.classes, settings.inference_size, settings.width)
    network, backbone = description.build(
        initializer=settings.initializer, seed=settings.seed, precision=settings.precision
    )
    if settings.initial_weights:
        take_common_layers(settings.initial_weights, description, network, backbone)
    else:
        load_backbone_weights(backbone, settings.backbone_weights)
    # Only now is the work_dir bound to these settings: the weights are there.
    description.write(work_dir)
    freeze_blocks(backbone, settings.freeze_blocks)
    optimizer = paper_optimizer(
        network,
        backbone,
        schedule,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        new_layer_multiplier=settings.new_layer_multiplier,
        clip_norm=settings.clip_norm,
    )
    return network, optimizer


def check_precision(precision: str) -> None:
    """Refuses bfloat16 on hardware that would only imitate it, slowly.

    Raises:
        UserError: The GPUs, or without GPUs the CPU, have no bfloat16 arithmetic.
    """
    if precision != "bfloat16":
        return
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
        ]
        if min(capabilities) < _GPU_WITH_BFLOAT16:
            raise UserError(
                f"--precision=bfloat16: needs GPUs of compute capability 8.0, here is {min(capabilities)}; use float32"
            )
    elif not _CPU_FLAGS_OF_BFLOAT16 & cpu_flags():
        raise UserError("--precision=bfloat16: this CPU has no bfloat16 instructions; use --precision=float32")


def cpu_flags() -> set[str]:
    """What the CPU can do, in Linux' words; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    # "flags" on x86, "Features" on ARM.
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
