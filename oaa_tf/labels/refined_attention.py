"""Refinement of the attention maps of one image."""

import cv2
import numpy as np
import tensorflow as tf

from oaa_tf.data.images.image_files import fitting_size, resized
from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.labels.pixel_adaptive import pixel_adaptive_refinement

METHODS = ("pamr", "crf")


def refined_attention(
    method: str, attention: np.ndarray, background: np.ndarray, image: np.ndarray, *, crf_side: int = 0
) -> np.ndarray:
    """Fits attention maps to the edges of their image.

    - "pamr": `pixel_adaptive_refinement` of each map; the background is not used.
    - "crf": `dense_crf` takes the scores of background and classes for probabilities; its marginals of the classes are
      the refined maps.

    Args:
        method: One of `METHODS`.
        attention: float32 `[k, height, width]` in [0, 1], the maps of the image's classes at its size.
        background: float32 `[height, width]` in [0, 1], the score of the background.
        image: uint8 RGB `[height, width, 3]`.
        crf_side: Longest side in pixels on which the CRF works; larger images are shrunk for it, its standard
            deviations with them, and its marginals enlarged. 0 for any.

    Returns:
        float32 `[k, height, width]` in [0, 1].
    """
    if method == "crf":
        return _refined_by_crf(np.concatenate([background[np.newaxis], attention]), image, crf_side)[1:]
    # Rounding can put a convex combination of ones just above 1.
    return np.clip(_refined_by_pamr(attention, image).numpy(), 0, 1)


def _refined_by_crf(scores: np.ndarray, image: np.ndarray, side: int) -> np.ndarray:
    height, width, _ = image.shape
    small = fitting_size(image, side)
    shrunk = np.stack([resized(each, small, cv2.INTER_AREA) for each in scores])
    pixel = max(height, width) / max(small)
    marginals = dense_crf(shrunk, resized(image, small, cv2.INTER_AREA), pixel=pixel)
    return np.stack([resized(each, (height, width), cv2.INTER_LINEAR) for each in marginals])


# Images of all sizes share one graph.
@tf.function(
    input_signature=[tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([None, None, 3], tf.uint8)],
    autograph=False,
)
def _refined_by_pamr(attention: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    maps = tf.transpose(attention, [1, 2, 0])
    return tf.transpose(pixel_adaptive_refinement(maps[tf.newaxis], image[tf.newaxis])[0], [2, 0, 1])
