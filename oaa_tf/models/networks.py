"""Networks by description: what a work_dir says about its network, and the network itself with its weights."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import keras
import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.models.backbones import BACKBONES
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.inference_settings import PRECISIONS
from oaa_tf.models.largefov import largefov_network
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER, checkpoints_in
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.work_dir import NETWORK_FILE

_TASKS = ("attention", "segmentation")
_LARGEST = 1 << 16


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """All that is needed to build a network again.

    Attributes:
        task: "attention" (class-aware network) or "segmentation" (DeepLab-LargeFOV).
        classes: Names of the foreground classes.
        image_size: Long side in pixels of the images that the network was trained on.
        width: Channels of the backbone's first convolution.
        backbone: One of `BACKBONES`.
    """

    task: str
    classes: tuple[str, ...]
    image_size: int
    width: int = 64
    backbone: str = "vgg16"

    def build(
        self,
        *,
        initializer: str = "gaussian",
        seed: int = 0,
        precision: str = "float32",
        recompute: bool = False,
        attention_drop: float = 0.0,
    ) -> tuple[keras.Model, keras.Model]:
        """Builds the network.

        Args:
            initializer: One of `INITIALIZERS`, for the new layers but the last.
            seed: Seed of dropout and attention drop.
            precision: One of `PRECISIONS`, in which all layers but the last compute. Weights are float32.
            recompute: Whether the backbone saves memory in training, see `vgg16_backbone`; for VGG16 only.
            attention_drop: See `class_aware_network`; for attention only.

        Returns:
            The network and, inside it, its backbone.
        """
        with _layer_policy(PRECISIONS[precision]):
            options = {"recompute": True} if recompute else {}
            backbone = BACKBONES[self.backbone].build(self.width, **options)
            num_classes = len(self.classes)
            if self.task == "attention":
                network = class_aware_network(
                    backbone, num_classes, initializer=initializer, attention_drop=attention_drop, seed=seed
                )
                return network, backbone
            channels = 16 * self.width
            return largefov_network(
                backbone, num_classes, initializer=initializer, channels=channels, seed=seed
            ), backbone

    def write(self, work_dir: Path) -> None:
        """Writes `network.json`.

        Raises:
            UserError: The folder holds another network.
        """
        if (work_dir / NETWORK_FILE).exists():
            before = self.read(work_dir)
            for field in dataclasses.fields(self):
                old, new = getattr(before, field.name), getattr(self, field.name)
                if old != new:
                    raise UserError(
                        f"{work_dir}: its checkpoint has {field.name} {_shown(old)}, not {_shown(new)};"
                        " use another --work_dir"
                    )
        write_json(work_dir / NETWORK_FILE, self)

    @classmethod
    def read(cls, work_dir: Path) -> Self:
        """Reads `network.json`.

        Raises:
            UserError: It is missing or damaged.
        """
        path = work_dir / NETWORK_FILE
        try:
            values = read_json(path)
            description = cls(**{**values, "classes": tuple(values["classes"])})
            if not description._is_possible():
                raise ValueError(description)
            return description
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; expected the work_dir of a training stage") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: damaged; expected the work_dir of a training stage") from None

    def _is_possible(self) -> bool:
        """Whether a network of this description can be built."""
        sizes = (self.width, self.image_size)
        return (
            self.task in _TASKS
            and self.backbone in BACKBONES
            and all(isinstance(name, str) for name in self.classes)
            and 0 < len(self.classes) < IGNORE_LABEL
            and all(type(size) is int and 0 < size <= _LARGEST for size in sizes)
        )


@contextlib.contextmanager
def _layer_policy(name: str) -> Iterator[None]:
    """Layers that are made inside the block have this Keras dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def load_network(
    work_dir: str | Path, *, precision: str = "float32"
) -> tuple[NetworkDescription, keras.Model, keras.Model]:
    """Builds the network of a training stage with the weights of its newest checkpoint.

    Args:
        work_dir: The stage's work_dir.
        precision: As in `NetworkDescription.build`.

    Returns:
        Its description, the network and, inside it, its backbone.

    Raises:
        UserError: The folder is no training stage's, or has no readable checkpoint.
    """
    work_dir = Path(work_dir)
    description = NetworkDescription.read(work_dir)
    checkpoints = checkpoints_in(work_dir)
    if not checkpoints:
        raise UserError(f"{work_dir / CHECKPOINT_FOLDER}: no checkpoint yet; run the training stage first")
    network, backbone = description.build(precision=precision)
    try:
        checkpoint = tf.train.Checkpoint(network=[weight.value for weight in network.weights])
        checkpoint.read(checkpoints[-1]).assert_existing_objects_matched().expect_partial()
    except Exception as error:  # TensorFlow raises many types for the ways in which a file can be wrong.
        # An older one would pass for the trained network.
        raise UserError(
            f"{checkpoints[-1]}: cannot be restored ({first_line(error)}); delete {work_dir / 'metrics.json'} and run"
            " the training stage again, which goes on from the checkpoint before"
        ) from None
    return description, network, backbone


def check_common_layers(initial_dir: str, description: NetworkDescription) -> None:
    """Refuses another stage's weights if its layers are of other sizes.

    Raises:
        UserError: It is no training stage's folder, or has another backbone or, for the same task, other
            classes.
    """
    initial = NetworkDescription.read(Path(initial_dir))
    names = ["backbone", "width", *(["classes"] if initial.task == description.task else [])]
    for name in names:
        theirs, ours = getattr(initial, name), getattr(description, name)
        if theirs != ours:
            raise UserError(
                f"{name} {_shown(theirs)}, not {_shown(ours)}; start from a stage that has the same",
                flag="initial_weights",
                value=initial_dir,
            )


def take_common_layers(initial_dir: str, description: NetworkDescription, network, backbone) -> None:
    """Starts a network from the weights of another stage: all of it for the same task, else the backbone.

    Raises:
        UserError: See `check_common_layers` and `load_network`.
    """
    check_common_layers(initial_dir, description)
    initial, initial_network, initial_backbone = load_network(initial_dir)
    if initial.task == description.task:
        network.set_weights(initial_network.get_weights())
    else:
        backbone.set_weights(initial_backbone.get_weights())
