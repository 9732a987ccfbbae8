"""What a network attends to in a few training images while it is being trained."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS, class_scores
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import frame_batches
from oaa_tf.data.views.view import attention_to_frame


class ObservedAttention:
    """Runs a network on a few images at every summary, once for all that show or measure its attention.

    observed = ObservedAttention(network, records, 304, positions=[0, 7])
    hooks = Hooks(summaries=[observed, *others_that_read_it])
    """

    def __init__(
        self,
        network: keras.Model,
        records: RecordSet,
        image_size: int,
        positions: Sequence[int],
        *,
        readout: str = "relu",
    ) -> None:
        """Prepares the images.

        Args:
            network: The class-aware network that is being trained.
            records: The record set.
            image_size: Side of the canonical frame in pixels.
            positions: Which images.
            readout: One of `READOUTS`.
        """
        self._network = network
        self._readout = READOUTS[readout]
        positions = np.unique(np.asarray(positions, np.int64))
        slots = [np.arange(*records.first_slots[p : p + 2]) for p in positions]
        self._first_slots = records.first_slots
        self._rows = {int(slot): row for row, slot in enumerate(np.concatenate([[], *slots]))}
        grid = image_size // STRIDE
        self._maps = np.zeros((len(self._rows), grid, grid), np.float32)
        self._scores = np.zeros(len(self._rows), np.float32)
        # One image a batch: the maps of a step need no more memory than that.
        self._batches = frame_batches(records, image_size, batch_size=1, chosen=positions) if positions.size else None
        # With the dataset's own signature, canvases of different shapes share one graph.
        signature = [self._batches.element_spec] if positions.size else None
        self._observe = tf.function(self._attention_of_labels, input_signature=signature)

    def __call__(self, step: int) -> None:
        """Looks at the images with the network as it is now."""
        for batch in self._batches or ():
            maps, scores = self._observe(batch)
            rows = self._rows_of(range(*self._first_slots[int(batch[keys.POSITION][0]) :][:2]))
            self._maps[rows], self._scores[rows] = maps, scores

    def read(self, slots: Sequence[int]) -> np.ndarray:
        """Maps of some pairs of image and class, as of the last look.

        Args:
            slots: Rows in the order of the record set, of images that are observed.

        Returns:
            float32 `[len(slots), grid, grid]` in [0, 1].
        """
        return self._maps[self._rows_of(slots)]

    def scores(self, slots: Sequence[int]) -> np.ndarray:
        """The probabilities p_c of Eq. 1, float32 `[len(slots)]`; likewise."""
        return self._scores[self._rows_of(slots)]

    def _rows_of(self, slots: Sequence[int]) -> list[int]:
        return [self._rows[int(slot)] for slot in slots]

    def _attention_of_labels(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        score_maps, valid = self._network(batch[keys.IMAGE], training=False), batch[keys.VALID]
        maps, _ = attention_to_frame(self._readout(score_maps, valid), valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
        is_label = batch[keys.LABELS] > 0
        scores = tf.sigmoid(class_scores(score_maps, valid))
        return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), is_label), tf.boolean_mask(scores, is_label)
