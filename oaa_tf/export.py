"""Exports the network of a training stage for use elsewhere.

    python -m oaa_tf.export --stage_dir=runs/seg --output_dir=runs/seg/saved_model

The SavedModel takes uint8 RGB images of any size in batches of any size, has its preprocessing inside, and needs
nothing but `tf.saved_model.load`. Its signature is `attention` or `segment`, by the stage; see
`oaa_tf.models.inference`. `serving_default` takes encoded JPEGs and PNGs, for servers. The class names are in
`assets.extra/classes.json`; what it was trained on, how it looks at images, and checksums of its files are in
`assets.extra/origin.json`.

With `--scales` and `--flip` the network sees every image in several sizes and mirrored, and the mean counts: better
masks, at as many times the cost. With `--class_prior` a segmentation network's classes are weighed by how frequent they
are in the image.

`--format` writes something else into the folder instead: `model.onnx` and `model.tflite` take and give the same as the
signature; `model.keras` is the bare network, to go on from in Keras.
"""

import dataclasses
import functools
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.views.view import whole_views
from oaa_tf.models.inference import IMAGES_SIGNATURE, attention_functions, segmentation_functions, serving_function
from oaa_tf.models.networks import (
    InferenceSettings,
    NetworkDescription,
    checkpoint_checksum,
    checkpoints_in,
    load_network,
)
from oaa_tf.models.segmenter import CLASSES_FILE, ORIGIN_FILE, file_checksums
from oaa_tf.runs.atomic import sync
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.metrics_file import read_training_metrics
from oaa_tf.runs.output_folder import check_folder

_OPSET = 18  # The newest that tf2onnx writes.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(InferenceSettings, group="export"):
    """What to export, and where to."""

    stage_dir: str = setting(help="work_dir of train_cls, train_integral or train_seg; its newest checkpoint is taken.")
    output_dir: str = setting(help="Folder to write; it must not exist, or be an earlier export.")
    class_prior: bool = setting(
        False, help="With a segmentation network: what much of an image looks like is more probable in all of it."
    )
    format: str = setting("saved_model", help="What to write.", choices=("saved_model", "keras", "onnx", "litert"))

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.format == "keras" and not _is_bare(self.scales, self.flip, self.class_prior):
            raise UserError(
                "--format=keras: the bare network sees one view; leave out --scales, --flip and --class_prior"
            )
        if self.format in ("onnx", "litert") and self.precision != "float32":
            raise UserError(f"--format={self.format}: computes in float32; leave out --precision")


def run(settings: ExportSettings) -> dict[str, Any]:
    """Writes the export, whole or not at all.

    Returns:
        The signature's name, the classes and the image size.

    Raises:
        UserError: There is no checkpoint, a package is missing, or the output can't be written or is something else.
    """
    description, network, trained_on = _inputs(settings)
    image_size = settings.image_size or description.image_size
    name = export_network(
        network,
        settings.output_dir,
        classes=description.classes,
        image_size=image_size,
        scales=settings.scales,
        flip=settings.flip,
        class_prior=settings.class_prior,
        format=settings.format,
        **trained_on,
    )
    if settings.format == "keras":
        print(f"export: {settings.output_dir}/model.keras is the network, from float32 images in [0, 255] to scores")
    else:
        print(f"export: {settings.output_dir} has the signature {name!r} for {IMAGES_SIGNATURE.dtype.name} images")
    return {"signature": name, "classes": list(description.classes), "image_size": image_size}


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
    supervision: str | None = None,
    seed: int | None = None,
    records_checksum: str | None = None,
    checkpoint_checksum: str | None = None,
) -> str:
    """Writes a network, whole or not at all.

        export_network(model.network, "segment", classes=records.classes, image_size=500)
        segmenter = Segmenter("segment")

    Args:
        network: From `class_aware_network` or `largefov_network`, or with as many channels: one for each class, or one
            more, for the background.
        output_dir: Folder to write; it must not exist, or be an earlier export.
        classes: Names of the classes.
        image_size: Long side in pixels to which images are resized.
        scales: Sizes of the views that the network sees of an image, relative to `image_size`; their mean counts.
        flip: Whether it also sees every view mirrored.
        class_prior: With a segmentation network: whether its probabilities go through
            `oaa_tf.models.inference.under_class_prior`.
        format: "saved_model", "keras", "onnx" or "litert".
        supervision: What the network was trained with, one of `oaa_tf.runs.metrics_file.SUPERVISIONS`, for the export's
            `origin.json`.
        seed: Seed of the training, likewise.
        records_checksum: Which records it was trained on, likewise.
        checkpoint_checksum: Which checkpoint it is of, likewise.

    Returns:
        The signature's name.

    Raises:
        ValueError: The network has another number of channels; there are views or a class prior for "keras", the bare
            network; or a class prior for a class-aware network.
        UserError: A package is missing, or the output can't be written or is something else.
    """
    write = {"saved_model": _write_saved_model, "keras": _write_keras, "onnx": _write_onnx, "litert": _write_litert}
    num_channels = network.output_shape[-1]
    by_channels = {len(classes): attention_functions, len(classes) + 1: segmentation_functions}
    if num_channels not in by_channels:
        expected = " or ".join(map(str, by_channels))
        raise ValueError(f"a network of {num_channels} channels, for {len(classes)} classes: expected {expected}")
    if format == "keras" and not _is_bare(scales, flip, class_prior):
        raise ValueError(
            f"format 'keras' is the bare network, which sees one view: scales {scales}, flip {flip}, class_prior"
            f" {class_prior}"
        )
    inference = {"image_size": image_size, "scales": list(scales), "flip": flip}
    if by_channels[num_channels] is segmentation_functions:
        inference["class_prior"] = class_prior
    elif class_prior:
        raise ValueError("class_prior is for segmentation networks, which have a channel for the background")
    make = functools.partial(by_channels[num_channels], network, **inference)
    trained_on = {
        "supervision": supervision,
        "seed": seed,
        "records_checksum": records_checksum,
        "checkpoint_checksum": checkpoint_checksum,
    }
    output = _checked_output(output_dir)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        write[format](temporary, network, make)
        (temporary / CLASSES_FILE).parent.mkdir(exist_ok=True)
        (temporary / CLASSES_FILE).write_text(json.dumps(list(classes)))
        in_bfloat16 = any(layer.compute_dtype == "bfloat16" for layer in network.layers)
        computed = {"inference": inference, "precision": "bfloat16" if in_bfloat16 else "float32"}
        content = trained_on | computed | {"files": file_checksums(temporary)}
        (temporary / ORIGIN_FILE).write_text(json.dumps(content, indent=1))
        for path in temporary.rglob("*"):
            sync(path)
        shutil.rmtree(output, ignore_errors=True)
        temporary.rename(output)
        sync(output.parent)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"--output_dir={output}: cannot be written ({first_line(error)})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return next(iter(make()))


