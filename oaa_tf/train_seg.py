"""Trains DeepLab-LargeFOV on pseudo labels.

This is stage 4 (paper, Sec. 4.1).

    python -m oaa_tf.train_seg --records=records/train.json --labels=runs/pseudo_labels --work_dir=runs/seg
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import Record
from oaa_tf.data.views.batch_order import permutation
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.labels.label_files import MASKS, labels_or_masks
from oaa_tf.runs.parallel import in_parallel
from oaa_tf.runs.supervision import is_from_saliency
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.stage import TrainingStage, open_records

if TYPE_CHECKING:
    import keras

    from oaa_tf.data.views.targets import Targets
    from oaa_tf.models.largefov import DeepLabLargeFOV
    from oaa_tf.models.trained_network import TrainedNetwork


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSegSettings(TrainingSettings, group="segmentation"):
    """The segmentation network's settings.

    The defaults are the paper's (DeepLab-LargeFOV's), except for `head_weights`: fc6 and fc7 start from random weights.
    """

    labels: str = setting(
        help=f"work_dir of make_pseudo_labels, or '{MASKS}' for the records' own masks (full supervision)."
    )
    head_weights: str = setting(
        "none",
        help="Weights of fc6 and fc7: random (none), or those of VGG16's fc1 and fc2 (imagenet, or a Keras h5 file with"
        " top).",
    )
    image_size: int = setting(320, help="Long side of the crop in pixels.", minimum=16)
    square_crops: bool = setting(
        True, help="Square crops; otherwise crops have about the aspect ratio of their images."
    )
    frame_size: int = setting(500, help="Long side in pixels to which images are resized before cropping.", minimum=16)
    batch_size: int = setting(10, help="Images per step.", minimum=1)
    weight_decay: float = setting(5e-4, help="Weight decay of kernels; biases and normalisations have none.", minimum=0)
    min_scale: float = setting(0.7, help="Least scale of the training images.", minimum=0.1)
    max_scale: float = setting(1.3, help="Greatest scale of the training images.", maximum=10.0)
    share: float = setting(
        1.0, help="Share of the images to train on, chosen at random (Table 3).", minimum=0, maximum=1
    )
    poly_power: float = setting(0.9, help="Power of the poly schedule.", minimum=0)
    balance: float = setting(
        0.0,
        help="How much more a pixel of a rare label counts: its weight is the label's share of all pixels to the power"
        " of minus this. 0: all pixels count the same, 1: all labels do.",
        minimum=0,
        maximum=1,
    )
    teacher_after: float = setting(
        1.0,
        help="Share of the training after which the mean of the network's earlier weights labels the images; 1: never.",
        minimum=0,
        maximum=1,
    )

    task: ClassVar[str] = "segmentation"
    paper_steps: ClassVar[int] = 15_000

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.head_weights != "none" and (self.backbone != "vgg16" or self.width != 64):
            raise UserError(
                f"fits --backbone=vgg16 with --width=64, not --backbone={self.backbone} with --width={self.width}; use"
                " --head_weights=none",
                flag="head_weights",
                value=self.head_weights,
            )
        if self.teacher_after < 1 and self.labels == MASKS:
            raise UserError(
                f"is for pseudo labels; with --labels={MASKS}, set --teacher_after=1",
                flag="teacher_after",
                value=self.teacher_after,
            )

    @property
    def inference_size(self) -> int:
        """Whole images are segmented at the size from which crops are taken."""
        return self.frame_size

    @property
    def views(self) -> ViewOptions:
        """The augmentation."""
        return dataclasses.replace(super().views, frame_size=self.frame_size, square=self.square_crops)

    def steps_for(self, num_images: int) -> int:
        """The steps of a training on `share` of so many images."""
        return super().steps_for(len(chosen_positions(num_images, self.share, self.seed)))

    def schedule(self, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """The poly schedule: learning_rate * (1 - step / num_steps) ** poly_power."""
        import keras

        return keras.optimizers.schedules.PolynomialDecay(
            self.learning_rate, num_steps, end_learning_rate=0.0, power=self.poly_power
        )


def run(settings: TrainSegSettings) -> dict[str, Any]:
    """Trains the segmentation network.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.training.run import run_training

    return run_training(SegmentationStage, settings)


def dry_run(settings: TrainSegSettings) -> dict[str, Any]:
    """What `run` would do, see `dry_run_training`."""
    from oaa_tf.training.run import dry_run_training

    return dry_run_training(SegmentationStage, settings)


