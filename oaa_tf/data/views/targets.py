"""Training targets, as features that an input pipeline adds to its batches."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.views.view import render

Targets = Callable[[dict[str, tf.Tensor], tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""Makes more features from an example, the size to which its image was resized (int32 `[2]`) and the size of the canvas
(int32 `[2]`)."""


def segmentation_targets(labels: Sequence[np.ndarray] | None, *, with_saliency: bool = False) -> Targets:
    """Adds `keys.SEGMENTATION`, uint8 `[height, width]` of the canvas, to the examples of an input pipeline.

    Args:
        labels: A label map for each image, in the order of positions, uint8 `[height, width]`, such as `PseudoLabels`;
            None for the records' masks.
        with_saliency: Whether to add the records' saliency maps as `keys.SALIENCY`, of the same type and shape.
    """

    def label_map_of(example: dict[str, tf.Tensor]) -> tf.Tensor:
        if labels is None:
            return tf.io.decode_png(example[keys.MASK], channels=1)
        read = tf.numpy_function(labels.__getitem__, [example[keys.POSITION]], tf.uint8)
        return tf.ensure_shape(read, [None, None])[..., tf.newaxis]

    def targets(example: dict[str, tf.Tensor], size: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = {keys.SEGMENTATION: label_map_of(example)}
        if with_saliency:
            maps[keys.SALIENCY] = tf.io.decode_png(example[keys.SALIENCY], channels=1)
        return {
            key: render(each, example[keys.VIEW], size, canvas, method="nearest", padding=(IGNORE_LABEL,))[..., 0]
            for key, each in maps.items()
        }

    return targets
