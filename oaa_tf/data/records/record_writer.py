"""Writes record sets: sharded TFRecords and their manifest, all or nothing."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.manifest import ImageEntry, Manifest, Shard, SkippedImage
from oaa_tf.runs.atomic import sync
from oaa_tf.runs.output_folder import folder_errors


class RecordWriter:
    """Writes `<split>-00000-of-00003.tfrecord` and so on, and `<split>.json`, into a folder.

    Shards are written in a temporary folder, `.<split>.partial`. `commit` moves them into place, manifest last, and
    replaces older records of the split. Without `commit`, nothing changes in the output folder. After a crash between
    the moves, `RecordSet.open` finds that the checksums do not match.

    ```
    with RecordWriter("records", "train", images_per_shard=512) as writer:
        image = ImageEntry("2007_000032", (0, 14), height=281, width=500)
        writer.write(image, serialize(image, Path("2007_000032.jpg").read_bytes()))
        writer.commit(classes=classes, labels_from="list", has_masks=False, has_saliency=False)
    ```

    Args:
        folder: The output folder; made if missing.
        split: Name of the split.
        images_per_shard: Records per shard; the last shard may hold fewer.

    Raises:
        UserError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike, split: str, *, images_per_shard: int) -> None:
        self._folder = Path(folder)
        self._split = split
        self._images_per_shard = images_per_shard
        self._partial = self._folder / f".{split}.partial"
        self._images: list[ImageEntry] = []
        self._skipped: list[SkippedImage] = []
        self._writer: tf.io.TFRecordWriter | None = None
        with folder_errors("--output_dir", folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            # What a killed run left behind.
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an error the disk is most likely full, and closing fails again; the first error counts.
        with contextlib.suppress(tf.errors.OpError):
            self._close_shard()
        shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, image: ImageEntry, record: bytes) -> None:
        """Appends a record from `serialize`.

        Raises:
            UserError: The disk is full or the folder cannot be written to.
        """
        with self._disk_errors():
            if self._writer is None or len(self._images) % self._images_per_shard == 0:
                self._close_shard()
                self._writer = tf.io.TFRecordWriter(str(self._part(len(self._images) // self._images_per_shard)))
            self._writer.write(record)
            self._images.append(image)

    def skip(self, image_id: str, reason: str) -> None:
        """Notes in the manifest that an image has no record."""
        self._skipped.append(SkippedImage(image_id, reason))

    def commit(
        self,
        *,
        classes: Sequence[str],
        labels_from: str,
        has_masks: bool,
        has_saliency: bool,
        saliency_network: str = "",
        settings: dict[str, Any] | None = None,
        inputs: str = "",
    ) -> Path:
        """Moves the shards into place and writes the manifest; for the arguments see `Manifest`.

        Returns:
            Path of the manifest.

        Raises:
            UserError: The disk is full or the folder cannot be written to.
        """
        with self._disk_errors():
            self._close_shard()
            first_images = range(0, len(self._images), self._images_per_shard)
            shards = []
            for index, first in enumerate(first_images):
                part = self._part(index)
                with part.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                sync(part)
                num_records = min(self._images_per_shard, len(self._images) - first)
                name = f"{self._split}-{index:05d}-of-{len(first_images):05d}.tfrecord"
                shards.append(Shard(name, num_records, part.stat().st_size, sha256))
            for index, shard in enumerate(shards):
                self._part(index).replace(self._folder / shard.file)
            sync(self._folder)
            manifest_path = self._folder / f"{self._split}.json"
            Manifest(
                split=self._split,
                classes=tuple(classes),
                labels_from=labels_from,
                has_masks=has_masks,
                has_saliency=has_saliency,
                saliency_network=saliency_network,
                settings=settings or {},
                inputs=inputs,
                shards=tuple(shards),
                images=tuple(self._images),
                skipped=tuple(self._skipped),
            ).write(manifest_path)
            self._remove_old_shards({shard.file for shard in shards})
        return manifest_path

    def _part(self, index: int) -> Path:
        return self._partial / f"{index:05d}.tfrecord"

    def _close_shard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _remove_old_shards(self, current: set[str]) -> None:
        """Removes shards of older records that had another number of shards."""
        pattern = re.compile(rf"{re.escape(self._split)}-\d{{5}}-of-\d{{5}}\.tfrecord")
        for path in self._folder.iterdir():
            if pattern.fullmatch(path.name) and path.name not in current:
                path.unlink()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            raise UserError(f"{self._folder}: cannot write records: {reason}; free space, run again") from None


def serialize(image: ImageEntry, image_data: bytes, mask_data: bytes = b"", saliency_data: bytes = b"") -> bytes:
    """Makes a record.

    Args:
        image: Id, labels and size.
        image_data: JPEG, or 8-bit RGB PNG.
        mask_data: 8-bit grey PNG; empty without a mask.
        saliency_data: 8-bit grey PNG; empty without a saliency map.

    Returns:
        A serialized `tf.train.Example` with the features of `oaa_tf.data.records.keys`.
    """
    contents = {
        keys.IMAGE_ID: image.id.encode(),
        keys.IMAGE: image_data,
        keys.MASK: mask_data,
        keys.SALIENCY: saliency_data,
    }
    numbers = {keys.HEIGHT: [image.height], keys.WIDTH: [image.width], keys.LABELS: image.labels}
    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])) for key, data in contents.items()}
    feature |= {key: tf.train.Feature(int64_list=tf.train.Int64List(value=data)) for key, data in numbers.items()}
    # Deterministic: otherwise equal records could differ in bytes and so in the checksum of the data set.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
