"""ONNX models in int8: CPUs that multiply integers of 8 bits (VNNI) run them about twice as fast."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError

_RGB = 3


def quantize_onnx(path: Path, images: Iterable[np.ndarray], num_channels: int) -> None:
    """Rounds the weights and values of a model's convolutions to 8 bits (static quantisation by ONNX Runtime).

    Each channel of a kernel has a scale of its own; each layer's values have the range that they take on the images.
    The first convolution and the last one stay in float32, as does what comes before and after the network: to round
    pixels and scores costs most.

    Args:
        path: The model, which is replaced.
        images: Images to find the ranges with, uint8 RGB `[height, width, 3]`.
        num_channels: Number of the network's scores at each cell.

    Raises:
        UserError: onnxruntime is not installed.
    """
    import onnx

    quantization = import_quantization()
    prepared = path.with_suffix(".prepared.onnx")
    # Its advice on models and operations is not the user's to follow.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            _Images(images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=_inner_layers(onnx.load(prepared).graph, num_channels),
        )
    finally:
        logging.disable(before)
        prepared.unlink(missing_ok=True)


def import_quantization():
    """The part of ONNX Runtime that quantises.

    Raises:
        UserError: It is not installed.
    """
    try:
        from onnxruntime import quantization
    except ImportError:
        raise UserError("--precision=int8 needs onnxruntime: pip install onnxruntime") from None
    return quantization


def _inner_layers(graph, num_channels: int) -> list[str]:
    """Names of the convolutions but the first and the last, and of the activations behind them."""
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    inner = []
    for node in graph.node:
        kernels = [shapes[name] for name in node.input if name in shapes]
        # A wide convolution is a sum of matrix products. With several views, each has its own nodes.
        if (node.op_type == "Conv" and kernels[0][0] != num_channels and kernels[0][1] != _RGB) or (
            node.op_type == "MatMul" and kernels
        ):
            inner.append(node)
    outputs = {name for node in inner for name in node.output}
    # With its convolution an activation costs nothing; alone, two conversions.
    inner += [node for node in graph.node if node.op_type in ("Clip", "Relu") and node.input[0] in outputs]
    return [node.name for node in inner]


class _Images:
    """Hands images to ONNX Runtime one by one."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image[np.newaxis]}
