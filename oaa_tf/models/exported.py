"""Writes a network for use elsewhere: as a SavedModel, Keras file, ONNX or LiteRT."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.data.views.view_options import whole_views
from oaa_tf.models.inference import IMAGES_SIGNATURE, attention_functions, segmentation_functions, serving_function
from oaa_tf.models.quantization import quantize_onnx
from oaa_tf.models.segmenter import CLASSES_FILE, ORIGIN_FILE, file_checksums
from oaa_tf.models.signatures import LITERT, ONNX
from oaa_tf.runs.atomic import replace_folder, sync


def export_network(
    network: keras.Model,
    output_dir: str | os.PathLike,
    *,
    classes: Sequence[str],
    image_size: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    class_prior: bool = False,
    format: str = "saved_model",
    calibration: Iterable[np.ndarray] | None = None,
    float16_weights: bool = False,
    supervision: str | None = None,
    seed: int | None = None,
    records_checksum: str | None = None,
    checkpoint_checksum: str | None = None,
) -> str:
    """Writes a network, whole or not at all; an earlier export stays until the new one takes its place.

        export_network(model.network, "segment", classes=records.classes, image_size=500)
        segmenter = Segmenter("segment")

    Args:
        network: From `class_aware_network` or `largefov_network`, or any network with one channel per class, or one
            more for the background.
        output_dir: Folder to write; it must not exist, or be an earlier export.
        classes: Names of the classes.
        image_size: Long side in pixels to which images are resized.
        scales: Sizes of the views that the network sees of an image, relative to `image_size`; their mean counts.
        flip: Whether the network also sees every view mirrored.
        class_prior: For a segmentation network: whether to apply `oaa_tf.models.inference.under_class_prior` to its
            probabilities.
        format: "saved_model", "keras", "onnx" or "litert".
        calibration: For format "onnx": images, uint8 RGB `[height, width, 3]`, for a model in int8.
        float16_weights: For format "litert": whether to store weights in float16.
        supervision: For `origin.json`: one of `oaa_tf.runs.supervision.SUPERVISIONS`.
        seed: For `origin.json`: the seed of the training.
        records_checksum: For `origin.json`: the checksum of the training records.
        checkpoint_checksum: For `origin.json`: the checksum of the checkpoint.

    Returns:
        The name of the signature, "attention" or "segment".

    Raises:
        ValueError: An unknown format; the network has another number of channels; `format` is "keras", the bare
            network, with several views or a class prior; a class-aware network has a class prior; or `calibration` or
            `float16_weights` is for another format.
        UserError: A package is missing, or the output can't be written or is something else.
    """
    num_channels, possible = network.output_shape[-1], (len(classes), len(classes) + 1)
    if num_channels not in possible:
        expected = " or ".join(map(str, possible))
        raise ValueError(f"a network of {num_channels} channels, for {len(classes)} classes: expected {expected}")
    if format == "keras" and (class_prior or whole_views(scales, flip) != [(1.0, False)]):
        raise ValueError(
            f"format 'keras' is the bare network, which sees one view: scales {scales}, flip {flip}, class_prior"
            f" {class_prior}"
        )
    if (calibration is not None and format != "onnx") or (float16_weights and format != "litert"):
        raise ValueError(f"format {format!r}: calibration is for onnx, float16_weights for litert")
    inference: dict[str, Any] = {"image_size": image_size, "scales": list(scales), "flip": flip}
    portable = format in ("onnx", "litert")
    if num_channels > len(classes):
        inference["class_prior"] = class_prior
        functions = segmentation_functions(network, portable=portable, **inference)
    elif class_prior:
        raise ValueError("class_prior is for segmentation networks, which have a channel for the background")
    else:
        functions = attention_functions(network, portable=portable, **inference)
    output = checked_output(output_dir)
    # A link to an earlier export stays, and its target is replaced.
    place = output.resolve()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _write(format, temporary, network, functions, calibration, float16_weights)
        (temporary / CLASSES_FILE).parent.mkdir(exist_ok=True)
        (temporary / CLASSES_FILE).write_text(json.dumps(list(classes)))
        low = {layer.compute_dtype for layer in network.layers} & {"bfloat16", "float16"}
        low |= {"int8"} if calibration is not None else {"float16"} if float16_weights else set()
        origin = {
            "supervision": supervision,
            "seed": seed,
            "records_checksum": records_checksum,
            "checkpoint_checksum": checkpoint_checksum,
            "inference": inference,
            "precision": low.pop() if low else "float32",
            "files": file_checksums(temporary),
        }
        (temporary / ORIGIN_FILE).write_text(json.dumps(origin, indent=1))
        for path in (temporary, *temporary.rglob("*")):
            sync(path)
        replace_folder(temporary, place)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot be written ({first_line(error)})", flag="output_dir", value=output) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return next(iter(functions))


def checked_output(output_dir: str | os.PathLike) -> Path:
    """The folder to write.

    Raises:
        UserError: It holds something other than an export.
    """
    output = Path(output_dir)
    if output.exists() and not (output / CLASSES_FILE).exists():
        raise UserError("exists and is no export of this command; choose another", flag="output_dir", value=output)
    return output


def _write(
    format: str,
    folder: Path,
    network: keras.Model,
    functions: dict[str, Callable],
    calibration: Iterable[np.ndarray] | None,
    float16_weights: bool,
) -> None:
    name, function = next(iter(functions.items()))
    if format == "saved_model":
        default = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: serving_function(functions)}
        _save_with_weights(folder, network, functions, functions | default)
    elif format == "keras":
        network.save(folder / "model.keras")
    elif format == "onnx":
        # It logs a line for every step.
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        # 18 is the newest that tf2onnx writes.
        model, _ = import_tf2onnx().convert.from_function(function, [IMAGES_SIGNATURE], opset=18)
        _pad_dilated_convolutions(model)
        (folder / ONNX).write_bytes(model.SerializeToString())
        if calibration is not None:
            quantize_onnx(folder / ONNX, calibration)
    elif format == "litert":
        # From functions alone, the converter loses the weights.
        saved_model = folder / "saved_model"
        _save_with_weights(saved_model, network, {name: function}, {name: function})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[name])
        if float16_weights:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        (folder / LITERT).write_bytes(converter.convert())
        shutil.rmtree(saved_model)
    else:
        raise ValueError(f"format={format!r}: expected saved_model, keras, onnx or litert")


def _pad_dilated_convolutions(model: Any) -> None:
    """Replaces padding "same" by numbers in the dilated convolutions of an ONNX model.

    ONNX Runtime computes no padding for them. With stride 1, which all have here, it does not depend on the image.
    """
    from onnx import helper

    for node in model.graph.node:
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Conv" and values.get("auto_pad") == b"SAME_UPPER" and max(values.get("dilations", [1])) > 1:
            reach = [(k - 1) * d for k, d in zip(values["kernel_shape"], values["dilations"], strict=True)]
            kept = [attribute for attribute in node.attribute if attribute.name != "auto_pad"]
            del node.attribute[:]
            pads = [*(cells // 2 for cells in reach), *(cells - cells // 2 for cells in reach)]
            node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _save_with_weights(
    folder: Path, network: keras.Model, functions: dict[str, Callable], signatures: dict[str, Callable]
) -> None:
    module = tf.Module()
    # As bare variables: Keras' own ExportArchive tracks them twice and writes every weight twice.
    module.network_weights = [weight.value for weight in network.weights]
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures)


def import_tf2onnx():
    """The package that writes ONNX.

    Raises:
        UserError: It is not installed.
    """
    try:
        import tf2onnx
    except ImportError:
        raise UserError("--format=onnx needs tf2onnx: pip install tf2onnx") from None
    return tf2onnx
