"""One split of a folder in VOC layout, as `make_records` reads it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import CLASSES_FILE
from oaa_tf.data.formats.source import Source, SourceImage, check_complete, check_masks
from oaa_tf.data.formats.voc import VocFolder, labels_of_mask


class VocSource(Source):
    """The images that a list of a VOC folder names; see `VocFolder`.

    Args:
        root: The folder.
        split: Name of the list.
        labels_from: "list", "annotations" or "masks".
        skip_difficult: Whether to leave out objects that annotations mark as difficult.
        classes: Classes to keep; all if empty.
        mask_dir: Name of the masks' folder; "" for none.
        saliency_dir: Path of the saliency maps' folder; "" for none.

    Raises:
        UserError: Anything wrong with the folder, or an image has not all of the files that are asked for.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str,
        *,
        labels_from: str,
        skip_difficult: bool,
        classes: Sequence[str],
        mask_dir: str,
        saliency_dir: str,
    ) -> None:
        self._folder = VocFolder(root, classes=classes, mask_dir=mask_dir, saliency_dir=saliency_dir)
        self.classes = self._folder.classes
        self.labels_from = labels_from
        self.name = self._folder.split_file(split)
        self.files = (self._folder.root / CLASSES_FILE, self.name, self._folder.split_file(split, "_cls"))
        self._skip_difficult = skip_difficult
        ids = self._folder.image_ids(split)
        images = {image_id: self._folder.image(image_id) for image_id in ids}
        check_complete(
            images, self.name, f"image in {self._folder.root / 'JPEGImages'}", "add them or shorten the list"
        )
        masks = {image_id: self._folder.mask(image_id) for image_id in ids}
        self.has_masks = any(masks.values())
        if labels_from == "masks" and not self.has_masks:
            raise UserError(
                f"{self._folder.mask_folder} has no mask of {self.name}; check --mask_dir",
                flag="labels_from",
                value="masks",
            )
        check_masks(masks, self.name, self._folder.mask_folder, mask_dir)
        saliency = {image_id: self._folder.saliency(image_id) for image_id in ids}
        if saliency_dir:
            check_complete(saliency, self.name, f"map in --saliency_dir={saliency_dir}", "add them")
        self._listed = self._listed_labels(split, ids) if labels_from == "list" else {}
        self.images = tuple(
            SourceImage(
                image_id,
                images[image_id],
                masks[image_id],
                saliency[image_id],
                self._folder.annotation_file(image_id) if labels_from == "annotations" else None,
            )
            for image_id in ids
        )

    def labels_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        """See `Source`."""
        mask = self._folder.read_mask(image.mask) if image.mask else None
        if self.labels_from == "masks":
            return labels_of_mask(mask), mask
        if self.labels_from == "annotations":
            return self._folder.annotated_labels(image.image_id, skip_difficult=self._skip_difficult), mask
        return self._listed[image.image_id], mask

    def _listed_labels(self, split: str, ids: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        path: Path = self._folder.split_file(split, "_cls")
        if not path.is_file():
            raise UserError(f"{path}: no such list of labels; write it, or use --labels_from=annotations or masks")
        labels = self._folder.listed_labels(split)
        missing = [image_id for image_id in ids if image_id not in labels]
        if missing:
            raise UserError(f"{path}: no line for {len(missing)} of {len(ids)} ids, first {missing[0]}; add them")
        return labels
