"""The table of cumulative attention, kept up to date inside the training step (paper, Sec. 3.2)."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

FUSIONS = ("max", "average", "harmonic")

_ROWS_PER_READ = 1024


@keras.saving.register_keras_serializable(package="oaa_tf")
class CumulativeAttention(tf.Module):
    """Cumulative attention maps, one row ("slot") per pair of image and target class.

    The image at `position` has the slots `first_slots[position]` up to `first_slots[position + 1]`, one per label in
    ascending order of classes. A row is the flattened grid of the image's canonical frame. Position and class alone
    select the slot, so the maxima do not depend on the order of images, the batch size or the number of replicas: they
    are the same, bit for bit.

    Maxima are stored as uint8 by default. This loses nothing: rounding is monotone, so the maximum of rounded maps is
    the rounded maximum.

        table = CumulativeAttention(records.first_slots, grid=38)
        table.update(positions, labels, gate, attention, seen)
        maps = table.maps("max")

    The variables live on the host, since integer scatters on a GPU would copy the whole table in each step. Create the
    table outside the scope of any distribution strategy: inside, each replica would get its own copy.
    """

    def __init__(
        self,
        first_slots: np.ndarray | Sequence[int],
        grid: int,
        *,
        fusions: Sequence[str] = ("max",),
        dtype: str = "uint8",
    ) -> None:
        """Makes an empty table.

        Args:
            first_slots: int64 `[num_images + 1]`, the cumulative number of labels.
            grid: Cells per side of the frame's grid.
            fusions: The fusions to keep: "max" (Eq. 5), "average" (Eq. 10), "harmonic" (the authors' Caffe code:
                3 / (1 / average + 2 / max)).
            dtype: How maxima are stored, "uint8" or "float32".

        Raises:
            ValueError: An unknown fusion or dtype.
        """
        super().__init__(name="cumulative_attention")
        unknown = set(fusions) - set(FUSIONS)
        if unknown or not fusions:
            raise ValueError(f"fusions={tuple(fusions)}: expected some of {', '.join(FUSIONS)}")
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"dtype={dtype!r}: expected uint8 or float32")
        self.grid = grid
        self.num_images = len(first_slots) - 1
        self.num_slots = int(first_slots[-1])
        self.fusions = tuple(fusions)
        shape = [self.num_slots, grid * grid]
        keeps_mean = "average" in fusions or "harmonic" in fusions
        with tf.device("CPU:0"):
            self._first_slots = tf.constant(first_slots, tf.int64)
            self.num_updates = tf.Variable(tf.zeros([self.num_slots], tf.int32), trainable=False, name="num_updates")
            self.maximum = tf.Variable(tf.zeros(shape, dtype), trainable=False, name="maximum")
            # The mean needs a count per cell, since a cropped view does not show every cell.
            self.total = tf.Variable(tf.zeros(shape), trainable=False, name="total") if keeps_mean else None
            self.count = tf.Variable(tf.zeros(shape), trainable=False, name="count") if keeps_mean else None

    @classmethod
    def for_labels(cls, labels: np.ndarray, grid: int, **options) -> Self:
        """Makes an empty table from the labels of all images.

        Args:
            labels: Multi-hot, `[num_images, classes]`, in the order of positions.
            grid: Cells per side of the frame's grid.
            **options: `fusions` and `dtype`, as in the constructor.
        """
        num_labels = np.count_nonzero(np.asarray(labels) > 0, axis=1)
        return cls(np.cumsum([0, *num_labels], dtype=np.int64), grid, **options)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, without what has been accumulated."""
        return {
            "first_slots": self._first_slots.numpy().tolist(),
            "grid": self.grid,
            "fusions": list(self.fusions),
            "dtype": self.maximum.dtype.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes an empty table from what `get_config` returned."""
        return cls(**config)

    @property
    def num_bytes(self) -> int:
        """Size of the variables in bytes."""
        return sum(variable.dtype.size * variable.shape.num_elements() for variable in self.variables)

    def update(
        self, positions: tf.Tensor, labels: tf.Tensor, gate: tf.Tensor, attention: tf.Tensor, seen: tf.Tensor
    ) -> None:
        """Accumulates the attention of a batch, in which an image may occur more than once.

        Args:
            positions: int64 `[batch]`, indices of the images in the record set.
            labels: Multi-hot, `[batch, classes]`, all labels of the images.
            gate: bool `[batch, classes]`, the pairs to accumulate, labels only.
            attention: float32 `[batch, grid, grid, classes]` in [0, 1], on the frame's grid.
            seen: bool `[batch, grid, grid]`, the cells that the view shows; the others do not change.

        Raises:
            tf.errors.InvalidArgumentError: A position is out of range, an image does not have as many labels as slots,
                or the gate selects a class that is not a label. (Some devices ignore a scatter out of range.)
        """
        self.add(*self.rows(positions, labels, gate, attention, seen))

    def rows(
        self, positions: tf.Tensor, labels: tf.Tensor, gate: tf.Tensor, attention: tf.Tensor, seen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What `update` accumulates, for `add`; arguments and errors as in `update`.

        Returns:
            For the n pairs that the gate selects, as `row_spec` says: their slots, int64 `[n]`; their attention,
            float32 `[n, grid * grid]`, 0 where the view does not show a cell; and 1 for the cells that it shows, of the
            same type and shape.
        """
        with tf.device("CPU:0"):
            pairs, slots = self._pairs_and_slots(positions, labels, gate)
            maps = tf.gather_nd(tf.transpose(attention, [0, 3, 1, 2]), pairs)
            shown = tf.gather(seen, pairs[:, 0])
            of_cells = tf.where(shown, maps, 0.0), tf.cast(shown, tf.float32)
            return slots, *(tf.reshape(values, [-1, self.grid**2]) for values in of_cells)

    @property
    def row_spec(self) -> tuple[tf.TensorSpec, ...]:
        """The types and shapes of what `rows` returns."""
        of_cells = tf.TensorSpec([None, self.grid**2])
        return tf.TensorSpec([None], tf.int64), of_cells, of_cells

    def add(self, slots: tf.Tensor, attention: tf.Tensor, shown: tf.Tensor) -> None:
        """Accumulates what `rows` returned, of one batch or of several."""
        with tf.device("CPU:0"):
            stored = tf.cast(tf.round(attention * 255.0), tf.uint8) if self.maximum.dtype == tf.uint8 else attention
            self.num_updates.scatter_add(tf.IndexedSlices(tf.ones_like(slots, tf.int32), slots))
            # A cell that the view does not show is 0 here, which changes no maximum.
            self.maximum.scatter_max(tf.IndexedSlices(stored, slots))
            if self.total is not None and self.count is not None:
                self.total.scatter_add(tf.IndexedSlices(attention, slots))
                self.count.scatter_add(tf.IndexedSlices(shown, slots))

    def _pairs_and_slots(self, positions: tf.Tensor, labels: tf.Tensor, gate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Checks a batch and finds the rows to update; arguments and errors as in `update`.

        Returns:
            The pairs that the gate selects, int64 `[n, 2]` (index in the batch, class), and their slots, int64 `[n]`.
        """
        present = tf.cast(labels > 0, tf.int64)
        num_images = tf.constant(self.num_images, tf.int64)
        in_range = [tf.debugging.assert_less(positions, num_images), tf.debugging.assert_non_negative(positions)]
        with tf.control_dependencies(in_range):
            first = tf.gather(self._first_slots, positions)
            num_slots = tf.gather(self._first_slots, positions + 1) - first
        fitting = [
            tf.debugging.assert_equal(
                num_slots, tf.reduce_sum(present, axis=1), message="labels disagree with the table's slots"
            ),
            tf.debugging.Assert(tf.reduce_all(~gate | (present > 0)), ["the gate selects a class that is not a label"]),
        ]
        with tf.control_dependencies(fitting):
            pairs = tf.where(gate)
        # The rank of a class among the labels of its image is the number of labels before it.
        return pairs, tf.gather_nd(first[:, tf.newaxis] + tf.cumsum(present, axis=1, exclusive=True), pairs)

    def slots_of(self, position: int) -> range:
        """The slots of an image, one per label in ascending order of classes.

        Raises:
            IndexError: There is no such position.
        """
        if not 0 <= position < self.num_images:
            raise IndexError(f"position {position}: expected 0 to {self.num_images - 1}")
        return range(int(self._first_slots[position]), int(self._first_slots[position + 1]))

    def read(self, fusion: str, slots: np.ndarray | Sequence[int]) -> np.ndarray:
        """Reads cumulative attention maps.

        Args:
            fusion: One of the fusions that the table keeps.
            slots: Rows to read.

        Returns:
            float32 `[len(slots), grid, grid]` in [0, 1]; 0 where nothing was accumulated.

        Raises:
            ValueError: The table does not keep that fusion.
        """
        if fusion not in self.fusions:
            raise ValueError(f"fusion={fusion!r}: this table keeps {', '.join(self.fusions)}")
        rows = np.concatenate([np.zeros([0, self.grid**2], np.float32), *self._rows(fusion, slots)])
        return rows.reshape(-1, self.grid, self.grid)

    def maps(self, fusion: str = "max", *, fallback: np.ndarray | None = None) -> np.ndarray:
        """All cumulative attention maps, in the order of slots.

        Args:
            fusion: One of the fusions that the table keeps.
            fallback: float32 `[num_slots, grid, grid]`, maps for the pairs of `empty_slots`, such as the attention of
                the trained network (the authors' code). Without it, their maps are 0.

        Returns:
            float32 `[num_slots, grid, grid]` in [0, 1].

        Raises:
            ValueError: The table does not keep that fusion.
        """
        nothing = np.zeros([0, self.grid, self.grid], np.float32)
        return np.concatenate([nothing, *self.parts(fusion, fallback=fallback)])

    def parts(self, fusion: str = "max", *, fallback: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The same maps, float32 `[n, grid, grid]` at a time, for a table that is larger than the memory.

        Args:
            fusion: As for `maps`.
            fallback: As for `maps`; or uint8, where attention is value / 255, as in a file of maps.

        Raises:
            ValueError: The table does not keep that fusion.
        """
        for first in range(0, self.num_slots, _ROWS_PER_READ):
            slots = range(first, min(first + _ROWS_PER_READ, self.num_slots))
            maps = self.read(fusion, slots)
            if fallback is not None:
                is_empty = ~self._fused("max", tf.constant(slots, tf.int64)).numpy().any(axis=1)
                instead = fallback[first : first + len(slots)][is_empty]
                maps[is_empty] = instead / np.float32(255) if instead.dtype == np.uint8 else instead
            yield maps

    def empty_slots(self) -> np.ndarray:
        """The pairs without attention, bool `[num_slots]`: the gate let no map through, or only maps of zeros."""
        return np.concatenate(
            [np.zeros(0, bool), *(~rows.any(axis=1) for rows in self._rows("max", range(self.num_slots)))]
        )

    def coverage(self, threshold: float, *, most_slots: int | None = None) -> float:
        """Mean share of the grid whose maximum attention is above a threshold.

        Args:
            threshold: The threshold.
            most_slots: If the table has more, it is the mean over about this many, evenly spread.
        """
        every = 1 if most_slots is None else max(self.num_slots // most_slots, 1)
        slots = range(0, self.num_slots, every)
        num_covered = sum(int(np.count_nonzero(rows > threshold)) for rows in self._rows("max", slots))
        return num_covered / max(len(slots) * self.grid**2, 1)

    def _rows(self, fusion: str, slots: np.ndarray | Sequence[int]) -> Iterator[np.ndarray]:
        """Rows, float32 `[at most _ROWS_PER_READ, grid * grid]` at a time: `read_value` would copy the whole table."""
        for start in range(0, len(slots), _ROWS_PER_READ):
            piece = np.asarray(slots[start : start + _ROWS_PER_READ], np.int64)
            yield self._fused(fusion, tf.constant(piece)).numpy()

    def _fused(self, fusion: str, slots: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            maximum = tf.cast(tf.gather(self.maximum, slots), tf.float32)
            if self.maximum.dtype == tf.uint8:
                maximum /= 255.0
            if fusion == "max":
                return maximum
            average = tf.math.divide_no_nan(tf.gather(self.total, slots), tf.gather(self.count, slots))
            if fusion == "average":
                return average
            # 3 / (1 / average + 2 / max), without dividing by zero.
            return tf.math.divide_no_nan(3.0 * average * maximum, maximum + 2.0 * average)
