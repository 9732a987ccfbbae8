"""Reading a folder in the layout of PASCAL VOC.

```
JPEGImages/<id>.jpg                     or .jpeg, .png
SegmentationClass/<id>.png              pixel value 0 background, n the n-th class, 255 ignore; optional
ImageSets/Segmentation/<split>.txt      one id a line
ImageSets/Segmentation/<split>_cls.txt  an id and its class indices (from 0) a line
Annotations/<id>.xml                    VOC's objects
classes.txt                             one class a line; VOC's 20 without it
```
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from oaa_tf.data.image_files import SUFFIXES
from oaa_tf.data.keys import IGNORE_LABEL
from oaa_tf.data.names import is_plain_name, links_outside
from oaa_tf.data.palette_png import read_bytes, read_indexed
from oaa_tf.errors import UserError, quoted

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_MAX_CLASSES = IGNORE_LABEL - 1
_MAX_CLASS_LENGTH = 100


class VocFolder:
    """The images, masks, saliency maps and labels of one folder, by image id.

    Class indices that come out count the kept classes. Files are looked up in listings of their folders, never opened
    by a name that a list made up; an id cannot leave the folder, nor can a link.

    Args:
        root: The folder.
        classes: The classes to keep, in the order of their new indices; all by default.
        mask_dir: Name of the folder with the masks; "" for none.
        saliency_dir: Path of a folder with saliency maps, `<id>.png` or `.jpg`; "" for none.

    Raises:
        UserError: A folder or `classes.txt` is missing, empty or wrong, or a class is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        classes: Sequence[str] = (),
        mask_dir: str = "SegmentationClass",
        saliency_dir: str = "",
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder; expected one in VOC layout (JPEGImages/, ImageSets/)")
        self.all_classes = self._read_classes()
        unknown = [name for name in classes if name not in self.all_classes]
        if unknown:
            raise UserError(f"--classes: unknown {', '.join(unknown)}; expected some of {', '.join(self.all_classes)}")
        if len(set(classes)) != len(classes):
            raise UserError(f"--classes={','.join(classes)}: a class is named twice")
        self.classes = tuple(classes) or self.all_classes
        self._new_index = {self.all_classes.index(name): index for index, name in enumerate(self.classes)}
        if Path(mask_dir).is_absolute() or ".." in Path(mask_dir).parts:
            raise UserError(f"--mask_dir={mask_dir}: expected the name of a folder inside {self.root}")
        self._images = _Listing(self.root / "JPEGImages", SUFFIXES, self.root)
        self.mask_folder = self.root / mask_dir if mask_dir else None
        has_masks = self.mask_folder is not None and self.mask_folder.is_dir()
        self._masks = _Listing(self.mask_folder, (".png",), self.root, may_be_empty=True) if has_masks else None
        self._saliency = _Listing(Path(saliency_dir), SUFFIXES, Path(saliency_dir)) if saliency_dir else None

    def split_file(self, split: str, suffix: str = "") -> Path:
        """Path of a split's list of ids, or with the suffix "_cls" of its labels."""
        return self.root / "ImageSets" / "Segmentation" / f"{split}{suffix}.txt"

    def annotation_file(self, image_id: str) -> Path:
        """Path of an image's VOC annotation; it need not exist."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def image_ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split in the order of its list.

        A line holds an id, or the paths of image and mask (`/JPEGImages/x.jpg /SegmentationClassAug/x.png`), whose
        stem is the id.

        Raises:
            UserError: The list is missing or empty, or a line is no id, or an id comes twice.
        """
        path = self.split_file(split)
        first_line = {}
        for number, words in self._lines(path):
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

    def image(self, image_id: str) -> Path | None:
        """Path of an image, None when there is none."""
        return self._images.find(image_id)

    def mask(self, image_id: str) -> Path | None:
        """Path of a mask, None when there is none."""
        return self._masks.find(image_id) if self._masks else None

    def saliency(self, image_id: str) -> Path | None:
        """Path of a saliency map, None when there is none."""
        return self._saliency.find(image_id) if self._saliency else None

    def read_mask(self, path: str | os.PathLike) -> np.ndarray:
        """Reads a mask and renumbers it: 0 background, c + 1 for kept class c, `IGNORE_LABEL` for all other classes.

        Returns:
            uint8 `[height, width]`.

        Raises:
            UserError: The file is damaged or no mask, or a pixel value is no class.
        """
        values = read_indexed(path)
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        wrong = [int(value) for value in present if len(self.all_classes) < value != IGNORE_LABEL]
        if wrong:
            raise UserError(
                f"{path}: pixel value {wrong[0]} is no class; "
                f"expected 0 to {len(self.all_classes)} (classes.txt) and {IGNORE_LABEL}"
            )
        new_values = np.full(256, IGNORE_LABEL, np.uint8)
        new_values[0] = 0
        for old, new in self._new_index.items():
            new_values[old + 1] = new + 1
        return new_values[values]

    def listed_labels(self, split: str) -> dict[str, tuple[int, ...]]:
        """Labels from `<split>_cls.txt`: kept classes, ascending, by image id.

        Raises:
            UserError: The list is missing, or a line is wrong, or an id comes twice.
        """
        path = self.split_file(split, "_cls")
        labels = {}
        for number, (word, *indices) in self._lines(path):
            image_id = _image_id(word, f"{path}:{number}")
            if image_id in labels:
                raise UserError(f"{path}:{number}: duplicate id {image_id}")
            for index in indices:
                if not re.fullmatch("[0-9]{1,3}", index) or int(index) >= len(self.all_classes):
                    raise UserError(
                        f"{path}:{number}: class {index[:20]} of {image_id} is out of range; "
                        f"expected 0 to {len(self.all_classes) - 1}"
                    )
            labels[image_id] = self._kept(int(index) for index in indices)
        return labels

    def annotated_labels(self, image_id: str, *, skip_difficult: bool) -> tuple[int, ...]:
        """Labels from `Annotations/<id>.xml`: kept classes, ascending.

        Args:
            image_id: The image.
            skip_difficult: Whether to leave out objects that are marked as difficult.

        Raises:
            UserError: The file is missing or no annotation, or names a class that is not in the folder's classes.
        """
        path = self.annotation_file(image_id)
        text = self._read(path).decode("utf-8-sig", errors="replace")
        # Annotations need no document type; entities of one could grow without bound or name other files.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UserError(f"{path}: annotation with a DOCTYPE or ENTITY declaration: not accepted; remove it")
        try:
            objects = ElementTree.fromstring(text).findall("object")
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{path}: not a VOC annotation: {error}") from None
        indices = []
        for element in objects:
            name = (element.findtext("name") or "").strip()
            if name not in self.all_classes:
                expected = ", ".join(self.all_classes)
                raise UserError(f"{path}: unknown class {quoted(name)}; expected one of {expected}")
            if not (skip_difficult and (element.findtext("difficult") or "").strip() == "1"):
                indices.append(self.all_classes.index(name))
        return self._kept(indices)

    def _kept(self, indices: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted({self._new_index[index] for index in indices if index in self._new_index}))

    def _read_classes(self) -> tuple[str, ...]:
        path = self.root / "classes.txt"
        # A link to nowhere is a list that is missing, not a folder without one.
        if not os.path.lexists(path):
            return VOC_CLASSES
        classes = tuple(line.strip() for line in self._read_text(path).rstrip().split("\n"))
        if not all(classes):
            raise UserError(f"{path}: expected one class name per line, found an empty line")
        if len(set(classes)) != len(classes):
            raise UserError(f"{path}: a class is named twice")
        if wrong := [name for name in classes if not name.isprintable() or len(name) > _MAX_CLASS_LENGTH]:
            raise UserError(
                f"{path}: {quoted(wrong[0])} is no class name; expected at most {_MAX_CLASS_LENGTH} characters of text"
            )
        if classes[0].lower() == "background":
            raise UserError(f"{path}: the first line must be the first object class: remove {classes[0]!r}")
        if len(classes) > _MAX_CLASSES:
            raise UserError(f"{path}: {len(classes)} classes; masks of 8 bits hold at most {_MAX_CLASSES}")
        return classes

    def _lines(self, path: Path) -> list[tuple[int, list[str]]]:
        """The words of each line that is not blank, with the line's number."""
        if not path.is_file():
            raise UserError(f"{path}: no such list; check --voc_dir and --split")
        lines = enumerate(self._read_text(path).splitlines(), start=1)
        return [(number, line.split()) for number, line in lines if line.strip()]

    def _read_text(self, path: Path) -> str:
        try:
            return self._read(path).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: expected a text file in UTF-8") from None

    def _read(self, path: Path) -> bytes:
        if links_outside(path, self.root):
            raise UserError(f"{path}: links to a file outside of the data folder; copy the file")
        return read_bytes(path)


