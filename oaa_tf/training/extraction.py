"""Attention of a trained class-aware network on every training image."""

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps
from oaa_tf.data import keys
from oaa_tf.data.frame import STRIDE
from oaa_tf.data.input_pipeline import frame_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.progress import Progress


def extract_attention(
    network: keras.Model, records: RecordSet, image_size: int, *, batch_size: int, label: str
) -> np.ndarray:
    """Runs the network on all canonical frames and keeps the attention of each image's labels (Eq. 2).

    Args:
        network: From `oaa_tf.models.class_aware`.
        records: The images.
        image_size: Long side of the canvases in pixels.
        batch_size: Images per batch; does not change the result.
        label: What the progress line says.

    Returns:
        float32 `[num_slots, grid, grid]` in [0, 1], in the order of slots.
    """
    batches = frame_batches(records, image_size, batch_size=batch_size)

    # With the dataset's own signature, batches on canvases of different shapes share one graph.
    @tf.function(input_signature=[batches.element_spec])
    def attention_of_labels(batch):
        maps = class_activation_maps(network(batch[keys.IMAGE], training=False), batch[keys.VALID])
        # Row-major over (image, class), which is the order of an image's slots.
        return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), batch[keys.LABELS] > 0)

    grid = image_size // STRIDE
    attention = np.zeros((records.first_slots[-1], grid, grid), np.float32)
    with Progress(len(records), label) as progress:
        for batch in batches:
            positions = batch[keys.POSITION].numpy()
            slots = np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions])
            maps = attention_of_labels(batch).numpy()
            attention[slots, : maps.shape[1], : maps.shape[2]] = maps
            progress.advance(len(positions))
    return attention
