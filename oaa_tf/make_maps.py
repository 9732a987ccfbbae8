"""Makes attention maps with a trained class-aware network.

    python -m oaa_tf.make_maps --records=records/train.json --stage_dir=runs/cls --scales=0.5,1,1.5,2 --flip \
        --work_dir=runs/maps

For other images, sizes, views or another readout. The folder is one for `--maps` of make_pseudo_labels, evaluate,
convert and train_integral.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaa_tf.attention.map_files import INFO_FILE, AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view_options import whole_views
from oaa_tf.models.inference_settings import InferenceSettings
from oaa_tf.runs.checkpoints import checkpoint_checksum
from oaa_tf.runs.metrics_file import origin, read_training_metrics, run_once
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeMapsSettings(InferenceSettings, group="maps"):
    """Whose attention, and on which images."""

    records: str = setting(help="Manifest of the images, from make_records (<split>.json); maps are of their labels.")
    stage_dir: str = setting(help="work_dir of train_cls or train_integral; its newest checkpoint is taken.")
    work_dir: str = setting(help="Folder for the maps.")
    readout: str = setting(
        "relu", help="How score maps become attention: relu (Eq. 2) or sigmoid (Sec. 3.3).", choices=("relu", "sigmoid")
    )
    batch_size: int = setting(
        8, help="Images computed at once; does not change the result.", minimum=1, may_change=True
    )

    def __post_init__(self) -> None:
        """Checks the size."""
        super().__post_init__()
        if self.image_size % STRIDE:
            raise UserError(f"expected a multiple of {STRIDE}", flag="image_size", value=self.image_size)


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What the stage reads.

    Attributes:
        records: The images.
        network: The trained network.
        image_size: Side of the canonical frame in pixels.
        kind: What the maps are, as the training calls its own.
        supervision: What the network has learned from.
        seed: Seed of its training.
        checksums: See `WorkDir.claim`.
    """

    records: RecordSet
    network: keras.Model
    image_size: int
    kind: str
    supervision: str
    seed: int
    checksums: dict[str, str]


def run(settings: MakeMapsSettings) -> dict[str, Any]:
    """Writes the attention maps of every label of every image, see `AttentionMaps`.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: The records, the stage and the settings do not go together, or work_dir holds another run.
    """
    from oaa_tf.training.extraction import extract_attention

    inputs = _inputs(settings)
    records = inputs.records

    def work(work_dir: Path) -> dict[str, Any]:
        attention = extract_attention(
            inputs.network,
            records,
            inputs.image_size,
            batch_size=settings.batch_size,
            readout=settings.readout,
            scales=settings.scales,
            flip=settings.flip,
        )
        described = {"kind": inputs.kind, "image_size": inputs.image_size, "seed": inputs.seed}
        AttentionMaps.save(work_dir, attention, records, supervision=inputs.supervision, **described)
        metrics = origin("make_maps", settings, records.provenance, supervision=inputs.supervision)
        return metrics | {"seed": inputs.seed, "maps_kind": inputs.kind}

    return run_once("make_maps", settings, inputs.checksums, work)


def dry_run(settings: MakeMapsSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    inputs = _inputs(settings)
    work_dir = WorkDir.peek(settings, inputs.checksums)
    return {
        "stage": "make_maps",
        "state": work_dir.state,
        "maps_kind": inputs.kind,
        "supervision": inputs.supervision,
        "split": inputs.records.split,
        "images": len(inputs.records),
        "classes": len(inputs.records.classes),
        "image_size": inputs.image_size,
        "views": len(whole_views(settings.scales, settings.flip)),
        "writes": str(work_dir.path / INFO_FILE),
    }


def _inputs(settings: MakeMapsSettings) -> _Inputs:
    from oaa_tf.models.networks import load_network

    records, stage_dir = RecordSet.open(settings.records), Path(settings.stage_dir)
    metrics = read_training_metrics(stage_dir)
    if metrics is None:
        raise UserError(f"{stage_dir / METRICS_FILE}: no such file; run the training stage to its end first")
    stage = metrics["stage"]
    if stage not in ("train_cls", "train_integral"):
        raise UserError(
            f"is of {stage}; expected the work_dir of train_cls or train_integral", flag="stage_dir", value=stage_dir
        )
    # As the two stages call their maps.
    kind = f"oaa_plus_{metrics['settings'].get('loss')}" if stage == "train_integral" else "cam"
    description, network, _ = load_network(stage_dir, precision=settings.precision)
    records.require_classes(f"--stage_dir={stage_dir}", description.classes)
    return _Inputs(
        records=records,
        network=network,
        image_size=settings.image_size or description.image_size,
        kind=kind,
        supervision=metrics["supervision"],
        seed=metrics["seed"],
        checksums={"records": records.checksum, "stage_dir": checkpoint_checksum(stage_dir)},
    )


if __name__ == "__main__":
    launch(MakeMapsSettings, run, "make_maps", dry_run)
