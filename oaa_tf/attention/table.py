"""The table of cumulative attention, kept up to date inside the training step (paper, Sec. 3.2)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

FUSIONS = ("max", "average", "harmonic")

_ROWS_PER_READ = 1024


@keras.saving.register_keras_serializable(package="oaa_tf")
class CumulativeAttention(tf.Module):
    """Cumulative attention maps, one row ("slot") per pair of image and target class.

    The slots of the image at `position` are `first_slots[position]` and following, one per label in ascending order of
    classes; a row is the flattened grid of the image's canonical frame. Since position and class name the slot, order,
    batch size and number of replicas do not matter: the maximum table is the same, bit for bit.

    Stored as uint8 by default: rounding is monotone, so the maximum of rounded maps is the rounded maximum.

        table = CumulativeAttention(records.first_slots, grid=38)
        table.update(positions, labels, gate, attention, seen)
        maps = table.maps("max")

    The variables live on the host (integer scatters on a GPU would copy the whole table in each step). Create the table
    outside any distribution strategy's scope: inside, each replica would get a copy of its own.
    """

    def __init__(
        self, first_slots: np.ndarray, grid: int, *, fusions: Sequence[str] = ("max",), dtype: str = "uint8"
    ) -> None:
        """Makes an empty table.

        Args:
            first_slots: int64 `[num_images + 1]`, the cumulative number of labels.
            grid: Cells per side of the frame's grid.
            fusions: The fusions that will be read: "max" (Eq. 5), "average" (Eq. 10), "harmonic" (the authors' Caffe
                code: 3 / (1 / average + 2 / max)).
            dtype: "uint8" or "float32", for the maximum.

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
        self.num_slots = int(first_slots[-1])
        self.fusions = tuple(fusions)
        shape = [self.num_slots, grid * grid]
        keeps_mean = "average" in fusions or "harmonic" in fusions
        with tf.device("CPU:0"):
            self._first_slots = tf.constant(first_slots, tf.int64)
            self.num_updates = tf.Variable(tf.zeros([self.num_slots], tf.int32), trainable=False, name="num_updates")
            self.maximum = tf.Variable(tf.zeros(shape, dtype), trainable=False, name="maximum")
            # The mean is kept per cell, since a view that is a crop does not show every cell.
            self.total = tf.Variable(tf.zeros(shape), trainable=False, name="total") if keeps_mean else None
            self.count = tf.Variable(tf.zeros(shape), trainable=False, name="count") if keeps_mean else None

    @classmethod
    def for_labels(cls, labels: np.ndarray, grid: int, **options) -> Self:
        """Makes an empty table for images whose labels are at hand.

        Args:
            labels: Multi-hot, `[num_images, classes]`, in the order of positions.
            grid: Cells per side of the frame's grid.
            **options: Those of the constructor.
        """
        num_labels = np.count_nonzero(np.asarray(labels) > 0, axis=1)
        return cls(np.cumsum([0, *num_labels], dtype=np.int64), grid, **options)

    def get_config(self) -> dict[str, Any]:
        """Returns what an empty table of the same shape is made from."""
        return {
            "first_slots": self._first_slots.numpy().tolist(),
            "grid": self.grid,
            "fusions": list(self.fusions),
            "dtype": self.maximum.dtype.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes an empty table from what `get_config` returned."""
        return cls(np.array(config["first_slots"], np.int64), **{k: v for k, v in config.items() if k != "first_slots"})

    @property
    def num_bytes(self) -> int:
        """Memory of the variables in bytes."""
        return sum(variable.dtype.size * variable.shape.num_elements() for variable in self.variables)

    def update(
        self, positions: tf.Tensor, labels: tf.Tensor, gate: tf.Tensor, attention: tf.Tensor, seen: tf.Tensor
    ) -> None:
        """Accumulates the attention of a batch; an image may occur in it more than once.

        Args:
            positions: int64 `[batch]`, indices of the images in the record set.
            labels: Multi-hot, `[batch, classes]`, all labels of the images.
            gate: bool `[batch, classes]`, the pairs to accumulate; only labels may be chosen.
            attention: float32 `[batch, grid, grid, classes]` in [0, 1], on the frame's grid.
            seen: bool `[batch, grid, grid]`, the cells that the view showed; others are left alone.

        Raises:
            tf.errors.InvalidArgumentError: A position is out of range, an image has another number of labels than its
                slots, or the gate chose a class that is no label. (An out-of-range scatter would pass silently on some
                devices.)
        """
        with tf.device("CPU:0"):
            present = tf.cast(labels > 0, tf.int64)
            num_images = len(self._first_slots) - 1
            in_range = [
                tf.debugging.assert_less(positions, tf.constant(num_images, tf.int64)),
                tf.debugging.assert_non_negative(positions),
            ]
            with _after(in_range):
                first = tf.gather(self._first_slots, positions)
                num_slots = tf.gather(self._first_slots, positions + 1) - first
            fitting = [
                tf.debugging.assert_equal(
                    num_slots, tf.reduce_sum(present, axis=1), message="labels disagree with the table's slots"
                ),
                tf.debugging.Assert(tf.reduce_all(~gate | (present > 0)), ["the gate chose a class that is no label"]),
            ]
            with _after(fitting):
                pairs = tf.where(gate)
            image = pairs[:, 0]
            slots = tf.gather_nd(first[:, tf.newaxis] + tf.cumsum(present, axis=1, exclusive=True), pairs)
            rows = tf.gather_nd(tf.transpose(attention, [0, 3, 1, 2]), pairs)
            shown = tf.gather(seen, image)
            rows = tf.reshape(tf.where(shown, rows, 0.0), [-1, self.grid**2])
            if self.maximum.dtype == tf.uint8:
                stored = tf.cast(tf.round(rows * 255.0), tf.uint8)
            else:
                stored = rows
            self.num_updates.scatter_add(tf.IndexedSlices(tf.ones_like(slots, tf.int32), slots))
            # A cell that was not seen offers 0, which no maximum takes.
            self.maximum.scatter_max(tf.IndexedSlices(stored, slots))
            if self.total is not None:
                self.total.scatter_add(tf.IndexedSlices(rows, slots))
                counted = tf.reshape(tf.cast(shown, tf.float32), [-1, self.grid**2])
                self.count.scatter_add(tf.IndexedSlices(counted, slots))

    def slots_of(self, position: int) -> range:
        """The slots of an image, one per label in ascending order of classes."""
        if not 0 <= position < len(self._first_slots) - 1:
            raise IndexError(f"position {position}: expected 0 to {len(self._first_slots) - 2}")
        return range(int(self._first_slots[position]), int(self._first_slots[position + 1]))

    def read(self, fusion: str, slots: np.ndarray | Sequence[int]) -> np.ndarray:
        """Reads cumulative attention maps.

        Args:
            fusion: One of the fusions that the table was made for.
            slots: Which rows.

        Returns:
            float32 `[len(slots), grid, grid]` in [0, 1]; 0 where nothing was accumulated.

        Raises:
            ValueError: The table does not keep that fusion.
        """
        if fusion not in self.fusions:
            raise ValueError(f"fusion={fusion!r}: this table keeps {', '.join(self.fusions)}")
        # Gathered piece by piece: `read_value` would copy the whole table.
        pieces = [slots[start : start + _ROWS_PER_READ] for start in range(0, len(slots), _ROWS_PER_READ)]
        rows = [self._fused(fusion, tf.constant(np.asarray(piece, np.int64))).numpy() for piece in pieces]
        rows = np.concatenate(rows) if rows else np.zeros([0, self.grid**2], np.float32)
        return rows.reshape(-1, self.grid, self.grid)

    def maps(self, fusion: str = "max", *, fallback: np.ndarray | None = None) -> np.ndarray:
        """All cumulative attention maps, in the order of slots.

        Args:
            fusion: One of the fusions that the table was made for.
            fallback: Maps, float32 `[num_slots, grid, grid]`, for the pairs that the gate never let through: the
                attention of the trained network (the authors' code). Without it they are 0.

        Returns:
            float32 `[num_slots, grid, grid]` in [0, 1].

        Raises:
            ValueError: The table does not keep that fusion.
        """
        maps = self.read(fusion, range(self.num_slots))
        if fallback is not None:
            never_passed = self.num_updates.numpy() == 0
            maps[never_passed] = fallback[never_passed]
        return maps

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

    def coverage(self, threshold: float) -> float:
        """Mean share of the grid, over all slots, whose maximum attention is above a threshold."""
        num_covered = 0
        for start in range(0, self.num_slots, _ROWS_PER_READ):
            slots = tf.range(start, min(start + _ROWS_PER_READ, self.num_slots), dtype=tf.int64)
            num_covered += np.count_nonzero(self._fused("max", slots).numpy() > threshold)
        return num_covered / max(self.num_slots * self.grid**2, 1)


def _after(checks: Sequence[tf.Operation | None]):
    """Makes what follows in a graph wait for checks; eagerly, where they are None, they have already run."""
    return tf.control_dependencies([check for check in checks if check is not None])
