"""Stage 1: trains the classifier and accumulates its attention (paper, Sec. 3.1-3.2).

python -m oaa_tf.train_cls --records=records/train.json --work_dir=runs/cls --flagfile=flags/paper_vgg16.flags
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from oaa_tf.attention.gates import GATES
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.table import FUSIONS, CumulativeAttention
from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.launch import launch, setting
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.training.extraction import extract_attention
from oaa_tf.training.history import AttentionHistory
from oaa_tf.training.loop import Hooks
from oaa_tf.training.map_quality import MapQuality
from oaa_tf.training.pictures import AttentionPictures
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.stage import run_training
from oaa_tf.work_dir import WorkDir

COVERAGE_THRESHOLD = 0.3
"""Cells above this attention count as covered in the log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainClsSettings(AttentionTrainingSettings):
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
    num_pictures: int = setting(
        6, help="Training images shown in TensorBoard and replayed in the report.", minimum=0, may_change=True
    )
    num_measured: int = setting(
        100,
        help="Training images, if they have masks, on which maps are measured for TensorBoard.",
        minimum=1,
        may_change=True,
    )
    pictures_every: int = setting(500, help="Steps between pictures and measurements.", minimum=1, may_change=True)

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            raise UserError(
                f"--fusions={','.join(self.fusions)}: expected one or more of {', '.join(FUSIONS)}, each once"
            )


def run(settings: TrainClsSettings) -> dict[str, Any]:
    """Trains, writes `attention/cam`, `attention/oaa` (and `attention/oaa_<fusion>` for further fusions).

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    records = RecordSet.open(settings.records)
    table = CumulativeAttention(
        records.first_slots, settings.views.grid, fusions=settings.fusions, dtype=settings.table_dtype
    )

    def read(slots: Sequence[int]) -> np.ndarray:
        return table.read(settings.fusions[0], slots)

    name = "cumulative_attention"
    summaries = [AttentionPictures(records, settings.image_size, settings.num_pictures, read, name)]
    if records.has_masks:
        summaries.append(MapQuality(records, settings.image_size, settings.num_measured, read, name))

    def make_model(network: keras.Model) -> AttentionClassifier:
        # A summary that needs the network, which is there from here on.
        work_dir = Path(settings.work_dir)
        summaries.append(
            AttentionHistory(
                work_dir, records, settings.image_size, settings.num_pictures, network, table, settings.fusions[0]
            )
        )
        return AttentionClassifier(
            network,
            table,
            gate=settings.gate,
            accumulate_from_epoch=settings.accumulate_from_epoch,
            accumulate_steps=settings.accumulate_steps,
        )

    return run_training(
        "train_cls",
        "attention",
        settings,
        records,
        make_model,
        supervision="image labels",
        hooks=Hooks(
            extra_state={"attention": table.variables},
            scalars=lambda: {"attention_coverage": table.coverage(COVERAGE_THRESHOLD)},
            summaries=summaries,
            summaries_every=settings.pictures_every,
        ),
        finish=lambda network, work_dir: _write_maps(settings, network, table, records, work_dir),
    )


def _write_maps(
    settings: TrainClsSettings, network, table: CumulativeAttention, records: RecordSet, work_dir: WorkDir
) -> dict[str, Any]:
    cam = extract_attention(
        network, records, settings.image_size, label="class activation maps", **settings.map_options
    )
    num_fallbacks = int(np.count_nonzero(table.num_updates.numpy() == 0))
    folder = work_dir.path / "attention"
    made_from = {"image_size": settings.image_size, "seed": settings.seed}
    AttentionMaps.save(folder / "cam", cam, records, kind="cam", **made_from)
    for fusion in settings.fusions:
        maps = table.maps(fusion, fallback=cam)
        name = "oaa" if fusion == settings.fusions[0] else f"oaa_{fusion}"
        AttentionMaps.save(
            folder / name, maps, records, kind=f"oaa_{fusion}", fallback_slots=num_fallbacks, **made_from
        )
    return {
        "num_pairs": table.num_slots,
        "fallback_pairs": num_fallbacks,
        "attention_coverage": table.coverage(COVERAGE_THRESHOLD),
        "table_bytes": table.num_bytes,
    }


if __name__ == "__main__":
    launch(TrainClsSettings, run, "train_cls", "trains the classifier and accumulates its attention")
