"""Attention of a trained class-aware network on every training image."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS, class_scores, probability_maps
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches, reading_errors
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.data.views.view_options import whole_views


@dataclasses.dataclass(frozen=True)
class ExtractedAttention:
    """What a network says of every image.

    Attributes:
        maps: float32 `[num_slots, grid, grid]` in [0, 1], in the order of slots; the greatest value of a map is 1.
        probabilities: p_c of Eq. 1 for every image and class, the mean over views, float32 `[num_images, C]`.
        num_empty: Number of maps without a positive score in any view, which show probabilities instead.
    """

    maps: np.ndarray
    probabilities: np.ndarray
    num_empty: int


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
) -> ExtractedAttention:
    """Runs the network on all images and keeps the attention of each image's labels.

    With several views of an image, each view's map is normalised, and their mean is normalised again. A class without a
    positive score has no map by Eq. 2; its map then shows the probabilities of its cells, which keep their order. This
    happens to rare classes, whose scores stay negative for long.

    Args:
        network: From `oaa_tf.models.class_aware`.
        records: The images.
        image_size: Long side of the canonical frame in pixels.
        batch_size: Images per batch; does not change the result.
        label: The beginning of the progress line.
        readout: One of `READOUTS`.
        scales: Sizes of the views relative to the frame.
        flip: Whether every view is also taken mirrored.
    """
    views = whole_views(scales, flip)
    grid = image_size // STRIDE
    total, of_cells = np.zeros((2, records.first_slots[-1], grid, grid), np.float32)
    probabilities = np.zeros((len(records), len(records.classes)), np.float32)
    with Progress(len(records) * len(views), label) as progress, reading_errors(records):
        for scale, mirrored in views:
            batches = frame_batches(records, image_size, batch_size=batch_size, scale=scale, mirrored=mirrored)
            attention = label_attention(network, readout, batches.element_spec)
            for batch in batches:
                positions = batch[keys.POSITION].numpy()
                slots = np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions])
                maps, probabilities_of_cells, of_images = attention(batch)
                total[slots] += maps.numpy()
                of_cells[slots] += probabilities_of_cells.numpy()
                probabilities[positions] += of_images.numpy() / len(views)
                progress.advance(len(positions))
    is_empty = total.max(axis=(1, 2), initial=0) == 0
    total[is_empty] = of_cells[is_empty]
    if num_empty := int(is_empty.sum()):
        print(f"{label}: {num_empty} of {len(total)} maps have no positive score, and show probabilities instead")
    maps = total / np.maximum(total.max(axis=(1, 2), keepdims=True), 1e-8)
    return ExtractedAttention(maps, probabilities, num_empty)


def label_attention(
    network: keras.Model, readout: str, batch_spec: dict[str, tf.TensorSpec]
) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The attention of the labels in a batch, as a graph.

    Args:
        network: From `oaa_tf.models.class_aware`.
        readout: One of `READOUTS`.
        batch_spec: The dataset's `element_spec`. With it, batches on canvases of different shapes share one graph.

    Returns:
        From a batch with n pairs of image and label, in the order of slots, to their attention on the frame's grid,
        float32 `[n, grid, grid]` in [0, 1], which is 0 for a class without a positive score; to the `probability_maps`
        of the same pairs; and to the probabilities p_c of Eq. 1 of all classes, float32 `[batch, C]`.
    """

    @tf.function(input_signature=[batch_spec])
    def attention_of_labels(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        score_maps, valid = network(batch[keys.IMAGE], training=False), batch[keys.VALID]

        def of_labels(maps: tf.Tensor) -> tf.Tensor:
            maps, _ = attention_to_frame(maps, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
            # Row-major over (image, class), which is the order of an image's slots.
            return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), batch[keys.LABELS] > 0)

        maps, of_cells = READOUTS[readout](score_maps, valid), probability_maps(score_maps, valid)
        return of_labels(maps), of_labels(of_cells), tf.sigmoid(class_scores(score_maps, valid))

    return attention_of_labels
