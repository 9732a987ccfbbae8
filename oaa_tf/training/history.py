"""What the classifier attends to in a few training images while it trains, kept for the report's replay."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from oaa_tf.attention.map_files import to_uint8
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.atomic import atomic_write
from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.training.observed_attention import ObservedAttention
from oaa_tf.work_dir import HISTORY_FOLDER


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The attention of some pairs of image and class after a number of steps.

    Attributes:
        slots: int64 `[n]`, the pairs' rows in the table.
        attention: uint8 `[n, grid, grid]`, value / 255: what the network attends to now in the whole image (Eq. 2).
        cumulative: uint8 `[n, grid, grid]`, value / 255: what has been accumulated until now.
        scores: float32 `[n]`, the probabilities p_c of Eq. 1.
        num_updates: int32 `[n]`, how often the gate has let the pair through.
    """

    slots: np.ndarray
    attention: np.ndarray
    cumulative: np.ndarray
    scores: np.ndarray
    num_updates: np.ndarray

    def write(self, path: Path) -> None:
        """Writes the snapshot, whole or not at all."""
        with atomic_write(path) as file:
            np.savez_compressed(file, **dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a snapshot.

        Raises:
            UserError: It is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except Exception:  # numpy and zipfile raise many types for the ways in which a file can be wrong.
            raise UserError(f"{path}: damaged; delete it to do without that step") from None


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


def read_history(work_dir: Path) -> dict[int, Snapshot]:
    """The snapshots of a stage by step, in order; empty if it has none.

    Raises:
        UserError: A file is damaged.
    """
    paths = {path.stem.removeprefix("step-"): path for path in (work_dir / HISTORY_FOLDER).glob("step-*.npz")}
    # Others are somebody else's, such as the copies of a program that synchronises folders.
    numbers = sorted((number for number in paths if number.isdigit()), key=int)
    return {int(number): Snapshot.read(paths[number]) for number in numbers}
