"""A training stage's network with its initial weights, and its optimizer."""

import dataclasses
from pathlib import Path

import keras

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import AUTO
from oaa_tf.models.backbones import FILE_SUFFIX, backbone_in_file, freeze_blocks, name_in_descriptions
from oaa_tf.models.networks import NetworkDescription, take_common_layers
from oaa_tf.models.optimizer import paper_optimizer
from oaa_tf.models.pretrained import HEAD_LAYERS, load_backbone_weights, load_head_weights
from oaa_tf.runs.work_dir import NETWORK_FILE
from oaa_tf.training.devices import check_precision, fastest_precision
from oaa_tf.training.settings import TrainingSettings


def describe_network(classes: tuple[str, ...], settings: TrainingSettings) -> NetworkDescription:
    """The network that a training stage builds."""
    backbone, architecture = settings.backbone, ""
    if backbone.endswith(FILE_SUFFIX):
        architecture = backbone_in_file(backbone).to_json()
        backbone = name_in_descriptions(backbone, architecture)
    return NetworkDescription(
        settings.task, classes, settings.inference_size, settings.width, backbone, architecture=architecture
    )


def prepare_network(
    classes: tuple[str, ...], settings: TrainingSettings, work_dir: Path, *, num_steps: int
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """Builds a stage's network with its initial weights, and the optimizer; call it inside the strategy's scope.

    Args:
        classes: Names of the classes.
        settings: The stage's settings.
        work_dir: Where the network's description is written.
        num_steps: Steps of the training, for the schedule of the learning rate.

    Returns:
        The network and its optimizer.

    Raises:
        UserError: The weights or the precision can't be used, or `work_dir` holds another network.
    """
    settings.check_backbone_weights()
    precision = choose_precision(settings, work_dir)
    check_precision(precision)
    check_head_weights(settings)
    keras.utils.set_random_seed(settings.seed)
    description = dataclasses.replace(describe_network(classes, settings), trained_in=precision)
    network, backbone = description.build(
        initializer=settings.initializer,
        seed=settings.seed,
        precision=precision,
        recompute=settings.recompute,
        attention_drop=settings.attention_drop,
    )
    if settings.initial_weights:
        take_common_layers(settings.initial_weights, description, network, backbone)
    else:
        load_backbone_weights(backbone, settings.backbone_weights, source=settings.backbone)
    load_head_weights(network, settings.head_weights)
    # Only now, with the weights at hand, is the work_dir bound to these settings.
    description.write(work_dir)
    freeze_blocks(backbone, settings.freeze_blocks)
    optimizer: keras.optimizers.Optimizer = paper_optimizer(
        network,
        backbone,
        settings.schedule(num_steps),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        new_layer_multiplier=settings.new_layer_multiplier,
        clip_norm=settings.clip_norm,
        kind=settings.optimizer,
        pretrained_layers=HEAD_LAYERS if settings.head_weights != "none" else (),
    )
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return network, optimizer


def try_backbone(settings: TrainingSettings) -> None:
    """Builds the backbone and loads its weights, only to see whether it can be done.

    Raises:
        UserError: It can't.
    """
    _, backbone = describe_network(("any",), settings).build()
    load_backbone_weights(backbone, settings.backbone_weights, source=settings.backbone)


def choose_precision(settings: TrainingSettings, work_dir: Path) -> str:
    """The precision of a training in `work_dir`: with --precision=auto, that in which it began, or the fastest."""
    if settings.precision != AUTO:
        return settings.precision
    if (work_dir / NETWORK_FILE).exists():
        # A training that goes on computes as it began, whatever is measured now.
        return NetworkDescription.read(work_dir).trained_in
    return fastest_precision()


def check_head_weights(settings: TrainingSettings) -> None:
    """Refuses weights for fc6 and fc7 from two places at once.

    Raises:
        UserError: Another stage's weights have them already, or its folder is no training stage's.
    """
    if settings.head_weights == "none" or not settings.initial_weights:
        return
    if NetworkDescription.read(Path(settings.initial_weights)).task == settings.task:
        raise UserError(
            f"--initial_weights={settings.initial_weights} has fc6 and fc7 already; use one of the two",
            flag="head_weights",
            value=settings.head_weights,
        )
