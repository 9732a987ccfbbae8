"""Reading a folder in the layout of PASCAL VOC.

```
JPEGImages/<id>.jpg                     or .png, .webp and so on
SegmentationClass/<id>.png              see `read_mask`; optional
ImageSets/Segmentation/<split>.txt      one id a line; or ImageSets/Main/<split>.txt
ImageSets/Segmentation/<split>_cls.txt  an id and its class indices (from 0) a line
Annotations/<id>.xml                    VOC's objects
classes.txt                             see `read_class_file`; VOC's 20 classes without it
```
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from oaa_tf.command_line.errors import UserError, quoted, raise_all
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList, read_class_file
from oaa_tf.data.formats.folder_files import Listing, as_text, list_masks, read_inside
from oaa_tf.data.images.image_files import SUFFIXES
from oaa_tf.runs.file_names import is_plain_name

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VocFolder:
    """The images, masks and labels of one folder, by image id.

    The methods return indices among all classes. Images and masks are looked up in listings of their folders,
    never opened by a name from a list; neither an id nor a link can lead out of the folder.

    Args:
        root: The folder.
        classes: The classes to keep, in the order of their new indices; all by default.
        mask_dir: Name of the folder with the masks; "" for none.

    Attributes:
        root: As given.
        class_list: All classes, and the kept ones.
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
        if not (self.root / "JPEGImages").is_dir() and any(self.root.glob("*.xml")):
            raise UserError(f"{self.root}: photos and XML in one folder are given with --image_dir={self.root}")
        self.class_list = ClassList.of_folder(self.root, classes, VOC_CLASSES, f"VOC's; list others in {CLASSES_FILE}")
        self.images = Listing(self.root / "JPEGImages", SUFFIXES, self.root)
        self.masks = list_masks(self.root, mask_dir)

    def split_file(self, split: str, suffix: str = "") -> Path:
        """Path of a split's list of ids; with the suffix "_cls", path of its list of labels."""
        lists, name = self.root / "ImageSets", f"{split}{suffix}.txt"
        # Tools write their lists of images with boxes into Main.
        has_main_only = (lists / "Main" / name).is_file() and not (lists / "Segmentation" / name).is_file()
        return lists / ("Main" if has_main_only else "Segmentation") / name

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
        mistakes = []
        for number, words in self._lines(path, "list; check --voc_dir and --split"):
            try:
                ids = [_image_id(word, f"{path}:{number}") for word in words[:3]]
                if len(ids) > 2 or len(set(ids)) > 1 or (len(ids) == 2 and "/" not in words[1]):
                    found = quoted(" ".join(words[:9]))
                    raise UserError(f"{path}:{number}: expected one id, or an image and its mask; found {found}")
                if ids[0] in first_line:
                    raise UserError(f"{path}:{number}: duplicate id {ids[0]} (first in line {first_line[ids[0]]})")
            except UserError as error:
                mistakes.append(error)
            else:
                first_line[ids[0]] = number
        raise_all(mistakes)
        if not first_line:
            raise UserError(f"{path}: empty list; expected one image id per line")
        return tuple(first_line)

    def listed_labels(self, split: str) -> dict[str, tuple[int, ...]]:
        """Labels from `<split>_cls.txt`: indices among all classes, ascending, by image id.

        Raises:
            UserError: The list is missing, has a wrong line or an id twice, or may count the background as a class.
        """
        path = self.split_file(split, "_cls")
        lines = self._lines(path, "list of labels; write it, or use --labels_from=annotations or masks")
        class_file = read_class_file(self.root)
        if class_file and class_file.counts_background:
            raise UserError(
                f"{class_file.path}: the numbers in {path.name} begin with the first class: remove its line"
                " for the background"
            )
        num_classes = len(self.class_list.known)
        labels = {}
        mistakes = []
        for number, (word, *indices) in lines:
            image_id = _image_id(word, f"{path}:{number}")
            wrong = [index for index in indices if not re.fullmatch("[0-9]{1,3}", index) or int(index) >= num_classes]
            if image_id in labels:
                mistakes.append(UserError(f"{path}:{number}: duplicate id {image_id}"))
            elif wrong:
                found = f"class {wrong[0][:20]} of {image_id}"
                message = f"{path}:{number}: {found} is out of range; expected 0 to {num_classes - 1}"
                mistakes.append(UserError(message))
            else:
                labels[image_id] = tuple(sorted({int(index) for index in indices}))
        raise_all(mistakes)
        return labels

    def annotated_labels(self, image_id: str, *, skip_difficult: bool) -> tuple[int, ...]:
        """Labels from `Annotations/<id>.xml`: indices among all classes, ascending.

        Args:
            image_id: The image.
            skip_difficult: Whether to leave out objects that are marked as difficult.

        Raises:
            UserError: See `annotated_objects`; or a class is unknown.
        """
        path = self.annotation_file(image_id)
        objects = annotated_objects(path, self.root)
        indices = {
            index
            for index, difficult in [(self.class_list.index(name, path), difficult) for name, difficult in objects]
            if not (skip_difficult and difficult)
        }
        return tuple(sorted(indices))

    def _lines(self, path: Path, if_missing: str) -> list[tuple[int, list[str]]]:
        """Number and words of each line that is not blank; `if_missing` ends the message about a missing file."""
        if not path.is_file():
            raise UserError(f"{path}: no such {if_missing}")
        lines = enumerate(as_text(read_inside(path, self.root), path).splitlines(), start=1)
        return [(number, line.split()) for number, line in lines if line.strip()]


def annotated_objects(path: Path, root: Path) -> list[tuple[str, bool]]:
    """Name of each object in an annotation, and whether it is difficult.

    Args:
        path: The XML file, in the encoding that it declares.
        root: The data folder, out of which the file may not lead.

    Raises:
        UserError: The file is missing or not an annotation, or an object has no name.
    """
    data = read_inside(path, root)
    declared = re.match(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)""", data)
    try:
        text = data.decode(declared[1].decode()) if declared else as_text(data, path)
    except (LookupError, UnicodeError):
        raise UserError(
            f"{path}: not in the encoding that it declares, {declared[1].decode() if declared else ''}"
        ) from None
    text = text.removeprefix("\ufeff")
    # Entities can grow without bound and read other files; VOC's annotations need none.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path}: annotation with a DOCTYPE or ENTITY declaration: not accepted; remove it")
    try:
        root_element = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not a VOC annotation: {error}") from None
    if root_element.tag == "annotations":
        raise UserError(f"{path}: CVAT's own XML is not read; export 'PASCAL VOC' or 'COCO' instead")
    found = []
    # With any namespace, or none.
    for number, element in enumerate(root_element.findall("{*}object"), start=1):
        name, difficult = ((element.findtext(f"{{*}}{key}") or "").strip() for key in ("name", "difficult"))
        if not name:
            raise UserError(f"{path}: object {number} has no <name>")
        found.append((name, difficult == "1"))
    return found


def _image_id(word: str, where: str) -> str:
    """The image id in a word of a list: the word itself, or the stem of a path like `/JPEGImages/x.jpg`."""
    *folders, name = word.removeprefix("/").split("/")
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in SUFFIXES:
        name = stem
    if len(folders) > 1 or ".." in folders or not is_plain_name(name):
        raise UserError(f"{where}: {quoted(word)} is no image id; expected a plain file name or JPEGImages/<id>.jpg")
    return name
