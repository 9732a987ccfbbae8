"""Trains the integral attention model on cumulative attention.

This is stage 2 (paper, Sec. 3.3).

    python -m oaa_tf.train_integral --records=records/train.json --maps=runs/cls/attention/oaa --work_dir=runs/integral
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.training.settings import AttentionTrainingSettings
from oaa_tf.training.stage import TrainingStage, open_records

if TYPE_CHECKING:
    import keras

    from oaa_tf.data.views.targets import Targets
    from oaa_tf.models.integral import IntegralAttentionModel
    from oaa_tf.models.trained_network import TrainedNetwork

MAPS_FOLDER = Path("attention/oaa_plus")
"""The attention maps of the trained model, in the work_dir."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainIntegralSettings(AttentionTrainingSettings, group="attention"):
    """The integral attention model's settings; the defaults are the paper's."""

    maps: str = setting(help="Folder of the cumulative attention maps (attention/oaa of train_cls).")
    loss: str = setting("hybrid", help="The loss: hybrid (Eq. 9) or mce (Eq. 6).", choices=("hybrid", "mce"))
    readout: str = setting(
        "relu", help="How score maps become attention: relu (Eq. 2) or sigmoid (Sec. 3.3).", choices=("relu", "sigmoid")
    )


def run(settings: TrainIntegralSettings) -> dict[str, Any]:
    """Trains and writes `attention/oaa_plus`.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.training.run import run_training

    return run_training(IntegralStage, settings)


def dry_run(settings: TrainIntegralSettings) -> dict[str, Any]:
    """What `run` would do, see `dry_run_training`."""
    from oaa_tf.training.run import dry_run_training

    return dry_run_training(IntegralStage, settings) | {"maps": str(Path(settings.work_dir) / MAPS_FOLDER)}


class IntegralStage(TrainingStage):
    """The integral attention model, which learns the cumulative attention."""

    name = "train_integral"
    settings: TrainIntegralSettings

    def __init__(self, settings: TrainIntegralSettings) -> None:
        """Opens the records and the maps.

        Raises:
            UserError: The maps were made from other records, or can't be used.
        """
        records = open_records(settings)
        self.maps = AttentionMaps.open(settings.maps, records)
        super().__init__(settings, records, supervision=self.maps.supervision, inputs={"maps": self.maps.checksum})

    def model(self, network: keras.Model) -> IntegralAttentionModel:
        """The integral attention model."""
        from oaa_tf.models.integral import IntegralAttentionModel

        return IntegralAttentionModel(
            network,
            attention_loss=self.settings.loss,
            negative_weight=self.records.negative_weight,
            accumulate_steps=self.settings.accumulate_steps,
        )

    def targets(self) -> Targets:
        """The cumulative attention."""
        from oaa_tf.attention.targets import attention_targets

        return attention_targets(self.maps, self.settings.image_size)

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """Cumulative beside integral attention: as pictures, and measured on masks."""
        from oaa_tf.training.map_quality import MapQuality
        from oaa_tf.training.observed_attention import ObservedAttention
        from oaa_tf.training.pictures import AttentionPictures, measured_positions, shown_positions

        settings, records = self.settings, self.records
        shown = shown_positions(records, settings.num_pictures)
        measured = measured_positions(records, settings.num_measured)
        observed = ObservedAttention(
            model.network, records, settings.image_size, [*shown, *measured], readout=settings.readout
        )

        def cumulative(slots: Sequence[int]) -> np.ndarray:
            found = []
            for slot in slots:
                position = records.position_of(slot)
                _, of_image = self.maps.for_image(position, settings.image_size)
                found.append(of_image[slot - records.first_slots[position]])
            # An image of no class has no slots.
            return np.array(found, np.float32).reshape(-1, settings.views.grid, settings.views.grid)

        columns = {"cumulative attention": cumulative, "integral attention": observed.read}
        quality = [
            MapQuality(records, settings.image_size, measured, read, title.replace(" ", "_"))
            for title, read in columns.items()
            if measured
        ]
        return [observed, AttentionPictures(records, settings.image_size, shown, columns), *quality]

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Writes the maps."""
        from oaa_tf.attention.extraction import extracted_parts, save_parts

        settings = self.settings
        attention = extracted_parts(
            network,
            self.records,
            settings.image_size,
            label="integral attention",
            readout=settings.readout,
            **settings.map_options,
        )
        num_empty = save_parts(
            work_dir / MAPS_FOLDER,
            attention,
            self.records,
            kind=f"oaa_plus_{settings.loss}",
            image_size=settings.image_size,
            supervision=self.supervision,
            seed=settings.seed,
        )
        return {"num_pairs": int(self.records.first_slots[-1]), "empty_maps": num_empty}


if __name__ == "__main__":
    launch(TrainIntegralSettings, run, "train_integral", dry_run)
