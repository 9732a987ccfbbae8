"""Exports a trained network as SavedModel, Keras file, ONNX or LiteRT.

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

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import setting
from oaa_tf.data.views.view_options import whole_views
from oaa_tf.models.inference_settings import InferenceSettings
from oaa_tf.runs.checkpoints import checkpoint_checksum, checkpoints_in
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.metrics_file import read_training_metrics
from oaa_tf.runs.output_folder import check_folder

if TYPE_CHECKING:
    import keras

    from oaa_tf.models.networks import NetworkDescription


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(InferenceSettings, group="export"):
    """What to export, and where to."""

    stage_dir: str = setting(help="work_dir of train_cls, train_integral or train_seg; its newest checkpoint is taken.")
    output_dir: str = setting(help="Folder to write; it must not exist, or be an earlier export.")
    class_prior: bool = setting(
        False, help="With a segmentation network: weigh the classes by how frequent they are in the image."
    )
    format: str = setting("saved_model", help="What to write.", choices=("saved_model", "keras", "onnx", "litert"))

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        changes_scores = self.class_prior or whole_views(self.scales, self.flip) != [(1.0, False)]
        if self.format == "keras" and changes_scores:
            raise UserError(
                "the bare network sees one view; leave out --scales, --flip and --class_prior",
                flag="format",
                value="keras",
            )
        if self.format in ("onnx", "litert") and self.precision != "float32":
            raise UserError("computes in float32; leave out --precision", flag="format", value=self.format)


def run(settings: ExportSettings) -> dict[str, Any]:
    """Writes the export, whole or not at all.

    Returns:
        The signature's name, the classes and the image size.

    Raises:
        UserError: There is no checkpoint, a package is missing, or the output can't be written or is something else.
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
        **trained_on,
    )
    if settings.format == "keras":
        print(f"export: {settings.output_dir}/model.keras is the network, from float32 images in [0, 255] to scores")
    else:
        print(f"export: {settings.output_dir} has the signature {name!r} for uint8 images")
    return {"signature": name, "classes": list(description.classes), "image_size": image_size}


def is_current(settings: ExportSettings) -> bool:
    """Whether `output_dir` holds an export of what is in `stage_dir` now, and not of an earlier training."""
    from oaa_tf.models.segmenter import ORIGIN_FILE

    try:
        exported = read_json(Path(settings.output_dir) / ORIGIN_FILE).get("checkpoint_checksum")
    except (OSError, ValueError):
        return False
    trained = checkpoint_checksum(Path(settings.stage_dir))
    # Without checkpoints, which somebody may have deleted to save space, the export is all that there is.
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
    """The network's description, the network, and what it was trained on."""
    from oaa_tf.models.exported import import_tf2onnx
    from oaa_tf.models.networks import load_network

    if settings.format == "onnx":
        import_tf2onnx()
    description, network, _ = load_network(settings.stage_dir, precision=settings.precision)
    if settings.class_prior and description.task != "segmentation":
        raise UserError(
            f"is for segmentation networks, not for that of --stage_dir={settings.stage_dir}; leave it out",
            flag="class_prior",
        )
    return description, network, _trained_on(Path(settings.stage_dir))


def _trained_on(stage_dir: Path) -> dict[str, Any]:
    """Which checkpoint it is, and what the stage's metrics say about its training; nothing before its end."""
    metrics = read_training_metrics(stage_dir) or {}
    names = ("supervision", "seed", "records_checksum")
    return {name: metrics.get(name) for name in names} | {"checkpoint_checksum": checkpoint_checksum(stage_dir)}


if __name__ == "__main__":
    launch(ExportSettings, run, "export", dry_run)
