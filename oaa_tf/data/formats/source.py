"""What `make_records` needs to know of a data set, in whatever format it comes."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError

MASK_DIR = "SegmentationClass"
"""Where masks are unless a setting says otherwise; only then may they be absent."""


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """The files of one image.

    Attributes:
        image_id: The image's name in the records.
        image: The image.
        mask: Its mask; None without.
        saliency: Its saliency map; None without.
        annotation: A file of its own that its labels come from; None without.
    """

    image_id: str
    image: Path
    mask: Path | None = None
    saliency: Path | None = None
    annotation: Path | None = None


class Source(abc.ABC):
    """The images of one split, with their labels and masks; a format is a subclass.

    Attributes:
        name: The file or folder that says which images there are; messages begin with it.
        labels_from: Where the labels come from, as the manifest has it.
        classes: Names of the kept classes.
        images: The images, in the order of the records.
        files: What is read beside the files of the images; they need not exist.
        has_masks: Whether there are masks, then of all images.
    """

    name: Path
    labels_from: str
    classes: tuple[str, ...]
    images: tuple[SourceImage, ...]
    files: tuple[Path, ...]
    has_masks: bool

    @abc.abstractmethod
    def labels_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        """The labels of an image, ascending, and its mask: uint8 `[height, width]`, or None. Thread-safe.

        Both number the kept classes: label c is c + 1 in the mask. An image with none of them has no labels.

        Raises:
            UserError: A file is missing, damaged or wrong.
        """


def check_complete(files: Mapping[str, Path | None], name: Path, what: str, advice: str) -> None:
    """Checks that all images have a file of some kind.

    Args:
        files: By image id.
        name: What the ids come from.
        what: Is looked for.
        advice: What to do.

    Raises:
        UserError: Some have none.
    """
    missing = [image_id for image_id, path in files.items() if path is None]
    if missing:
        raise UserError(f"{name}: {len(missing)} of {len(files)} ids have no {what}, first {missing[0]}; {advice}")


def check_masks(masks: Mapping[str, Path | None], name: Path, folder: Path | None, mask_dir: str) -> None:
    """Checks that all images have masks, or none and nobody said so.

    Args:
        masks: Files by image id.
        name: What the ids come from.
        folder: Where the masks would be; None if there are to be none.
        mask_dir: The setting.

    Raises:
        UserError: Some have none.
    """
    if any(masks.values()):
        check_complete(masks, name, f"mask in {folder}", "set --mask_dir, or --mask_dir= for none")
    elif mask_dir not in ("", MASK_DIR):
        raise UserError(f"no mask of {name} in {folder}", flag="mask_dir", value=mask_dir)
    elif mask_dir:
        # Labels without masks are what weak supervision is for, but a user who has masks should hear of it.
        print(f"{name}: no masks in {folder}, the records are made without")
