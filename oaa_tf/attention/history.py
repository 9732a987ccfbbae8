"""Snapshots of the classifier's attention on a few training images while it trains, for the report's replay."""

import dataclasses
from pathlib import Path
from typing import Self

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.work_dir import HISTORY_FOLDER


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The attention of some pairs of image and class at one training step.

    Attributes:
        slots: int64 `[n]`, the pairs' rows in the table.
        attention: uint8 `[n, grid, grid]`, value / 255: the network's attention on the whole image (Eq. 2).
        cumulative: uint8 `[n, grid, grid]`, value / 255: the cumulative attention.
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
        except Exception:  # numpy and zipfile raise many types of errors for a damaged file.
            raise UserError(f"{path}: damaged; delete it to do without that step") from None


def read_history(work_dir: Path) -> dict[int, Snapshot]:
    """The snapshots of a stage by step, in order; empty if it has none.

    Raises:
        UserError: A file is damaged.
    """
    paths = {path.stem.removeprefix("step-"): path for path in (work_dir / HISTORY_FOLDER).glob("step-*.npz")}
    # Other files are not ours: programs that synchronise folders leave copies with names of their own.
    numbers = sorted((number for number in paths if number.isdigit()), key=int)
    return {int(number): Snapshot.read(paths[number]) for number in numbers}
