"""From uint8 images of any size to maps of the same size: what is exported, with all processing in the graph."""

import keras
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.data.frame import STRIDE
from oaa_tf.data.views import MEAN_RGB, frame_content, frame_valid_cells

IMAGES_SIGNATURE = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


def attention_function(network: keras.Model, image_size: int):
    """The `attention` signature of a class-aware network.

    Args:
        network: From `oaa_tf.models.class_aware`.
        image_size: Long side in pixels to which images are resized.

    Returns:
        A `tf.function` from images, uint8 RGB `[batch, height, width, 3]`, to a dictionary of `attention`, float32
        `[batch, height, width, C]` in [0, 1] (Eq. 2, every class normalised by itself), and `scores`, float32
        `[batch, C]`, the probabilities p_c of Eq. 1 (meaningful for classifiers).
    """

    @tf.function(input_signature=[IMAGES_SIGNATURE])
    def attention(images):
        score_maps, valid, content = _run(network, images, image_size)
        maps = class_activation_maps(score_maps, valid)
        return {
            "attention": to_image(maps, content, tf.shape(images)[1:3]),
            "scores": tf.sigmoid(class_scores(score_maps, valid)),
        }

    return attention


def segmentation_function(network: keras.Model, image_size: int):
    """The `segment` signature of a segmentation network.

    Args:
        network: From `oaa_tf.models.largefov`.
        image_size: Long side in pixels to which images are resized.

    Returns:
        A `tf.function` from images, uint8 RGB `[batch, height, width, 3]`, to a dictionary of `mask`, uint8
        `[batch, height, width]` (0 background, c + 1 class c), and `probabilities`, float32
        `[batch, height, width, C + 1]`.
    """

    @tf.function(input_signature=[IMAGES_SIGNATURE])
    def segment(images):
        logits, _, content = _run(network, images, image_size)
        logits = to_image(logits, content, tf.shape(images)[1:3])
        return {
            "mask": tf.cast(tf.argmax(logits, axis=-1), tf.uint8),
            "probabilities": tf.nn.softmax(logits),
        }

    return segment


def to_image(maps: tf.Tensor, content: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resamples maps on the grid bilinearly to the image's pixels; the in-graph `Frame.to_image`.

    Args:
        maps: float32 `[batch, rows, columns, channels]`.
        content: int32 `[2]`, size of the resized image.
        size: int32 `[2]`, size of the image.

    Returns:
        float32 `[batch, size[0], size[1], channels]`.
    """
    weights = []
    for axis in (0, 1):
        num_cells = tf.shape(maps)[1 + axis]
        num_valid = tf.maximum((2 * content[axis] + STRIDE) // (2 * STRIDE), 1)
        pixels = (tf.range(size[axis], dtype=tf.float32) + 0.5) * (
            tf.cast(content[axis], tf.float32) / tf.cast(size[axis], tf.float32)
        )
        cells = tf.clip_by_value(pixels / STRIDE - 0.5, 0.0, tf.cast(num_valid - 1, tf.float32))
        distance = tf.abs(cells[:, tf.newaxis] - tf.range(tf.cast(num_cells, tf.float32)))
        weights.append(tf.nn.relu(1.0 - distance))
    return tf.einsum("ih,bhwc,jw->bijc", weights[0], maps, weights[1])


def _run(network: keras.Model, images: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores of the network, the valid cells of its grid, and the size of the resized images."""
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    content = frame_content(height, width, image_size)
    resized = tf.image.resize(images, content, antialias=True)
    # Up to the next multiple of the stride, with the color that is zero after preprocessing.
    margin = -content % STRIDE
    mean = tf.constant(MEAN_RGB)
    padded = tf.pad(resized - mean, [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]]) + mean
    scores = network(padded, training=False)
    longest = tf.reduce_max(tf.shape(scores)[1:3])
    valid = frame_valid_cells(tf.tile(content[tf.newaxis], [batch, 1]), longest)
    return scores, valid[:, : tf.shape(scores)[1], : tf.shape(scores)[2]], content
