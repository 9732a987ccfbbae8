"""The backbones by name, and freezing their first blocks."""

import dataclasses
import re
from collections.abc import Callable

import keras

from oaa_tf.models.resnet import resnet101_backbone
from oaa_tf.models.vgg import vgg16_backbone


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone and the network in `keras.applications` with the same weights.

    Attributes:
        title: The name of the network in messages.
        build: Function from the width, the number of channels of the first convolution, to the model.
        reference: Function of Keras that makes the network, from `weights` and `include_top`.
    """

    title: str
    build: Callable[..., keras.Model]
    reference: Callable[..., keras.Model]


BACKBONES = {
    "vgg16": Backbone("VGG16", vgg16_backbone, keras.applications.VGG16),
    "resnet101": Backbone("ResNet-101", resnet101_backbone, keras.applications.ResNet101),
}
"""All backbones; a model's `name` is its key."""


def freeze_blocks(backbone: keras.Model, num_blocks: int) -> None:
    """Makes the first blocks untrainable, which also saves their backward pass.

    Args:
        backbone: One of `BACKBONES`. A block of VGG16 ends with a pooling; the blocks of ResNet-101 are its first
            convolution, conv1, and its stages conv2 to conv5.
        num_blocks: Number of blocks to freeze, 0 to 5.
    """
    for layer in backbone.layers:
        match = re.match(r"(?:block|conv)(\d)_", layer.name)
        if match and int(match[1]) <= num_blocks:
            layer.trainable = False
