"""What a classifier saw at every visit to every image, kept and accumulated in other ways."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import class_scores
from oaa_tf.attention.gates import GATES, open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import origin
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.training.map_quality import MapQuality
from oaa_tf.training.stage import TrainingStage
from tools.plots import plot_epochs

_FUSIONS = ("max", "average")


class Visits(tf.Module):
    """What the classifier saw at each visit to each image.

    Attributes:
        attention: Class activation maps on the frame's grid, uint8 `[epochs, images, grid, grid, classes]`.
        seen: Cells that the view showed, bool `[epochs, images, grid, grid]`.
        scores: Logits, float32 `[epochs, images, classes]`; -inf where there was no visit.
    """

    def __init__(self, num_epochs: int, num_images: int, num_classes: int, grid: int) -> None:
        """Makes room."""
        super().__init__(name="visits")
        cells = [num_epochs, num_images, grid, grid]
        with tf.device("CPU:0"):
            self.attention = tf.Variable(tf.zeros([*cells, num_classes], tf.uint8), trainable=False)
            self.seen = tf.Variable(tf.zeros(cells, tf.bool), trainable=False)
            self.scores = tf.Variable(tf.fill([*cells[:2], num_classes], -np.inf), trainable=False)

    def add(self, visits: tf.Tensor, attention: tf.Tensor, seen: tf.Tensor, scores: tf.Tensor) -> None:
        """Keeps a batch; visits: int64 `[batch, 2]`, epoch and position."""
        self.attention.scatter_nd_update(visits, tf.cast(tf.round(attention * 255), tf.uint8))
        self.seen.scatter_nd_update(visits, seen)
        self.scores.scatter_nd_update(visits, scores)


class RecordedClassifier(AttentionClassifier):
    """A classifier that keeps every visit, besides accumulating."""

    def __init__(self, network: keras.Model, table: CumulativeAttention, visits: Visits, **kwargs) -> None:
        """Wraps a network."""
        super().__init__(network, table, **kwargs)
        self._visits = visits

    def observe(self, batch, scores, loss):
        """Accumulates as usual, and keeps what was accumulated from."""
        observed = super().observe(batch, scores, loss)
        attention, seen = self.attention_on_frame(batch, scores)
        visits = tf.stack([batch[keys.EPOCH], batch[keys.POSITION]], axis=1)
        self._visits.add(visits, attention, seen, class_scores(scores, batch[keys.VALID]))
        return observed


class AccumulationStudy(TrainingStage):
    """A classifier that keeps the attention of every visit, to accumulate it afterwards in other ways."""

    name = "accumulation_study"

    def __init__(self, settings: TrainClsSettings) -> None:
        """Opens the records."""
        records = RecordSet.open(settings.records)
        if len(records.masked) < len(records):
            raise UserError(
                "has no masks to compare with, or not of all images; make the records with masks",
                flag="records",
                value=settings.records,
            )
        num_steps = settings.steps_for(len(records))
        if num_steps * settings.batch_size < 2 * len(records):
            least = -(-2 * len(records) // settings.batch_size)
            raise UserError(
                f"expected at least {least}, two epochs of the {len(records)} images, or there is nothing to compare",
                flag="train_cls.num_steps",
                value=num_steps,
            )
        super().__init__(settings, records, supervision="image labels")
        grid = settings.views.grid
        self.table = CumulativeAttention(records.first_slots, grid, dtype=settings.table_dtype)
        # Images wait for others of their shape: the last visits can be of the epoch after the last whole one.
        num_epochs = num_steps * settings.batch_size // len(records) + 2
        self.visits = Visits(num_epochs, len(records), len(records.classes), grid)

    def model(self, network: keras.Model) -> RecordedClassifier:
        """The classifier."""
        return RecordedClassifier(network, self.table, self.visits, accumulate_steps=self.settings.accumulate_steps)

    def state(self) -> dict[str, Sequence[tf.Variable]]:
        """The table, and what every visit showed."""
        return {"attention": self.table.variables, "visits": self.visits.variables}

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Writes the visits, and compares all ways to accumulate them."""
        kept = {name: getattr(self.visits, name).numpy() for name in ("attention", "seen", "scores")}
        with atomic_write(work_dir / "visits.npz") as file:
            np.savez_compressed(file, **kept)
        rows = compare(kept, self.records, STRIDE * self.table.grid)
        content = origin(self.name, self.settings, self.records.provenance, supervision=self.supervision)
        write_json(work_dir / "accumulation_study.json", content | {"rows": rows})
        plot_epochs(work_dir / "by_epoch.png", {"": rows})
        return {}


def compare(kept: dict[str, np.ndarray], records: RecordSet, image_size: int) -> list[dict[str, Any]]:
    """Measures the maps of every choice on the frames' grids, as `MapQuality` does.

    Args:
        kept: The arrays of `Visits` by name.
        records: The images.
        image_size: Long side of the frame in pixels.

    Returns:
        A row per gate, fusion, first epoch and last epoch, with the numbers of `MapQuality.measure` and "missing", the
        number of pairs that got no map.
    """
    maps: dict[str, np.ndarray] = {}
    quality = MapQuality(records, image_size, range(len(records)), lambda slots: maps["now"][list(slots)], "maps")
    # The last one that is whole, or nearly: some images wait for others of their shape.
    last = int(np.flatnonzero(np.isfinite(kept["scores"]).any(axis=2).mean(axis=1) > 0.5)[-1])
    spans = [(first, last) for first in range(last + 1)] + [(1, end) for end in range(1, last)]
    choices = [*itertools.product(GATES, _FUSIONS, spans), *(("none", "max", (one, one)) for one in range(last))]
    rows = []
    for gate, fusion, (first, end) in dict.fromkeys(choices):
        maps["now"], missing = accumulated(kept, records, gate, fusion, first, end)
        row = {"gate": gate, "fusion": fusion, "first_epoch": first, "last_epoch": end, "missing": missing}
        rows.append(row | {name: float(value) for name, value in quality.measure().items()})
    return rows


def accumulated(
    kept: dict[str, np.ndarray], records: RecordSet, gate: str, fusion: str, first: int, end: int
) -> tuple[np.ndarray, int]:
    """What a table would hold.

    Args:
        kept: The arrays of `Visits` by name.
        records: The images.
        gate: One of `GATES`.
        fusion: "max" or "average".
        first: The first epoch to accumulate.
        end: The last one.

    Returns:
        float32 `[num_slots, grid, grid]`, and the number of pairs that got nothing.
    """
    multi_hot = records.label_matrix()
    pairs = np.argwhere(multi_hot > 0)
    image, label = pairs.T
    labels = tf.constant(multi_hot)
    best, total, count = (np.zeros((len(pairs), *kept["seen"].shape[2:]), np.float32) for _ in range(3))
    passed_once = np.zeros(len(pairs), bool)
    for epoch in range(first, end + 1):
        passed = open_gate(gate, tf.constant(kept["scores"][epoch]), labels).numpy()[image, label]
        passed_once |= passed
        shown = kept["seen"][epoch][image] & passed[:, np.newaxis, np.newaxis]
        maps = np.where(shown, kept["attention"][epoch][image, :, :, label] / np.float32(255), np.float32(0))
        best = np.maximum(best, maps)
        total = total + maps
        count = count + shown
    fused = best if fusion == "max" else total / np.maximum(count, 1)
    return fused, int((~passed_once).sum())
