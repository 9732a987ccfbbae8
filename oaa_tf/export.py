"""Exports the network of a training stage as a SavedModel.

    python -m oaa_tf.export --stage_dir=runs/seg --output_dir=runs/seg/saved_model

The SavedModel takes uint8 RGB images of any size in batches of any size, has its preprocessing inside, and needs
nothing but `tf.saved_model.load`. Its signature is `attention` or `segment`, by the stage; see
`oaa_tf.models.inference`. The class names are in `assets.extra/classes.json`, and what it was trained on, with
checksums of its files, in `assets.extra/origin.json`.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from oaa_tf.data.atomic import sync
from oaa_tf.data.json_file import read_json
from oaa_tf.errors import UserError, first_line
from oaa_tf.launch import Settings, launch, setting
from oaa_tf.models.inference import IMAGES_SIGNATURE, attention_functions, segmentation_functions
from oaa_tf.models.networks import load_network
from oaa_tf.models.segmenter import CLASSES_FILE, ORIGIN_FILE, file_checksums
from oaa_tf.work_dir import METRICS_FILE


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """What to export, and where to."""

    stage_dir: str = setting(help="work_dir of train_cls, train_integral or train_seg; its newest checkpoint is taken.")
    output_dir: str = setting(help="Folder of the SavedModel; it must not exist, or be a SavedModel of this command.")
    image_size: int = setting(0, help="Long side in pixels to which images are resized; 0: as in training.", minimum=0)


def run(settings: ExportSettings) -> dict[str, Any]:
    """Writes the SavedModel, whole or not at all.

    Returns:
        The signature's name, the classes and the image size.

    Raises:
        UserError: There is no checkpoint, or the output can't be written or is something else.
    """
    description, network, _ = load_network(settings.stage_dir)
    trained_on = _trained_on(Path(settings.stage_dir) / METRICS_FILE)
    image_size = settings.image_size or description.image_size
    output = Path(settings.output_dir)
    if output.exists() and not (output / CLASSES_FILE).exists():
        raise UserError(f"--output_dir={output}: exists and is no SavedModel of this command; choose another")
    make = {"attention": attention_functions, "segmentation": segmentation_functions}[description.task]
    functions = make(network, image_size)
    name, first = next(iter(functions.items()))
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        module = tf.Module()
        # As bare variables: Keras' own ExportArchive tracks them twice and writes every weight twice.
        module.network_weights = [weight.value for weight in network.weights]
        module.functions = functions
        signatures = functions | {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: first}
        tf.saved_model.save(module, str(temporary), signatures)
        (temporary / CLASSES_FILE).parent.mkdir(exist_ok=True)
        (temporary / CLASSES_FILE).write_text(json.dumps(description.classes))
        content = trained_on | {"files": file_checksums(temporary)}
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
    print(f"export: {output} has the signature {name!r} for {IMAGES_SIGNATURE.dtype.name} images")
    return {"signature": name, "classes": list(description.classes), "image_size": image_size}


def _trained_on(metrics_file: Path) -> dict[str, Any]:
    """What a stage's metrics say about its training; nothing before its end."""
    names = ("supervision", "seed", "records_checksum")
    try:
        metrics = read_json(metrics_file)
    except FileNotFoundError:
        metrics = {}
    except (OSError, ValueError):
        raise UserError(f"{metrics_file}: damaged; delete it and run the stage again") from None
    return {name: metrics.get(name) for name in names}


if __name__ == "__main__":
    launch(ExportSettings, run, "export", "exports a trained network as a SavedModel")
