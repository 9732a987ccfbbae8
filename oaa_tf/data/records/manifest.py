"""The manifest of a record set: a JSON file that describes the shards beside it, with checksums that reveal damage."""

import dataclasses
import hashlib
import json
import os
from typing import Any, Self

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.records.keys import MAX_MASK_CLASSES
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.file_names import is_plain_name
from oaa_tf.runs.json_file import read_json

FORMAT = "oaa-tf records"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    file: str
    num_records: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class ImageEntry:
    """One record.

    Attributes:
        id: The image's name.
        labels: Class indices in ascending order; empty for an image that shows none of the classes.
        height: In pixels.
        width: In pixels.
        file: Path of the photo below the folder of photos; "" if unknown.
        lacks_mask: Whether it has no mask though the records have masks.
    """

    id: str
    labels: tuple[int, ...]
    height: int
    width: int
    file: str = ""
    lacks_mask: bool = False


@dataclasses.dataclass(frozen=True)
class SkippedImage:
    """An image of the split that has no record."""

    id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a record set holds.

    Attributes:
        split: Name of the split.
        classes: Class names by index.
        labels_from: Where the image labels came from: "list", "annotations" or "masks" of a VOC folder; "folders",
            "csv", "json" or "coco".
        has_masks: Whether the records have masks, except those that lack one.
        has_saliency: Whether every record has a saliency map.
        settings: The settings of `make_records`.
        inputs: Fingerprint of the input files (hex).
        shards: The shards in order.
        images: The records in order, shard after shard.
        skipped: Images that were left out.
        saliency_network: The network of the saliency maps, such as "u2netp 309c8469"; "" if it is not known.
    """

    split: str
    classes: tuple[str, ...]
    labels_from: str
    has_masks: bool
    has_saliency: bool
    settings: dict[str, Any]
    inputs: str
    shards: tuple[Shard, ...]
    images: tuple[ImageEntry, ...]
    skipped: tuple[SkippedImage, ...]
    saliency_network: str = ""

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the shards' checksums and the classes; identifies the data set."""
        return _sha256([[shard.sha256 for shard in self.shards], self.classes])

    def write(self, path: str | os.PathLike) -> None:
        """Writes the manifest, atomically and durably."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "num_images": len(self.images),
            "num_skipped": len(self.skipped),
            "checksum": self.checksum,
            # Not `dataclasses.asdict`, which copies every value.
            **vars(self),
            **{name: [vars(item) for item in vars(self)[name]] for name in ("shards", "images", "skipped")},
        }
        content["manifest_sha256"] = _sha256(content)
        # One line per image, to read and to compare with diff.
        lines = []
        for key, value in content.items():
            if isinstance(value, list) and value:
                text = "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
            else:
                text = json.dumps(value)
            lines.append(f" {json.dumps(key)}: {text}")
        with atomic_write(path) as file:
            file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @classmethod
    def read(cls, path: str | os.PathLike) -> Self:
        """Reads a manifest and checks it against its own checksum.

        Raises:
            UserError: It is missing or damaged, is not a manifest, or has another version.
        """
        name = os.fspath(path)
        try:
            content = read_json(path, object)
        except OSError as error:
            raise UserError(f"{name}: cannot read the records' manifest: {error.strerror}; run make_records") from None
        except ValueError:
            raise UserError(f"{name}: damaged manifest: not JSON; run make_records again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{name}: not a manifest of records; expected <split>.json as make_records writes it")
        version = content.get("version")
        if version != VERSION:
            raise UserError(f"{name}: records of version {version!r}, expected {VERSION}; run make_records again")
        if content.pop("manifest_sha256", None) != _sha256(content):
            raise UserError(f"{name}: damaged or edited manifest: wrong checksum; run make_records again")
        try:
            values = {
                field.name: content[field.name]
                for field in dataclasses.fields(cls)
                if field.default is dataclasses.MISSING or field.name in content
            }
            values["classes"] = tuple(values["classes"])
            values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
            values["images"] = tuple(
                ImageEntry(**{**image, "labels": tuple(image["labels"])}) for image in values["images"]
            )
            values["skipped"] = tuple(SkippedImage(**image) for image in values["skipped"])
            manifest = cls(**values)
            wrong = manifest._first_wrong_value()
        except (KeyError, TypeError):
            wrong = "its fields"
        # A program other than make_records can write wrong values with the right checksum.
        if wrong:
            raise UserError(f"{name}: not a manifest as make_records writes it: wrong {wrong}; run make_records again")
        return manifest

    def _first_wrong_value(self) -> str | None:
        """Names the first wrong value; None if all are right. Some of them name files that are read and written.

        Raises:
            TypeError: A value has an unexpected type.
        """
        texts = (*self.classes, self.split, self.labels_from, self.inputs, self.saliency_network)
        flags = (self.has_masks, self.has_saliency)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(flag, bool) for flag in flags):
            return "types"
        too_many = self.has_masks and len(self.classes) > MAX_MASK_CLASSES
        if not self.classes or too_many or len(set(self.classes)) < len(self.classes):
            return "classes"
        for shard in self.shards:
            if not (is_plain_name(shard.file) and shard.num_records > 0 and shard.num_bytes > 0):
                return f"shard {quoted(str(shard.file))}"
        if not self.images or len({image.id for image in self.images}) < len(self.images):
            return "images: there are none, or one comes twice"
        for image in self.images:
            labels = image.labels
            is_whole = set(map(type, (*labels, image.height, image.width))) == {int}
            is_ascending = sorted(set(labels)) == list(labels)
            is_known = not labels or (labels[0] >= 0 and labels[-1] < len(self.classes))
            has_texts = isinstance(image.file, str) and isinstance(image.lacks_mask, bool)
            has_size = 0 < image.height < 2**31 and 0 < image.width < 2**31
            if not (is_plain_name(image.id) and is_ascending and is_known and is_whole and has_texts and has_size):
                return f"image {quoted(str(image.id))}"
        return None


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
