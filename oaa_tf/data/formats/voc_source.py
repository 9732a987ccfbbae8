"""One split of a folder in VOC layout, as `make_records` reads it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import CLASS_FILES
from oaa_tf.data.formats.mask_files import labels_of_mask
from oaa_tf.data.formats.source import Source, SourceImage
from oaa_tf.data.formats.voc import VocFolder


class VocSource(Source):
    """The images that a list of a VOC folder names; see `VocFolder`.

    Args:
        root: The folder.
        split: Name of the list.
        labels_from: "list", "annotations" or "masks".
        skip_difficult: Whether to leave out objects that annotations mark as difficult.
        classes: Classes to keep; all if empty.
        mask_dir: Name of the folder with the masks; "" for none.
        saliency_dir: Path of the folder with the saliency maps; "" for none.

    Raises:
        UserError: The folder or one of its lists is wrong, or an image, mask, saliency map or label is missing.
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
        folder = VocFolder(root, classes=classes, mask_dir=mask_dir)
        name, label_list = folder.split_file(split), folder.split_file(split, "_cls")
        files = (*(folder.root / file for file in CLASS_FILES), name, label_list)
        super().__init__(name, labels_from=labels_from, class_list=folder.class_list, files=files)
        self._folder = folder
        self._skip_difficult = skip_difficult
        folder.images.tell_other_files()
        ids = folder.image_ids(split)
        images = self._complete(
            {image_id: folder.images.find(image_id) for image_id in ids},
            f"image in {folder.images.folder}",
            "add them or shorten the list",
        )
        stems = {image_id: image_id for image_id in ids}
        self._set_images(images, stems, masks=folder.masks, mask_dir=mask_dir, saliency_dir=saliency_dir)
        if labels_from == "masks":
            with_masks = {image.image_id: image.mask for image in self.images}
            self._complete(with_masks, f"mask in {folder.root / mask_dir}", "labels come from them; shorten the list")
        if labels_from == "annotations":
            found = {
                image_id: path if os.path.lexists(path := folder.annotation_file(image_id)) else None
                for image_id in ids
            }
            annotations = self._complete(
                found, f"annotation in {folder.root / 'Annotations'}", "add them or shorten the list"
            )
            self.images = tuple(
                dataclasses.replace(image, annotation=annotations[image.image_id]) for image in self.images
            )
        elif labels_from == "list":
            self._listed = folder.listed_labels(split)
            if missing := [image_id for image_id in ids if image_id not in self._listed]:
                raise UserError(
                    f"{label_list}: no line for {len(missing)} of {len(ids)} ids, first {missing[0]}; add them"
                )

    def _tags_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...] | None, np.ndarray | None]:
        mask = self._read_mask(image.mask) if image.mask else None
        if self.labels_from == "list":
            return self._listed[image.image_id], mask
        if self.labels_from == "annotations":
            all_labels, labels = (
                self._folder.annotated_labels(image.image_id, skip_difficult=skip)
                for skip in (False, self._skip_difficult)
            )
            # An image with difficult objects alone is no negative.
            return None if all_labels and not labels else labels, mask
        assert mask is not None, "with labels from masks, every image has one"
        return labels_of_mask(mask), mask

    def _has_masks_without_files(self, folder: Path | None, mask_dir: str) -> bool:
        if self.labels_from == "masks":
            raise UserError(f"{folder} has no mask of {self.name}; check --mask_dir", flag="labels_from", value="masks")
        return super()._has_masks_without_files(folder, mask_dir)
