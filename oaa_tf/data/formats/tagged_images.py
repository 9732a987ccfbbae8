"""A folder of images whose tags come from a list, or from the folders that the images are in."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing, list_masks
from oaa_tf.data.formats.source import Source, SourceImage
from oaa_tf.data.images.image_files import SUFFIXES, counted_by_ending
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.runs.file_names import is_plain_name

SALIENCY_DIR = "saliency"
"""Folder inside a data folder where the pipeline looks for saliency maps."""


@dataclasses.dataclass(frozen=True)
class TaggedFile:
    """An image and its tags, before the image is looked up.

    Attributes:
        file: Path of the image below the folder of images, with `/` between folders.
        tags: Indices among all classes.
        where: The place that gives the tags, such as `tags.csv:7`, for error messages.
        draw_mask: Draws the image's mask, uint8 `[height, width]` with the indices + 1 of all classes; None if there is
            nothing to draw it from.
    """

    file: str
    tags: tuple[int, ...]
    where: str
    draw_mask: Callable[[], np.ndarray] | None = None

    @property
    def stem(self) -> str:
        """The path without suffix."""
        path = PurePosixPath(self.file)
        return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


class TaggedImages(Source):
    """Images below one folder whose tags were read from folders, CSV or COCO.

    An image's id is its path without suffix, with `_` for `/`: `dog/001.jpg` is `dog_001`. Masks and saliency maps have
    the same paths in their folders: `SegmentationClass/dog/001.png`.

    Which split an image belongs to follows from its id alone, so it stays there when images are added.

    Args:
        listing: All images of the folder.
        tagged: The images to take, with their tags.
        name: The file or folder that gives the tags.
        labels_from: "folders", "csv" or "coco".
        classes: All classes, and those to keep.
        split: "train", "val", or any other name if `val_share` is 0.
        val_share: Share of the images that belong to the split "val" instead of "train"; with 0, any split has all.
        mask_dir: Name of the folder with the masks inside the folder of images; "" for none.
        saliency_dir: Path of the folder with the saliency maps; "" for none.
        files: Files that the tags and classes were read from; they need not exist.

    Raises:
        UserError: An image is missing or named twice, a path leads out of the folder, or masks or saliency maps are
            missing.
    """

    def __init__(
        self,
        listing: Listing,
        tagged: Sequence[TaggedFile],
        *,
        name: Path,
        labels_from: str,
        classes: ClassList,
        split: str,
        val_share: float,
        mask_dir: str,
        saliency_dir: str,
        files: tuple[Path, ...],
    ) -> None:
        super().__init__(name, labels_from=labels_from, class_list=classes, files=files)
        by_id = self._by_id(tagged, listing.folder)
        self._tagged = {
            image_id: one
            for image_id, one in by_id.items()
            if not val_share or (self.draw(image_id) < val_share) == (split == "val")
        }
        if not self._tagged:
            raise UserError(
                f"none of the {len(by_id)} images of {name} is in the split {split}; choose another share",
                flag="val_share",
                value=val_share,
            )
        images = self._find_images(listing)
        stems = {image_id: one.stem for image_id, one in self._tagged.items()}
        masks = list_masks(listing.folder, mask_dir, recursive=True)
        self._set_images(images, stems, masks=masks, mask_dir=mask_dir, saliency_dir=saliency_dir, recursive=True)

    def labels_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        """See `Source`."""
        tagged = self._tagged[image.image_id]
        labels = self._class_list.kept_labels(tagged.tags)
        if not labels:
            return labels, None
        if image.mask:
            return labels, self._class_list.renumbered(read_indexed(image.mask), image.mask)
        if self.has_masks and tagged.draw_mask:
            return labels, self._class_list.renumbered(tagged.draw_mask(), tagged.where)
        return labels, None

    @staticmethod
    def draw(image_id: str) -> float:
        """A number in [0, 1) that depends on the id alone; if it is below `val_share`, the image is in "val"."""
        return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:6], "big") / 2**48

    def _by_id(self, tagged: Sequence[TaggedFile], folder: Path) -> dict[str, TaggedFile]:
        """All images by their ids."""
        by_id: dict[str, TaggedFile] = {}
        for one in tagged:
            path = PurePosixPath(one.file)
            if "\\" in one.file or path.is_absolute() or ".." in path.parts:
                raise UserError(f"{one.where}: {quoted(one.file)} is no path below {folder}, with / between folders")
            image_id = image_id_of(one.file)
            if not is_plain_name(image_id):
                raise UserError(f"{one.where}: {quoted(one.file)} makes no image id; rename the file")
            if image_id in by_id:
                raise UserError(
                    f"{one.where}: {one.file} has the id {image_id} of {by_id[image_id].file}"
                    f" ({by_id[image_id].where}); an image comes once, with all its tags"
                )
            by_id[image_id] = one
        if not by_id:
            raise UserError(f"{self.name}: lists no images")
        return by_id

    def _find_images(self, listing: Listing) -> dict[str, Path]:
        """The images of the split by their ids."""
        images: dict[str, Path] = {}
        missing = []
        for image_id, one in self._tagged.items():
            path = listing.find(one.stem)
            suffix = PurePosixPath(one.file).suffix
            # A list may leave out the suffix, but not give another one.
            if path and (suffix.lower() not in SUFFIXES or suffix == path.suffix):
                images[image_id] = path
            else:
                missing.append(one)
        if missing:
            raise UserError(
                f"{missing[0].where}: {missing[0].file}: no such image in {listing.folder} ({len(missing)} of"
                f" {len(self._tagged)} are missing); add it, or take it off the list"
            )
        return images

    def _has_masks_without_files(self, folder: Path | None, mask_dir: str) -> bool:
        """Masks are drawn if all images with tags have something to draw them from."""
        with_tags = [one for one in self._tagged.values() if one.tags]
        undrawable = [one for one in with_tags if one.draw_mask is None]
        if not mask_dir or len(undrawable) == len(with_tags):
            return super()._has_masks_without_files(folder, mask_dir)
        if undrawable:
            raise UserError(
                f"{undrawable[0].where}: {undrawable[0].file} has objects without an outline, other images have"
                " outlines; add them, or set --mask_dir= for no masks"
            )
        return True


def image_id_of(file: str) -> str:
    """The id of an image, from its path: without suffix, with `_` for `/`."""
    return TaggedFile(file, (), "").stem.replace("/", "_")


def list_images(
    folder: str | os.PathLike, *, skip: Sequence[str | os.PathLike], also_read: Sequence[Path] = ()
) -> Listing:
    """All images below a folder; prints how many other files there are.

    Args:
        folder: The folder.
        skip: Folders in it that hold other images, such as masks.
        also_read: Files that may be in it and have their use.

    Raises:
        UserError: The folder is missing or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such folder", flag="image_dir", value=folder)
    listing = Listing(folder, SUFFIXES, folder, recursive=True, skip=tuple(map(Path, skip)), optional=True)
    if listing.is_empty:
        found = counted_by_ending(listing.other_files) or "nothing"
        message = f"no images in it; expected {', '.join(SUFFIXES)} files, found {found}"
        raise UserError(message, flag="image_dir", value=folder)
    listing.tell_other_files(known=also_read)
    return listing
