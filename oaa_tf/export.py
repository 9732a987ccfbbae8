"""Exports a trained network as SavedModel, Keras file, ONNX or LiteRT.

    python -m oaa_tf.export --stage_dir=runs/seg --output_dir=runs/seg/saved_model

The SavedModel takes uint8 RGB images of any size in batches of any size, has its preprocessing inside, and needs
nothing but `tf.saved_model.load`. Its signature is `attention` or `segment`, depending on the stage; see
`oaa_tf.models.inference`. For servers, `serving_default` takes encoded JPEGs and PNGs. The class names are in
`assets.extra/classes.json`; the training data, the inference settings and checksums of the files are in
`assets.extra/origin.json`.

With `--scales` and `--flip` the network sees every image in several sizes and mirrored, and averages the results:
better masks, at a multiple of the cost. `--class_prior` weighs the classes of a segmentation network by how frequent
they are in the image.

`--format` selects another file: `model.onnx` and `model.tflite` have the inputs and outputs of the signature;
`model.keras` is the bare network, for further work in Keras. `--precision=int8` makes the ONNX file compute in integers
of 8 bits, and `--precision=float16` halves the LiteRT file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.inference_settings import AS_TRAINED, InferenceSettings, precision_setting
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.views.view_options import whole_views
from oaa_tf.runs.checkpoints import checkpoint_checksum, checkpoints_in
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.metrics_file import read_training_metrics
from oaa_tf.runs.output_folder import check_folder

if TYPE_CHECKING:
    import keras

    from oaa_tf.models.networks import NetworkDescription

INT8 = "int8"

_PRECISIONS = {"onnx": ("float32", INT8), "litert": ("float32", "float16")}
"""What the layers of other runtimes can compute in, or LiteRT store its weights in."""

_CALIBRATION_IMAGES = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(InferenceSettings, group="export"):
    """What to export, and where to."""

    stage_dir: str = setting(help="work_dir of train_cls, train_integral or train_seg; its newest checkpoint counts.")
    output_dir: str = setting(help="Folder to write: a new one, or an earlier export.")
    class_prior: bool = setting(
        False, help="With a segmentation network: weigh the classes by how frequent they are in the image."
    )
    format: str = setting("saved_model", help="What to write.", choices=("saved_model", "keras", "onnx", "litert"))
    precision: str = precision_setting(AS_TRAINED, INT8)
    records: str = setting(
        "", help="With --precision=int8: manifest of records (<split>.json) whose images show how large values get."
    )

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        changes_scores = self.class_prior or whole_views(self.scales, self.flip) != [(1.0, False)]
        if self.format == "keras" and changes_scores:
            message = "the bare network sees one view; leave out --scales, --flip and --class_prior"
            raise UserError(message, flag="format", value="keras")
        possible = _PRECISIONS.get(self.format)
        if possible and self.precision not in possible:
            message = f"--precision can be {' or '.join(possible)} with it, not {self.precision}"
            raise UserError(message, flag="format", value=self.format)
        if self.precision == INT8 and self.format != "onnx":
            raise UserError("is for --format=onnx", flag="precision", value=INT8)
        if bool(self.records) != (self.precision == INT8):
            message = "is for --precision=int8; leave it out" if self.records else "is needed for --precision=int8"
            raise UserError(message, flag="records", value=self.records or None)


def run(settings: ExportSettings) -> dict[str, Any]:
    """Writes the export, completely or not at all.

    Returns:
        "signature", its name; "classes"; and "image_size".

    Raises:
        UserError: There is no checkpoint, a package is missing, or output_dir can't be written or holds other files.
    """
    from oaa_tf.models.exported import export_network

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
        float16_weights=settings.format == "litert" and settings.precision == "float16",
        **trained_on,
    )
    if settings.format == "keras":
        print(f"export: {settings.output_dir}/model.keras is the network, from float32 images in [0, 255] to scores")
    else:
        print(f"export: {settings.output_dir} has the signature {name!r} for uint8 images")
    return {"signature": name, "classes": list(description.classes), "image_size": image_size}


def is_current(settings: ExportSettings) -> bool:
    """Whether `output_dir` holds an export of the newest checkpoint in `stage_dir`."""
    from oaa_tf.models.segmenter import ORIGIN_FILE

    try:
        exported = read_json(Path(settings.output_dir) / ORIGIN_FILE).get("checkpoint_checksum")
    except (OSError, ValueError):
        return False
    trained = checkpoint_checksum(Path(settings.stage_dir))
    # Someone may have deleted the checkpoints to save space; then the export is all that is left.
    return None in (exported, trained) or exported == trained


def dry_run(settings: ExportSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    from oaa_tf.models.exported import checked_output

    description, network, trained_on = _inputs(settings)
    output = checked_output(settings.output_dir)
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
    """The network's description, the network, and what else the export needs: its origin, and images for int8."""
    from oaa_tf.models.exported import import_tf2onnx
    from oaa_tf.models.networks import load_network
    from oaa_tf.models.quantization import import_quantization

    if settings.format == "onnx":
        import_tf2onnx()
    if settings.precision == INT8:
        import_quantization()
    precision = "float32" if settings.format in _PRECISIONS else settings.precision
    description, network, _ = load_network(settings.stage_dir, precision=precision)
    if description.task == "affinity":
        message = "is of train_affinity, whose network makes no masks; give the work_dir of another training"
        raise UserError(message, flag="stage_dir", value=settings.stage_dir)
    if settings.class_prior and description.task != "segmentation":
        raise UserError(
            f"is for segmentation networks, not for that of --stage_dir={settings.stage_dir}; leave it out",
            flag="class_prior",
        )
    stage_dir = Path(settings.stage_dir)
    # A stage has no metrics before its end.
    metrics = read_training_metrics(stage_dir) or {}
    trained_on = {name: metrics.get(name) for name in ("supervision", "seed", "records_checksum")}
    return (
        description,
        network,
        trained_on
        | {
            "checkpoint_checksum": checkpoint_checksum(stage_dir),
            "calibration": _calibration_images(settings, description) if settings.records else None,
        },
    )


def _calibration_images(settings: ExportSettings, description: NetworkDescription) -> list[np.ndarray]:
    """Images from all over the records."""
    from oaa_tf.data.records.record_set import RecordSet

    records = RecordSet.open(settings.records)
    records.require_classes(f"--stage_dir={settings.stage_dir}", description.classes)
    positions = np.unique(np.linspace(0, len(records) - 1, _CALIBRATION_IMAGES).round().astype(int))
    return [records.record(int(position)).image for position in positions]


if __name__ == "__main__":
    launch(ExportSettings, run, "export", dry_run)
