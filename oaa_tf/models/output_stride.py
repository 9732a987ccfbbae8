"""Any convolutional network of Keras at a finer output stride, with the weights that it has."""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.models.convolution import Convolution, ScaledDepthwiseConvolution
from oaa_tf.models.optimizer import layers_with_weights

_SIZE = 512
"""Pixels of the image on which strides are measured."""

_LEFT_OUT = ("Dropout", "SpatialDropout2D", "StochasticDepth", "GaussianNoise", "GaussianDropout", "AlphaDropout")
"""Layers that are left out, with those named Random: views are augmented already, and draws would be a state."""

_IN_FLOAT32 = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.DepthwiseConv2D)
"""Layers that compute in float32: 16 bits hold too little of a pixel, and CPUs are slow at 16-bit depthwise kernels."""


def at_output_stride(network: keras.Model, output_stride: int, *, name: str | None = None) -> keras.Model:
    """Copies a network so that it ends with a smaller stride; `copy_weights` gives it weights.

    Where a layer would go beyond the stride, it does not skip anything. Its output is split into phases instead: every
    second row and column, which makes four small images of one. The rest of the network sees each of them by itself,
    and its features are woven together in the end. So every n-th row and column of the features is what the network
    itself gives. Dilated convolutions compute the same (DeepLab, Chen et al., ICLR 2015); but this works for layers of
    any kind, and convolutions stay dense. Layers that look at a whole image, such as those of squeeze
    and excitation, look at a phase.

    Networks differ in where their cells are, since strided layers pad on one side or on both. Here a cell (row, column)
    is centred on the pixel `output_stride * (row + 1/2) - 1/2`, to half a pixel: images and phases are shifted.

    Batch normalisation is frozen, as DeepLab's is, since batches are too small for good statistics. Behind a
    convolution it becomes part of that: a scale of its kernel, and a frozen bias. Dropout is left out.

    Args:
        network: A functional network from RGB images `[batch, height, width, 3]` to features.
        output_stride: Pixels of an image per cell of the features, 8 or 16.
        name: Name of the copy; by default that of the network.

    Returns:
        A network from images, whose height and width are multiples of the stride, to features `[batch, height /
        output_stride, width / output_stride, channels]`. Its layers have the names of the originals. Their attribute
        `block` counts sizes: layers of block n + 1 see images of half the size of block n.

    Raises:
        ValueError: The network has a smaller stride itself, one that is no power of two, or loses cells at the border.
    """
    sized_images = keras.tree.map_structure(lambda _: keras.Input((_SIZE, _SIZE, 3), name="images"), network.input)
    sized = keras.models.clone_model(network, input_tensors=sized_images, clone_function=_flat_copy)
    _check(sized, output_stride)
    strided = _strided_layers(sized.operations)
    normalizations = _normalizations(sized)
    split = {name: layer for name, layer in strided.items() if layer.stride_out > output_stride}
    factors = {layer.stride_in: layer.stride for layer in split.values()}
    # How far the middle of a cell's field of view is from the middle of the cell, in pixels: one layer of each stride.
    largest = {layer.stride_in: layer for layer in sorted(strided.values(), key=lambda layer: layer.kernel)}
    off_center = sum(layer.off_center for layer in largest.values()) - (output_stride - 1) / 2
    cells = min(max(round(off_center / output_stride), 0), math.prod(factors.values()) - 1)
    pixels = math.trunc(off_center - cells * output_stride)

    shift = ShiftImages(pixels, name="centered_images")
    block = 1

    def copied(layer: Any, **changes: Any) -> Any:
        nonlocal block
        shape: tuple[int, ...] = getattr(layer.input, "shape", ())
        # Layers behind a mean over the image, and those that join several, belong to the block before.
        if len(shape) == 4 and shape[1] > 1:
            block = round(math.log2(_SIZE / shape[1])) + 1
        copy = _copied(layer, has_normalization=layer.name in normalizations, **changes)
        copy.block, copy.normalization = block, normalizations.get(layer.name, "")
        return copy

    def copy_of(layer: Any) -> Callable:
        parts = [shift] if layer.input is sized.inputs[0] else []
        kind = type(layer).__name__
        is_left_out = kind in _LEFT_OUT or kind.startswith("Random") or layer.name in normalizations.values()
        if is_left_out or any(layer.output is here.padded for here in split.values()):
            return _chain(parts)
        if layer.name not in split:
            return _chain([*parts, copied(layer)])
        here = split[layer.name]
        before = here.padding + cells // (here.stride_in // output_stride) % here.stride
        after = here.kernel - 1 - before
        parts.append(keras.layers.ZeroPadding2D(((before, max(after, 0)),) * 2, name=f"{layer.name}_padded"))
        if after < 0:
            parts.append(keras.layers.Cropping2D(((0, -after),) * 2, name=f"{layer.name}_cropped"))
        parts += [
            copied(layer, strides=1, padding="valid"),
            SplitPhases(here.stride, name=f"{layer.name}_phases"),
        ]
        return _chain(parts)

    copy = keras.models.clone_model(
        sized,
        input_tensors=keras.tree.map_structure(lambda _: keras.Input((None, None, 3), name="images"), sized.input),
        clone_function=copy_of,
    )
    woven = WeavePhases([factors[stride] for stride in sorted(factors)], output_stride, name="woven")
    for layer in layers_with_weights(copy):
        if layer.normalization:
            layer.bias.trainable = False
    return keras.Model(copy.inputs[0], woven([copy.outputs[0], copy.inputs[0]]), name=name or network.name)


