"""Refinement of the attention maps of one image."""

import numpy as np
import tensorflow as tf

from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.labels.pixel_adaptive import pixel_adaptive_refinement

METHODS = ("pamr", "crf")


def refined_attention(method: str, attention: np.ndarray, background: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Fits attention maps to the edges of their image.

    - "pamr": `pixel_adaptive_refinement` of each map; the background is not used.
    - "crf": `dense_crf` takes the scores of background and classes for probabilities; its marginals of the classes are
      the refined maps.

    Args:
        method: One of `METHODS`.
        attention: float32 `[k, height, width]` in [0, 1], the maps of the image's classes at its size.
        background: float32 `[height, width]` in [0, 1], the score of the background.
        image: uint8 RGB `[height, width, 3]`.

    Returns:
        float32 `[k, height, width]` in [0, 1].
    """
    if method == "crf":
        return dense_crf(np.concatenate([background[np.newaxis], attention]), image)[1:]
    # Rounding can put a convex combination of ones just above 1.
    return np.clip(_refined_by_pamr(attention, image).numpy(), 0, 1)


# Images of all sizes share one graph.
@tf.function(
    input_signature=[tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([None, None, 3], tf.uint8)],
    autograph=False,
)
def _refined_by_pamr(attention: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    maps = tf.transpose(attention, [1, 2, 0])
    return tf.transpose(pixel_adaptive_refinement(maps[tf.newaxis], image[tf.newaxis])[0], [2, 0, 1])
