"""What a network attends to in a few training images while it is being trained."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np

from oaa_tf.attention.extraction import label_attention
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches


class ObservedAttention:
    """Runs a network on a few images at every summary, once for all summaries that show or measure its attention.

    observed = ObservedAttention(network, records, 304, positions=[0, 7])
    summaries = [observed, *others_that_read_it]
    """

    def __init__(
        self,
        network: keras.Model,
        records: RecordSet,
        image_size: int,
        positions: Sequence[int],
        *,
        readout: str = "relu",
        scale: float = 1.0,
    ) -> None:
        """Prepares the images.

        Args:
            network: The class-aware network that is being trained.
            records: The record set.
            image_size: Side of the canonical frame in pixels.
            positions: The images; an image may be named twice.
            readout: One of `READOUTS`.
            scale: Size at which the network sees an image over its size in the frame.
        """
        self._first_slots = records.first_slots
        self._grid = image_size // STRIDE
        self._maps: dict[int, np.ndarray] = {}
        self._scores: dict[int, np.ndarray] = {}
        # One image a batch: the maps of a step need no more memory than that.
        self._batches = None
        if positions:
            self._batches = frame_batches(records, image_size, batch_size=1, scale=scale, chosen=positions)
            self._attention = label_attention(network, readout, self._batches.element_spec)

    def __call__(self, step: int) -> None:
        """Looks at the images with the network as it is now."""
        for batch in self._batches or ():
            slots = range(*self._first_slots[int(batch[keys.POSITION][0]) :][:2])
            maps, _, probabilities = self._attention(batch)
            self._maps.update(zip(slots, maps.numpy(), strict=True))
            self._scores.update(zip(slots, probabilities.numpy()[batch[keys.LABELS].numpy() > 0], strict=True))

    def read(self, slots: Iterable[int]) -> np.ndarray:
        """Maps of some pairs of image and class, as of the last look.

        Args:
            slots: Slots of observed images.

        Returns:
            float32 `[len(slots), grid, grid]` in [0, 1].
        """
        return np.array([self._maps[slot] for slot in slots], np.float32).reshape(-1, self._grid, self._grid)

    def scores(self, slots: Iterable[int]) -> np.ndarray:
        """The probabilities p_c of Eq. 1 of the same pairs, float32 `[len(slots)]`."""
        return np.stack([self._scores[slot] for slot in slots])
