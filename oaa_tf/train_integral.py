"""Stage 2: trains the integral attention model on the accumulated attention (paper, Sec. 3.3).

python -m oaa_tf.train_integral --records=records/train.json --maps=runs/cls/attention/oaa --work_dir=runs/integral
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.attention.cam import READOUTS
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import Targets
from oaa_tf.models.integral import LOSSES, IntegralAttentionModel
from oaa_tf.training.extraction import extract_attention
from oaa_tf.training.loop import Hooks
from oaa_tf.training.map_quality import MapQuality
from oaa_tf.training.observed_attention import ObservedAttention
from oaa_tf.training.pictures import AttentionPictures, measured_positions, shown_positions
from oaa_tf.training.plan import plan_training
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.stage import Training, run_training, supervision_with_start

MAPS_FOLDER = Path("attention/oaa_plus")
"""Where in the work_dir the maps are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainIntegralSettings(AttentionTrainingSettings, group="attention"):
    """The integral attention model's settings; the defaults are the paper's."""

    maps: str = setting(help="Folder of the cumulative attention maps (attention/oaa of train_cls).")
    loss: str = setting("hybrid", help="hybrid (Eq. 9) or mce (Eq. 6).", choices=tuple(LOSSES))
    readout: str = setting(
        "relu", help="How score maps become attention: relu (Eq. 2) or sigmoid (Sec. 3.3).", choices=tuple(READOUTS)
    )


def run(settings: TrainIntegralSettings) -> dict[str, Any]:
    """Trains and writes `attention/oaa_plus`.

    Args:
        settings: The stage's settings.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    return run_training(_training(settings))


def plan(settings: TrainIntegralSettings) -> dict[str, Any]:
    """What `run` would do; see `plan_training`."""
    return plan_training(_training(settings)) | {"maps": str(Path(settings.work_dir) / MAPS_FOLDER)}


def _training(settings: TrainIntegralSettings) -> Training:
    records = RecordSet.open(settings.records)
    maps = AttentionMaps.open(settings.maps, records)
    if maps.image_size != settings.image_size:
        raise UserError(f"--maps={settings.maps}: made with --image_size={maps.image_size}, not {settings.image_size}")
    supervision = supervision_with_start(maps.supervision, settings)

    def write_maps(network: keras.Model, work_dir: Path) -> dict[str, Any]:
        attention = extract_attention(
            network,
            records,
            settings.image_size,
            label="integral attention",
            readout=settings.readout,
            **settings.map_options,
        )
        folder = work_dir / MAPS_FOLDER
        AttentionMaps.save(
            folder,
            attention,
            records,
            kind=f"oaa_plus_{settings.loss}",
            image_size=settings.image_size,
            supervision=supervision,
            seed=settings.seed,
        )
        return {}

    return Training(
        stage="train_integral",
        task="attention",
        settings=settings,
        records=records,
        make_model=lambda network: IntegralAttentionModel(
            network, attention_loss=settings.loss, accumulate_steps=settings.accumulate_steps
        ),
        supervision=supervision,
        inputs={"maps": maps.checksum},
        targets=attention_targets(maps),
        make_hooks=lambda model: _hooks(settings, model, records, maps),
        finish=write_maps,
    )


def _hooks(
    settings: TrainIntegralSettings, model: IntegralAttentionModel, records: RecordSet, maps: AttentionMaps
) -> Hooks:
    shown = shown_positions(records, settings.num_pictures)
    measured = measured_positions(records, settings.num_measured)
    observed = ObservedAttention(
        model.network, records, settings.image_size, [*shown, *measured], readout=settings.readout
    )

    def taught(slots: Sequence[int]) -> np.ndarray:
        return maps.maps[list(slots)] / np.float32(255)

    columns = {"cumulative attention": taught, "integral attention": observed.read}
    summaries = [observed, AttentionPictures(records, settings.image_size, shown, columns)]
    if measured:
        for name, read in {"cumulative_attention": taught, "integral_attention": observed.read}.items():
            summaries.append(MapQuality(records, settings.image_size, measured, read, name))
    return Hooks(summaries=summaries, summaries_every=settings.pictures_every)


def attention_targets(maps: AttentionMaps) -> Targets:
    """Adds `keys.ATTENTION`, float32 `[grid, grid, C]` in [0, 1], to the examples of an input pipeline.

    batches = training_batches(records, views, batch_size=5, seed=0, num_steps=100, targets=attention_targets(maps))
    """
    num_classes = len(maps.records.classes)

    def read(position: np.ndarray) -> np.ndarray:
        classes, attention = maps.for_image(int(position))
        target = np.zeros([*attention.shape[1:], num_classes], np.float32)
        target[..., list(classes)] = np.moveaxis(attention, 0, -1)
        return target

    def targets(example: dict[str, tf.Tensor], size: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        target = tf.numpy_function(read, [example[keys.POSITION]], tf.float32)
        grid = maps.grid
        return {keys.ATTENTION: tf.ensure_shape(target, [grid, grid, num_classes])}

    return targets


if __name__ == "__main__":
    launch(
        TrainIntegralSettings,
        run,
        "train_integral",
        "trains the integral attention model on accumulated attention",
        plan,
    )
