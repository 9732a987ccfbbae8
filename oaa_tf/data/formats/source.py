"""What `make_records` needs to know of a data set, whatever its format."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing
from oaa_tf.data.images.image_files import SUFFIXES

MASK_DIR = "SegmentationClass"
"""Default of `--mask_dir`; only this folder may have no mask of the split."""


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """The files of one image.

    Attributes:
        image_id: The image's name in the records.
        image: The image.
        mask: Its mask; None if it has no mask file.
        saliency: Its saliency map; None without.
        annotation: The file that holds this image's labels alone; None without.
    """

    image_id: str
    image: Path
    mask: Path | None = None
    saliency: Path | None = None
    annotation: Path | None = None


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
        has_masks: Whether there are masks. All images have one, or none has.
    """

    images: tuple[SourceImage, ...]
    has_masks: bool

    def __init__(self, name: Path, *, labels_from: str, class_list: ClassList, files: tuple[Path, ...]) -> None:
        self.name = name
        self.labels_from = labels_from
        self.classes = class_list.kept
        self.files = files
        self._class_list = class_list

    @abc.abstractmethod
    def labels_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        """The labels of an image, ascending, and its mask: uint8 `[height, width]`, or None. Thread-safe.

        Both number the kept classes: label c is c + 1 in the mask. An image without any kept class has no labels.

        Raises:
            UserError: A file is missing, damaged or wrong.
        """

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
            UserError: Some images have no mask or saliency map, or masks that the user asks for do not exist.
        """
        mask_of = {image_id: masks.find(stem) for image_id, stem in stems.items()} if masks else {}
        mask_folder = masks.folder if masks else None
        self.has_masks = any(mask_of.values())
        if self.has_masks:
            self._complete(mask_of, f"mask in {mask_folder}", "set --mask_dir, or --mask_dir= for none")
        else:
            self.has_masks = self._has_masks_without_files(mask_folder, mask_dir)
        saliency_of: dict[str, Path | None] = {}
        if saliency_dir:
            maps = Listing(Path(saliency_dir), SUFFIXES, Path(saliency_dir), recursive=recursive)
            saliency_of = {image_id: maps.find(stem) for image_id, stem in stems.items()}
            self._complete(saliency_of, f"map in --saliency_dir={saliency_dir}", "add them")
        self.images = tuple(
            SourceImage(image_id, path, mask_of.get(image_id), saliency_of.get(image_id))
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
            raise UserError(
                f"{self.name}: {len(missing)} of {len(files)} ids have no {what}, first {missing[0]}; {advice}"
            )
        return found
