"""What the classifier attends to in a few training images while it trains, kept for the report's replay."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oaa_tf.attention.history import Snapshot
from oaa_tf.attention.map_files import to_uint8
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.work_dir import HISTORY_FOLDER
from oaa_tf.training.observed_attention import ObservedAttention


@dataclasses.dataclass(frozen=True)
class AttentionHistory:
    """Writes a `Snapshot` of the same few images at every summary, `attention_history/step-<number>.npz`.

    Each step has its own small file: a resumed run writes the steps behind its checkpoint again, and gets the same
    files.

    Attributes:
        work_dir: The stage's folder.
        records: The record set.
        positions: The images to keep.
        observed: The attention of the network; called before this at every summary.
        table: Where its attention is accumulated.
        fusion: The fusion to read from the table.
    """

    work_dir: Path
    records: RecordSet
    positions: Sequence[int]
    observed: ObservedAttention
    table: CumulativeAttention
    fusion: str

    def __call__(self, step: int) -> None:
        """Writes the snapshot of a step."""
        slots = [slot for p in self.positions for slot in range(*self.records.first_slots[p : p + 2])]
        if not slots:
            return
        folder = self.work_dir / HISTORY_FOLDER
        folder.mkdir(exist_ok=True)
        snapshot = Snapshot(
            slots=np.array(slots),
            attention=to_uint8(self.observed.read(slots)),
            cumulative=to_uint8(self.table.read(self.fusion, slots)),
            scores=self.observed.scores(slots),
            num_updates=self.table.num_updates.numpy()[slots],
        )
        snapshot.write(folder / f"step-{step:06d}.npz")
