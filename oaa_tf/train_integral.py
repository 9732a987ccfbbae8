"""Stage 2: trains the integral attention model on the accumulated attention (paper, Sec. 3.3).

python -m oaa_tf.train_integral --records=records/train.json --maps=runs/cls/attention/oaa --work_dir=runs/integral
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data import keys
from oaa_tf.data.input_pipeline import training_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.errors import UserError
from oaa_tf.launch import launch, setting
from oaa_tf.metrics_file import origin, write_metrics
from oaa_tf.models.integral import LOSSES, IntegralAttentionModel
from oaa_tf.training.extraction import extract_attention
from oaa_tf.training.loop import Hooks, train
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.start import choose_strategy, prepare_network
from oaa_tf.work_dir import WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainIntegralSettings(AttentionTrainingSettings):
    """The integral attention model's settings; the defaults are the paper's."""

    maps: str = setting(help="Folder of the cumulative attention maps (attention/oaa of train_cls).")
    loss: str = setting("hybrid", help="hybrid (Eq. 9) or mce (Eq. 6).", choices=tuple(LOSSES))


def run(settings: TrainIntegralSettings) -> dict[str, Any]:
    """Trains and writes `attention/oaa_plus`.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    records = RecordSet.open(settings.records)
    maps = AttentionMaps.open(settings.maps, records)
    if maps.image_size != settings.image_size:
        raise UserError(f"--maps={settings.maps}: made with --image_size={maps.image_size}, not {settings.image_size}")
    with WorkDir.claim(settings, {"records": records.checksum, "maps": maps.checksum}) as work_dir:
        if (metrics := work_dir.finished_metrics()) is not None:
            print(f"train_integral: {work_dir.path} is done")
            return metrics
        strategy = choose_strategy()
        with strategy.scope():
            network, optimizer = prepare_network("attention", records, settings, settings.schedule, work_dir.path)
            model = IntegralAttentionModel(
                network, attention_loss=settings.loss, accumulate_steps=settings.accumulate_steps
            )
            model.compile(optimizer=optimizer, jit_compile=False)

        def batches(first_step: int) -> tf.data.Dataset:
            return training_batches(
                records,
                settings.views,
                batch_size=settings.batch_size,
                seed=settings.seed,
                first_step=first_step,
                num_steps=settings.num_steps,
                targets=attention_targets(maps, len(records.classes)),
            )

        results = train(model, batches, records, settings, work_dir.path, Hooks(), "train_integral")
        attention = extract_attention(
            network, records, settings.image_size, batch_size=settings.batch_size, label="integral attention"
        )
        AttentionMaps.save(
            work_dir.path / "attention" / "oaa_plus",
            attention,
            records,
            kind=f"oaa_plus_{settings.loss}",
            image_size=settings.image_size,
        )
        return write_metrics(
            work_dir.path, origin("train_integral", settings, records, supervision="image labels") | results
        )


def attention_targets(maps: AttentionMaps, num_classes: int):
    """Adds `keys.ATTENTION`, float32 `[grid, grid, C]` in [0, 1], to the examples of an input pipeline."""

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
    launch(TrainIntegralSettings, run, "train_integral", "trains the integral attention model on accumulated attention")
