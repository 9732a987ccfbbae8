"""Attention maps of a record set, spread along the affinities that a network has learned."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.affinity import distances, random_walk
from oaa_tf.attention.extraction import IMAGES_PER_PART, parts_of
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.records import keys
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches, reading_errors


@dataclasses.dataclass(frozen=True)
class SpreadAttention:
    """Attention of some images.

    Attributes:
        before: The maps before the random walk, float32 `[num_slots, grid, grid]` in [0, 1], in the order of slots.
        after: The maps after it; the greatest value of a map is 1.
        edges: How little the cells of the image belong to their neighbours, the mean of 1 - affinity; once per slot.
    """

    before: np.ndarray
    after: np.ndarray
    edges: np.ndarray


class Spreading:
    """Spreads the attention maps of images by a random walk.

    spreading = Spreading(network, maps, image_size=288, power=8, num_steps=64)
    spread = spreading([0, 7])

    Attributes:
        maps: The maps before the walk.
    """

    def __init__(
        self,
        network: keras.Model,
        maps: AttentionMaps,
        image_size: int,
        *,
        power: float,
        num_steps: int,
        batch_size: int = 8,
    ) -> None:
        """Takes the network and the maps.

        Args:
            network: From images to embeddings, see `oaa_tf.models.affinity`.
            maps: The maps.
            image_size: Side in pixels of the frames in which the network sees the images; sets the grid of the results.
            power: See `random_walk`.
            num_steps: See `random_walk`.
            batch_size: Images per batch; does not change the result.
        """
        self.maps = maps
        self._image_size = image_size
        self._batch_size = batch_size
        spec = [self._batches([0]).element_spec, tf.TensorSpec([None, None, None]), tf.TensorSpec([None], tf.int32)]

        @tf.function(input_signature=spec, autograph=False)
        def spread(batch: dict[str, tf.Tensor], attention: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Attention and edges of maps, from the maps and the number of each one's image in the batch."""
            of_images = distances(network(batch[keys.IMAGE], training=False))
            found, valid = tf.gather(of_images, images, axis=1), tf.gather(batch[keys.VALID], images)
            rows, columns = tf.unstack(tf.shape(valid)[1:])
            walked = random_walk(attention[:, :rows, :columns], found, valid, power=power, num_steps=num_steps)
            return walked, tf.reduce_mean(1 - tf.exp(-found), axis=0)

        self._spread = spread

    def _batches(self, positions: Sequence[int]) -> tf.data.Dataset:
        records = self.maps.records
        return frame_batches(records, self._image_size, batch_size=self._batch_size, chosen=positions)

    def __call__(
        self, positions: Sequence[int], advance: Callable[[int], None] = lambda count: None
    ) -> SpreadAttention:
        """Spreads the maps of some images.

        Args:
            positions: The images, ascending.
            advance: Is told the number of images done.
        """
        records, grid = self.maps.records, self._image_size // STRIDE
        counts = np.diff(records.first_slots)[list(positions)]
        slots = dict(zip(positions, np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1]), strict=True))
        before, after, edges = np.zeros((3, counts.sum(), grid, grid), np.float32)
        for position, own in slots.items():
            before[own] = self.maps.for_image(position, self._image_size)[1]
        with reading_errors(records):
            for batch in self._batches(positions):
                of_images = [slots[position] for position in batch[keys.POSITION].numpy()]
                own = np.concatenate(of_images)
                images = np.repeat(np.arange(len(of_images), dtype=np.int32), [len(one) for one in of_images])
                walked, found_edges = self._spread(batch, before[own], images)
                rows, columns = walked.shape[1:]
                after[own, :rows, :columns] = walked
                edges[own, :rows, :columns] = found_edges
                advance(len(of_images))
        after /= np.maximum(after.max(axis=(1, 2), keepdims=True), 1e-8)
        return SpreadAttention(before, after, edges)

    def parts(self) -> Iterator[np.ndarray]:
        """The maps of all images after the walk, for some images after the others, for `AttentionMaps.save`."""
        records = self.maps.records
        with Progress(len(records), "spread attention") as progress:
            for images in parts_of(records, IMAGES_PER_PART):
                yield self(images, progress.advance).after


class ObservedSpreading:
    """Spreads the maps of a few images at every summary, once for all summaries that show or measure them."""

    def __init__(self, spreading: Spreading, positions: Sequence[int]) -> None:
        """Takes the images, which may be named twice."""
        self._spreading = spreading
        self._positions = sorted(set(positions))
        first_slots = spreading.maps.records.first_slots
        self._slots = [slot for position in self._positions for slot in range(*first_slots[position : position + 2])]
        self._found: SpreadAttention | None = None

    def __call__(self, step: int) -> None:
        """Spreads the maps with the network as it is now."""
        self._found = self._spreading(self._positions) if self._positions else None

    def reader(self, name: str) -> Callable[[Sequence[int]], np.ndarray]:
        """A function from slots of these images to an attribute of `SpreadAttention`, as of the last look."""

        def read(slots: Sequence[int]) -> np.ndarray:
            return getattr(self._found, name)[[self._slots.index(slot) for slot in slots]]

        return read
