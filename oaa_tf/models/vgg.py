"""VGG16's convolutions at output stride 8."""

import functools
import itertools
import os
import warnings

import keras
import tensorflow as tf

from oaa_tf.errors import UserError, first_line
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import CenteredHeNormal

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
_WIDTHS = (1, 2, 4, 8, 8)
# He initialisation for inputs whose standard deviation is not 1 but about 58, that of pixels minus the means.
_FIRST_GAIN = 2.0 / 58.0**2


def vgg16_backbone(width: int = 64, *, recompute: bool = False) -> keras.Model:
    """VGG16 without its top, at output stride 8 (paper, Sec. 3.1 and Fig. 2).

    pool4 keeps the resolution (3x3, stride 1), the convolutions of block 5 have dilation 2 instead, and pool5 is left
    out. The layers with weights are those of `keras.applications.VGG16(include_top=False)`, in the same order.

    Args:
        width: Channels of the first block; 64 is VGG16. The last block has 8 times as many.
        recompute: Whether training keeps the outputs of blocks only, and computes what is inside a block once more for
            its backward pass: less memory, about a third more time, the same gradients.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]` to features
        `[batch, height / 8, width / 8, 8 * width]`.
    """
    images = x = keras.Input((None, None, 3), name="preprocessed")
    for block, (repeats, multiple) in enumerate(zip(CONVOLUTIONS_PER_BLOCK, _WIDTHS, strict=True), start=1):
        for index in range(1, repeats + 1):
            x = Convolution(
                multiple * width,
                3,
                padding="same",
                activation="relu",
                dilation_rate=2 if block == 5 else 1,
                kernel_initializer=keras.initializers.VarianceScaling(_FIRST_GAIN)
                if x is images
                else CenteredHeNormal(),
                name=f"block{block}_conv{index}",
            )(x)
        if block <= 3:
            x = keras.layers.MaxPooling2D(2, 2, name=f"block{block}_pool")(x)
        elif block == 4:
            x = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"block{block}_pool")(x)
    return (_RecomputedBlocks if recompute else keras.Model)(images, x, name="vgg16")


class _RecomputedBlocks(keras.Model):
    """A chain of layers that keeps no more than the outputs of its blocks for the backward pass."""

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        x = inputs
        for _, layers in itertools.groupby(self.layers[1:], key=lambda layer: layer.name.partition("_")[0]):
            block = tuple(layers)
            run = functools.partial(_chain, block)
            # Frozen blocks have no backward pass.
            x = (tf.recompute_grad(run) if any(layer.trainable_variables for layer in block) else run)(x)
        return x


def _chain(layers: tuple[keras.layers.Layer, ...], x: tf.Tensor) -> tf.Tensor:
    for layer in layers:
        x = layer(x)
    return x


def load_backbone_weights(backbone: keras.Model, weights: str) -> None:
    """Loads ImageNet weights into a backbone of full width.

    Args:
        backbone: From `vgg16_backbone`.
        weights: "imagenet" (downloaded by Keras), "none" (nothing is loaded) or the path of one of Keras' own h5
            files without the top.

    Raises:
        UserError: The file is missing, is no Keras weights file, or has other shapes.
    """
    if weights == "none":
        return
    if weights != "imagenet" and not os.path.isfile(weights):
        raise UserError(
            f"--backbone_weights={weights}: no such file; expected imagenet, none or the path of an h5 file"
        )
    try:
        # Keras' reference network knows every layout of the files that Keras has published.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = keras.applications.VGG16(weights=weights, include_top=False)
        values = reference.get_weights()
    except Exception as error:  # Keras raises a different type for every way in which a file can be wrong.
        raise UserError(
            f"--backbone_weights={weights}: cannot be read as VGG16 weights without top in Keras' h5 format"
            f" ({first_line(error)})"
        ) from None
    if [value.shape for value in values] != [weight.shape for weight in backbone.weights]:
        raise UserError(f"--backbone_weights={weights} needs --width=64, the width of VGG16")
    backbone.set_weights(values)


def freeze_blocks(backbone: keras.Model, num_blocks: int) -> None:
    """Makes the first blocks untrainable; their backward pass is then left out.

    Args:
        backbone: From `vgg16_backbone`.
        num_blocks: From 0 to 5.
    """
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in convolutions[: sum(CONVOLUTIONS_PER_BLOCK[:num_blocks])]:
        layer.trainable = False
