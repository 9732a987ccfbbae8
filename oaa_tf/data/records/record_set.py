"""Reads record sets: random access to the records of sharded TFRecord files."""

import contextlib
import dataclasses
import hashlib
import io
import os
import struct
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError, first_names
from oaa_tf.data.images.decoding import decode_image
from oaa_tf.data.records import keys
from oaa_tf.data.records.manifest import Manifest, Shard
from oaa_tf.runs.file_names import links_outside

# A TFRecord is: uint64 length, uint32 checksum of the length, data, uint32 checksum of the data (little endian).
_LENGTH = struct.Struct("<Q")
_HEADER_BYTES, _FOOTER_BYTES = 12, 4

SIZES_ADVICE = "records hold large images made smaller, unless make_records had --max_side=0"
"""For errors about files whose sizes are not those of the records."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A decoded record.

    Attributes:
        image_id: The image's name without extension.
        image: uint8 `[height, width, 3]`, RGB.
        mask: uint8 `[height, width]`, 0 background, c + 1 class c, 255 ignore; None without a mask.
        saliency: uint8 `[height, width]`; None without a saliency map.
    """

    image_id: str
    image: np.ndarray
    mask: np.ndarray | None
    saliency: np.ndarray | None


class RecordSet:
    """The images of one split with their labels, in a fixed order.

    Open it with `RecordSet.open("records/train.json")`. The position of an image is its index in this order; its
    slots, one per (image, label), are `first_slots[position]` up to `first_slots[position + 1]`.

    Attributes:
        manifest_path: Path of the manifest.
        split: Name of the split.
        classes: Class names by index.
        image_ids: By position.
        labels: Class indices by position, ascending; empty for an image that shows none of the classes.
        sizes: int32 `[num_images, 2]`, height and width in pixels.
        first_slots: int64 `[num_images + 1]`, the cumulative number of labels.
        labels_from: Where the labels came from, see `Manifest`.
        files: Paths of the photos below the folder of photos, by position; "" if unknown.
        masked: Positions of the images with masks, ascending.
        has_masks: Whether there are any.
        has_saliency: Whether the records have saliency maps.
        saliency_network: Their network, such as "u2netp 309c8469"; "" if it is not known.
        checksum: SHA-256 (hex) of the shards' checksums and the classes; identifies the data set.
        read_error: The last error of a tf.data pipeline that reads these records; see `reading_errors` in
            `oaa_tf.data.views.input_pipeline`.
    """

    def __init__(self, manifest_path: Path, *, verify: bool) -> None:
        """Use `open`."""
        manifest = Manifest.read(manifest_path)
        self.manifest_path = manifest_path
        self.split = manifest.split
        self.classes = manifest.classes
        self.image_ids = tuple(image.id for image in manifest.images)
        self.labels = tuple(image.labels for image in manifest.images)
        self.sizes = np.array([(image.height, image.width) for image in manifest.images], np.int32)
        self.first_slots = np.cumsum([0, *map(len, self.labels)], dtype=np.int64)
        self.labels_from = manifest.labels_from
        self.files = tuple(image.file for image in manifest.images)
        self.masked = tuple(
            position for position, image in enumerate(manifest.images) if manifest.has_masks and not image.lacks_mask
        )
        self.has_masks = bool(self.masked)
        self.has_saliency = manifest.has_saliency
        self.saliency_network = manifest.saliency_network
        self.checksum = manifest.checksum
        self.read_error: UserError | None = None
        # Threads share the read position of an open file, so each file has a lock.
        self._shards: list[tuple[Path, io.FileIO, threading.Lock]] = []
        places: list[tuple[int, int, int]] = []
        with contextlib.ExitStack() as opened:
            for index, shard in enumerate(manifest.shards):
                path = manifest_path.parent / shard.file
                if links_outside(path, manifest_path.parent):
                    raise UserError(f"{path}: links to a file outside of the records' folder; copy the file")
                try:
                    file = opened.enter_context(io.FileIO(path))
                    places += [(index, *place) for place in _scan(file, shard, path, verify)]
                except OSError as error:
                    raise UserError(f"{path}: cannot read: {error.strerror}; run make_records again") from None
                self._shards.append((path, file, threading.Lock()))
            if len(places) != len(self):
                raise UserError(
                    f"{manifest_path}: lists {len(self)} images, the shards hold {len(places)}; run make_records again"
                )
            weakref.finalize(self, opened.pop_all().close)
        # int64 [num_images, 3]: shard, offset and length of each record's data.
        self._places = np.array(places, np.int64)

    @classmethod
    def open(cls, manifest: str | os.PathLike, *, verify: bool = True) -> Self:
        """Opens a record set and checks that it is whole.

        Args:
            manifest: Path of `<split>.json`.
            verify: Whether to compare every shard with its checksum, which reads all data once. Sizes and numbers of
                records are compared in any case.

        Raises:
            UserError: The manifest or a shard is missing or damaged, or has another version.
        """
        return cls(Path(manifest), verify=verify)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the name of the manifest; another process opens the same records."""
        return _opened_again, (self.manifest_path.absolute(), self.checksum)

    def require_classes(self, what: str, classes: Sequence[str]) -> None:
        """Refuses a model or file with other classes than the records, or with another order of them.

        Args:
            what: The model or file, for the error message, such as "--model=runs/segment".
            classes: The names of its classes.

        Raises:
            UserError: The classes differ.
        """
        if tuple(classes) != self.classes:
            raise UserError(
                f"{what}: for the classes {first_names(classes)}, but {self.manifest_path} has"
                f" {first_names(self.classes)}"
            )

    def require_source(self, what: str, checksum: str) -> None:
        """Refuses a result that was made from other records.

        Args:
            what: The result, for the error message, such as "--labels=runs/labels".
            checksum: The `checksum` of the records that it was made from.

        Raises:
            UserError: The checksums differ.
        """
        if checksum != self.checksum:
            raise UserError(
                f"{what}: made from other records than {self.manifest_path}; give the records that it was made from"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """The entries of `metrics.json` that identify the records of a measurement."""
        return {
            "split": self.split,
            "num_images": len(self),
            "classes": self.classes,
            "records_checksum": self.checksum,
        }

    def label_matrix(self) -> np.ndarray:
        """The labels as float32 `[num_images, num_classes]`: 1 for each class in the image, else 0."""
        matrix = np.zeros((len(self), len(self.classes)), np.float32)
        for row, labels in zip(matrix, self.labels, strict=True):
            row[list(labels)] = 1
        return matrix

    def position_of(self, slot: int) -> int:
        """The position of the image that a slot belongs to."""
        return int(np.searchsorted(self.first_slots, slot, side="right")) - 1

    @property
    def num_negatives(self) -> int:
        """Number of images that show none of the classes."""
        return sum(not labels for labels in self.labels)

    @property
    def negative_weight(self) -> float:
        """The weight in a loss at which all images of no class count as much as all others, at most 1."""
        return min(1.0, len(self) / self.num_negatives - 1) if self.num_negatives else 1.0

    def read(self, position: int) -> bytes:
        """The serialized `tf.train.Example` of one image. Thread-safe; a forked process needs a `RecordSet` of its own.

        Raises:
            IndexError: `position` is not in 0..len - 1.
            UserError: The shard cannot be read, or was cut after it was opened.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position}: expected 0 to {len(self) - 1}")
        shard, offset, length = self._places[position].tolist()
        path, file, lock = self._shards[shard]
        try:
            with lock:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise UserError(f"{path}: cannot read: {error.strerror}; check the disk") from None
        if len(data) != length:
            raise UserError(f"{path}: was cut while in use; run make_records again")
        return data

    def record(self, position: int) -> Record:
        """Reads and decodes one record; raises like `read`."""
        import tensorflow as tf

        feature = tf.train.Example.FromString(self.read(position)).features.feature
        image_id, image, mask, saliency = (
            feature[key].bytes_list.value[0] for key in (keys.IMAGE_ID, keys.IMAGE, keys.MASK, keys.SALIENCY)
        )
        return Record(image_id.decode(), decode_image(image).numpy(), _decode_grey(mask), _decode_grey(saliency))


def _opened_again(manifest_path: Path, checksum: str) -> RecordSet:
    records = RecordSet.open(manifest_path, verify=False)
    records.require_source("another process", checksum)
    return records


def _decode_grey(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None


def _scan(file: io.FileIO, shard: Shard, path: Path, verify: bool) -> list[tuple[int, int]]:
    """Offset and length of the data of each record in a shard.

    TensorFlow reads a shard that was cut between two records without an error; its size reveals the damage.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    if num_bytes != shard.num_bytes:
        raise UserError(f"{path}: damaged shard: {num_bytes} bytes, expected {shard.num_bytes}; run make_records again")
    if verify and hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
        raise UserError(f"{path}: damaged shard: wrong checksum; run make_records again")
    places = []
    offset = 0
    while offset + _HEADER_BYTES <= num_bytes:
        file.seek(offset)
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        places.append((offset + _HEADER_BYTES, length))
        offset += _HEADER_BYTES + length + _FOOTER_BYTES
    if offset != num_bytes or len(places) != shard.num_records:
        raise UserError(
            f"{path}: damaged shard: {len(places)} records, expected {shard.num_records}; run make_records again"
        )
    return places
