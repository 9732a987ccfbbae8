"""Turns a folder of images with labels into TFRecords.

    python -m oaa_tf.make_records --voc_dir=my_data --split=train --output_dir=records
    python -m oaa_tf.make_records --image_dir=photos --tags=tags.csv --split=train --output_dir=records

Decodes every image once, so that no training run meets a damaged file later, and names all that cannot be used. See
`oaa_tf.data.formats` for the input formats and `oaa_tf.data.records.record_set` for reading the records.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf.command_line.dry_run import DONE, TO_DO, dry_run_text
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import ParallelSettings
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.class_folders import NEGATIVE_FOLDERS, read_class_folders
from oaa_tf.data.formats.class_list import CLASS_FILES
from oaa_tf.data.formats.coco import coco_images, is_coco, read_json_content
from oaa_tf.data.formats.flat_folder import is_flat_folder, read_flat_folder
from oaa_tf.data.formats.folder_files import inside
from oaa_tf.data.formats.source import MASK_DIR, Source
from oaa_tf.data.formats.tag_list import read_csv_tags, read_json_tags
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR, TaggedImages, list_images
from oaa_tf.data.formats.voc_source import VocSource
from oaa_tf.data.images.saliency_files import network_of_maps
from oaa_tf.data.records.conversion import Findings, convert_images
from oaa_tf.data.records.manifest import ImageEntry, Manifest
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.output_folder import check_folder
from oaa_tf.train_affinity import TrainAffinitySettings
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.train_integral import TrainIntegralSettings
from oaa_tf.train_seg import TrainSegSettings
from oaa_tf.training.settings import TRAININGS

_OTHER_LISTS = {
    ".xml": "CVAT's own XML and single VOC annotations are not read; export COCO's JSON, or VOC for --voc_dir",
    ".txt": "YOLO's and other text files are not read; export COCO's JSON, or write a CSV with the header file,tags",
    ".yaml": "YOLO's files are not read; export COCO's JSON",
}

_NOT_RECORDED = ("output_dir", "num_workers", "scheduler")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFolderSettings(Settings):
    """Where images, labels and masks come from; shared by all commands that make records."""

    voc_dir: str = setting(
        "", help="Folder in VOC layout: JPEGImages/, ImageSets/Segmentation/<split>.txt and so on; or give image_dir."
    )
    image_dir: str = setting("", help="Folder of images; without tags, with one subfolder per class.")
    tags: str = setting(
        "", help="Tags of the images in image_dir: a .csv or .tsv with a header, or a .json of COCO or Label Studio."
    )
    val_share: float = setting(
        0.2,
        help="With image_dir: share of the images in the validation split; 0 for no validation split.",
        minimum=0,
        maximum=1,
    )
    labels_from: str = setting(
        "list",
        help="Image labels in voc_dir: list is <split>_cls.txt, annotations is Annotations/*.xml.",
        choices=("list", "annotations", "masks"),
    )
    classes: tuple[str, ...] = setting(
        (), help="Classes to keep, in this order, all if empty; the others become 255 in masks."
    )
    mask_dir: str = setting(MASK_DIR, help="Folder of the masks inside voc_dir or image_dir; empty for no masks.")
    max_side: int = setting(
        1024,
        help="Images with a longer side are stored at this size, with their masks and saliency maps, and so are their"
        " pseudo labels; 0 for any size.",
        minimum=0,
    )
    negative_folders: tuple[str, ...] = setting(
        NEGATIVE_FOLDERS, help="With one subfolder per class: folders of images without any class, in any case."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeRecordsSettings(ParallelSettings, DataFolderSettings):
    """Which split to make records of, and where the records go."""

    output_dir: str = setting(help="Folder for <split>.json and the shards.")
    split: str = setting("train", help="Name of voc_dir's list of image ids; with image_dir, train or val.")
    skip_difficult: bool = setting(False, help="Ignore objects that annotations mark as difficult.")
    saliency_dir: str = setting("", help="Folder of saliency maps with the images' names; empty for none.")
    images_per_shard: int = setting(512, help="Records per shard.", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.voc_dir) == bool(self.image_dir):
            raise UserError(f"expected one of --voc_dir and --image_dir, got {'both' if self.voc_dir else 'none'}")
        is_plain_name = self.split and not self.split.startswith(".") and not set("/\\") & set(self.split)
        is_other_split = self.image_dir and self.val_share and self.split not in ("train", "val")
        suffix = Path(self.tags).suffix.lower()
        is_other_list = self.tags and suffix not in (".csv", ".tsv", ".json")
        has_folders = self.image_dir and not self.tags
        for flag, is_wrong, message in (
            ("split", not is_plain_name, "expected the plain name of a list, such as train"),
            ("tags", self.voc_dir and self.tags, "is for --image_dir; the labels of --voc_dir are in the folder"),
            ("labels_from", self.image_dir and self.labels_from != "list", "is for --voc_dir; leave it out"),
            ("tags", is_other_list, _OTHER_LISTS.get(suffix, "expected a .csv, .tsv or .json file")),
            (
                "negative_folders",
                not has_folders and self.negative_folders != NEGATIVE_FOLDERS,
                "is for one subfolder per class in --image_dir; leave it out",
            ),
            ("split", is_other_split, "expected train or val, or --val_share=0 for all images in one split"),
        ):
            if is_wrong:
                raise UserError(message, flag=flag, value=getattr(self, flag))
        if self.skip_difficult and self.labels_from != "annotations":
            message = "only annotations know difficult objects; add --labels_from=annotations"
            raise UserError(message, flag="skip_difficult")

    @property
    def manifest_path(self) -> Path:
        """The manifest to write."""
        return Path(self.output_dir) / f"{self.split}.json"

    @property
    def recorded(self) -> dict[str, Any]:
        """The settings on which the records depend, for the manifest."""
        return {name: value for name, value in self.as_dict().items() if name not in _NOT_RECORDED}


def run(settings: MakeRecordsSettings) -> dict[str, Any]:
    """Makes the records of one split, unless they exist and neither settings nor inputs have changed.

    Returns:
        manifest (path), split, class_names, with_masks, num_shards, checksum, up_to_date (whether there was nothing to
        do), and `Findings.report`.

    Raises:
        UserError: The folder or one of its files is missing or wrong, or no image has a kept class. Of files that are
            damaged or do not fit each other, the message names the first ten.
    """
    from oaa_tf.data.records.record_writer import RecordWriter

    source = open_source(settings)
    inputs = _fingerprint(source)
    manifest_path = settings.manifest_path
    if manifest := _up_to_date(settings, inputs):
        print(f"{manifest_path}: up to date, nothing to do")
        return _result(manifest_path, manifest, Findings.of_manifest(manifest), up_to_date=True)

    with RecordWriter(settings.output_dir, settings.split, images_per_shard=settings.images_per_shard) as writer:
        findings = _converted(settings, source, write=writer.write)
        for image in findings.skipped:
            writer.skip(image.id, image.reason)
        writer.commit(
            classes=findings.classes,
            labels_from=source.labels_from,
            has_masks=findings.has_masks,
            has_saliency=bool(settings.saliency_dir),
            saliency_network=network_of_maps(Path(settings.saliency_dir)) if settings.saliency_dir else "",
            settings=settings.recorded,
            inputs=inputs,
        )
    manifest = Manifest.read(manifest_path)
    print(f"{manifest_path}: {len(manifest.images)} images in {len(manifest.shards)} shards")
    print(dry_run_text(findings.report()))
    return _result(manifest_path, manifest, findings, up_to_date=False)


def examine(settings: MakeRecordsSettings) -> tuple[str, Findings]:
    """Goes through all images like `run`, unless the records are up to date, and writes nothing.

    Returns:
        `DONE` or `TO_DO`, and what `run` would find.

    Raises:
        UserError: As `run`.
    """
    source = open_source(settings)
    check_folder("--output_dir", settings.output_dir)
    if manifest := _up_to_date(settings, _fingerprint(source)):
        return DONE, Findings.of_manifest(manifest)
    return TO_DO, _converted(settings, source)


def _converted(settings: MakeRecordsSettings, source: Source, **write: Callable[[ImageEntry, bytes], None]) -> Findings:
    """Goes through all images; raises as `convert_images`."""
    return convert_images(
        source,
        settings.split,
        max_side=settings.max_side,
        num_workers=settings.num_workers,
        scheduler=settings.scheduler,
        **write,
    )


def open_source(settings: MakeRecordsSettings) -> Source:
    """The images of the split.

    Raises:
        UserError: The input format is wrong, or an image lacks a file that the settings ask for.
    """
    if settings.voc_dir:
        return VocSource(
            settings.voc_dir,
            settings.split,
            labels_from=settings.labels_from,
            skip_difficult=settings.skip_difficult,
            classes=settings.classes,
            mask_dir=settings.mask_dir,
            saliency_dir=settings.saliency_dir,
        )
    image_dir, tags = Path(settings.image_dir), Path(settings.tags)
    not_images = [image_dir / SALIENCY_DIR, inside(image_dir, settings.mask_dir or MASK_DIR)]
    if settings.saliency_dir:
        not_images.append(Path(settings.saliency_dir))
    files = [image_dir / name for name in CLASS_FILES]
    if settings.tags:
        files.append(tags)
    listing = list_images(image_dir, skip=not_images)
    if settings.tags:
        if tags.suffix.lower() != ".json":
            tagged, classes = read_csv_tags(tags, image_dir, settings.classes)
            labels_from = "csv"
        elif is_coco(content := read_json_content(tags)):
            tagged, classes = coco_images(content, tags, settings.classes)
            labels_from = "coco"
        else:
            tagged, classes = read_json_tags(content, tags, image_dir, settings.classes)
            labels_from = "json"
    elif is_flat_folder(listing):
        tagged, classes, beside = read_flat_folder(listing, settings.classes)
        files += beside
        labels_from = "masks" if tagged[0].draw_mask else "annotations"
    else:
        tagged, classes = read_class_folders(listing, settings.classes, settings.negative_folders)
        labels_from = "folders"
    listing.tell_other_files(known=files)
    return TaggedImages(
        listing,
        tagged,
        name=tags if settings.tags else image_dir,
        labels_from=labels_from,
        classes=classes,
        split=settings.split,
        val_share=settings.val_share,
        mask_dir=settings.mask_dir,
        saliency_dir=settings.saliency_dir,
        files=tuple(files),
    )


def _fingerprint(source: Source) -> str:
    """SHA-256 over name, size and modification time of every input file."""
    paths = [*source.files]
    for image in source.images:
        paths += [path for path in (image.image, image.mask, image.saliency, image.annotation) if path]
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            # An optional list. If a required file is missing, reading it fails later.
            continue
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _up_to_date(settings: MakeRecordsSettings, inputs: str) -> Manifest | None:
    """The manifest of the records, if they are whole and neither settings nor inputs have changed."""
    try:
        manifest = Manifest.read(settings.manifest_path)
        if manifest.settings != settings.recorded or manifest.inputs != inputs:
            return None
        RecordSet.open(settings.manifest_path)
    except UserError:
        # Missing or damaged records are made again.
        return None
    return manifest


def _result(manifest_path: Path, manifest: Manifest, findings: Findings, *, up_to_date: bool) -> dict[str, Any]:
    return {
        "manifest": str(manifest_path),
        "split": manifest.split,
        "class_names": list(manifest.classes),
        "with_masks": manifest.has_masks,
        "num_shards": len(manifest.shards),
        "checksum": manifest.checksum,
        "up_to_date": up_to_date,
        **findings.report(),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandSettings(MakeRecordsSettings):
    """Those of the records, and the trainings' settings in a preset, to tell how long an epoch of them takes."""

    train_cls: TrainClsSettings
    train_integral: TrainIntegralSettings
    train_affinity: TrainAffinitySettings
    train_seg: TrainSegSettings

    @property
    def of_records(self) -> MakeRecordsSettings:
        """What makes the records."""
        fields = dataclasses.fields(MakeRecordsSettings)
        return MakeRecordsSettings(**{field.name: getattr(self, field.name) for field in fields})