def labels_of_mask(mask: np.ndarray) -> tuple[int, ...]:
    """The class indices that occur in a mask (uint8, as `VocFolder.read_mask` returns it), ascending."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return tuple(int(value) - 1 for value in present if 0 < value < IGNORE_LABEL)


class _Listing:
    """The files of one folder by stem."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...], root: Path, may_be_empty: bool = False) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder}: cannot read the folder: {error.strerror}") from None
        self._files: dict[str, list[Path]] = {}
        self._outside = set()
        for entry in entries:
            path = Path(entry.path)
            if path.suffix.lower() not in suffixes:
                continue
            self._files.setdefault(path.stem, []).append(path)
            if entry.is_symlink() and links_outside(path, root):
                self._outside.add(path)
        if not self._files and not may_be_empty:
            raise UserError(f"{folder}: empty folder; expected {', '.join(suffixes)} files")

    def find(self, image_id: str) -> Path | None:
        paths = self._files.get(image_id)
        if not paths:
            return None
        if len(paths) > 1:
            raise UserError(f"{paths[0]}: {paths[1].name} has the same id; remove one of the two")
        if paths[0] in self._outside:
            raise UserError(f"{paths[0]}: links to a file outside of the data folder; copy the file")
        return paths[0]


def _image_id(word: str, where: str) -> str:
    """The image id in a word of a list: the word itself, or the stem of a path like `/JPEGImages/x.jpg`."""
    *folders, name = word.removeprefix("/").split("/")
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in SUFFIXES:
        name = stem
    if len(folders) > 1 or ".." in folders or not is_plain_name(name):
        raise UserError(f"{where}: {quoted(word)} is no image id; expected a plain file name or JPEGImages/<id>.jpg")
    return name
