"""Descriptions of networks, from which they are built, and networks with the weights of a stage."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import keras
import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line, first_names
from oaa_tf.command_line.inference_settings import AS_TRAINED, PRECISIONS
from oaa_tf.data.records.keys import MAX_MASK_CLASSES
from oaa_tf.models.affinity import affinity_network
from oaa_tf.models.backbones import find_backbone, is_backbone
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.largefov import largefov_network
from oaa_tf.models.recompute import recomputed
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER, checkpoints_in
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.work_dir import NETWORK_FILE


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """What `network.json` says about a network: enough to build it again.

    Attributes:
        task: "attention" (class-aware network), "affinity" or "segmentation" (DeepLab-LargeFOV).
        classes: Names of the foreground classes.
        image_size: Long side in pixels of the images that the network was trained on.
        width: Channels of the backbone's first convolution.
        backbone: A name that `find_backbone` knows, or that of a network from a file.
        architecture: Of a network from a file, its JSON; otherwise empty.
        trained_in: The precision in which its layers compute in training, one of `PRECISIONS`.
    """

    task: str
    classes: tuple[str, ...]
    image_size: int
    width: int = 64
    backbone: str = "vgg16"
    architecture: str = ""
    trained_in: str = "float32"

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
            initializer: One of `INITIALIZERS`, for all new layers except the last.
            seed: Seed of dropout and attention drop.
            precision: One of `PRECISIONS`, for the computations of all layers except the last. Weights are float32.
            recompute: Whether the backbone saves memory in training, see `recomputed`.
            attention_drop: See `class_aware_network`; attention only.

        Returns:
            The network, and its backbone, which is a layer of the network.
        """
        with _layer_policy(PRECISIONS[precision]):
            kind = find_backbone(self.backbone, self.architecture)
            backbone = kind.build(**({"width": self.width} if kind.has_width else {}))
            if recompute:
                backbone = recomputed(backbone)
            num_classes = len(self.classes)
            if self.task == "attention":
                network = class_aware_network(
                    backbone,
                    num_classes,
                    initializer=initializer,
                    preprocess=kind.preprocess,
                    attention_drop=attention_drop,
                    seed=seed,
                )
            elif self.task == "affinity":
                network, backbone = affinity_network(backbone, initializer=initializer, preprocess=kind.preprocess)
            else:
                network = largefov_network(
                    backbone,
                    num_classes,
                    initializer=initializer,
                    preprocess=kind.preprocess,
                    # DeepLab's 1,024; on EfficientNet-Lite2, half of them are at least as good.
                    channels=16 * self.width if kind.has_width else 512,
                    seed=seed,
                )
        return network, backbone

    def write(self, work_dir: Path) -> None:
        """Writes `network.json`.

        Raises:
            UserError: The folder has the checkpoint of another network.
        """
        if (work_dir / NETWORK_FILE).exists():
            difference = self.read(work_dir).difference(self, [field.name for field in dataclasses.fields(self)])
            if difference:
                raise UserError(f"{work_dir}: its checkpoint has {difference}; use another --work_dir")
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

    def difference(self, other: Self, fields: Sequence[str]) -> str | None:
        """The first of some fields in which this network differs from another, such as "width 64, not 32"."""
        for name in fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                # Class names in a tuple, anything else alone.
                mine, theirs = (first_names(value) if isinstance(value, tuple) else value for value in (mine, theirs))
                return f"{name} {mine}, not {theirs}"
        return None

    def _is_possible(self) -> bool:
        """Whether the values have the right types and are in range; `network.json` may be damaged."""
        return (
            self.task in ("attention", "affinity", "segmentation")
            and isinstance(self.architecture, str)
            and (self.architecture or is_backbone(self.backbone))
            and self.trained_in in PRECISIONS
            and all(isinstance(name, str) for name in self.classes)
            and len(self.classes) > 0
            and (self.task != "segmentation" or len(self.classes) <= MAX_MASK_CLASSES)
            and all(type(size) is int and 0 < size <= 1 << 16 for size in (self.width, self.image_size))
        )


@contextlib.contextmanager
def _layer_policy(name: str) -> Iterator[None]:
    """Gives layers that are created inside the block a dtype policy of Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_network(
    work_dir: str | Path, *, precision: str = "float32"
) -> tuple[NetworkDescription, keras.Model, keras.Model]:
    """Builds the network of a training stage with the weights of its newest checkpoint.

    Args:
        work_dir: The stage's work_dir.
        precision: As in `NetworkDescription.build`, or `AS_TRAINED`.

    Returns:
        Its description, the network, and its backbone, which is a layer of the network.

    Raises:
        UserError: The folder is not that of a training stage, or has no readable checkpoint.
    """
    work_dir = Path(work_dir)
    description = NetworkDescription.read(work_dir)
    checkpoints = checkpoints_in(work_dir)
    if not checkpoints:
        raise UserError(f"{work_dir / CHECKPOINT_FOLDER}: no checkpoint yet; run the training stage first")
    network, backbone = description.build(precision=description.trained_in if precision == AS_TRAINED else precision)
    try:
        checkpoint = tf.train.Checkpoint(network=[weight.value for weight in network.weights])
        checkpoint.read(checkpoints[-1]).assert_existing_objects_matched().expect_partial()
    except Exception as error:  # TensorFlow raises many types of errors for a damaged file.
        # An older checkpoint would be taken for the trained network.
        raise UserError(
            f"{checkpoints[-1]}: cannot be restored ({first_line(error)}); if another version of this program wrote it,"
            f" use that one; else delete {work_dir / 'metrics.json'} and run the training stage again, which goes on"
            " from the checkpoint before"
        ) from None
    return description, network, backbone


def check_common_layers(initial_dir: str, description: NetworkDescription) -> None:
    """Checks that a network can take the weights of another stage.

    Args:
        initial_dir: The work_dir of that stage.
        description: The network.

    Raises:
        UserError: The folder is not that of a training stage, or its network has another backbone or, for the same
            task, other classes.
    """
    initial = NetworkDescription.read(Path(initial_dir))
    same_task = initial.task == description.task
    difference = initial.difference(description, ["backbone", "width", *(["classes"] if same_task else [])])
    if difference:
        raise UserError(
            f"{difference}; start from a stage that has the same", flag="initial_weights", value=initial_dir
        )


def take_common_layers(
    initial_dir: str, description: NetworkDescription, network: keras.Model, backbone: keras.Model
) -> None:
    """Copies weights from another stage: of the whole network for the same task, else of the backbone.

    Args:
        initial_dir: The work_dir of that stage.
        description: The network.
        network: The network, whose weights change.
        backbone: Its backbone.

    Raises:
        UserError: See `check_common_layers` and `load_network`.
    """
    check_common_layers(initial_dir, description)
    initial, initial_network, initial_backbone = load_network(initial_dir)
    if initial.task == description.task:
        network.set_weights(initial_network.get_weights())
    else:
        backbone.set_weights(initial_backbone.get_weights())
