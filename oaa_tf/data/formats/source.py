"""What `make_records` needs to know of a data set, whatever its format."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing
from oaa_tf.data.formats.mask_files import read_mask, white_is_class
from oaa_tf.data.images.image_files import SUFFIXES
from oaa_tf.data.records.keys import IGNORE_LABEL

MASK_DIR = "SegmentationClass"
"""Default of `--mask_dir`; only this folder may have no mask of the split."""


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """The files of one image.

    Attributes:
        image_id: The image's name in the records.
        image: The image.
        file: Its path below the folder of images, with `/` between folders.
        mask: Its mask; None if it has no mask file.
        saliency: Its saliency map; None without.
        annotation: The file that holds this image's labels alone; None without.
    """

    image_id: str
    image: Path
    file: str
    mask: Path | None = None
    saliency: Path | None = None
    annotation: Path | None = None


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What is known of one image.

    Attributes:
        labels: The kept classes, ascending; label c is c + 1 in the mask. Empty if it has none of them.
        has_tags: Whether it shows a class, kept or not. An image that shows none is a negative of all classes.
        mask: uint8 `[height, width]`, 0 background, `IGNORE_LABEL` for classes that are not kept; None without.
    """

    labels: tuple[int, ...]
    has_tags: bool
    mask: np.ndarray | None


class Source(abc.ABC):
    """The images of one split, with their labels and masks.

    A subclass for each format finds the images, and reads their labels and masks. The files of masks and saliency maps
    are found here, for all formats alike.

    Args:
        name: The file or folder that lists the images; error messages begin with it.
        labels_from: Kind of the labels, as the manifest records it.
        class_list: All classes, and those to keep.
        files: Files that are read besides those of the images; they need not exist.

    Attributes:
        name: As given.
        labels_from: As given.
        classes: Names of the kept classes.
        files: As given.
        images: The images, in the order of the records.
        has_masks: Whether there are masks, of all images or of some.
    """

    images: tuple[SourceImage, ...]
    has_masks: bool

    def __init__(self, name: Path, *, labels_from: str, class_list: ClassList, files: tuple[Path, ...]) -> None:
        self.name = name
        self.labels_from = labels_from
        self.classes = class_list.kept
        self.files = files
        self._class_list = class_list
        self._white_is_class = False

    def labelled(self, image: SourceImage) -> Labelled:
        """The labels and the mask of an image. Thread-safe.

        Raises:
            UserError: A file is missing, damaged or wrong.
        """
        tags, mask = self._tags_and_mask(image)
        labels, has_tags = self._class_list.kept_labels(tags or ()), tags != ()
        where = image.mask or f"{self.name}: {image.image_id}"
        return Labelled(labels, has_tags, None if mask is None else self._class_list.renumbered(mask, where))

    @abc.abstractmethod
    def _tags_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...] | None, np.ndarray | None]:
        """The tags of an image, and its mask, which numbers all classes, or None.

        The tags are indices among all classes; empty if the image shows none of them, None if that is not known.
        """

    def _read_mask(self, path: Path) -> np.ndarray:
        """Reads a mask file, which numbers all classes; see `read_mask`."""
        return read_mask(path, self._class_list, white_is_class=self._white_is_class)

    def _set_images(
        self,
        images: Mapping[str, Path],
        stems: Mapping[str, str],
        *,
        masks: Listing | None,
        mask_dir: str,
        saliency_dir: str,
        recursive: bool = False,
    ) -> None:
        """Sets `images` and `has_masks`.

        Args:
            images: The images by id, in the order of the records.
            stems: Path without suffix of each image's mask and saliency map below their folders, by id.
            masks: The files of masks; None if the user wants none.
            mask_dir: The setting.
            saliency_dir: Path of the folder with the saliency maps; "" for none.
            recursive: Whether saliency maps may be in folders below it.

        Raises:
            UserError: Some images have no saliency map, or masks that the user asks for do not exist, are only white
                though there are several classes, or cannot number so many classes.
        """
        mask_of = {image_id: masks.find(stem) for image_id, stem in stems.items()} if masks else {}
        mask_folder = masks.folder if masks else None
        self.has_masks = any(mask_of.values())
        if self.has_masks:
            found = [path for path in mask_of.values() if path]
            if len(found) < len(mask_of):
                print(f"{self.name}: {len(found)} of {len(mask_of)} images have a mask in {mask_folder}")
            self._white_is_class = white_is_class(found, self._class_list)
            if self._white_is_class:
                print(f"{self.name}: masks of 0 and {IGNORE_LABEL}: white is {self._class_list.known[0]}")
        else:
            self.has_masks = self._has_masks_without_files(mask_folder, mask_dir)
        if self.has_masks:
            self._class_list.require_masks()
        saliency_of: dict[str, Path | None] = {}
        if saliency_dir:
            maps = Listing(Path(saliency_dir), SUFFIXES, Path(saliency_dir), recursive=recursive)
            saliency_of = {image_id: maps.find(stem) for image_id, stem in stems.items()}
            self._complete(saliency_of, f"map in --saliency_dir={saliency_dir}", "add them")
        self.images = tuple(
            SourceImage(
                image_id, path, f"{stems[image_id]}{path.suffix}", mask_of.get(image_id), saliency_of.get(image_id)
            )
            for image_id, path in images.items()
        )

    def _has_masks_without_files(self, folder: Path | None, mask_dir: str) -> bool:
        """Decides whether images have masks although none has a file.

        Args:
            folder: The folder of masks, which need not exist; None if the user wants none.
            mask_dir: The setting.

        Raises:
            UserError: The user asks for masks.
        """
        if mask_dir not in ("", MASK_DIR):
            raise UserError(f"no mask of {self.name} in {folder}", flag="mask_dir", value=mask_dir)
        if mask_dir:
            # Labels without masks are what weak supervision is for, but a user who has masks should hear of it.
            print(f"{self.name}: no masks in {folder}, the records are made without")
        return False

    def _complete(self, files: Mapping[str, Path | None], what: str, advice: str) -> dict[str, Path]:
        """The files of all images by id.

        Args:
            files: By image id; None for a missing file.
            what: Kind and folder of the files, for the error message.
            advice: What the user can do about missing ones.

        Raises:
            UserError: Files are missing.
        """
        found = {image_id: path for image_id, path in files.items() if path}
        if missing := [image_id for image_id in files if image_id not in found]:
            names = ", ".join(missing[:10])
            raise UserError(f"{self.name}: {len(missing)} of {len(files)} ids have no {what}, first {names}; {advice}")
        return found
