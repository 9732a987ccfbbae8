"""The functions of an exported network, whatever format it has."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.runs.parallel import num_cores

SAVED_MODEL, ONNX, LITERT = MODEL_FILES = ("saved_model.pb", "model.onnx", "model.tflite")
"""The file of an export by which its format is known."""

Signature = Callable[[np.ndarray], np.ndarray]
"""From images, uint8 RGB `[batch, height, width, 3]`, to an output. Raises a `RuntimeError` if the model fails."""

_OUTPUTS = {"segment": "mask", "probabilities": "probabilities", "attention": "attention"}
"""The output that counts, by signature."""


def load_signatures(folder: Path) -> dict[str, Signature]:
    """The functions of an exported model by the names of their signatures; ONNX and LiteRT files have one of them.

    Raises:
        UserError: A package is missing.
        Exception: The model is damaged, or not one of `oaa_tf.export`; every format has errors of its own.
    """
    if (folder / ONNX).exists():
        return _of_onnx(folder / ONNX)
    if (folder / LITERT).exists():
        return _of_litert(folder / LITERT)
    return _of_saved_model(folder)


def _of_saved_model(folder: Path) -> dict[str, Signature]:
    model: Any = tf.saved_model.load(str(folder))
    if segment := model.signatures.get("segment"):
        inputs = segment.structured_input_signature[1]
        takes_images = inputs.keys() == {"images"} and inputs["images"].dtype == tf.uint8
        if not takes_images or "mask" not in segment.structured_outputs:
            raise ValueError("its signature segment is not from uint8 images to a mask")

    def run(name: str, images: np.ndarray) -> np.ndarray:
        try:
            # A signature alone does not keep the weights alive.
            return model.signatures[name](images=tf.constant(images))[_OUTPUTS[name]].numpy()
        except tf.errors.OpError as error:
            raise RuntimeError(first_line(error)) from None

    return {name: functools.partial(run, name) for name in model.signatures if name in _OUTPUTS}


def _of_onnx(path: Path) -> dict[str, Signature]:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("needs onnxruntime: pip install onnxruntime", flag="model", value=path) from None

    session = onnxruntime.InferenceSession(path)
    outputs = {output.name for output in session.get_outputs()}

    def run(output: str, images: np.ndarray) -> np.ndarray:
        try:
            return session.run([output], {"images": images})[0]
        except Exception as error:  # Its exceptions have no base of their own.
            raise RuntimeError(first_line(error)) from None

    return {name: functools.partial(run, output) for name, output in _OUTPUTS.items() if output in outputs}


def _of_litert(path: Path) -> dict[str, Signature]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError("needs ai-edge-litert: pip install ai-edge-litert", flag="model", value=path) from None

    interpreter = Interpreter(str(path), num_threads=num_cores())
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}

    def run(name: str, images: np.ndarray) -> np.ndarray:
        try:
            return runners[name](images=images)[_OUTPUTS[name]]
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(first_line(error)) from None

    return {name: functools.partial(run, name) for name in runners}
