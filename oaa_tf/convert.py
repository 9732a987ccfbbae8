"""Converts maps and pseudo labels to formats of other code, and back.

    python -m oaa_tf.convert --direction=export --format=irn_npy --records=records/train.json \
        --source=runs/cls/attention/oaa --target=maps_for_irn
    python -m oaa_tf.convert --direction=import --format=oaa_png --records=records/train.json \
        --source=maps_of_oaa --target=runs/imported/oaa --image_size=224

train_integral, make_pseudo_labels and evaluate take a folder of imported maps like one from train_cls; train_seg and
evaluate take imported labels like those of make_pseudo_labels.
"""

import dataclasses
from pathlib import Path
from typing import Any

from oaa_tf.attention.foreign_maps import (
    read_class_pngs,
    read_irn_dictionaries,
    write_class_pngs,
    write_irn_dictionaries,
)
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.coco_labels import read_coco_labels, write_coco_labels
from oaa_tf.data.images.palette_png import write_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.labels.label_files import DESCRIPTION_FILE, LABELS_FOLDER, PseudoLabels
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import origin
from oaa_tf.runs.output_folder import check_folder, folder_errors
from oaa_tf.runs.supervision import SUPERVISIONS

_MAPS = {
    "oaa_png": (read_class_pngs, write_class_pngs),
    "irn_npy": (read_irn_dictionaries, write_irn_dictionaries),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertSettings(Settings):
    """What to convert, and to which format."""

    direction: str = setting(help="Export to the other format, or import from it.", choices=("export", "import"))
    format: str = setting(
        help="The other format: attention maps as <id>_<class>.png (OAA-PyTorch) or <id>.npy dictionaries (the IRN "
        "family), or pseudo labels as a COCO .json with run lengths.",
        choices=(*_MAPS, "coco_json"),
    )
    records: str = setting(help="Manifest of the records that the maps or labels belong to (<split>.json).")
    source: str = setting(
        help="What to convert: a folder of maps, the work_dir of make_pseudo_labels, or the other code's output."
    )
    target: str = setting(help="Folder to write; when exporting to coco_json, the file.")
    image_size: int = setting(
        304, help="When importing maps: --image_size of the stages that will use them.", minimum=STRIDE
    )
    supervision: str = setting(
        "image labels", help="When importing: what the other code knew about the images.", choices=SUPERVISIONS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % STRIDE:
            raise UserError(f"expected a multiple of {STRIDE}", flag="image_size", value=self.image_size)


def run(settings: ConvertSettings) -> dict[str, Any]:
    """Converts the maps or labels of all images of the records; replaces files of the same names.

    Returns:
        num_images and target.

    Raises:
        UserError: The source is missing, damaged or made from other records, or the target cannot be written.
    """
    records, source, target, folder = _inputs(settings)
    with folder_errors("--target", target):
        folder.mkdir(parents=True, exist_ok=True)
    match settings.direction, settings.format:
        case "export", "coco_json":
            write_coco_labels(target, PseudoLabels(source, records, flag="source"), records)
        case "import", "coco_json":
            _import_labels(settings, records, source, target)
        case "export", maps_format:
            _, write = _MAPS[maps_format]
            write(AttentionMaps.open(source, records), target)
        case _:
            _import_maps(settings, records, source, target)
    print(f"{target}: {settings.format} of {len(records)} images, {settings.direction}ed from {source}")
    return {"num_images": len(records), "target": str(target)}


def dry_run(settings: ConvertSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises the errors that do not depend on the source's content."""
    records, source, target, folder = _inputs(settings)
    check_folder("--target", folder)
    return {"images": len(records), "classes": len(records.classes), "reads": str(source), "writes": str(target)}


def _inputs(settings: ConvertSettings) -> tuple[RecordSet, Path, Path, Path]:
    """The records, the source, the target, and the folder to make for the target."""
    records = RecordSet.open(settings.records)
    source, target = Path(settings.source), Path(settings.target)
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError("is what to convert; choose another", flag="target", value=target)
    if settings.direction == "import" or settings.format in _MAPS:
        return records, source, target, target
    if target.suffix.lower() != ".json" or target.is_dir():
        raise UserError("expected a .json file", flag="target", value=target)
    return records, source, target, target.parent


def _import_maps(settings: ConvertSettings, records: RecordSet, source: Path, target: Path) -> None:
    read, _ = _MAPS[settings.format]
    if not source.is_dir():
        raise UserError("is not a folder", flag="source", value=source)
    AttentionMaps.save(
        target,
        read(source, records, settings.image_size),
        records,
        kind=f"imported_{settings.format}",
        image_size=settings.image_size,
        supervision=settings.supervision,
    )


def _import_labels(settings: ConvertSettings, records: RecordSet, source: Path, target: Path) -> None:
    folder = target / LABELS_FOLDER
    folder.mkdir(exist_ok=True)
    # The description is written last: without it, an interrupted import counts as incomplete.
    (target / DESCRIPTION_FILE).unlink(missing_ok=True)
    for image_id, labels in zip(records.image_ids, read_coco_labels(source, records), strict=True):
        write_indexed(folder / f"{image_id}.png", labels)
    description = origin("convert", settings, records.provenance, supervision=settings.supervision)
    write_json(target / DESCRIPTION_FILE, description)


if __name__ == "__main__":
    launch(ConvertSettings, run, "convert", dry_run)
