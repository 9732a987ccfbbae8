"""Spreads attention maps over what belongs together in images.

This is a stage between maps and labels, which the paper does not have: AffinityNet (Ahn and Kwak, CVPR 2018).

    python -m oaa_tf.train_affinity --records=records/train.json --maps=runs/integral/attention/oaa_plus \
        --labels=runs/pseudo_labels --initial_weights=runs/cls --work_dir=runs/affinity

The labelled pixels of `--labels` are the examples: pairs of near cells with the same or with different labels. A small
head on the classifier's frozen features learns from them, and a random walk spreads the maps over every object. It
needs no masks; make_pseudo_labels takes `runs/affinity/attention/spread` as `--maps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.labels.label_files import MASKS, labels_or_masks
from oaa_tf.runs.supervision import strongest_supervision
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.stage import TrainingStage, open_records

if TYPE_CHECKING:
    import keras

    from oaa_tf.attention.spreading import Spreading
    from oaa_tf.data.views.targets import Targets
    from oaa_tf.models.affinity import AffinityModel
    from oaa_tf.models.trained_network import TrainedNetwork

MAPS_FOLDER = Path("attention/spread")
"""The maps after the random walk, in the work_dir."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainAffinitySettings(TrainingSettings, group="affinity"):
    """The affinity network's settings; its backbone is frozen unless `freeze_blocks` is lower."""

    maps: str = setting(help="Folder of the attention maps to spread, such as attention/oaa_plus of train_integral.")
    labels: str = setting(
        help=f"work_dir of make_pseudo_labels: the labels to learn from; or '{MASKS}' for the records' own masks."
    )
    walk_power: float = setting(8.0, help="What affinities are raised to before the random walk.", minimum=0)
    walk_steps: int = setting(64, help="Steps of the random walk.", minimum=0)
    image_size: int = setting(288, help="Long side of the resized images in pixels.", minimum=16)
    num_epochs: float = setting(
        3.0, help="Passes over the images; with num_steps, the longer of both.", minimum=0, maximum=1e6
    )
    batch_size: int = setting(8, help="Images per step.", minimum=1)
    optimizer: str = setting("adamw", help="sgd, or adamw, whose learning rates are lower.", choices=("sgd", "adamw"))
    learning_rate: float = setting(2e-3, help="Initial learning rate.", minimum=0)
    new_layer_multiplier: float = setting(1.0, help="Learning-rate multiplier of the new layers.", minimum=0)
    initializer: str = setting("he", help="Initializer of the new layers.", choices=("gaussian", "he", "centered_he"))
    freeze_blocks: int = setting(
        6, help="Number of lower blocks of the backbone that are not trained; 6: all.", minimum=0, maximum=6
    )

    task: ClassVar[str] = "affinity"
    paper_steps: ClassVar[int] = 10_582
    """Of Ahn and Kwak: eight epochs of VOC's images in batches of eight."""

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.recompute:
            raise UserError("saves nothing here: the affinity network keeps few activations", flag="recompute")

    def schedule(self, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """From the learning rate to 0, by a half cosine."""
        import keras

        return keras.optimizers.schedules.CosineDecay(self.learning_rate, num_steps)


def run(settings: TrainAffinitySettings) -> dict[str, Any]:
    """Trains and writes `attention/spread`.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.training.run import run_training

    return run_training(AffinityStage, settings)


def dry_run(settings: TrainAffinitySettings) -> dict[str, Any]:
    """What `run` would do, see `dry_run_training`."""
    from oaa_tf.training.run import dry_run_training

    return dry_run_training(AffinityStage, settings) | {"maps": str(Path(settings.work_dir) / MAPS_FOLDER)}


class AffinityStage(TrainingStage):
    """The affinity network, which learns from labels and spreads maps."""

    name = "train_affinity"
    settings: TrainAffinitySettings

    def __init__(self, settings: TrainAffinitySettings) -> None:
        """Opens the records, the maps and the labels.

        Raises:
            UserError: They do not belong together, or can't be used.
        """
        records = open_records(settings)
        self.maps = AttentionMaps.open(settings.maps, records)
        self.labels = labels_or_masks(settings.labels, records)
        of_labels = self.labels.supervision if self.labels else "pixel masks"
        super().__init__(
            settings,
            records,
            supervision=strongest_supervision(self.maps.supervision, of_labels),
            inputs={"maps": self.maps.checksum, "labels": self.labels.checksum if self.labels else MASKS},
        )

    def model(self, network: keras.Model) -> AffinityModel:
        """The affinity network with its loss."""
        from oaa_tf.models.affinity import AffinityModel

        return AffinityModel(network, accumulate_steps=self.settings.accumulate_steps)

    def targets(self) -> Targets:
        """The labels."""
        from oaa_tf.data.views.targets import segmentation_targets

        return segmentation_targets(self.labels)

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """The maps before and after the walk, and the edges at which it stops: as pictures, and measured on masks."""
        from oaa_tf.attention.spreading import ObservedSpreading
        from oaa_tf.training.map_quality import MapQuality
        from oaa_tf.training.pictures import AttentionPictures, measured_positions, shown_positions

        settings, records = self.settings, self.records
        shown = shown_positions(records, settings.num_pictures)
        measured = measured_positions(records, settings.num_measured)
        observed = ObservedSpreading(self._spreading(model.network), [*shown, *measured])
        columns = {
            "attention": observed.reader("before"),
            "affinity edges": observed.reader("edges"),
            "spread attention": observed.reader("after"),
        }
        quality = MapQuality(records, settings.image_size, measured, columns["spread attention"], "spread_attention")
        pictures = AttentionPictures(records, settings.image_size, shown, columns)
        return [observed, pictures, *([quality] if measured else [])]

    def results(self, network: keras.Model, work_dir: Path) -> dict[str, Any]:
        """Spreads the maps and writes them."""
        settings = self.settings
        AttentionMaps.save(
            work_dir / MAPS_FOLDER,
            self._spreading(network).parts(),
            self.records,
            kind=f"{self.maps.kind}_spread",
            image_size=settings.image_size,
            supervision=self.supervision,
            fallback_slots=self.maps.fallback_slots,
            seed=settings.seed,
        )
        return {"num_pairs": int(self.records.first_slots[-1])}

    def _spreading(self, network: keras.Model) -> Spreading:
        from oaa_tf.attention.spreading import Spreading

        settings = self.settings
        return Spreading(
            network,
            self.maps,
            settings.image_size,
            power=settings.walk_power,
            num_steps=settings.walk_steps,
            batch_size=settings.batch_size,
        )


if __name__ == "__main__":
    launch(TrainAffinitySettings, run, "train_affinity", dry_run)
