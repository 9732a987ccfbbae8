"""Turns a folder of images with labels into TFRecords.

    python -m oaa_tf.make_records --voc_dir=my_data --split=train --output_dir=records
    python -m oaa_tf.make_records --image_dir=photos --tags=tags.csv --split=train --output_dir=records

Decodes every image once, so that no training run meets a damaged file later, and names all that cannot be used. See
`oaa_tf.data.formats` for the input formats and `oaa_tf.data.records.record_set` for reading the records.
"""

import dataclasses
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from oaa_tf.command_line.dry_run import DONE, TO_DO
from oaa_tf.command_line.errors import UserError, raise_all
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.progress import Progress
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.class_folders import NEGATIVE_FOLDERS, read_class_folders
from oaa_tf.data.formats.class_list import CLASS_FILES
from oaa_tf.data.formats.coco import coco_images, is_coco, read_json_content
from oaa_tf.data.formats.flat_folder import is_flat_folder, read_flat_folder
from oaa_tf.data.formats.folder_files import inside
from oaa_tf.data.formats.mask_files import MaskAgreement, labels_of_mask
from oaa_tf.data.formats.source import MASK_DIR, Source, SourceImage
from oaa_tf.data.formats.tag_list import read_csv_tags, read_json_tags
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR, TaggedImages, list_images
from oaa_tf.data.formats.voc_source import VocSource
from oaa_tf.data.images.image_files import read_for_record, resized
from oaa_tf.data.images.palette_png import encode_grey
from oaa_tf.data.images.saliency_files import read_saliency
from oaa_tf.data.records.label_warnings import label_warnings
from oaa_tf.data.records.manifest import ImageEntry, Manifest, SkippedImage
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.output_folder import check_folder
from oaa_tf.runs.threads import num_cores, results_in_order

# An image's entry in the manifest, its record, the classes in its mask, and whether it was made smaller.
_Converted = tuple[ImageEntry, bytes, tuple[int, ...], bool]

_NO_CLASS = "none of the kept classes"
_OTHER_LISTS = {
    ".xml": "CVAT's own XML and single VOC annotations are not read; export COCO's JSON, or VOC for --voc_dir",
    ".txt": "YOLO's and other text files are not read; export COCO's JSON, or write a CSV with the header file,tags",
    ".yaml": "YOLO's files are not read; export COCO's JSON",
}


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
class MakeRecordsSettings(DataFolderSettings):
    """Which split to make records of, and where the records go."""

    output_dir: str = setting(help="Folder for <split>.json and the shards.")
    split: str = setting("train", help="Name of voc_dir's list of image ids; with image_dir, train or val.")
    skip_difficult: bool = setting(False, help="Ignore objects that annotations mark as difficult.")
    saliency_dir: str = setting("", help="Folder of saliency maps with the images' names; empty for none.")
    images_per_shard: int = setting(512, help="Records per shard.", minimum=1)
    num_workers: int = setting(0, help="Threads; 0 for one per core.", minimum=0, may_change=True)

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
        return {name: value for name, value in self.as_dict().items() if name not in ("output_dir", "num_workers")}


def run(settings: MakeRecordsSettings) -> dict[str, Any]:
    """Makes the records of one split, unless they exist and neither settings nor inputs have changed.

    Returns:
        manifest (path), split, num_images, num_negatives (images that show none of the classes), num_skipped,
        class_names, images_per_class (by name), with_masks, num_shards, checksum, and up_to_date (whether there was
        nothing to do).

    Raises:
        UserError: The folder or one of its files is missing or wrong, or no image has a kept class. Of files that are
            damaged or do not fit each other, the message names the first ten.
    """
    from oaa_tf.data.records.record_writer import RecordWriter

    source = _open_source(settings)
    inputs = _fingerprint(source)
    manifest_path = settings.manifest_path
    if _is_up_to_date(settings, inputs):
        print(f"{manifest_path}: up to date, nothing to do")
        return _summary(manifest_path, up_to_date=True)

    convert = functools.partial(_convert, source, settings.max_side)
    num_workers = settings.num_workers or num_cores()
    mistakes: list[UserError] = []
    num_masks = num_smaller = num_skipped = 0
    agreement = MaskAgreement(source.classes)
    entries: list[ImageEntry] = []
    with (
        RecordWriter(settings.output_dir, settings.split, images_per_shard=settings.images_per_shard) as writer,
        ThreadPoolExecutor(num_workers) as pool,
        Progress(len(source.images), f"records {settings.split}") as progress,
    ):
        for outcome in results_in_order(pool, convert, source.images, max_ahead=4 * num_workers):
            match outcome:
                case UserError():
                    mistakes.append(outcome)
                case SkippedImage():
                    writer.skip(outcome.id, outcome.reason)
                    num_skipped += 1
                case entry, record, shown, is_smaller:
                    if source.has_masks and not entry.lacks_mask:
                        agreement.add(entry.id, entry.labels, shown)
                    num_masks += not entry.lacks_mask
                    num_smaller += is_smaller
                    entries.append(entry)
                    if not mistakes:
                        writer.write(entry, record)
            progress.advance()
        raise_all(mistakes)
        agreement.check(source.name)
        labels = [entry.labels for entry in entries]
        # A few photos for validation may all be without a class.
        if not any(labels) and (not labels or settings.split != "val"):
            raise UserError(
                f"{source.name}: none of the {len(source.images)} images has a class of"
                f" {', '.join(source.classes)}; check --classes and where the labels come from"
            )
        writer.commit(
            classes=source.classes,
            labels_from=source.labels_from,
            has_masks=source.has_masks and num_masks > 0,
            has_saliency=bool(settings.saliency_dir),
            settings=settings.recorded,
            inputs=inputs,
        )
    summary = _summary(manifest_path, up_to_date=False)
    not_taken = f", {num_skipped} skipped ({_NO_CLASS})" if num_skipped else ""
    print(f"{manifest_path}: {summary['num_images']} images in {summary['num_shards']} shards{not_taken}")
    if num_smaller:
        stored = f"stored smaller, with {settings.max_side} pixels on the longer side (--max_side)"
        print(f"{stored}: {num_smaller} of {summary['num_images']} images")
    counts = (f"{name} {count}" for name, count in summary["images_per_class"].items())
    without = f"; of no class {summary['num_negatives']}" if summary["num_negatives"] else ""
    print(f"images of each class: {', '.join(counts)}{without}")
    smallest, largest = (choose(entries, key=lambda entry: entry.height * entry.width) for choose in (min, max))
    print(f"sizes: {smallest.width}x{smallest.height} to {largest.width}x{largest.height} pixels")
    for warning in label_warnings(source.classes, labels):
        print(f"warning: {warning}")
    return summary


