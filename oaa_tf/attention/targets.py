"""Attention maps as the targets of a training."""

import numpy as np
import tensorflow as tf

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data.records import keys
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.targets import Targets


def attention_targets(maps: AttentionMaps, image_size: int | None = None) -> Targets:
    """Adds `keys.ATTENTION`, float32 `[grid, grid, C]` in [0, 1], to the examples of an input pipeline.

    batches = training_batches(records, views, batch_size=5, seed=0, num_steps=100, targets=attention_targets(maps))

    Args:
        maps: The maps.
        image_size: Side in pixels of the frames of the views, if it is another than that of the maps.
    """
    grid = (image_size or maps.image_size) // STRIDE
    num_classes = len(maps.records.classes)

    def read(position: np.ndarray) -> np.ndarray:
        classes, attention = maps.for_image(int(position), image_size)
        target = np.zeros([*attention.shape[1:], num_classes], np.float32)
        target[..., list(classes)] = np.moveaxis(attention, 0, -1)
        return target

    def targets(example: dict[str, tf.Tensor], size: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        target = tf.numpy_function(read, [example[keys.POSITION]], tf.float32)
        return {keys.ATTENTION: tf.ensure_shape(target, [grid, grid, num_classes])}

    return targets
