"""What the classifier attends to in a few training images while it trains, kept for the report's replay."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oaa_tf.attention.history import Snapshot
from oaa_tf.attention.map_files import to_uint8
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.work_dir import HISTORY_FOLDER
from oaa_tf.training.observed_attention import ObservedAttention


class AttentionHistory:
    """Writes a `Snapshot` of the same few images at every summary, `attention_history/step-<number>.npz`.

    One small file a step: a resumed run writes the steps behind its checkpoint again, and gets the same files.
    """

    def __init__(
        self,
        work_dir: Path,
        records: RecordSet,
        positions: Sequence[int],
        observed: ObservedAttention,
        table: CumulativeAttention,
        fusion: str,
    ) -> None:
        """Prepares the images.

        Args:
            work_dir: The stage's folder.
            records: The record set.
            positions: The images to keep.
            observed: What the network attends to in them; looks at them before this is called.
            table: Where its attention is accumulated.
            fusion: The fusion to read from the table.
        """
        self._folder = work_dir / HISTORY_FOLDER
        self._observed = observed
        self._table = table
        self._fusion = fusion
        slots = [np.arange(*records.first_slots[p : p + 2]) for p in positions]
        self._slots = np.concatenate([[], *slots]).astype(int)

    def __call__(self, step: int) -> None:
        """Writes the snapshot of a step."""
        if not self._slots.size:
            return
        self._folder.mkdir(exist_ok=True)
        snapshot = Snapshot(
            slots=self._slots,
            attention=to_uint8(self._observed.read(self._slots)),
            cumulative=to_uint8(self._table.read(self._fusion, self._slots)),
            scores=self._observed.scores(self._slots),
            num_updates=self._table.num_updates.numpy()[self._slots],
        )
        snapshot.write(self._folder / f"step-{step:06d}.npz")
