"""The settings that the training stages share."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import AUTO, precision_setting
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.runs.metrics_file import read_training_metrics
from oaa_tf.runs.supervision import strongest_supervision

if TYPE_CHECKING:
    import keras

TRAININGS = ("train_cls", "train_integral", "train_affinity", "train_seg")
"""The commands that train a network."""

PAPER_BACKBONES = ("vgg16", "resnet101")
"""The backbones that this project builds itself, in any width."""

LARGEST_SEED = 2**32 - 1
"""The largest seed that TensorFlow takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(Settings, group="data"):
    """The training images and their augmentation."""

    records: str = setting(help="Manifest of the training records, from make_records (<split>.json).")
    image_size: int = setting(304, help="Long side of the resized images in pixels.", minimum=16)
    flip: bool = setting(True, help="Mirror half of the training images.")
    min_scale: float = setting(1.0, help="Smallest scale of the training images.", minimum=0.1)
    max_scale: float = setting(1.0, help="Largest scale of the training images.", maximum=10.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings, group="network"):
    """The network, its initial weights and its arithmetic."""

    backbone: str = setting(
        "vgg16",
        help="The network that the others begin with: vgg16, resnet101, EfficientNetLite2, a network in"
        " keras.applications by its name, such as EfficientNetV2B0, or a .keras file.",
    )
    width: int = setting(
        64, help="Channels of the first convolution of vgg16 and resnet101; 64 in the real networks.", minimum=1
    )
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of one of Keras' h5 files.")
    initial_weights: str = setting("", help="work_dir of a trained stage to start from.")
    initializer: str = setting(
        "gaussian", help="Initializer of the new layers except the last.", choices=("gaussian", "he", "centered_he")
    )
    freeze_blocks: int = setting(
        0,
        help="Number of lower blocks that are not trained: VGG16's, conv1 and conv2 to conv5 of ResNet-101, or, in"
        " other networks, the layers between two strides.",
        minimum=0,
        maximum=5,
    )
    precision: str = precision_setting(AUTO)
    deterministic: bool = setting(
        False,
        help="GPUs too compute the same bits in every run, at some cost in speed; CPUs always do.",
        may_change=True,
    )
    devices: str = setting("", help="Numbers of the GPUs to use, such as 0,2; all by default.", may_change=True)
    recompute: bool = setting(
        False, help="Compute the backbone's activations again in the backward pass: less memory, the same updates."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisationSettings(Settings, group="optimisation"):
    """The number and size of training steps."""

    num_steps: int = setting(
        0, help="Steps of training; with num_epochs, the longer of both counts; without both, the paper's.", minimum=0
    )
    num_epochs: float = setting(
        0.0, help="Passes over the images; with num_steps, the longer of both.", minimum=0, maximum=1e6
    )
    batch_size: int = setting(5, help="Images per step.", minimum=1)
    accumulate_steps: int = setting(
        1,
        help="Parts of a batch that are computed one after the other: less memory, the same updates but for dropout.",
        minimum=1,
    )
    optimizer: str = setting(
        "sgd", help="sgd as in the paper, or adamw, whose learning rates are lower.", choices=("sgd", "adamw")
    )
    learning_rate: float = setting(1e-3, help="Initial learning rate.", minimum=0)
    new_layer_multiplier: float = setting(10.0, help="Learning-rate multiplier of the new layers.", minimum=0)
    momentum: float = setting(0.9, help="Momentum of sgd.", minimum=0.01, maximum=0.999)
    weight_decay: float = setting(2e-4, help="Weight decay of kernels; biases and normalisations have none.", minimum=0)
    clip_norm: float = setting(0.0, help="Global norm to which gradients are clipped; 0: no clipping.", minimum=0)
    seed: int = setting(0, help="Seed of initial weights, order and augmentation.", minimum=0, maximum=LARGEST_SEED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BookkeepingSettings(Settings, group="output"):
    """Where a run is kept, and how often it writes checkpoints, logs and pictures."""

    work_dir: str = setting(help="Folder for checkpoints, logs and results; run again in it to resume.")
    checkpoint_every: int = setting(500, help="Steps between checkpoints.", minimum=1, may_change=True)
    log_every: int = setting(20, help="Steps between log entries.", minimum=1)
    num_pictures: int = setting(
        6,
        help="Training images shown in TensorBoard; the report replays those of the classifier.",
        minimum=0,
        may_change=True,
    )
    num_measured: int = setting(
        20,
        help="Training images on which results are measured for TensorBoard, if they have masks; 0: none.",
        minimum=0,
        may_change=True,
    )
    pictures_every: int = setting(500, help="Steps between pictures and measurements.", minimum=1, may_change=True)


# A dataclass has the fields of its last base first.
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings(BookkeepingSettings, OptimisationSettings, NetworkSettings, DataSettings):
    """All settings that every training stage has."""

    task: ClassVar[str] = "attention"
    """What the network is for; see `NetworkDescription`."""
    paper_steps: ClassVar[int] = 30_000
    """Steps of the paper's training."""

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.image_size % STRIDE:
            raise UserError(f"expected a multiple of {STRIDE}", flag="image_size", value=self.image_size)
        if self.backbone not in PAPER_BACKBONES and self.width != 64:
            raise UserError("has no --width; leave that out", flag="backbone", value=self.backbone)
        if self.batch_size % self.accumulate_steps:
            raise UserError(
                f"expected a divisor of --batch_size={self.batch_size}",
                flag="accumulate_steps",
                value=self.accumulate_steps,
            )
        if self.min_scale > self.max_scale:
            raise UserError(f"expected at most --max_scale={self.max_scale}", flag="min_scale", value=self.min_scale)

    def check_backbone_weights(self) -> None:
        """Refuses weights for a backbone from a file; in a pipeline, only the stage that runs knows its weights.

        Raises:
            UserError: The file has weights of its own.
        """
        if self.backbone.endswith(".keras") and self.backbone_weights not in ("imagenet", "none"):
            raise UserError(
                f"has its own weights; leave --backbone_weights={self.backbone_weights} out",
                flag="backbone",
                value=self.backbone,
            )

    def steps_for(self, num_images: int) -> int:
        """The steps of a training on records of so many images."""
        steps_of_epochs = math.ceil(self.num_epochs * num_images / self.batch_size)
        return max(self.num_steps, steps_of_epochs) or self.paper_steps

    def schedule(self, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """The learning rate in the course of a training of so many steps."""
        raise NotImplementedError

    @property
    def head_weights(self) -> str:
        """Pretrained weights of the layers behind the backbone; only the segmentation network can have some."""
        return "none"

    @property
    def teacher_after(self) -> float:
        """Share of the training after which a mean teacher labels the images; only segmentation can have one."""
        return 1.0

    @property
    def attention_drop(self) -> float:
        """Rate of the attention drop layer; only the classifier has one."""
        return 0.0

    def supervision_with_initial_weights(self, supervision: str) -> str:
        """The stronger of a stage's own supervision and that of its initial weights.

        Args:
            supervision: That of the stage's own labels, maps or masks, one of `SUPERVISIONS`.

        Raises:
            UserError: The initial weights do not come from a finished training.
        """
        if not self.initial_weights:
            return supervision
        stage_dir = Path(self.initial_weights)
        metrics = read_training_metrics(stage_dir)
        if metrics is None:
            from oaa_tf.models.networks import NetworkDescription

            # If the folder is not a training stage's at all, say that first.
            NetworkDescription.read(stage_dir)
            raise UserError(f"{stage_dir}: its training has not come to its end; run that stage again to finish it")
        return strongest_supervision(supervision, metrics["supervision"])

    @property
    def inference_size(self) -> int:
        """Long side in pixels to which whole images are resized for inference."""
        return self.image_size

    @property
    def views(self) -> ViewOptions:
        """The augmentation."""
        return ViewOptions(self.image_size, flip=self.flip, min_scale=self.min_scale, max_scale=self.max_scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTrainingSettings(TrainingSettings, group="attention"):
    """Shared by classifier and integral attention model: the step schedule (paper, Sec. 4.1) and the maps."""

    map_scales: tuple[float, ...] = setting(
        (1.0,),
        help="Sizes at which the trained network sees an image for its maps, which are averaged.",
        minimum=0.1,
        maximum=4.0,
    )
    map_flip: bool = setting(False, help="Also average over mirrored views of every image.")
    divide_at: float = setting(
        0.66667,
        help="Share of the training after which the learning rate is a tenth; 1: never.",
        minimum=0,
        maximum=1,
    )

    @property
    def map_options(self) -> dict[str, Any]:
        """Options of `extract_attention`."""
        return {"batch_size": self.batch_size, "scales": self.map_scales, "flip": self.map_flip}

    def schedule(self, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
        """A tenth of `learning_rate` after the share `divide_at` of the steps."""
        import keras

        # Keras switches behind the boundary; step numbers count from 0.
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(self.divide_at * num_steps) - 1], [self.learning_rate, self.learning_rate / 10]
        )
