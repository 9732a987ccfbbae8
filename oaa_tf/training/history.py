"""What the classifier attends to in a few training images while it trains, kept for the report's replay."""

import dataclasses
import shutil
from pathlib import Path
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.map_files import to_uint8
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data import keys
from oaa_tf.data.atomic import atomic_write
from oaa_tf.data.input_pipeline import frame_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import attention_to_frame
from oaa_tf.errors import UserError
from oaa_tf.training.pictures import fixed_positions
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
        image_size: int,
        count: int,
        network: keras.Model,
        table: CumulativeAttention,
        fusion: str,
    ) -> None:
        """Prepares the images.

        Args:
            work_dir: The stage's folder.
            records: The record set.
            image_size: Side of the canonical frame in pixels.
            count: How many images to show, evenly spread as in `AttentionPictures`.
            network: The class-aware network that is being trained.
            table: Where its attention is accumulated.
            fusion: The fusion to read from the table.
        """
        self._folder = work_dir / HISTORY_FOLDER
        self._table = table
        self._fusion = fusion
        self._network = network
        positions = fixed_positions(len(records), count)
        self._slots = np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions] or [[]]).astype(
            int
        )
        # One image a batch: the maps of a step need no more memory than that. Decoded once.
        datasets = [frame_batches(records, image_size, batch_size=1, chosen=[position]) for position in positions]
        self._batches = [batch for dataset in datasets for batch in dataset]
        # With the datasets' own signature, canvases of different shapes share one graph.
        signature = [datasets[0].element_spec] if datasets else None
        self._observe = tf.function(self._attention_of_labels, input_signature=signature)

    def __call__(self, step: int) -> None:
        """Writes the snapshot of a step."""
        if step == 0:
            # Left by a run that was stopped before its first checkpoint and may have had other settings.
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._batches:
            return
        self._folder.mkdir(exist_ok=True)
        maps, scores = zip(*map(self._observe, self._batches), strict=True)
        snapshot = Snapshot(
            slots=self._slots,
            attention=to_uint8(np.concatenate(maps)),
            cumulative=to_uint8(self._table.read(self._fusion, self._slots)),
            scores=np.concatenate(scores),
            num_updates=self._table.num_updates.numpy()[self._slots],
        )
        snapshot.write(self._folder / f"step-{step:06d}.npz")

    def _attention_of_labels(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        score_maps, valid = self._network(batch[keys.IMAGE], training=False), batch[keys.VALID]
        maps = class_activation_maps(score_maps, valid)
        maps, _ = attention_to_frame(maps, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
        is_label = batch[keys.LABELS] > 0
        scores = tf.sigmoid(class_scores(score_maps, valid))
        return tf.boolean_mask(tf.transpose(maps, [0, 3, 1, 2]), is_label), tf.boolean_mask(scores, is_label)


def read_history(work_dir: Path) -> dict[int, Snapshot]:
    """The snapshots of a stage by step, in order; empty if it has none.

    Raises:
        UserError: A file is damaged.
    """
    paths = sorted((work_dir / HISTORY_FOLDER).glob("step-*.npz"))
    return {int(path.stem.removeprefix("step-")): Snapshot.read(path) for path in paths}
