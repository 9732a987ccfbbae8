"""Training targets, as features that an input pipeline adds to its batches."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from oaa_tf.data.images.palette_png import encode_grey
from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.views.view import render

Targets = Callable[[dict[str, tf.Tensor], tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""Makes more features from an example, the size to which its image was resized (int32 `[2]`) and the size of the canvas
(int32 `[2]`)."""


def segmentation_targets(labels: Sequence[bytes | np.ndarray] | None) -> Targets:
    """Adds `keys.SEGMENTATION`, uint8 `[height, width]` of the canvas, to the examples of an input pipeline.

    Args:
        labels: A label map for each image, in the order of positions: uint8 `[height, width]`, or the bytes of a grey
            PNG; None for the records' masks.
    """
    files = None
    if labels is not None:
        # Compressed, they take little memory.
        files = tf.constant([one if isinstance(one, bytes) else encode_grey(one) for one in labels])

    def targets(example: dict[str, tf.Tensor], size: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded = example[keys.MASK] if files is None else tf.gather(files, example[keys.POSITION])
        label_map = tf.io.decode_png(encoded, channels=1)
        shown = render(label_map, example[keys.VIEW], size, canvas, method="nearest", padding=(IGNORE_LABEL,))
        return {keys.SEGMENTATION: shown[..., 0]}

    return targets
