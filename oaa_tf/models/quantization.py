"""ONNX models in int8: CPUs that multiply integers of 8 bits (VNNI) run them about twice as fast."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError


def quantize_onnx(path: Path, images: Iterable[np.ndarray]) -> None:
    """Rounds the weights and values of a model's convolutions to 8 bits (static quantisation by ONNX Runtime).

    Each channel of a kernel has a scale of its own; each layer's values have the range that they take on the images.
    What comes before and after the network stays in float32.

    Args:
        path: The model, which is replaced.
        images: Images to find the ranges with, uint8 RGB `[height, width, 3]`.

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
            nodes_to_quantize=_layers(onnx.load(prepared).graph),
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


def _layers(graph) -> list[str]:
    """Names of the convolutions and of the activations behind them."""
    weights = {weight.name for weight in graph.initializer}
    # A wide convolution is a sum of matrix products.
    layers = [
        node
        for node in graph.node
        if node.op_type == "Conv" or (node.op_type == "MatMul" and weights.intersection(node.input))
    ]
    outputs = {name for node in layers for name in node.output}
    # Without its activation, a layer's values have a wider range, of which each of the 256 steps is wider, too.
    layers += [node for node in graph.node if node.op_type in ("Clip", "Relu") and node.input[0] in outputs]
    return [node.name for node in layers]


class _Images:
    """Hands images to ONNX Runtime one by one."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image[np.newaxis]}
