"""Backbones by name: VGG16 and ResNet-101 as in the paper, the networks of Keras, and networks in files."""

import collections
import dataclasses
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from oaa_tf.command_line.errors import UserError, did_you_mean, first_line
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.models.efficientnet_lite import efficientnet_lite2
from oaa_tf.models.output_stride import SplitPhases, at_output_stride
from oaa_tf.models.preprocessing import caffe_preprocessing
from oaa_tf.models.resnet import resnet101_backbone
from oaa_tf.models.vgg import vgg16_backbone

FILE_SUFFIX = ".keras"
"""The suffix of the files that hold a network."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network that the others begin with.

    Attributes:
        title: Its name in messages.
        build: Makes it, from preprocessed images to features with stride 8.
        reference: Makes the network of Keras with the same weights, from `weights` and `include_top`; None for a file.
        preprocess: Turns RGB images in [0, 255] into its input.
        has_width: Whether `build` takes the `width`, the channels of the first convolution.
    """

    title: str
    build: Callable[..., keras.Model]
    reference: Callable[..., keras.Model] | None = None
    preprocess: Callable[[Any], Any] = lambda images: images
    has_width: bool = False


BACKBONES = {
    "vgg16": Backbone("VGG16", vgg16_backbone, keras.applications.VGG16, caffe_preprocessing, has_width=True),
    "resnet101": Backbone(
        "ResNet-101", resnet101_backbone, keras.applications.ResNet101, caffe_preprocessing, has_width=True
    ),
}
"""The paper's backbones; a model's `name` is its key."""

_LITE2 = "EfficientNetLite2"


def is_backbone(name: str) -> bool:
    """Whether there is a backbone of this name."""
    return name in (*BACKBONES, _LITE2) or (name[:1].isupper() and callable(getattr(keras.applications, name, None)))


def find_backbone(name: str, architecture: str = "") -> Backbone:
    """A backbone by its name.

    Args:
        name: One of `BACKBONES`, of the networks in `keras.applications`, or EfficientNetLite2.
        architecture: JSON of a network from a file, which then has any name.

    Raises:
        UserError: There is no such network; `build` raises one if it can't be given stride 8.
    """
    if architecture:
        return Backbone(name, _at_stride(name, lambda: keras.models.model_from_json(architecture)))
    if name in BACKBONES:
        return BACKBONES[name]
    if not is_backbone(name):
        names = [*BACKBONES, _LITE2, *filter(is_backbone, dir(keras.applications))]
        expected = f"expected vgg16, resnet101, {_LITE2}, a network in keras.applications or a {FILE_SUFFIX} file"
        raise UserError(f"no such network; {did_you_mean(name, names, expected)}", flag="backbone", value=name)
    make: Callable[..., keras.Model] = efficientnet_lite2 if name == _LITE2 else getattr(keras.applications, name)
    options = {"weights": None, "include_top": False, "input_shape": (None, None, 3)}
    preprocess = sys.modules[make.__module__].preprocess_input
    return Backbone(name, _at_stride(name, lambda: make(**options)), make, preprocess)


def backbone_in_file(path: str) -> keras.Model:
    """The network in a `.keras` file, from images to its last feature maps: the top of a classifier is cut off.

    Raises:
        UserError: There is no such file, it can't be read, or it holds no functional network.
    """
    if not os.path.isfile(path):
        raise UserError("no such file", flag="backbone", value=path)
    try:
        network = keras.saving.load_model(path, compile=False)
        # Sequences have their layers in a functional network of their own.
        operations = keras.Model(network.inputs, network.outputs).operations
        maps = [one.output for one in operations if len(one.output.shape) == 4 and one.output.shape[1] != 1]
        return keras.Model(network.inputs[0], maps[-1], name=network.name)
    except Exception as error:  # Keras raises many types of errors.
        message = f"no functional network from images to feature maps that Keras can read ({first_line(error)})"
        raise UserError(message, flag="backbone", value=path) from None


def name_in_descriptions(path: str, architecture: str) -> str:
    """The name of a backbone from a file: that of the file, and a checksum of the network's JSON."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(path))
    return f"{plain}-{hashlib.sha256(architecture.encode()).hexdigest()[:8]}"


def _at_stride(name: str, make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        try:
            return at_output_stride(make(), STRIDE, name=name)
        except ValueError as error:
            raise UserError(f"can't be used: {first_line(error)}", flag="backbone", value=name) from None

    return build


def freeze_blocks(backbone: keras.Model, num_blocks: int) -> None:
    """Makes the first blocks untrainable, which also saves their backward pass.

    Args:
        backbone: A backbone. A block of VGG16 ends with a pooling; the blocks of ResNet-101 are its first convolution,
            conv1, and its stages conv2 to conv5; a block of `at_output_stride` has the layers whose images have the
            same size.
        num_blocks: Number of blocks to freeze, 0 to 5.
    """
    for layer in backbone.layers:
        if (block_of(layer) or num_blocks + 1) <= num_blocks:
            layer.trainable = False


def block_of(layer: Any) -> int | None:
    """The number of a backbone's block in which a layer is, from 1 on; None if it is in none."""
    match = re.match(r"(?:block|conv)(\d)_", layer.name)
    return getattr(layer, "block", None) or (int(match[1]) if match else None)


def bottlenecks(network: keras.Model) -> Iterator[tuple[Any, Any, int]]:
    """The operations through whose output everything behind them goes.

    Args:
        network: A functional network with one input.

    Yields:
        The operation, the one that follows, and the number of operations that read its output, in the network's order.
    """
    operations = [one for one in network.operations if not isinstance(one, keras.layers.InputLayer)]
    readers: dict[int, list[int]] = collections.defaultdict(list)
    for position, operation in enumerate(operations):
        for tensor in keras.tree.flatten(operation.input):
            readers[id(tensor)].append(position)
    needed_until = 0
    for position, (operation, following) in enumerate(itertools.pairwise(operations)):
        reading = readers[id(operation.output)]
        # Nothing before it is needed behind it.
        if needed_until <= position:
            yield operation, following, len(reading)
        needed_until = max([needed_until, *reading])


def end_of_block(backbone: keras.Model, block: int) -> Any:
    """The last features of a backbone's first blocks, see `freeze_blocks`; those behind them see nothing else.

    Args:
        backbone: A backbone.
        block: Number of the last of these blocks, from 1 on. Where `at_output_stride` has split features into phases
            before their end, it is the last features before that.
    """
    whole = list(itertools.takewhile(lambda one: not isinstance(one, SplitPhases), backbone.operations))
    end, reached = None, 0
    for operation, _, _ in bottlenecks(backbone):
        number = block_of(operation)
        reached = max(reached, number or 0)
        # What is in no block may only pad.
        if number and reached <= block and operation in whole:
            end = operation.output
    return end