def copy_weights(network: keras.Model, copy: keras.Model) -> None:
    """Gives a copy from `at_output_stride` the weights of the network.

    Raises:
        ValueError: The network has other layers, or layers of other sizes.
    """
    originals = {layer.name: layer for layer in layers_with_weights(network)}
    for layer in layers_with_weights(copy):
        values = originals[layer.name].get_weights()
        if layer.normalization:
            normalization = originals[layer.normalization]
            scale = np.sqrt(np.asarray(normalization.moving_variance) + normalization.epsilon)
            scale = (1.0 if normalization.gamma is None else np.asarray(normalization.gamma)) / scale
            bias = values[1] if len(values) > 1 else 0.0
            offset = 0.0 if normalization.beta is None else np.asarray(normalization.beta)
            layer.scale.assign(scale)
            layer.kernel.assign(values[0])
            layer.bias.assign((bias - np.asarray(normalization.moving_mean)) * scale + offset)
        else:
            layer.set_weights(values)


def _normalizations(sized: keras.Model) -> dict[str, str]:
    """The batch normalisations that convolutions can take over, by the names of the convolutions."""
    users = collections.Counter(id(tensor) for one in sized.operations for tensor in keras.tree.flatten(one.input))
    convolutions = {
        id(layer.output): layer
        for layer in sized.operations
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and getattr(layer, "depth_multiplier", 1) == 1
    }
    return {
        convolutions[id(layer.input)].name: layer.name
        for layer in sized.operations
        if isinstance(layer, keras.layers.BatchNormalization)
        and id(layer.input) in convolutions
        and users[id(layer.input)] == 1
    }


@dataclasses.dataclass(frozen=True)
class _Strided:
    """A layer with a stride.

    Attributes:
        kernel: Rows of its kernel or window.
        stride: Its stride.
        padding: Rows that it or the layer before it adds above.
        stride_in: Pixels of an image per row of its input.
        padded: Its input, if a layer of its own has padded that.
    """

    kernel: int
    stride: int
    padding: int
    stride_in: int
    padded: Any = None

    @property
    def stride_out(self) -> int:
        """Pixels of an image per row of its output."""
        return self.stride_in * self.stride

    @property
    def off_center(self) -> float:
        """By how many pixels it moves the middle of the field of view, against the middle of the first row."""
        return self.stride_in * ((self.kernel - 1) / 2 - self.padding)


def _strided_layers(layers: Sequence[Any]) -> dict[str, _Strided]:
    paddings = {id(layer.output): layer for layer in layers if isinstance(layer, keras.layers.ZeroPadding2D)}
    strided = {}
    for layer in layers:
        stride = _stride(layer)
        if stride == 1:
            continue
        kernel = (layer.pool_size if hasattr(layer, "pool_size") else layer.kernel_size)[0]
        before = paddings.get(id(layer.input))
        # TensorFlow pads even sizes less above than below.
        padding = max(kernel - stride, 0) // 2 if layer.padding == "same" else 0
        unpadded = layer.input if before is None else before.input
        strided[layer.name] = _Strided(
            kernel=kernel,
            stride=stride,
            padding=padding if before is None else before.padding[0][0],
            stride_in=_SIZE // unpadded.shape[1],
            padded=None if before is None else layer.input,
        )
    return strided


def _stride(layer: Any) -> int:
    strides = getattr(layer, "strides", 1)
    return strides[0] if isinstance(strides, tuple | list) else strides


def _check(sized: keras.Model, output_stride: int) -> None:
    for layer in sized.operations:
        shape = layer.output.shape
        if isinstance(layer, keras.layers.ZeroPadding2D) or len(shape) != 4 or shape[1] == 1:
            continue
        stride, rest = divmod(_SIZE, shape[1])
        if rest or stride & (stride - 1):
            raise ValueError(f"its layer {layer.name} makes {shape[1]} rows of an image of {_SIZE}: it loses cells")
    if stride < output_stride:
        raise ValueError(f"its stride is {stride}; expected at least {output_stride}")


