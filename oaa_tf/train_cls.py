"""Trains the classifier and accumulates its attention.

This is stage 1 (paper, Sec. 3.1-3.2).

    python -m oaa_tf.train_cls --records=records/train.json --work_dir=runs/cls --flagfile=flags/paper_vgg16.flags
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.stage import TrainingStage, open_records

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from oaa_tf.models.classifier import AttentionClassifier
    from oaa_tf.models.trained_network import TrainedNetwork

CAM_FOLDER = Path("attention/cam")
"""The class activation maps, in the work_dir."""

OAA_FOLDER = Path("attention/oaa")
"""The cumulative attention of the first fusion, in the work_dir."""

_COVERAGE_THRESHOLD = 0.3
"""Cells with more attention count as covered."""

_SLOTS_PER_LOG = 10_000
"""Maps at most on which a log entry measures the coverage: a table of ImageNet's size takes a third of a second."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainClsSettings(AttentionTrainingSettings, group="attention"):
    """The classifier's settings; the defaults are the paper's."""

    gate: str = setting("paper", help="Which maps are accumulated (Sec. 3.2).", choices=("paper", "topk", "none"))
    fusions: tuple[str, ...] = setting(
        ("max",),
        help="How maps are fused; the result of the first one goes to attention/oaa.",
        choices=("max", "average", "harmonic"),
    )
    accumulate_from_epoch: int = setting(1, help="Number of epochs before maps are accumulated.", minimum=0)
    attention_drop: float = setting(
        0.0,
        help="Share of the visits at which the most attended cells are hidden from the classifier (not in the paper).",
        minimum=0,
        maximum=1,
    )
    table_dtype: str = setting("uint8", help="Type of the table of maxima.", choices=("uint8", "float32"))
    table_scale: int = setting(
        1,
        help="Cells of the table for one of the network, along each side; views that max_scale makes larger then"
        " add finer attention (not in the paper).",
        minimum=1,
        maximum=4,
    )

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            raise UserError(
                "expected one or more of max, average, harmonic, each once",
                flag="fusions",
                value=",".join(self.fusions),
            )

    @property
    def frame_size(self) -> int:
        """Side in pixels of the frame of the table and the maps, in which images are `table_scale` times as large."""
        return self.table_scale * self.image_size

    @property
    def views(self) -> ViewOptions:
        """The augmentation, with scales relative to the frame."""
        own = super().views
        scales = {name: getattr(own, name) / self.table_scale for name in ("min_scale", "max_scale")}
        return dataclasses.replace(own, frame_size=self.frame_size, **scales)

    @property
    def map_options(self) -> dict[str, Any]:
        """Options of `extract_attention`, with scales relative to the frame."""
        return super().map_options | {"scales": tuple(scale / self.table_scale for scale in self.map_scales)}


