"""Reading a folder in the layout of PASCAL VOC.

```
JPEGImages/<id>.jpg                     or .png, .webp and so on
SegmentationClass/<id>.png              pixel value 0 background, n the n-th class, 255 ignore; optional
ImageSets/Segmentation/<split>.txt      one id a line
ImageSets/Segmentation/<split>_cls.txt  an id and its class indices (from 0) a line
Annotations/<id>.xml                    VOC's objects
classes.txt                             one class a line; VOC's 20 without it
```
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList, read_class_file
from oaa_tf.data.formats.folder_files import Listing, as_text, list_masks, read_inside
from oaa_tf.data.images.image_files import SUFFIXES
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.runs.file_names import is_plain_name

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VocFolder:
    """The images, masks and labels of one folder, by image id.

    The methods return indices among the kept classes. Images and masks are looked up in listings of their folders,
    never opened by a name from a list; neither an id nor a link can lead out of the folder.

    Args:
        root: The folder.
        classes: The classes to keep, in the order of their new indices; all by default.
        mask_dir: Name of the folder with the masks; "" for none.

    Attributes:
        root: As given.
        class_list: All classes, and the kept ones.
        classes: Names of the kept classes.
        images: The files of `JPEGImages/`.
        masks: The files of masks, possibly none; None without `mask_dir`.

    Raises:
        UserError: The folder, its images or `classes.txt` are missing or wrong, or a class to keep is unknown.
    """

    def __init__(
        self, root: str | os.PathLike, *, classes: Sequence[str] = (), mask_dir: str = "SegmentationClass"
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder; expected one in VOC layout (JPEGImages/, ImageSets/)")
        self.class_list = ClassList(read_class_file(self.root) or VOC_CLASSES, classes, self.root / CLASSES_FILE)
        self.classes = self.class_list.kept
        self.images = Listing(self.root / "JPEGImages", SUFFIXES, self.root)
        self.masks = list_masks(self.root, mask_dir)

    def split_file(self, split: str, suffix: str = "") -> Path:
        """Path of a split's list of ids; with the suffix "_cls", path of its list of labels."""
        return self.root / "ImageSets" / "Segmentation" / f"{split}{suffix}.txt"

    def annotation_file(self, image_id: str) -> Path:
        """Path of an image's annotation, which need not exist."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def image_ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split in the order of its list.

        A line holds an id, or the paths of image and mask (`/JPEGImages/x.jpg /SegmentationClassAug/x.png`), whose
        stem is the id.

        Raises:
            UserError: The list is missing or empty, or has a wrong line or an id twice.
        """
        path = self.split_file(split)
        first_line: dict[str, int] = {}
        for number, words in self._lines(path, "list; check --voc_dir and --split"):
            ids = [_image_id(word, f"{path}:{number}") for word in words[:3]]
            if len(ids) > 2 or len(set(ids)) > 1 or (len(ids) == 2 and "/" not in words[1]):
                found = quoted(" ".join(words[:9]))
                raise UserError(f"{path}:{number}: expected one id, or an image and its mask; found {found}")
            if ids[0] in first_line:
                raise UserError(f"{path}:{number}: duplicate id {ids[0]} (first in line {first_line[ids[0]]})")
            first_line[ids[0]] = number
        if not first_line:
            raise UserError(f"{path}: empty list; expected one image id per line")
        return tuple(first_line)

    def read_mask(self, path: str | os.PathLike) -> np.ndarray:
        """Reads a mask: 0 background, c + 1 for kept class c, `IGNORE_LABEL` for all other classes.

        Returns:
            uint8 `[height, width]`.

        Raises:
            UserError: The file is damaged or not a mask, or a pixel value is no class.
        """
        return self.class_list.renumbered(read_indexed(path), path)

    def listed_labels(self, split: str) -> dict[str, tuple[int, ...]]:
        """Labels from `<split>_cls.txt`: kept classes, ascending, by image id.

        Raises:
            UserError: The list is missing, or has a wrong line or an id twice.
        """
        path = self.split_file(split, "_cls")
        num_classes = len(self.class_list.known)
        labels = {}
        if_missing = "list of labels; write it, or use --labels_from=annotations or masks"
        for number, (word, *indices) in self._lines(path, if_missing):
            image_id = _image_id(word, f"{path}:{number}")
            if image_id in labels:
                raise UserError(f"{path}:{number}: duplicate id {image_id}")
            for index in indices:
                if not re.fullmatch("[0-9]{1,3}", index) or int(index) >= num_classes:
                    raise UserError(
                        f"{path}:{number}: class {index[:20]} of {image_id} is out of range; "
                        f"expected 0 to {num_classes - 1}"
                    )
            labels[image_id] = self.class_list.kept_labels(int(index) for index in indices)
        return labels

    def annotated_labels(self, image_id: str, *, skip_difficult: bool) -> tuple[int, ...]:
        """Labels from `Annotations/<id>.xml`: kept classes, ascending.

        Args:
            image_id: The image.
            skip_difficult: Whether to leave out objects that are marked as difficult.

        Raises:
            UserError: The file is missing or not an annotation, or names an unknown class.
        """
        path = self.annotation_file(image_id)
        text = read_inside(path, self.root).decode("utf-8-sig", errors="replace")
        # Entities can grow without bound and read other files; VOC's annotations need none.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UserError(f"{path}: annotation with a DOCTYPE or ENTITY declaration: not accepted; remove it")
        try:
            objects = ElementTree.fromstring(text).findall("object")
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{path}: not a VOC annotation: {error}") from None
        indices = []
        for element in objects:
            index = self.class_list.index((element.findtext("name") or "").strip(), path)
            if not (skip_difficult and (element.findtext("difficult") or "").strip() == "1"):
                indices.append(index)
        return self.class_list.kept_labels(indices)

    def _lines(self, path: Path, if_missing: str) -> list[tuple[int, list[str]]]:
        """Number and words of each line that is not blank; `if_missing` ends the message about a missing file."""
        if not path.is_file():
            raise UserError(f"{path}: no such {if_missing}")
        lines = enumerate(as_text(read_inside(path, self.root), path).splitlines(), start=1)
        return [(number, line.split()) for number, line in lines if line.strip()]


def labels_of_mask(mask: np.ndarray) -> tuple[int, ...]:
    """The class indices that occur in a mask (uint8, as `VocFolder.read_mask` returns it), ascending."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return tuple(int(value) - 1 for value in present if 0 < value < IGNORE_LABEL)


def _image_id(word: str, where: str) -> str:
    """The image id in a word of a list: the word itself, or the stem of a path like `/JPEGImages/x.jpg`."""
    *folders, name = word.removeprefix("/").split("/")
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in SUFFIXES:
        name = stem
    if len(folders) > 1 or ".." in folders or not is_plain_name(name):
        raise UserError(f"{where}: {quoted(word)} is no image id; expected a plain file name or JPEGImages/<id>.jpg")
    return name
