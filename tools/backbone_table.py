"""Measures the size and the speed of backbones.

    python -m tools.backbone_table --backbones=vgg16,resnet101,EfficientNetV2B0

It needs no weights. The parameters are those of the backbone. The multiplications are those of its forward pass at
stride 8, for one square image. The images per second are those of a classifier's steps, with random weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import PRECISIONS
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.train_cls import TrainClsSettings

if TYPE_CHECKING:
    import keras

_CLASSES = tuple("abcdef")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneTableSettings(Settings):
    """Which backbones, and at which size."""

    backbones: tuple[str, ...] = setting(help="Backbones, as --backbone of train_cls takes them.")
    precisions: tuple[str, ...] = setting(
        ("float32", "bfloat16"), help="Number formats to train in.", choices=tuple(PRECISIONS)
    )
    image_size: int = setting(192, help="Side of the images in pixels.", minimum=16)
    batch_size: int = setting(8, help="Images per step.", minimum=1)
    repeats: int = setting(3, help="Measurements, of which the fastest counts.", minimum=1)


def run(settings: BackboneTableSettings) -> list[dict[str, Any]]:
    """Measures, and prints a Markdown table, a row after the other.

    Returns:
        For each backbone: "backbone", "parameters", "multiplications", and "images_per_second" by precision.

    Raises:
        UserError: There is no such backbone, or it can't be used.
    """
    header = ["backbone", "parameters", "multiplications", *(f"images/s, {name}" for name in settings.precisions)]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    rows = []
    for name in settings.backbones:
        try:
            rows.append(_measured(name, settings))
        except UserError as error:
            raise error.with_flag("backbones") from None
        print(_line(rows[-1]), flush=True)
    return rows


def _measured(name: str, settings: BackboneTableSettings) -> dict[str, Any]:
    from oaa_tf.training.initial_network import describe_network
    from oaa_tf.training.training_time import seconds_per_epoch

    def training(precision: str) -> TrainClsSettings:
        return TrainClsSettings(
            records="",
            work_dir="",
            backbone=name,
            precision=precision,
            image_size=settings.image_size,
            batch_size=settings.batch_size,
        )

    description = describe_network(_CLASSES, training("float32"))
    _, backbone = description.build()
    size = settings.image_size
    sizes = np.full((settings.batch_size, 2), size)
    return {
        "backbone": description.backbone,
        "parameters": backbone.count_params(),
        "multiplications": multiplications(backbone, size),
        "images_per_second": {
            precision: settings.batch_size
            / min(seconds_per_epoch(_CLASSES, training(precision), sizes) for _ in range(settings.repeats))
            for precision in settings.precisions
        },
    }


def multiplications(network: keras.Model, size: int) -> int:
    """The multiplications by weights in a forward pass of one image.

    Args:
        network: A functional network from images.
        size: Side of the image in pixels.
    """
    import keras
    import tensorflow as tf

    from oaa_tf.models.optimizer import layers_with_weights

    layers = [layer for layer in layers_with_weights(network) if hasattr(layer, "kernel")]
    outputs = keras.Model(network.inputs, [layer.output for layer in layers])(tf.zeros([1, size, size, 3]))
    # A kernel is used once for each cell of the output; the phases of a split network are images of their own.
    return sum(
        math.prod(output.shape[:-1]) * math.prod(layer.kernel.shape)
        for layer, output in zip(layers, keras.tree.flatten(outputs), strict=True)
    )


def _line(row: Mapping[str, Any]) -> str:
    speeds = (f"{speed:.1f}" for speed in row["images_per_second"].values())
    cells = [f"{row['parameters'] / 1e6:.1f} M", f"{row['multiplications'] / 1e9:.1f} G", *speeds]
    return f"| {row['backbone']} | {' | '.join(cells)} |"


if __name__ == "__main__":
    launch(BackboneTableSettings, run, "backbone_table")
