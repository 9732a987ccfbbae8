"""The class-aware network: backbone, three 3x3 convolutions, one 1x1 convolution per class (paper, Sec. 3.1, Fig. 2).

The classifier and the integral attention model both use it; only the classifier pools the score maps.
"""

from collections.abc import Callable
from typing import Any

import keras

from oaa_tf.models.attention_drop import AttentionDrop
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import INITIALIZERS
from oaa_tf.models.preprocessing import caffe_preprocessing

SCORE_LAYER = "class_aware_conv"
"""The name of the 1x1 convolution."""


def class_aware_network(
    backbone: keras.Model,
    num_classes: int,
    *,
    initializer: str = "gaussian",
    preprocess: Callable[[Any], Any] = caffe_preprocessing,
    attention_drop: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Builds the network from images to score maps.

    Args:
        backbone: From preprocessed images to features, such as `oaa_tf.models.backbones.Backbone.build` makes.
        num_classes: Number of classes C.
        initializer: One of `INITIALIZERS`, for the three 3x3 kernels. The 1x1 kernel is small, biases are 0.
        preprocess: Turns RGB images in [0, 255] into the input of the backbone; by default that of VGG16.
        attention_drop: Rate of an `AttentionDrop` before the 1x1 convolution; 0 for none.
        seed: Seed of the `AttentionDrop`.

    Returns:
        A model from RGB images in [0, 255], float32 `[batch, height, width, 3]`, to the score maps F, float32
        `[batch, height / 8, width / 8, C]`. Height and width must be multiples of 8.
    """
    images = keras.Input((None, None, 3), name="images")
    x = backbone(preprocess(images))
    # As in the paper, whose backbone has 512 channels.
    channels = min(backbone.output.shape[-1], 512)
    for index in range(1, 4):
        x = Convolution(
            channels,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=INITIALIZERS[initializer](),
            name=f"extra_conv{index}",
        )(x)
    if attention_drop:
        x = AttentionDrop(attention_drop, seed=seed, name="attention_drop")(x)
    # No ReLU follows. A small kernel makes the first scores near 0, whatever the initialisation of the other layers.
    small = INITIALIZERS["gaussian"]()
    scores = Convolution(num_classes, 1, kernel_initializer=small, dtype="float32", name=SCORE_LAYER)(x)
    return keras.Model(images, scores, name="class_aware_network")