def _flat_copy(layer: Any) -> Callable:
    """A copy of a layer; of a network inside the network, copies of its layers."""
    if isinstance(layer, keras.Sequential):
        return _chain([_flat_copy(inner) for inner in layer.layers])
    if not isinstance(layer, keras.Model):
        return _copied(layer)

    def run(x, **_):
        outputs = []

        def call(copy, *args, **kwargs):
            outputs.append(copy(*args, **kwargs))
            return outputs[-1]

        keras.models.clone_model(layer, input_tensors=x, clone_function=_flat_copy, call_function=call)
        # The model that Keras makes has nodes of its own; these here belong to the network around it.
        return outputs[-1]

    return run


def _chain(parts: Sequence[Callable]) -> Callable:
    if len(parts) == 1:
        return parts[0]

    def run(x, **_):
        for part in parts:
            x = part(x)
        return x

    return run


def _copied(layer: Any, *, has_normalization: bool = False, **changes: Any) -> Any:
    """A new layer with the same configuration, in the current dtype policy; with a normalisation, one that scales."""
    config = layer.get_config() | changes
    if not isinstance(layer, keras.Layer):
        return type(layer).from_config(config)
    kind = Convolution if type(layer) is keras.layers.Conv2D else type(layer)
    if has_normalization:
        config["use_bias"] = True
        if issubclass(kind, keras.layers.Conv2D):
            kind, config["scaled"] = Convolution, True
        else:
            kind = ScaledDepthwiseConvolution
    config["dtype"] = "float32" if isinstance(layer, _IN_FLOAT32) else keras.config.dtype_policy()
    copy = kind.from_config(config)
    if isinstance(copy, keras.layers.BatchNormalization):
        copy.trainable = False
    return copy


@keras.saving.register_keras_serializable(package="oaa_tf")
class ShiftImages(keras.layers.Layer):
    """Moves images down and to the right by some pixels, or up and to the left if negative; borders are mirrored."""

    def __init__(self, pixels: int, **kwargs) -> None:
        """Configures the layer."""
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.pixels = pixels

    def call(self, images):
        """Returns the images, `[batch, height, width, 3]`."""
        before, after = max(self.pixels, 0), max(-self.pixels, 0)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        padded = tf.pad(images, [[0, 0], [before, after], [before, after], [0, 0]], mode="SYMMETRIC")
        return padded[:, after : after + height, after : after + width]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"pixels": self.pixels}


@keras.saving.register_keras_serializable(package="oaa_tf")
class SplitPhases(keras.layers.Layer):
    """Every n-th row and column as an image of its own.

    `[batch, height, width, channels]` to `[n * n * batch, height / n, width / n, channels]`, rounded up with zeros; the
    phases of the first row and column come first.
    """

    def __init__(self, factor: int, **kwargs) -> None:
        """Configures the layer."""
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, features):
        """Returns the phases."""
        n = self.factor
        batch, height, width, _ = tf.unstack(tf.shape(features))
        # Not the negative of a negative quotient, which ONNX rounds up.
        rows, columns = (height + n - 1) // n, (width + n - 1) // n
        padded = tf.pad(features, [[0, 0], [0, rows * n - height], [0, columns * n - width], [0, 0]])
        phases = tf.transpose(tf.reshape(padded, [batch, rows, n, columns, n, -1]), [2, 4, 0, 1, 3, 5])
        return tf.reshape(phases, [n * n * batch, rows, columns, features.shape[-1]])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"factor": self.factor}


@keras.saving.register_keras_serializable(package="oaa_tf")
class WeavePhases(keras.layers.Layer):
    """The inverse of several `SplitPhases`, without the zeros."""

    def __init__(self, factors: Sequence[int], stride: int, **kwargs) -> None:
        """Configures the layer: the factors of the splits, in their order, and the pixels per cell of the result."""
        super().__init__(**kwargs)
        self.factors = list(factors)
        self.stride = stride

    def call(self, inputs):
        """Takes phases and images; returns features `[batch, height / stride, width / stride, channels]`."""
        features, images = inputs
        channels = features.shape[-1]
        for n in reversed(self.factors):
            batch, rows, columns, _ = tf.unstack(tf.shape(features))
            phases = tf.reshape(features, [n, n, batch // (n * n), rows, columns, channels])
            features = tf.reshape(tf.transpose(phases, [2, 3, 0, 4, 1, 5]), [-1, n * rows, n * columns, channels])
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        return features[:, : height // self.stride, : width // self.stride]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"factors": self.factors, "stride": self.stride}