def run_command(settings: CommandSettings) -> dict[str, Any]:
    """As `run`, with the "epoch_seconds" of trainings: see `_training_times`."""
    result = run(settings.of_records)
    records = RecordSet.open(result["manifest"])
    if times := _training_times(settings, records.classes, records.sizes):
        print(dry_run_text(times))
    return result | times


def dry_run(settings: CommandSettings) -> dict[str, Any]:
    """What `run_command` would do and report, for `dry_run_text`; raises what it would raise."""
    state, findings = examine(settings.of_records)
    sizes = np.array([(image.height, image.width) for image in findings.images])
    return {
        "state": state,
        "split": settings.split,
        **findings.report(),
        **_training_times(settings, findings.classes, sizes),
        "num_shards": -(-len(findings.images) // settings.images_per_shard),
        "writes": [str(settings.manifest_path), "and the shards beside it"],
    }


def _training_times(settings: CommandSettings, classes: tuple[str, ...], sizes: np.ndarray) -> dict[str, Any]:
    """How long an epoch takes, by name of the training, for those that a preset sets; empty without a preset."""
    trainings = {name: getattr(settings, name) for name in TRAININGS}
    of_preset = {name: own for name, own in trainings.items() if _differs_from_defaults(own)}
    if not of_preset:
        return {}
    from oaa_tf.training.training_time import seconds_per_epoch

    return {"epoch_seconds": {name: seconds_per_epoch(classes, own, sizes) for name, own in of_preset.items()}}


def _differs_from_defaults(settings: Settings) -> bool:
    fields = [field for field in dataclasses.fields(settings) if field.default is not dataclasses.MISSING]
    return any(getattr(settings, field.name) != field.default for field in fields)


if __name__ == "__main__":
    launch(CommandSettings, run_command, "make_records", dry_run)
