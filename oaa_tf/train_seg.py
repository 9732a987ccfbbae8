"""Stage 4: trains DeepLab-LargeFOV on pseudo labels (paper, Sec. 4.1).

python -m oaa_tf.train_seg --records=records/train.json --labels=runs/pseudo_labels --work_dir=runs/seg
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.images.palette_png import encode_grey, read_indexed
from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.data.views.batch_plan import permutation
from oaa_tf.data.views.input_pipeline import Targets
from oaa_tf.data.views.view import ViewOptions, render
from oaa_tf.labels.label_files import read_pseudo_labels
from oaa_tf.models.backbones import BACKBONES
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.training.label_summaries import Labels, PredictionSummaries, write_label_quality
from oaa_tf.training.loop import Hooks
from oaa_tf.training.pictures import measured_positions, shown_positions
from oaa_tf.training.plan import plan_training
from oaa_tf.training.settings import TrainingSettings
from oaa_tf.training.stage import Training, run_training, supervision_with_start

MASKS = "masks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSegSettings(TrainingSettings, group="segmentation"):
    """The segmentation network's settings; the defaults are the paper's (DeepLab-LargeFOV's)."""

    labels: str = setting(
        help=f"work_dir of make_pseudo_labels, or '{MASKS}' for the records' own masks (full supervision)."
    )
    backbone: str = setting("vgg16", help="Network below fc6.", choices=tuple(BACKBONES))
    head_weights: str = setting(
        "none",
        help="fc6 and fc7 start new (none) or from VGG16's fc1 and fc2 (imagenet, or a Keras h5 file with top).",
    )
    image_size: int = setting(320, help="Long side of the crop in pixels.", minimum=16)
    square_crops: bool = setting(True, help="Crops are squares; if not, they have about the aspect of their images.")
    frame_size: int = setting(500, help="Long side in pixels to which images are resized before the crop.", minimum=16)
    batch_size: int = setting(10, help="Images per step.", minimum=1)
    num_steps: int = setting(15_000, help="Steps of training.", minimum=1)
    weight_decay: float = setting(5e-4, help="L2 weight decay of kernels; biases have none.", minimum=0)
    min_scale: float = setting(0.7, help="Least scale of the training images.", minimum=0.1)
    max_scale: float = setting(1.3, help="Greatest scale of the training images.", maximum=10.0)
    share: float = setting(
        1.0, help="Share of the images to train on, chosen at random (the paper's Table 3).", minimum=0, maximum=1
    )
    poly_power: float = setting(0.9, help="Power of the poly schedule.", minimum=0)

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.recompute and self.backbone != "vgg16":
            raise UserError(
                f"--recompute: not for --backbone={self.backbone}; --accumulate_steps saves memory with it too"
            )
        if self.head_weights != "none" and (self.backbone != "vgg16" or self.width != 64):
            raise UserError(
                f"--head_weights={self.head_weights}: fits --backbone=vgg16 with --width=64, not"
                f" --backbone={self.backbone} with --width={self.width}; use --head_weights=none"
            )

    @property
    def inference_size(self) -> int:
        """Images are segmented whole, at the size from which crops were taken."""
        return self.frame_size

    @property
    def views(self) -> ViewOptions:
        """The augmentation."""
        return dataclasses.replace(super().views, frame_size=self.frame_size, square=self.square_crops)

    @property
    def schedule(self):
        """The poly schedule: learning_rate * (1 - step / num_steps) ** poly_power."""
        import keras

        return keras.optimizers.schedules.PolynomialDecay(
            self.learning_rate, self.num_steps, end_learning_rate=0.0, power=self.poly_power
        )


def run(settings: TrainSegSettings) -> dict[str, Any]:
    """Trains the segmentation network.

    Args:
        settings: The stage's settings.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    return run_training(_training(settings))


def plan(settings: TrainSegSettings) -> dict[str, Any]:
    """What `run` would do; see `plan_training`."""
    return plan_training(_training(settings))


def _training(settings: TrainSegSettings) -> Training:
    records = RecordSet.open(settings.records)
    if settings.labels == MASKS:
        if not records.has_masks:
            raise UserError(f"--labels={MASKS}: the records {settings.records} have no masks")
        label_files, supervision = None, "pixel masks"
    else:
        label_files, supervision = read_pseudo_labels(Path(settings.labels), records)
    labels_checksum = hashlib.sha256(b"".join(label_files or [])).hexdigest()
    return Training(
        stage="train_seg",
        task="segmentation",
        settings=settings,
        records=records,
        make_model=lambda network: DeepLabLargeFOV(network, accumulate_steps=settings.accumulate_steps),
        supervision=supervision_with_start(supervision, settings),
        inputs={"labels": labels_checksum},
        chosen=chosen_positions(len(records), settings.share, settings.seed),
        targets=segmentation_targets(label_files),
        make_hooks=lambda model: _hooks(settings, model, records, label_files),
    )


def _hooks(
    settings: TrainSegSettings, model: DeepLabLargeFOV, records: RecordSet, label_files: list[bytes] | None
) -> Hooks:
    measured = measured_positions(records, settings.num_measured)

    def pseudo_label(position: int, record: Record) -> np.ndarray:
        return read_indexed(label_files[position])

    def write_quality(step: int) -> None:
        # The labels stay what they are.
        if step == 0:
            write_label_quality(records, measured, pseudo_label, step)

    columns: dict[str, Labels] = {"pseudo label": pseudo_label}
    if label_files is None:
        columns = {"mask": lambda position, record: record.mask}
    predictions = PredictionSummaries(
        model.network,
        records,
        settings.inference_size,
        shown=shown_positions(records, settings.num_pictures),
        measured=measured,
        columns=columns,
    )
    has_quality = measured and label_files is not None
    return Hooks(
        summaries=[predictions, *([write_quality] if has_quality else [])], summaries_every=settings.pictures_every
    )


def chosen_positions(num_images: int, share: float, seed: int) -> np.ndarray:
    """A random share of the images, at least one; a smaller share is part of a larger one.

    Args:
        num_images: How many there are.
        share: From 0 to 1.
        seed: Seed of the choice.

    Returns:
        int64 `[n]`, positions in ascending order.
    """
    # An epoch that no run reaches, so that the choice has random numbers of its own.
    order = permutation(num_images, seed, epoch=2**63)
    return np.sort(order[: max(round(share * num_images), 1)])


def segmentation_targets(labels: Sequence[bytes | np.ndarray] | None) -> Targets:
    """Adds `keys.SEGMENTATION`, uint8 `[height, width]` of the canvas, to the examples of an input pipeline.

    Args:
        labels: A label map per image, in the order of positions: uint8 `[height, width]` as `pseudo_label` makes them,
            or one as the bytes of a grey PNG; None for the records' own masks.
    """
    files = None
    if labels is not None:
        # As files they take little memory.
        files = tf.constant([one if isinstance(one, bytes) else encode_grey(one) for one in labels])

    def targets(example: dict[str, tf.Tensor], size: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded = example[keys.MASK] if files is None else tf.gather(files, example[keys.POSITION])
        label_map = tf.io.decode_png(encoded, channels=1)
        shown = render(label_map, example[keys.VIEW], size, canvas, method="nearest", padding=(IGNORE_LABEL,))
        return {keys.SEGMENTATION: shown[..., 0]}

    return targets


if __name__ == "__main__":
    launch(TrainSegSettings, run, "train_seg", "trains DeepLab-LargeFOV on pseudo labels", plan)
