"""The network that learns affinity: whether neighbouring cells of an image show the same thing (Ahn, Kwak, CVPR 2018).

`oaa_tf.attention.affinity` has the affinities themselves.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from oaa_tf.attention.affinity import at_neighbours, distances
from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.losses import affinity_loss
from oaa_tf.models.backbones import end_of_block
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import INITIALIZERS
from oaa_tf.models.preprocessing import caffe_preprocessing
from oaa_tf.models.trained_network import Batch, TrainedNetwork

_EARLY_BLOCKS = (3, 4)
_SIDE = 256
"""Side of an image, in pixels, on which strides are found out."""
_LEVEL_CHANNELS, _NORMALIZATION_GROUPS, _CHANNELS = 64, 8, 32
_LEAST_PURITY = 0.75
"""Share of a cell's pixels that must have one label; cells on edges teach nothing."""


def affinity_network(
    backbone: keras.Model,
    *,
    initializer: str = "he",
    preprocess: Callable[[Any], Any] = caffe_preprocessing,
) -> tuple[keras.Model, keras.Model]:
    """Builds the network from images to embeddings.

    It sees the last features of the backbone, which know what is shown, and those at the end of its third and fourth
    block, which know where edges are.

    Args:
        backbone: From preprocessed images to features, such as `oaa_tf.models.backbones.Backbone.build` makes.
        initializer: One of `INITIALIZERS`.
        preprocess: Turns RGB images in [0, 255] into the input of the backbone; by default that of VGG16.

    Returns:
        The network, from RGB images in [0, 255], float32 `[batch, height, width, 3]`, to embeddings, float32
        `[batch, height / 8, width / 8, channels]`; and the backbone, with all three outputs, which is a layer of the
        network.
    """
    (pixels,) = backbone.inputs
    ends = [*(end_of_block(backbone, block) for block in _EARLY_BLOCKS), backbone.outputs[0]]
    features = keras.Model(pixels, ends, name=backbone.name)
    images = keras.Input((None, None, 3), name="images")
    levels = []
    for number, (end, x) in enumerate(zip(ends, features(preprocess(images)), strict=True), start=1):
        _, cells, _, _ = keras.Model(pixels, end).compute_output_shape((1, _SIDE, _SIDE, 3))
        if cells * STRIDE > _SIDE:
            x = keras.layers.AveragePooling2D(cells * STRIDE // _SIDE, name=f"level{number}_pooled")(x)
        kernel = INITIALIZERS[initializer]()
        x = Convolution(_LEVEL_CHANNELS, 1, kernel_initializer=kernel, name=f"level{number}_features")(x)
        x = keras.layers.GroupNormalization(_NORMALIZATION_GROUPS, name=f"level{number}_normalized")(x)
        levels.append(keras.layers.Activation("relu", name=f"level{number}_relu")(x))
    x = keras.layers.Concatenate(name="levels")(levels)
    embeddings = Convolution(
        _CHANNELS, 1, kernel_initializer=INITIALIZERS[initializer](), dtype="float32", name="embeddings"
    )(x)
    return keras.Model(images, embeddings, name="affinity_network"), features


@keras.saving.register_keras_serializable(package="oaa_tf")
class AffinityModel(TrainedNetwork):
    """Learns affinity from label maps: cells with the same label shall be close, cells with different labels far apart.

    Batches hold `keys.IMAGE` and `keys.SEGMENTATION`, uint8 `[batch, height, width]`, 255 for pixels without a label.

        network, _ = affinity_network(vgg16_backbone())
        model = AffinityModel(network)
        model.compile(optimizer)
        model.fit(batches)
    """

    required_keys = (keys.IMAGE, keys.SEGMENTATION)

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The affinity loss, as the mean over images."""
        embeddings = self.network(batch[keys.IMAGE], training=training)
        found, labels = distances(embeddings), cell_labels(batch[keys.SEGMENTATION])
        others = tf.stack(list(at_neighbours(labels, IGNORE_LABEL)))
        return affinity_loss(found, labels, others), tf.cast(tf.shape(embeddings)[0], tf.float32), embeddings


def cell_labels(labels: tf.Tensor) -> tf.Tensor:
    """The labels of grid cells: that of a cell's centre, if three quarters of its pixels have it, else `IGNORE_LABEL`.

    Args:
        labels: uint8 `[batch, height, width]`; the sides are multiples of `STRIDE`.

    Returns:
        int32 `[batch, height / STRIDE, width / STRIDE]`.
    """
    pixels = tf.nn.space_to_depth(tf.cast(labels, tf.int32)[..., tf.newaxis], STRIDE)
    center = pixels[..., STRIDE // 2 * (STRIDE + 1)]
    purity = tf.reduce_mean(tf.cast(pixels == center[..., tf.newaxis], tf.float32), axis=-1)
    return tf.where(purity >= _LEAST_PURITY, center, IGNORE_LABEL)
