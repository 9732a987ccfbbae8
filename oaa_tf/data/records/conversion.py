"""Images with labels as records, and what there is to know of them before a training."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, Self

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError, first_names, raise_all
from oaa_tf.command_line.progress import Progress
from oaa_tf.data.formats.mask_files import MaskAgreement, labels_of_mask
from oaa_tf.data.formats.source import Source, SourceImage
from oaa_tf.data.images.image_files import read_for_record, resized
from oaa_tf.data.images.palette_png import encode_grey
from oaa_tf.data.images.saliency_files import read_saliency
from oaa_tf.data.records.label_warnings import label_warnings
from oaa_tf.data.records.manifest import ImageEntry, Manifest, SkippedImage
from oaa_tf.runs.parallel import workers

_NO_CLASS = "none of the kept classes"
_TFRECORD_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """What the images of a split are.

    Attributes:
        split: The split's name.
        classes: Class names by index.
        images: The records' entries in the manifest, in order.
        skipped: Images without a record.
        has_masks: Whether images have masks, all or some.
        num_stored_smaller: Number of images that are larger than `max_side`; None if unknown.
        mask_warnings: Sentences about masks that do not go with their tags.
        records_bytes: Size of the records.
    """

    split: str
    classes: tuple[str, ...]
    images: tuple[ImageEntry, ...]
    skipped: tuple[SkippedImage, ...]
    has_masks: bool
    num_stored_smaller: int | None
    mask_warnings: tuple[str, ...]
    records_bytes: int

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Self:
        """What a manifest says; it does not know which images were stored smaller, nor what their masks show."""
        return cls(
            split=manifest.split,
            classes=manifest.classes,
            images=manifest.images,
            skipped=manifest.skipped,
            has_masks=manifest.has_masks,
            num_stored_smaller=None,
            mask_warnings=(),
            records_bytes=sum(shard.num_bytes for shard in manifest.shards),
        )

    def report(self) -> dict[str, Any]:
        """All that a user wants to see before a training, for `dry_run_text`.

        Returns:
            num_images; num_negatives (images that show none of the classes); images_per_class, by name; num_masks;
            skipped, the number of images without a record by reason; sizes, width x height as stored of the "smallest"
            and the "largest" image; num_stored_smaller; records_bytes; and warnings, a list of sentences.
        """
        labels = [image.labels for image in self.images]
        shown = collections.Counter(itertools.chain.from_iterable(labels))
        label_sentences = label_warnings(self.classes, labels, for_training=self.split != "val")
        smallest, largest = (choose(self.images, key=lambda one: one.height * one.width) for choose in (min, max))
        return {
            "num_images": len(labels),
            "num_negatives": sum(not of_image for of_image in labels),
            "images_per_class": {name: shown[index] for index, name in enumerate(self.classes)},
            "num_masks": sum(not image.lacks_mask for image in self.images) if self.has_masks else 0,
            "skipped": dict(collections.Counter(image.reason for image in self.skipped)),
            "sizes": {
                name: f"{image.width}x{image.height}" for name, image in (("smallest", smallest), ("largest", largest))
            },
            "num_stored_smaller": self.num_stored_smaller,
            "records_bytes": self.records_bytes,
            "warnings": [*self.mask_warnings, *label_sentences],
        }


def convert_images(
    source: Source,
    split: str,
    *,
    max_side: int,
    num_workers: int = 0,
    scheduler: str = "",
    write: Callable[[ImageEntry, bytes], None] = lambda entry, record: None,
) -> Findings:
    """Decodes and checks all images of a source and makes their records.

    Args:
        source: The images.
        split: The split's name. Images without any class are an error, except in a small "val".
        max_side: Largest side in a record; larger images are made smaller. 0 for any.
        num_workers: Threads; 0 for one per core.
        scheduler: See `in_parallel`.
        write: Takes the records in order, as long as all files are right.

    Raises:
        UserError: Files are damaged or do not fit each other, of which the message names the first ten; the masks
            number the classes in another order than the tags; or no image has a kept class.
    """
    mistakes: list[UserError] = []
    images: list[ImageEntry] = []
    skipped: list[SkippedImage] = []
    num_smaller = num_bytes = 0
    agreement = MaskAgreement(source.classes)
    convert = functools.partial(_converted, source, max_side)
    pool = workers(num_workers=num_workers, scheduler=scheduler)
    # After an error, no line says that all images are done.
    with pool as results, Progress(len(source.images), f"records {split}") as progress:
        for outcome in results(convert, source.images):
            match outcome:
                case UserError():
                    mistakes.append(outcome)
                case SkippedImage():
                    skipped.append(outcome)
                case _Converted(entry=entry, record=record):
                    if source.has_masks and not entry.lacks_mask:
                        agreement.add(entry.id, entry.labels, outcome.shown)
                    num_smaller += outcome.is_smaller
                    num_bytes += len(record) + _TFRECORD_BYTES
                    images.append(entry)
                    if not mistakes:
                        write(entry, record)
            progress.advance()
        raise_all(mistakes)
        mask_warnings = agreement.warnings(source.name)
        # A few photos for validation may all be without a class.
        if not any(image.labels for image in images) and (not images or split != "val"):
            raise UserError(
                f"{source.name}: none of the {len(source.images)} images has a class of {first_names(source.classes)};"
                " check --classes and where the labels come from"
            )
    return Findings(
        split=split,
        classes=tuple(source.classes),
        images=tuple(images),
        skipped=tuple(skipped),
        has_masks=source.has_masks and not all(image.lacks_mask for image in images),
        num_stored_smaller=num_smaller,
        mask_warnings=tuple(mask_warnings),
        records_bytes=num_bytes,
    )


@dataclasses.dataclass(frozen=True)
class _Converted:
    """A record, the classes in its mask, and whether the image was made smaller."""

    entry: ImageEntry
    record: bytes
    shown: tuple[int, ...]
    is_smaller: bool


def _converted(source: Source, max_side: int, image: SourceImage) -> _Converted | SkippedImage | UserError:
    """The record of one image; or why it has none; or what is wrong with its files, to name it with others."""
    try:
        return _record(source, max_side, image)
    except UserError as error:
        return error


def _record(source: Source, max_side: int, image: SourceImage) -> _Converted | SkippedImage:
    from oaa_tf.data.records.record_writer import serialize  # A mistyped flag does not wait for TensorFlow.

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
    return _Converted(entry, serialize(entry, image_data, *data), shown, stored != (height, width))