def dry_run(settings: MakeRecordsSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    source = _open_source(settings)
    check_folder("--output_dir", settings.output_dir)
    source_files = [file for one in source.images for file in (one.image, one.mask, one.saliency) if file]
    return {
        "state": DONE if _is_up_to_date(settings, _fingerprint(source)) else TO_DO,
        "split": settings.split,
        "listed_images": len(source.images),
        "with_masks": source.has_masks,
        "with_saliency": any(one.saliency for one in source.images),
        "classes": len(source.classes),
        "class_names": list(source.classes),
        "input_bytes": sum(file.stat().st_size for file in source_files),
        "shards_at_most": -(-len(source.images) // settings.images_per_shard),
        "writes": [str(settings.manifest_path), "and the shards beside it"],
    }


def _open_source(settings: MakeRecordsSettings) -> Source:
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


def _convert(source: Source, max_side: int, image: SourceImage) -> _Converted | SkippedImage | UserError:
    """The record of one image; or why it has none; or what is wrong with its files, to name it with others."""
    try:
        return _record(source, max_side, image)
    except UserError as error:
        return error


def _record(source: Source, max_side: int, image: SourceImage) -> _Converted | SkippedImage:
    from oaa_tf.data.records.record_writer import serialize

    found = source.labelled(image)
    if found.has_tags and not found.labels:
        return SkippedImage(image.image_id, _NO_CLASS)
    mask = found.mask
    image_data, (height, width), stored = read_for_record(image.image, max_side)
    if mask is not None and mask.shape != (height, width):
        raise UserError(
            f"{image.mask or source.name}: {mask.shape[1]}x{mask.shape[0]} pixels, but {image.image} has"
            f" {width}x{height}; both must have the same size, with the image upright as its EXIF orientation says"
        )
    if mask is None and source.has_masks and not found.labels:
        # What has no class is background.
        mask = np.zeros((height, width), np.uint8)
    saliency = read_saliency(image.saliency, height, width) if image.saliency else None
    lacks_mask = source.has_masks and mask is None
    entry = ImageEntry(image.image_id, found.labels, *stored, image.file, lacks_mask)
    data = [
        b"" if values is None else encode_grey(resized(values, stored, interpolation))
        for values, interpolation in ((mask, cv2.INTER_NEAREST_EXACT), (saliency, cv2.INTER_AREA))
    ]
    shown = () if mask is None else labels_of_mask(mask)
    return entry, serialize(entry, image_data, *data), shown, stored != (height, width)


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


def _is_up_to_date(settings: MakeRecordsSettings, inputs: str) -> bool:
    try:
        manifest = Manifest.read(settings.manifest_path)
        if manifest.settings != settings.recorded or manifest.inputs != inputs:
            return False
        RecordSet.open(settings.manifest_path)
    except UserError:
        # Missing or damaged records are made again.
        return False
    return True


def _summary(manifest_path: Path, up_to_date: bool) -> dict[str, Any]:
    manifest = Manifest.read(manifest_path)
    return {
        "manifest": str(manifest_path),
        "split": manifest.split,
        "num_images": len(manifest.images),
        "num_negatives": sum(not image.labels for image in manifest.images),
        "num_skipped": len(manifest.skipped),
        "class_names": list(manifest.classes),
        "images_per_class": {
            name: sum(index in image.labels for image in manifest.images) for index, name in enumerate(manifest.classes)
        },
        "with_masks": manifest.has_masks,
        "num_shards": len(manifest.shards),
        "checksum": manifest.checksum,
        "up_to_date": up_to_date,
    }


if __name__ == "__main__":
    launch(MakeRecordsSettings, run, "make_records", dry_run)