def is_current(settings: ExportSettings) -> bool:
    """Whether `output_dir` holds an export of what is in `stage_dir` now, and not of an earlier training."""
    try:
        exported = read_json(Path(settings.output_dir) / ORIGIN_FILE).get("checkpoint_checksum")
    except (OSError, ValueError):
        return False
    trained = checkpoint_checksum(Path(settings.stage_dir))
    # Without checkpoints, which somebody may have deleted to save space, the export is all that there is.
    return None in (exported, trained) or exported == trained


def plan(settings: ExportSettings) -> dict[str, Any]:
    """What `run` would do, for `oaa_tf.command_line.plan_text`; raises what it would raise before it begins."""
    description, network, trained_on = _inputs(settings)
    output = _checked_output(settings.output_dir)
    check_folder("--output_dir", output)
    return {
        "exported": checkpoints_in(Path(settings.stage_dir))[-1],
        "task": description.task,
        "supervision": trained_on["supervision"],
        "classes": len(description.classes),
        "image_size": settings.image_size or description.image_size,
        "views": len(whole_views(settings.scales, settings.flip)),
        "class_prior": settings.class_prior,
        "precision": settings.precision,
        "parameters": network.count_params(),
        "format": settings.format,
        "replaces": "an earlier export" if output.exists() else "nothing",
        "writes": str(output),
    }


def _inputs(settings: ExportSettings) -> tuple[NetworkDescription, keras.Model, dict[str, Any]]:
    """The network's description, the network, and what it was trained on."""
    if settings.format == "onnx":
        _import_tf2onnx()
    description, network, _ = load_network(settings.stage_dir, precision=settings.precision)
    if settings.class_prior and description.task != "segmentation":
        raise UserError(
            f"--class_prior: is for segmentation networks, not for that of --stage_dir={settings.stage_dir}; leave it"
            " out"
        )
    return description, network, _trained_on(Path(settings.stage_dir))


def _is_bare(scales: Sequence[float], flip: bool, class_prior: bool) -> bool:
    """Whether the network sees every image once, upright and at its `image_size`, and nothing changes its scores."""
    return whole_views(scales, flip) == [(1.0, False)] and not class_prior


def _checked_output(output_dir: str | os.PathLike) -> Path:
    output = Path(output_dir)
    if output.exists() and not (output / CLASSES_FILE).exists():
        raise UserError(f"--output_dir={output}: exists and is no export of this command; choose another")
    return output


def _write_saved_model(folder: Path, network: keras.Model, make: Callable[..., dict]) -> None:
    functions = make()
    signatures = functions | {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: serving_function(functions)}
    tf.saved_model.save(_module(network, functions), str(folder), signatures)


def _write_keras(folder: Path, network: keras.Model, make: Callable[..., dict]) -> None:
    network.save(folder / "model.keras")


def _write_onnx(folder: Path, network: keras.Model, make: Callable[..., dict]) -> None:
    function = next(iter(make(portable=True).values()))
    # It says on the log what it does, a line for every step.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    _import_tf2onnx().convert.from_function(
        function, [IMAGES_SIGNATURE], opset=_OPSET, output_path=str(folder / "model.onnx")
    )


def _write_litert(folder: Path, network: keras.Model, make: Callable[..., dict]) -> None:
    name, function = next(iter(make(portable=True).items()))
    # Without the weights in a module, the converter loses them.
    saved_model = folder / "saved_model"
    tf.saved_model.save(_module(network, {name: function}), str(saved_model), {name: function})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[name])
    (folder / "model.tflite").write_bytes(converter.convert())
    shutil.rmtree(saved_model)


def _module(network: keras.Model, functions: dict[str, Callable]) -> tf.Module:
    module = tf.Module()
    # As bare variables: Keras' own ExportArchive tracks them twice and writes every weight twice.
    module.network_weights = [weight.value for weight in network.weights]
    module.functions = functions
    return module


def _import_tf2onnx():
    try:
        import tf2onnx
    except ImportError:
        raise UserError("--format=onnx needs tf2onnx: pip install tf2onnx") from None
    return tf2onnx


def _trained_on(stage_dir: Path) -> dict[str, Any]:
    """Which checkpoint it is, and what the stage's metrics say about its training; nothing before its end."""
    metrics = read_training_metrics(stage_dir) or {}
    names = ("supervision", "seed", "records_checksum")
    return {name: metrics.get(name) for name in names} | {"checkpoint_checksum": checkpoint_checksum(stage_dir)}


if __name__ == "__main__":
    launch(ExportSettings, run, "export", "exports a trained network as SavedModel, Keras file, ONNX or LiteRT", plan)
