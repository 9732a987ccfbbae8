"""Attention of a trained class-aware network on every training image."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS, class_scores, probability_maps
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches, reading_errors
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.data.views.view_options import whole_views

IMAGES_PER_PART = 2048
"""Images whose maps are in memory at the same time."""


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

    `extracted_parts` needs less memory for many images.

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
    options: dict[str, Any] = {"batch_size": batch_size, "readout": readout, "scales": scales, "flip": flip}
    (everything,) = extracted_parts(network, records, image_size, label=label, images_per_part=len(records), **options)
    return everything


def extracted_parts(
    network: keras.Model,
    records: RecordSet,
    image_size: int,
    *,
    label: str = "attention",
    images_per_part: int = IMAGES_PER_PART,
    **options: Any,
) -> Iterator[ExtractedAttention]:
    """As `extract_attention`, for some images after the others.

    Args:
        network: As there.
        records: As there.
        image_size: As there.
        label: As there.
        images_per_part: Images per result.
        **options: `batch_size`, `readout`, `scales` and `flip`, as there.
    """
    extractor, num_empty = Extractor(network, records, image_size, **options), 0
    with Progress(len(records) * extractor.num_views, label) as progress:
        for images in parts_of(records, images_per_part):
            part = extractor(images, progress.advance)
            num_empty += part.num_empty
            yield part
    if num_empty:
        num_maps = records.first_slots[-1]
        print(f"{label}: {num_empty} of {num_maps} maps have no positive score, and show probabilities instead")


def parts_of(records: RecordSet, num_images: int) -> list[range]:
    """The positions of all images, that many at a time."""
    return [range(first, min(first + num_images, len(records))) for first in range(0, len(records), num_images)]


class Extractor:
    """The attention of a network on images of a record set; see `extract_attention`.

    Attributes:
        num_views: Views of every image.
    """

    def __init__(
        self,
        network: keras.Model,
        records: RecordSet,
        image_size: int,
        *,
        batch_size: int = 8,
        readout: str = "relu",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        """Takes the arguments of `extract_attention`."""
        self._records = records
        self._image_size = image_size
        self._batch_size = batch_size
        self._views = whole_views(scales, flip)
        self.num_views = len(self._views)
        self._attention = label_attention(network, readout, self._batches(range(1), *self._views[0]).element_spec)

    def _batches(self, images: range, scale: float, mirrored: bool) -> tf.data.Dataset:
        return frame_batches(
            self._records,
            self._image_size,
            batch_size=self._batch_size,
            scale=scale,
            mirrored=mirrored,
            chosen=images,
        )

    def __call__(self, images: range, advance: Callable[[int], None] = lambda count: None) -> ExtractedAttention:
        """Runs the network on some images.

        Args:
            images: Their positions.
            advance: Is told the number of views done.
        """
        grid, first_slots = self._image_size // STRIDE, self._records.first_slots
        begin = first_slots[images.start]
        total, of_cells = np.zeros((2, first_slots[images.stop] - begin, grid, grid), np.float32)
        probabilities = np.zeros((len(images), len(self._records.classes)), np.float32)
        with reading_errors(self._records):
            for view in self._views:
                for batch in self._batches(images, *view):
                    positions = batch[keys.POSITION].numpy()
                    slots = np.concatenate([np.arange(*first_slots[p : p + 2]) for p in positions]) - begin
                    maps, probabilities_of_cells, of_images = self._attention(batch)
                    total[slots] += maps.numpy()
                    of_cells[slots] += probabilities_of_cells.numpy()
                    probabilities[positions - images.start] += of_images.numpy() / self.num_views
                    advance(len(positions))
        is_empty = total.max(axis=(1, 2), initial=0) == 0
        total[is_empty] = of_cells[is_empty]
        maps = total / np.maximum(total.max(axis=(1, 2), keepdims=True), 1e-8)
        return ExtractedAttention(maps, probabilities, int(is_empty.sum()))


def save_parts(folder: Path, parts: Iterable[ExtractedAttention], records: RecordSet, **description: Any) -> int:
    """Writes the maps of all images to a folder as they come.

    Args:
        folder: Made if missing.
        parts: From `extracted_parts`.
        records: The images.
        **description: As for `AttentionMaps.save`.

    Returns:
        The number of maps that show probabilities.
    """
    num_empty = 0

    def maps() -> Iterator[np.ndarray]:
        nonlocal num_empty
        for part in parts:
            num_empty += part.num_empty
            yield part.maps

    AttentionMaps.save(folder, maps(), records, **description)
    return num_empty


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

    @tf.function(input_signature=[batch_spec], autograph=False)
    def attention_of_labels(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        score_maps, valid = network(batch[keys.IMAGE], training=False), batch[keys.VALID]

        def of_labels(maps: tf.Tensor) -> tf.Tensor:
            maps, _ = attention_to_frame(maps, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
            # Row-major over (image, class), which is the order of an image's slots.
            return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), batch[keys.LABELS] > 0)

        maps, of_cells = READOUTS[readout](score_maps, valid), probability_maps(score_maps, valid)
        return of_labels(maps), of_labels(of_cells), tf.sigmoid(class_scores(score_maps, valid))

    return attention_of_labels
