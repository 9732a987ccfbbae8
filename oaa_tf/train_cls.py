"""Stage 1: trains the classifier and accumulates its attention (paper, Sec. 3.1-3.2).

python -m oaa_tf.train_cls --records=records/train.json --work_dir=runs/cls --flagfile=flags/paper_vgg16.flags
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.gates import GATES
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.table import FUSIONS, CumulativeAttention
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.training.extraction import extract_attention
from oaa_tf.training.history import AttentionHistory
from oaa_tf.training.loop import Hooks
from oaa_tf.training.map_quality import MapQuality
from oaa_tf.training.observed_attention import ObservedAttention
from oaa_tf.training.pictures import AttentionPictures, measured_positions, shown_positions
from oaa_tf.training.plan import plan_training
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.stage import Training, run_training, supervision_with_start

CAM_FOLDER = Path("attention/cam")
OAA_FOLDER = Path("attention/oaa")
"""Where in the work_dir the maps are."""

COVERAGE_THRESHOLD = 0.3
"""Cells above this attention count as covered in the log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainClsSettings(AttentionTrainingSettings, group="attention"):
    """The classifier's settings; the defaults are the paper's."""

    gate: str = setting("paper", help="Which maps are accumulated (Sec. 3.2).", choices=GATES)
    fusions: tuple[str, ...] = setting(
        ("max",), help="How maps are fused; the first one is written to attention/oaa.", choices=FUSIONS
    )
    accumulate_from_epoch: int = setting(1, help="Epochs, from 0, that pass before maps are accumulated.", minimum=0)
    attention_drop: float = setting(
        0.0,
        help="Share of the visits at which the most attended cells are hidden from the classifier (not in the paper).",
        minimum=0,
        maximum=1,
    )
    table_dtype: str = setting("uint8", help="Type of the table of maxima.", choices=("uint8", "float32"))

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            raise UserError(
                f"--fusions={','.join(self.fusions)}: expected one or more of {', '.join(FUSIONS)}, each once"
            )


def run(settings: TrainClsSettings) -> dict[str, Any]:
    """Trains, writes `attention/cam`, `attention/oaa` (and `attention/oaa_<fusion>` for further fusions).

    Args:
        settings: The stage's settings.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    return run_training(_training(settings))


def plan(settings: TrainClsSettings) -> dict[str, Any]:
    """What `run` would do; see `plan_training`."""
    folders = [CAM_FOLDER, *oaa_folders(settings.fusions).values()]
    return plan_training(_training(settings)) | {"maps": [str(Path(settings.work_dir) / each) for each in folders]}


def _training(settings: TrainClsSettings) -> Training:
    records = RecordSet.open(settings.records)
    supervision = supervision_with_start("image labels", settings)
    table = CumulativeAttention(
        records.first_slots, settings.views.grid, fusions=settings.fusions, dtype=settings.table_dtype
    )
    return Training(
        stage="train_cls",
        task="attention",
        settings=settings,
        records=records,
        make_model=lambda network: AttentionClassifier(
            network,
            table,
            gate=settings.gate,
            accumulate_from_epoch=settings.accumulate_from_epoch,
            accumulate_steps=settings.accumulate_steps,
        ),
        supervision=supervision,
        make_hooks=lambda model: _hooks(settings, model, records),
        finish=lambda network, work_dir: _write_maps(settings, network, table, records, supervision, work_dir),
    )


def _hooks(settings: TrainClsSettings, model: AttentionClassifier, records: RecordSet) -> Hooks:
    table, fusion = model.cumulative_attention, settings.fusions[0]
    shown = shown_positions(records, settings.num_pictures)
    measured = measured_positions(records, settings.num_measured)
    observed = ObservedAttention(model.network, records, settings.image_size, [*shown, *measured])

    def accumulated(slots: Sequence[int]) -> np.ndarray:
        return table.read(fusion, slots)

    def score(slot: int) -> str:
        return f"{observed.scores([slot])[0]:.2f}"

    def num_updates(slot: int) -> str:
        return f"{table.num_updates.numpy()[slot]} x"

    summaries = [
        observed,
        AttentionPictures(
            records,
            settings.image_size,
            shown,
            {"attention now": observed.read, "cumulative attention": accumulated},
            notes={"attention now": score, "cumulative attention": num_updates},
        ),
        AttentionHistory(Path(settings.work_dir), records, shown, observed, table, fusion),
        lambda step: _write_gated_shares(model, records.classes, step),
    ]
    if measured:
        for name, read in {"cam": observed.read, "cumulative_attention": accumulated}.items():
            summaries.append(MapQuality(records, settings.image_size, measured, read, name))
    return Hooks(
        extra_state={"attention": table.variables},
        scalars=lambda: {"attention_coverage": table.coverage(COVERAGE_THRESHOLD)},
        summaries=summaries,
        summaries_every=settings.pictures_every,
    )


def _write_gated_shares(model: AttentionClassifier, classes: Sequence[str], step: int) -> None:
    """Writes the share of the pairs since the last summary that the gate let through, a scalar a class."""
    for name, share in zip(classes, model.gated_share_by_class.take(), strict=True):
        # Not a number for a class that has not been seen since then.
        if np.isfinite(share):
            tf.summary.scalar(f"gated_share_by_class/{name}", share, step=step)


def oaa_folders(fusions: Sequence[str]) -> dict[str, Path]:
    """Folders in the stage's work_dir of the cumulative attention, by fusion; the first fusion's is `OAA_FOLDER`."""
    first, *others = fusions
    return {first: OAA_FOLDER} | {fusion: OAA_FOLDER.with_name(f"oaa_{fusion}") for fusion in others}


def _write_maps(
    settings: TrainClsSettings,
    network: keras.Model,
    table: CumulativeAttention,
    records: RecordSet,
    supervision: str,
    work_dir: Path,
) -> dict[str, Any]:
    cam = extract_attention(
        network, records, settings.image_size, label="class activation maps", **settings.map_options
    )
    num_fallbacks = int(np.count_nonzero(table.num_updates.numpy() == 0))
    made_from = {"image_size": settings.image_size, "supervision": supervision, "seed": settings.seed}
    AttentionMaps.save(work_dir / CAM_FOLDER, cam, records, kind="cam", **made_from)
    for fusion, folder in oaa_folders(settings.fusions).items():
        maps, folder = table.maps(fusion, fallback=cam), work_dir / folder
        AttentionMaps.save(folder, maps, records, kind=f"oaa_{fusion}", fallback_slots=num_fallbacks, **made_from)
    return {
        "num_pairs": table.num_slots,
        "fallback_pairs": num_fallbacks,
        "attention_coverage": table.coverage(COVERAGE_THRESHOLD),
        "table_bytes": table.num_bytes,
    }


if __name__ == "__main__":
    launch(TrainClsSettings, run, "train_cls", "trains the classifier and accumulates its attention", plan)
