"""The backbones by name, and what is done to all of them alike."""

import dataclasses
import re
from collections.abc import Callable

import keras

from oaa_tf.models.resnet import resnet101_backbone
from oaa_tf.models.vgg import vgg16_backbone


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone and the network in `keras.applications` that it takes its weights from.

    Attributes:
        title: The network's name for people.
        build: From the width, the number of channels of its first convolution, to the model.
        reference: Keras' network; its arguments are `weights` and `include_top`.
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
    """Makes the first blocks untrainable; their backward pass is then left out.

    Args:
        backbone: One of `BACKBONES`. VGG16's blocks are those between its poolings; ResNet-101's first one is the
            convolution conv1, the others are its stages conv2 to conv5.
        num_blocks: From 0 to 5.
    """
    for layer in backbone.layers:
        match = re.match(r"(?:block|conv)(\d)_", layer.name)
        if match and int(match[1]) <= num_blocks:
            layer.trainable = False
