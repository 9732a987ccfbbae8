"""Attention of a trained class-aware network on every training image."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches, reading_errors
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.data.views.view_options import whole_views


def extract_attention(
    network: keras.Model,
    records: RecordSet,
    image_size: int,
    *,
    batch_size: int = 8,
    label: str = "attention",
    readout: str = "relu",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Runs the network on all images and keeps the attention of each image's labels.

    Several views of an image have the mean of their maps, each normalised by itself, and the mean is normalised again.

    Args:
        network: From `oaa_tf.models.class_aware`.
        records: The images.
        image_size: Long side of the canonical frame in pixels.
        batch_size: Images per batch; does not change the result.
        label: What the progress line says.
        readout: One of `READOUTS`.
        scales: Sizes of the views relative to the frame.
        flip: Whether every view is also taken mirrored.

    Returns:
        float32 `[num_slots, grid, grid]` in [0, 1], in the order of slots; the greatest value of a map is 1, unless all
        are 0.
    """
    views = whole_views(scales, flip)
    grid = image_size // STRIDE
    total = np.zeros((records.first_slots[-1], grid, grid), np.float32)
    with Progress(len(records) * len(views), label) as progress, reading_errors(records):
        for scale, mirrored in views:
            batches = frame_batches(records, image_size, batch_size=batch_size, scale=scale, mirrored=mirrored)
            attention_of_labels = _attention_function(network, readout, batches.element_spec)
            for batch in batches:
                positions = batch[keys.POSITION].numpy()
                slots = np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions])
                total[slots] += attention_of_labels(batch).numpy()
                progress.advance(len(positions))
    return total / np.maximum(total.max(axis=(1, 2), keepdims=True), 1e-8)


def _attention_function(network: keras.Model, readout: str, batch_spec):
    # With the dataset's own signature, batches on canvases of different shapes share one graph.
    @tf.function(input_signature=[batch_spec])
    def attention_of_labels(batch):
        maps = READOUTS[readout](network(batch[keys.IMAGE], training=False), batch[keys.VALID])
        maps, _ = attention_to_frame(maps, batch[keys.VALID], batch[keys.FRAME_VALID], batch[keys.VIEW])
        # Row-major over (image, class), which is the order of an image's slots.
        return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), batch[keys.LABELS] > 0)

    return attention_of_labels