class SegmentationStage(TrainingStage):
    """The segmentation network, which learns pseudo labels or masks."""

    name = "train_seg"
    settings: TrainSegSettings

    def __init__(self, settings: TrainSegSettings) -> None:
        """Opens the records and reads the labels.

        Raises:
            UserError: There are no labels, or they were made from other records.
        """
        records = open_records(settings)
        self.labels = labels_or_masks(settings.labels, records)
        super().__init__(
            settings,
            records,
            supervision=self.labels.supervision if self.labels else "pixel masks",
            inputs={"labels": self.labels.checksum if self.labels else hashlib.sha256().hexdigest()},
            chosen=chosen_positions(len(records), settings.share, settings.seed),
        )

    def model(self, network: keras.Model) -> DeepLabLargeFOV:
        """DeepLab-LargeFOV."""
        from oaa_tf.models.largefov import DeepLabLargeFOV
        from oaa_tf.models.mean_teacher import MeanTeacher

        settings = self.settings
        weights: list[float] = []
        if settings.balance:
            weights = [float(weight) for weight in label_weights(self._label_shares(), settings.balance)]
        options: dict[str, Any] = {"label_weights": weights, "accumulate_steps": settings.accumulate_steps}
        if settings.teacher_after == 1:
            return DeepLabLargeFOV(network, **options)
        first_step = round(settings.teacher_after * self.num_steps)
        return MeanTeacher(network, first_step=first_step, use_saliency=self._teaches_with_saliency, **options)

    @property
    def _teaches_with_saliency(self) -> bool:
        """Whether a teacher may use saliency maps: only if the labels come from them, too."""
        return self.settings.teacher_after < 1 and self.labels is not None and is_from_saliency(self.labels.supervision)

    def _label_shares(self) -> np.ndarray:
        """The share of each label in the labelled pixels of the images to train on, float64 `[C + 1]`."""
        positions = range(len(self.records)) if self.chosen is None else list(self.chosen)
        counts = np.zeros(256, np.int64)
        for of_image in in_parallel(self._label_counts, positions, "label weights"):
            counts += of_image
        known = counts[: len(self.records.classes) + 1]
        return known / max(known.sum(), 1)

    def _label_counts(self, position: int) -> np.ndarray:
        return np.bincount(self.label_map(position).ravel(), minlength=256)

    def targets(self) -> Targets:
        """The pseudo labels or masks, and what a teacher needs."""
        from oaa_tf.data.views.targets import segmentation_targets

        return segmentation_targets(self.labels, with_saliency=self._teaches_with_saliency)

    def summaries(self, model: TrainedNetwork) -> list[Callable[[int], None]]:
        """Labels beside predictions: as pictures, and measured on masks."""
        from oaa_tf.training.label_summaries import PredictionSummaries, write_label_quality
        from oaa_tf.training.pictures import measured_positions, shown_positions

        records = self.records
        measured = measured_positions(records, self.settings.num_measured)
        predictions = PredictionSummaries(
            model.network,
            records,
            self.settings.inference_size,
            shown=shown_positions(records, self.settings.num_pictures),
            measured=measured,
            columns={"pseudo label" if self.labels else "mask": self.label_map},
        )

        def write_quality(step: int) -> None:
            # Labels do not change in training: measure them once.
            if step == 0 and measured and self.labels:
                write_label_quality(records, measured, self.label_map, step)

        return [predictions, write_quality]

    def label_map(self, position: int, record: Record | None = None) -> np.ndarray:
        """The label map that the network learns for one image, uint8 `[height, width]`."""
        if self.labels is not None:
            return self.labels[position]
        mask = (record or self.records.record(position)).mask
        assert mask is not None, "the constructor refuses records without masks"
        return mask


def label_weights(shares: np.ndarray, balance: float) -> np.ndarray:
    """Weights of labels for the segmentation loss, with a mean of 1 over all pixels.

    Args:
        shares: Shares of the labels in the pixels, `[labels]`.
        balance: Weights are proportional to the share to the power of minus this.

    Returns:
        float64 `[labels]`; 0 for a label without pixels.
    """
    weights = np.where(shares > 0, np.maximum(shares, 1e-12) ** -balance, 0.0)
    return weights / max(float((shares * weights).sum()), 1e-12)


def chosen_positions(num_images: int, share: float, seed: int) -> np.ndarray:
    """A random share of the images, at least one; a smaller share is a subset of a larger one.

    Args:
        num_images: Number of images to choose from.
        share: The share, from 0 to 1.
        seed: Seed of the choice.

    Returns:
        int64 `[n]`, positions in ascending order.
    """
    # No run reaches this epoch, so the choice is independent of every epoch's order.
    order = permutation(num_images, seed, epoch=2**63)
    return np.sort(order[: max(round(share * num_images), 1)])


if __name__ == "__main__":
    launch(TrainSegSettings, run, "train_seg", dry_run)
