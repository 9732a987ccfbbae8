"""Turns a folder in VOC layout into records.

    python -m oaa_tf.make_records --voc_dir=my_data --split=train --output_dir=records

Every image is decoded once, so that no training run meets a damaged file later. See `oaa_tf.data.voc` for the layout
and `oaa_tf.data.records` for reading the result.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from oaa_tf.data.image_files import read_for_record, read_grey
from oaa_tf.data.manifest import ImageEntry, Manifest
from oaa_tf.data.palette_png import encode_grey
from oaa_tf.data.record_writer import RecordWriter, serialize
from oaa_tf.data.records import RecordSet
from oaa_tf.data.voc import VocFolder, labels_of_mask
from oaa_tf.errors import UserError
from oaa_tf.launch import Settings, launch, setting
from oaa_tf.progress import Progress

_DEFAULT_MASK_DIR = "SegmentationClass"
_NO_CLASS = "none of the kept classes"

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeRecordsSettings(Settings):
    """Settings of `make_records`."""

    voc_dir: str = setting(help="Folder in VOC layout: JPEGImages/, ImageSets/Segmentation/<split>.txt and so on.")
    output_dir: str = setting(help="Folder for <split>.json and the shards.")
    split: str = setting("train", help="Name of the list of image ids.")
    labels_from: str = setting(
        "list",
        help="Image labels: list is <split>_cls.txt, annotations is Annotations/*.xml.",
        choices=("list", "annotations", "masks"),
    )
    skip_difficult: bool = setting(False, help="Leave out objects that annotations mark as difficult.")
    classes: tuple[str, ...] = setting((), help="Classes to keep, in this order; the others become 255 in masks.")
    mask_dir: str = setting(_DEFAULT_MASK_DIR, help="Folder of the masks inside voc_dir; empty for no masks.")
    saliency_dir: str = setting("", help="Folder of saliency maps, <id>.png; empty for none.")
    images_per_shard: int = setting(512, help="Records per shard.", minimum=1)
    num_workers: int = setting(0, help="Threads; 0 for one per core.", minimum=0, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.split or "/" in self.split or "\\" in self.split or self.split.startswith("."):
            raise UserError(f"--split={self.split}: expected the plain name of a list, such as train")
        if self.skip_difficult and self.labels_from != "annotations":
            raise UserError("--skip_difficult: only annotations know difficult objects; add --labels_from=annotations")


@dataclasses.dataclass(frozen=True)
class _Source:
    """The files of one image, and its labels unless they come from the mask."""

    image_id: str
    image: Path
    mask: Path | None
    saliency: Path | None
    annotation: Path | None
    listed: tuple[int, ...] | None


def run(settings: MakeRecordsSettings) -> dict[str, Any]:
    """Makes the records of one split, or does nothing if they are there and neither settings nor inputs have changed.

    Returns:
        manifest (path), split, num_images, num_skipped, num_shards, checksum, and up_to_date (whether nothing was to
        be done).

    Raises:
        UserError: Anything wrong with the folder or its files, or no image has a kept class.
    """
    folder = _open_folder(settings)
    sources = _find_sources(folder, settings)
    recorded = _recorded(settings)
    inputs = _fingerprint(folder, settings, sources)
    manifest_path = _manifest_path(settings)
    if _is_up_to_date(manifest_path, recorded, inputs):
        print(f"{manifest_path}: up to date, nothing to do")
        return _summary(manifest_path, up_to_date=True)

    def convert(source: _Source) -> tuple[ImageEntry, bytes] | str:
        return _convert(folder, source, settings)

    num_workers = settings.num_workers or _num_cores()
    num_written = 0
    with (
        RecordWriter(settings.output_dir, settings.split, images_per_shard=settings.images_per_shard) as writer,
        ThreadPoolExecutor(num_workers) as pool,
        Progress(len(sources), f"records {settings.split}") as progress,
    ):
        for outcome in _map_in_order(pool, convert, sources, max_ahead=4 * num_workers):
            if isinstance(outcome, str):
                writer.skip(outcome, _NO_CLASS)
            else:
                writer.write(*outcome)
                num_written += 1
            progress.advance()
        if not num_written:
            raise UserError(
                f"{folder.split_file(settings.split)}: all {len(sources)} images were skipped: they have "
                f"{_NO_CLASS} ({', '.join(folder.classes)}); check --classes and --labels_from"
            )
        writer.commit(
            classes=folder.classes,
            labels_from=settings.labels_from,
            has_masks=sources[0].mask is not None,
            has_saliency=sources[0].saliency is not None,
            settings=recorded,
            inputs=inputs,
        )
    summary = _summary(manifest_path, up_to_date=False)
    skipped = f", {summary['num_skipped']} skipped ({_NO_CLASS})" if summary["num_skipped"] else ""
    print(f"{manifest_path}: {summary['num_images']} images in {summary['num_shards']} shards{skipped}")
    return summary


def plan(settings: MakeRecordsSettings) -> dict[str, Any]:
    """What `run` would do, for `oaa_tf.plan_text`; raises what it would raise before it begins."""
    folder = _open_folder(settings)
    sources = _find_sources(folder, settings)
    manifest_path = _manifest_path(settings)
    is_done = _is_up_to_date(manifest_path, _recorded(settings), _fingerprint(folder, settings, sources))
    source_files = [file for one in sources for file in (one.image, one.mask, one.saliency) if file]
    return {
        "state": "done" if is_done else "to do",
        "split": settings.split,
        "listed_images": len(sources),
        "images_with_masks": sum(source.mask is not None for source in sources),
        "images_with_saliency": sum(source.saliency is not None for source in sources),
        "classes": len(folder.classes),
        "input_bytes": sum(file.stat().st_size for file in source_files),
        "shards_at_most": -(-len(sources) // settings.images_per_shard),
        "writes": [str(manifest_path), "and the shards beside it"],
    }


def _open_folder(settings: MakeRecordsSettings) -> VocFolder:
    return VocFolder(
        settings.voc_dir,
        classes=settings.classes,
        mask_dir=settings.mask_dir,
        saliency_dir=settings.saliency_dir,
    )


def _recorded(settings: MakeRecordsSettings) -> dict[str, Any]:
    """The settings on which the records depend."""
    return {name: value for name, value in settings.as_dict().items() if name not in ("output_dir", "num_workers")}


def _manifest_path(settings: MakeRecordsSettings) -> Path:
    return Path(settings.output_dir) / f"{settings.split}.json"


def _find_sources(folder: VocFolder, settings: MakeRecordsSettings) -> list[_Source]:
    """The files of every image of the split, in the order of the list.

    Raises:
        UserError: An image has not all of the files that the settings ask for.
    """
    list_path = folder.split_file(settings.split)
    ids = folder.image_ids(settings.split)
    images = {image_id: folder.image(image_id) for image_id in ids}
    _check_complete(images, list_path, f"image in {folder.root / 'JPEGImages'}", "add them or shorten the list")
    masks = {image_id: folder.mask(image_id) for image_id in ids}
    if any(masks.values()):
        _check_complete(masks, list_path, f"mask in {folder.mask_folder}", "set --mask_dir, or --mask_dir= for none")
    elif settings.labels_from == "masks":
        raise UserError(f"--labels_from=masks: {folder.mask_folder} has no mask of {list_path}; check --mask_dir")
    elif settings.mask_dir not in ("", _DEFAULT_MASK_DIR):
        raise UserError(f"--mask_dir={settings.mask_dir}: no mask of {list_path} in {folder.mask_folder}")
    elif settings.mask_dir:
        # Labels without masks are what weak supervision is for, but a user who has masks should hear of it.
        print(f"{list_path}: no masks in {folder.mask_folder}, the records are made without")
    saliency = {image_id: folder.saliency(image_id) for image_id in ids}
    if settings.saliency_dir:
        _check_complete(saliency, list_path, f"map in --saliency_dir={settings.saliency_dir}", "add them")
    listed = {}
    if settings.labels_from == "list":
        listed = _listed_labels(folder, settings.split, ids)
    return [
        _Source(
            image_id=image_id,
            image=images[image_id],
            mask=masks[image_id],
            saliency=saliency[image_id],
            annotation=folder.annotation_file(image_id) if settings.labels_from == "annotations" else None,
            listed=listed.get(image_id),
        )
        for image_id in ids
    ]


def _check_complete(files: dict[str, Path | None], list_path: Path, what: str, advice: str) -> None:
    missing = [image_id for image_id, path in files.items() if path is None]
    if missing:
        raise UserError(f"{list_path}: {len(missing)} of {len(files)} ids have no {what}, first {missing[0]}; {advice}")


def _listed_labels(folder: VocFolder, split: str, ids: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    path = folder.split_file(split, "_cls")
    if not path.is_file():
        raise UserError(f"{path}: no such list of labels; write it, or use --labels_from=annotations or masks")
    labels = folder.listed_labels(split)
    missing = [image_id for image_id in ids if image_id not in labels]
    if missing:
        raise UserError(f"{path}: no line for {len(missing)} of {len(ids)} ids, first {missing[0]}; add them")
    return labels


def _convert(folder: VocFolder, source: _Source, settings: MakeRecordsSettings) -> tuple[ImageEntry, bytes] | str:
    """The record of one image, or its id when it is to be skipped."""
    labels = source.listed
    if source.annotation is not None:
        labels = folder.annotated_labels(source.image_id, skip_difficult=settings.skip_difficult)
    mask = folder.read_mask(source.mask) if source.mask else None
    if settings.labels_from == "masks":
        labels = labels_of_mask(mask)
    if not labels:
        return source.image_id
    image_data, height, width = read_for_record(source.image)
    saliency = read_grey(source.saliency) if source.saliency else None
    data = []
    for path, values in ((source.mask, mask), (source.saliency, saliency)):
        if values is not None and values.shape != (height, width):
            raise UserError(
                f"{path}: {values.shape[1]}x{values.shape[0]} pixels, but {source.image} has {width}x{height}; "
                f"both must have the same size"
            )
        data.append(b"" if values is None else encode_grey(values))
    entry = ImageEntry(source.image_id, labels, height, width)
    return entry, serialize(entry, image_data, *data)


def _map_in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Source], _Result], items: Iterable[_Source], max_ahead: int
) -> Iterator[_Result]:
    """`pool.map` that holds at most `max_ahead` results in memory."""
    pending: collections.deque[Future[_Result]] = collections.deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > max_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _num_cores() -> int:
    """Cores that this process may use; not every system can tell them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fingerprint(folder: VocFolder, settings: MakeRecordsSettings, sources: list[_Source]) -> str:
    """SHA-256 over name, size and time of change of every input file."""
    paths = [folder.root / "classes.txt", *(folder.split_file(settings.split, suffix) for suffix in ("", "_cls"))]
    for source in sources:
        paths += [path for path in (source.image, source.mask, source.saliency, source.annotation) if path]
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            # An optional list; files that are needed are read, and missed, later.
            continue
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_up_to_date(manifest_path: Path, recorded: dict[str, Any], inputs: str) -> bool:
    if not manifest_path.exists():
        return False
    try:
        manifest = Manifest.read(manifest_path)
        if manifest.settings != recorded or manifest.inputs != inputs:
            return False
        RecordSet.open(manifest_path)
    except UserError:
        # Damaged records are made again.
        return False
    return True


def _summary(manifest_path: Path, up_to_date: bool) -> dict[str, Any]:
    manifest = Manifest.read(manifest_path)
    return {
        "manifest": str(manifest_path),
        "split": manifest.split,
        "num_images": len(manifest.images),
        "num_skipped": len(manifest.skipped),
        "num_shards": len(manifest.shards),
        "checksum": manifest.checksum,
        "up_to_date": up_to_date,
    }


if __name__ == "__main__":
    launch(MakeRecordsSettings, run, "make_records", "turns a VOC-layout folder into TFRecords", plan)
