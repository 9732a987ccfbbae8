"""VGG16's convolutions at output stride 8."""

import keras

from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import CenteredHeNormal, initializer_for_pixels

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
_WIDTHS = (1, 2, 4, 8, 8)


def vgg16_backbone(width: int = 64) -> keras.Model:
    """VGG16 without its top, at output stride 8 (paper, Sec. 3.1 and Fig. 2).

    pool4 keeps the resolution (3x3, stride 1), the convolutions of block 5 have dilation 2 instead, and there is no
    pool5. The layers with weights are those of `keras.applications.VGG16(include_top=False)`, in the same order.

    Args:
        width: Channels of the first block; 64 is VGG16. The last block has 8 times as many.

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
                kernel_initializer=initializer_for_pixels() if x is images else CenteredHeNormal(),
                name=f"block{block}_conv{index}",
            )(x)
        if block <= 3:
            x = keras.layers.MaxPooling2D(2, 2, name=f"block{block}_pool")(x)
        elif block == 4:
            x = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="vgg16")
