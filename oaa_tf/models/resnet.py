"""ResNet-101's convolutions at output stride 8."""

import keras

from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import CenteredHeNormal, initializer_for_pixels

_STAGES = ((3, 1, 1), (4, 2, 1), (23, 1, 2), (3, 1, 4))
"""Number of blocks, stride and dilation of the stages conv2 to conv5."""


def resnet101_backbone(width: int = 64) -> keras.Model:
    """ResNet-101 without its top, at output stride 8 (paper, Sec. 4.1; DeepLab).

    The layers, their names and the order of their weights are those of
    `keras.applications.ResNet101(include_top=False)`. The stages conv4 and conv5 keep the resolution. Their 3x3
    convolutions have dilation 2 and 4 instead, so that every fourth row and column of the features equals what those
    stages give at stride 32. In this version of ResNet, the stride of a stage is in its first 1x1 convolution, before
    the 3x3 convolution; so even the first block of a stage has the dilation.

    Batch normalisation is frozen and always in inference mode: its statistics, scale and offset stay as loaded, in
    training too. DeepLab does the same, since its batches are too small for good statistics. The biases of the
    convolutions are frozen as well, since they are offsets of the same channels; DeepLab's ResNet has none.

    A cell of the grid is centred on the pixel (8 row + 3, 8 column + 3), half a pixel from the middle of its 8x8 pixels
    that views and interpolation take for its centre. Keras pads conv1 and pool1 alike on both sides, and so centres it
    on (8 row, 8 column); here they are padded as TensorFlow's "same" pads even sizes.

    Args:
        width: Channels of the first convolution; 64 is ResNet-101. The last stage has 32 times as many.

    Returns:
        A model from preprocessed images `[batch, height, width, 3]`, height and width multiples of 8, to features
        `[batch, height / 8, width / 8, 32 * width]`.
    """
    images = keras.Input((None, None, 3), name="preprocessed")
    x = keras.layers.ZeroPadding2D(((2, 3), (2, 3)), name="conv1_pad")(images)
    x = _normalized(x, width, 7, "conv1", strides=2, kernel_initializer=initializer_for_pixels())
    x = keras.layers.Activation("relu", name="conv1_relu")(x)
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    for stage, (num_blocks, stride, dilation) in enumerate(_STAGES):
        for block in range(1, num_blocks + 1):
            x = _residual_block(
                x,
                width * 2**stage,
                name=f"conv{stage + 2}_block{block}",
                is_first=block == 1,
                stride=stride if block == 1 else 1,
                dilation=dilation,
            )
    return keras.Model(images, x, name="resnet101")


def _residual_block(x, channels: int, *, name: str, is_first: bool, stride: int, dilation: int):
    """1x1, 3x3 and 1x1 convolutions and a shortcut, which is a 1x1 convolution in the first block of a stage."""
    shortcut = x
    if is_first:
        shortcut = _normalized(x, 4 * channels, 1, name, index=0, strides=stride)
    x = _normalized(x, channels, 1, name, index=1, strides=stride)
    x = keras.layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = _normalized(x, channels, 3, name, index=2, padding="same", dilation_rate=dilation)
    x = keras.layers.Activation("relu", name=f"{name}_2_relu")(x)
    num_blocks = sum(blocks for blocks, _, _ in _STAGES)
    # Without loaded weights nothing is normalised, and the sums grow exponentially unless each block adds little.
    x = _normalized(x, 4 * channels, 1, name, index=3, scale=num_blocks**-0.5)
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.Activation("relu", name=f"{name}_out")(x)


def _normalized(x, channels: int, size: int, name: str, *, index: int | None = None, scale: float = 1.0, **options):
    """A convolution with frozen biases and its frozen batch normalisation, `<name>_<index>_conv` and `_bn`."""
    prefix = name if index is None else f"{name}_{index}"
    options = {"kernel_initializer": CenteredHeNormal()} | options
    convolution = Convolution(channels, size, name=f"{prefix}_conv", **options)
    x = convolution(x)
    convolution.bias.trainable = False
    return keras.layers.BatchNormalization(
        epsilon=1.001e-5,
        gamma_initializer=keras.initializers.Constant(scale),
        trainable=False,
        name=f"{prefix}_bn",
    )(x)
