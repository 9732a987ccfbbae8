"""Measures the time from the start to files of maps, beside PyTorch.

    pip install torch
    python -m tools.time_to_maps --voc_dir=VOC12_ANIMALS --backbone_weights=VGG16.weights.h5 \
        --work_dir=runs/time_to_maps

Both start from the same photos and weights. PyTorch trains as the authors' code does (`tools.pytorch_training`), ours
with a preset and the number of steps that you choose: the comparison counts if our maps are at least as good. The time
is that of whole processes.
"""

import dataclasses
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf import convert, evaluate, make_records
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import write_json
from oaa_tf.train_cls import CAM_FOLDER
from tools.stage_process import new_folder

_PHOTOS, _WEIGHTS = "photos.json", "vgg16.npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeToMapsSettings(Settings):
    """The photos, and our training."""

    voc_dir: str = setting(help="Folder in VOC layout with masks, all photos being .jpg files.")
    split: str = setting("val", help="Split whose photos both train on, and whose masks measure the maps.")
    preset: str = setting("flags/voc12_animals_best.flags", help="Preset of our training.")
    num_steps: int = setting(190, help="Steps of our training.", minimum=1)
    num_epochs: int = setting(15, help="Epochs of PyTorch's training.", minimum=1)
    backbone_weights: str = setting("imagenet", help="imagenet, or the path of a Keras h5 file of VGG16.")
    work_dir: str = setting(help="New folder for everything.")


def run(settings: TimeToMapsSettings) -> dict[str, Any]:
    """Trains both, one after the other, and prints what each took.

    Returns:
        The content of `time_to_maps.json`: for "pytorch" and "oaa_tf" the "seconds" and the "mean_iou" of the maps at
        their best threshold; and "speedup", PyTorch's seconds over ours.

    Raises:
        UserError: PyTorch is not installed, the data can't be used, or a training fails.
    """
    if not importlib.util.find_spec("torch"):
        raise UserError("tools.time_to_maps needs PyTorch: pip install torch")
    with new_folder(settings.work_dir) as folder:
        made = make_records.run(
            make_records.MakeRecordsSettings(
                voc_dir=settings.voc_dir, split=settings.split, output_dir=str(folder / "records")
            )
        )
        records = RecordSet.open(made["manifest"])
        _prepare(settings, records, folder)
        maps_of = {"pytorch": folder / "pytorch", "oaa_tf": folder / "train_cls" / CAM_FOLDER}
        pytorch = ("tools.pytorch_training", *(str(folder / name) for name in (_PHOTOS, _WEIGHTS, "pytorch_maps")))
        ours = (
            *("oaa_tf.train_cls", f"--flagfile={settings.preset}", f"--num_steps={settings.num_steps}"),
            *(f"--records={made['manifest']}", f"--backbone_weights={settings.backbone_weights}"),
            f"--work_dir={folder / 'train_cls'}",
        )
        found: dict[str, Any] = {}
        # Ours first: it finds at once what is wrong with a preset.
        for name, command in (("oaa_tf", ours), ("pytorch", (*pytorch, str(settings.num_epochs)))):
            found[name] = {"seconds": _seconds(name, command)}
        convert.run(
            convert.ConvertSettings(
                direction="import",
                format="oaa_png",
                records=made["manifest"],
                source=str(folder / "pytorch_maps"),
                target=str(maps_of["pytorch"]),
            )
        )
        for name, maps in maps_of.items():
            options = {"records": made["manifest"], "maps": str(maps), "work_dir": str(folder / f"evaluate_{name}")}
            found[name]["mean_iou"] = evaluate.run(evaluate.EvaluateSettings(**options))["best"]["mean_iou"]
        found["speedup"] = found["pytorch"]["seconds"] / found["oaa_tf"]["seconds"]
        write_json(folder / "time_to_maps.json", found | {"settings": settings.as_dict()})
    for name in maps_of:
        print(f"{name:<10} {found[name]['seconds']:>7.0f} s, CAM {100 * found[name]['mean_iou']:.1f}")
    return found


def _prepare(settings: TimeToMapsSettings, records: RecordSet, folder: Path) -> None:
    """Writes what PyTorch reads: the photos with their labels, and VGG16's weights."""
    from oaa_tf.data.views.view import MEAN_RGB
    from oaa_tf.models.pretrained import load_backbone_weights
    from oaa_tf.models.vgg import vgg16_backbone

    images = (Path(settings.voc_dir).absolute() / "JPEGImages" / f"{image_id}.jpg" for image_id in records.image_ids)
    photos = [[str(path), [int(label) for label in of]] for path, of in zip(images, records.labels, strict=True)]
    content = {"num_classes": len(records.classes), "mean_rgb": MEAN_RGB, "photos": photos}
    write_json(folder / _PHOTOS, content)
    backbone = vgg16_backbone()
    load_backbone_weights(backbone, settings.backbone_weights)
    with atomic_write(folder / _WEIGHTS) as file:
        np.savez(file, *backbone.get_weights())


def _seconds(name: str, command: tuple[str, ...]) -> float:
    """Runs a program, whose output is shown, to its exit."""
    begin = time.monotonic()
    if subprocess.call([sys.executable, "-m", *command]):
        raise UserError(f"{name} failed; see above")
    return time.monotonic() - begin


if __name__ == "__main__":
    launch(TimeToMapsSettings, run, "time_to_maps")
