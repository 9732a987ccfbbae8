"""Makes attention maps with a trained class-aware network.

    python -m oaa_tf.make_maps --records=records/train.json --stage_dir=runs/cls --scales=0.5,1,1.5,2 --flip \
        --work_dir=runs/maps

Use it for other images, sizes, views or another readout than in training. make_pseudo_labels, evaluate, convert and
train_integral take the work_dir as `--maps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.attention.map_files import INFO_FILE
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import InferenceSettings
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import SchedulerSettings
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view_options import whole_views
from oaa_tf.metrics import image_scores
from oaa_tf.runs.checkpoints import checkpoint_checksum
from oaa_tf.runs.metrics_file import origin, read_training_metrics, run_once
from oaa_tf.runs.parallel import in_parallel
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir

if TYPE_CHECKING:
    import keras

    from oaa_tf.attention.extraction import ExtractedAttention, Extractor

_IMAGES_PER_TASK = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeMapsSettings(SchedulerSettings, InferenceSettings, group="maps"):
    """Which network, and which images."""

    records: str = setting(help="Manifest of the images, from make_records (<split>.json); every label gets a map.")
    stage_dir: str = setting(help="work_dir of train_cls or train_integral; its newest checkpoint counts.")
    work_dir: str = setting(help="Folder for the maps.")
    readout: str = setting(
        "relu", help="How score maps become attention: relu (Eq. 2) or sigmoid (Sec. 3.3).", choices=("relu", "sigmoid")
    )
    batch_size: int = setting(
        8, help="Images computed at once; does not change the result.", minimum=1, may_change=True
    )

    @property
    def views(self) -> dict[str, Any]:
        """Options of `Extractor`."""
        return {"batch_size": self.batch_size, "readout": self.readout, "scales": self.scales, "flip": self.flip}

    def __post_init__(self) -> None:
        """Checks the size."""
        super().__post_init__()
        if self.image_size % STRIDE:
            raise UserError(f"expected a multiple of {STRIDE}", flag="image_size", value=self.image_size)


def run(settings: MakeMapsSettings) -> dict[str, Any]:
    """Writes an attention map for every label of every image, see `AttentionMaps`.

    Returns:
        The content of `metrics.json`; "images" are the `image_scores` of the classifier's probabilities.

    Raises:
        UserError: The records, the stage and the settings do not go together, or work_dir holds another run.
    """
    from oaa_tf.attention.extraction import extracted_parts, parts_of, save_parts

    records, network, image_size, training = _inputs(settings)
    kind, supervision, seed = _maps_kind(training), training["supervision"], training["seed"]

    def work(work_dir: Path) -> dict[str, Any]:
        if settings.scheduler:
            images = parts_of(records, _IMAGES_PER_TASK)
            parts = in_parallel(_Extraction(settings), images, "attention", scheduler=settings.scheduler, size=len)
        else:
            parts = extracted_parts(network, records, image_size, **settings.views)
        # Log odds keep the order of probabilities near 0 and 1 in 16 bits.
        log_odds = np.zeros((len(records), len(records.classes)), np.float16)

        def keeping_log_odds() -> Iterator[ExtractedAttention]:
            begin = 0
            for part in parts:
                end = begin + len(part.probabilities)
                with np.errstate(divide="ignore"):
                    log_odds[begin:end] = np.log(part.probabilities) - np.log1p(-part.probabilities)
                begin = end
                yield part

        described: dict[str, Any] = {"kind": kind, "image_size": image_size, "supervision": supervision, "seed": seed}
        num_empty = save_parts(work_dir, keeping_log_odds(), records, **described)
        metrics = origin("make_maps", settings, records.provenance, supervision=supervision)
        scores = image_scores(log_odds, records.labels, records.classes, threshold=0)
        return metrics | {"seed": seed, "maps_kind": kind, "empty_maps": num_empty, "images": scores}

    return run_once("make_maps", settings, _checksums(settings, records), work)


class _Extraction:
    """The attention of some images, as a function to send to other processes, each of which loads the network once."""

    def __init__(self, settings: MakeMapsSettings) -> None:
        self._settings = settings
        self._extractor: Extractor | None = None

    def __call__(self, images: range) -> ExtractedAttention:
        from oaa_tf.attention.extraction import Extractor

        if self._extractor is None:
            records, network, image_size, _ = _inputs(self._settings)
            self._extractor = Extractor(network, records, image_size, **self._settings.views)
        return self._extractor(images)


def dry_run(settings: MakeMapsSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    records, _, image_size, training = _inputs(settings)
    work_dir = WorkDir.peek(settings, _checksums(settings, records))
    return {
        "stage": "make_maps",
        "state": work_dir.state,
        "maps_kind": _maps_kind(training),
        "supervision": training["supervision"],
        "split": records.split,
        "images": len(records),
        "classes": len(records.classes),
        "image_size": image_size,
        "views": len(whole_views(settings.scales, settings.flip)),
        "writes": str(work_dir.path / INFO_FILE),
    }


def _inputs(settings: MakeMapsSettings) -> tuple[RecordSet, keras.Model, int, dict[str, Any]]:
    """The records, the network, the side of the canonical frame in pixels, and the metrics of the training."""
    from oaa_tf.models.networks import load_network

    records, stage_dir = RecordSet.open(settings.records), Path(settings.stage_dir)
    training = read_training_metrics(stage_dir)
    if training is None:
        raise UserError(f"{stage_dir / METRICS_FILE}: no such file; run the training stage to its end first")
    stage = training["stage"]
    if stage not in ("train_cls", "train_integral"):
        raise UserError(
            f"is of {stage}; expected the work_dir of train_cls or train_integral", flag="stage_dir", value=stage_dir
        )
    description, network, _ = load_network(stage_dir, precision=settings.precision)
    records.require_classes(f"--stage_dir={stage_dir}", description.classes)
    return records, network, settings.image_size or description.image_size, training


def _maps_kind(training: dict[str, Any]) -> str:
    """The kind that the training stage gives its own maps."""
    return f"oaa_plus_{training['settings'].get('loss')}" if training["stage"] == "train_integral" else "cam"


def _checksums(settings: MakeMapsSettings, records: RecordSet) -> dict[str, str]:
    # `load_network` has found a checkpoint.
    return {"records": records.checksum, "stage_dir": checkpoint_checksum(Path(settings.stage_dir)) or ""}


if __name__ == "__main__":
    launch(MakeMapsSettings, run, "make_maps", dry_run)