def run(settings: TrainClsSettings) -> dict[str, Any]:
    """Trains and writes `attention/cam` and `attention/oaa`, and `attention/oaa_<fusion>` for further fusions.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.training.run import run_training

    return run_training(ClassifierStage, settings)


def dry_run(settings: TrainClsSettings) -> dict[str, Any]:
    """What `run` would do, see `dry_run_training`."""
    from oaa_tf.training.run import dry_run_training

    maps = [Path(settings.work_dir) / folder for folder in (CAM_FOLDER, *oaa_folders(settings.fusions).values())]
    return dry_run_training(ClassifierStage, settings) | {"maps": [str(folder) for folder in maps]}


class ClassifierStage(TrainingStage):
    """The classifier, with its table of cumulative attention."""

    name = "train_cls"
    settings: TrainClsSettings

    def __init__(self, settings: TrainClsSettings) -> None:
        """Opens the records and makes an empty table for them.

        Raises:
            UserError: The records or the initial weights can't be used.
        """
        from oaa_tf.attention.table import CumulativeAttention

        super().__init__(settings, open_records(settings), supervision="image labels")
        self.table = CumulativeAttention(
            self.records.first_slots, settings.views.grid, fusions=settings.fusions, dtype=settings.table_dtype
        )

    def model(self, network: keras.Model) -> AttentionClassifier:
        """The classifier; with images of no class, its scores start at the classes' log odds."""
        from oaa_tf.models.class_aware import SCORE_LAYER
        from oaa_tf.models.classifier import AttentionClassifier

        records = self.records
        if records.num_negatives and not self.settings.initial_weights:
            # Otherwise the first hundreds of steps go into learning that most classes are rare.
            weight = len(records) + (records.negative_weight - 1) * records.num_negatives
            num_with = np.bincount([*itertools.chain(*records.labels)], minlength=len(records.classes))
            shares = np.clip(num_with / weight, 0.01, 0.99)
            network.get_layer(SCORE_LAYER).bias.assign(np.log(shares / (1 - shares)))
        return AttentionClassifier(
            network,
            self.table,
            gate=self.settings.gate,
            accumulate_from_epoch=self.settings.accumulate_from_epoch,
            negative_weight=records.negative_weight,
            accumulate_steps=self.settings.accumulate_steps,
        )

    def state(self) -> dict[str, Sequence[tf.Variable]]:
        """The table."""
        return {"attention": self.table.variables}

    def scalars(self) -> dict[str, float]:
        """The covered share of the table."""
        return {"attention_coverage": self.table.coverage(_COVERAGE_THRESHOLD, most_slots=_SLOTS_PER_LOG)}

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """Current and cumulative attention: as pictures, for the report's replay, and measured on masks."""
        import tensorflow as tf

        from oaa_tf.training.history import AttentionHistory
        from oaa_tf.training.map_quality import MapQuality
        from oaa_tf.training.observed_attention import ObservedAttention
        from oaa_tf.training.pictures import AttentionPictures, measured_positions, shown_positions

        settings, records, table, fusion = self.settings, self.records, self.table, self.settings.fusions[0]
        shown = shown_positions(records, settings.num_pictures)
        measured = measured_positions(records, settings.num_measured)
        observed = ObservedAttention(
            model.network, records, settings.frame_size, [*shown, *measured], scale=1 / settings.table_scale
        )

        def accumulated(slots: Sequence[int]) -> np.ndarray:
            return table.read(fusion, slots)

        pictures = AttentionPictures(
            records,
            settings.frame_size,
            shown,
            {"attention now": observed.read, "cumulative attention": accumulated},
            notes={
                "attention now": lambda slot: f"{observed.scores([slot])[0]:.2f}",
                "cumulative attention": lambda slot: f"{table.num_updates.numpy()[slot]} x",
            },
        )
        history = AttentionHistory(Path(settings.work_dir), records, shown, observed, table, fusion)

        def write_gated_shares(step: int) -> None:
            """Writes each class's share of pairs that passed the gate since the last summary."""
            for name, share in zip(records.classes, model.gated_share_by_class.take(), strict=True):
                # NaN for a class that has not occurred since then.
                if np.isfinite(share):
                    tf.summary.scalar(f"gated_share_by_class/{name}", share, step=step)

        quality = [
            MapQuality(records, settings.frame_size, measured, read, name)
            for name, read in {"cam": observed.read, "cumulative_attention": accumulated}.items()
            if measured
        ]
        return [observed, pictures, history, write_gated_shares, *quality]

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Writes the maps of all fusions."""
        from oaa_tf.attention.extraction import extracted_parts, save_parts

        settings, records, table = self.settings, self.records, self.table
        description: dict[str, Any] = {
            "image_size": settings.frame_size,
            "supervision": self.supervision,
            "seed": settings.seed,
        }
        parts = extracted_parts(
            network, records, settings.frame_size, label="class activation maps", **settings.map_options
        )
        num_empty = save_parts(work_dir / CAM_FOLDER, parts, records, kind="cam", **description)
        cam = AttentionMaps.open(work_dir / CAM_FOLDER, records).maps
        num_fallbacks = int(np.count_nonzero(table.empty_slots()))
        if num_fallbacks == table.num_slots:
            print(
                f"warning: no map passed the gate after --accumulate_from_epoch={settings.accumulate_from_epoch}: the"
                " cumulative attention is that of the trained network alone"
            )
        for fusion, folder in oaa_folders(settings.fusions).items():
            AttentionMaps.save(
                work_dir / folder,
                table.parts(fusion, fallback=cam),
                records,
                kind=f"oaa_{fusion}",
                fallback_slots=num_fallbacks,
                **description,
            )
        return {
            "num_pairs": table.num_slots,
            "fallback_pairs": num_fallbacks,
            "empty_maps": num_empty,
            "attention_coverage": table.coverage(_COVERAGE_THRESHOLD),
            "table_bytes": table.num_bytes,
        }


def oaa_folders(fusions: Sequence[str]) -> dict[str, Path]:
    """Folders of the cumulative attention in the work_dir, by fusion; that of the first fusion is `OAA_FOLDER`."""
    first, *others = fusions
    return {first: OAA_FOLDER} | {fusion: OAA_FOLDER.with_name(f"oaa_{fusion}") for fusion in others}


if __name__ == "__main__":
    launch(TrainClsSettings, run, "train_cls", dry_run)
