"""Attention of a trained class-aware network on every training image."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS, class_scores
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

    With several views of an image, each view's map is normalised, and their mean is normalised again.

    Args:
        network: From `oaa_tf.models.class_aware`.
        records: The images.
        image_size: Long side of the canonical frame in pixels.
        batch_size: Images per batch; does not change the result.
        label: The beginning of the progress line.
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
            attention = label_attention(network, readout, batches.element_spec)
            for batch in batches:
                positions = batch[keys.POSITION].numpy()
                slots = np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions])
                total[slots] += attention(batch)[0].numpy()
                progress.advance(len(positions))
    return total / np.maximum(total.max(axis=(1, 2), keepdims=True), 1e-8)


def label_attention(
    network: keras.Model, readout: str, batch_spec: dict[str, tf.TensorSpec]
) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]:
    """The attention of the labels in a batch, as a graph.

    Args:
        network: From `oaa_tf.models.class_aware`.
        readout: One of `READOUTS`.
        batch_spec: The dataset's `element_spec`. With it, batches on canvases of different shapes share one graph.

    Returns:
        From a batch with n pairs of image and label, in the order of slots, to their attention on the frame's grid,
        float32 `[n, grid, grid]` in [0, 1], and their probabilities p_c of Eq. 1, float32 `[n]`.
    """

    @tf.function(input_signature=[batch_spec])
    def attention_of_labels(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        score_maps, valid = network(batch[keys.IMAGE], training=False), batch[keys.VALID]
        maps = READOUTS[readout](score_maps, valid)
        maps, _ = attention_to_frame(maps, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
        scores = tf.sigmoid(class_scores(score_maps, valid))
        # Row-major over (image, class), which is the order of an image's slots.
        is_label = batch[keys.LABELS] > 0
        return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), is_label), tf.boolean_mask(scores, is_label)

    return attention_of_labels
