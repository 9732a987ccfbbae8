"""A folder of images whose tags come from a list, or from the folders that the images are in."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted, raise_all
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing, list_masks
from oaa_tf.data.formats.photo_finder import PhotoFinder
from oaa_tf.data.formats.source import Source, SourceImage
from oaa_tf.data.images.image_files import SUFFIXES, counted_by_ending
from oaa_tf.runs.file_names import is_plain_name

SALIENCY_DIR = "saliency"
"""Folder inside a data folder where the pipeline looks for saliency maps."""


@dataclasses.dataclass(frozen=True)
class TaggedFile:
    """An image and its tags, before the image is looked up.

    Attributes:
        file: Path or name of the image as the list gives it; see `PhotoFinder`.
        tags: Indices among all classes; empty for an image that shows none of them.
        where: The place that gives the tags, such as `tags.csv:7`, for error messages.
        draw_mask: Draws the image's mask, uint8 `[height, width]` with the indices + 1 of all classes; None if there is
            nothing to draw it from.
    """

    file: str
    tags: tuple[int, ...]
    where: str
    draw_mask: Callable[[], np.ndarray] | None = None


class TaggedImages(Source):
    """Images below one folder whose tags were read from folders, a list or COCO.

    An image's id is its path without suffix, with `_` for `/`: `dog/001.jpg` is `dog_001`. Masks and saliency maps have
    the same paths in their folders: `SegmentationClass/dog/001.png`.

    Which split an image belongs to follows from its id alone, so it stays there when images are added.

    Args:
        listing: All images of the folder.
        tagged: The images to take, with their tags.
        name: The file or folder that gives the tags.
        labels_from: Kind of the labels, as the manifest records it.
        classes: All classes, and those to keep.
        split: "train", "val", or any other name if `val_share` is 0.
        val_share: Share of the images that belong to the split "val" instead of "train"; with 0, any split has all.
        mask_dir: Name of the folder with the masks inside the folder of images; "" for none.
        saliency_dir: Path of the folder with the saliency maps; "" for none.
        files: Files that the tags and classes were read from; they need not exist.

    Raises:
        UserError: Images are missing or named twice (the message names up to ten), or masks or saliency maps are
            missing.
    """

    _draws_masks = False

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
        found = self._find(tagged, listing)
        in_val = self._in_val(found, val_share)
        of_split = {
            image_id: (one, path)
            for image_id, (one, path) in found.items()
            if not val_share or (image_id in in_val) == (split == "val")
        }
        if not of_split:
            raise UserError(
                f"none of the {len(found)} images of {name} is in the split {split}; choose another share",
                flag="val_share",
                value=val_share,
            )
        self._tagged = {image_id: one for image_id, (one, _) in of_split.items()}
        images = {image_id: path for image_id, (_, path) in of_split.items()}
        stems = {
            image_id: path.relative_to(listing.folder).with_suffix("").as_posix() for image_id, path in images.items()
        }
        masks = list_masks(listing.folder, mask_dir, recursive=True)
        self._set_images(images, stems, masks=masks, mask_dir=mask_dir, saliency_dir=saliency_dir, recursive=True)

    def _tags_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        one = self._tagged[image.image_id]
        if image.mask:
            return one.tags, self._read_mask(image.mask)
        # Of files and outlines, the files count.
        draw = one.draw_mask if self._draws_masks else None
        return one.tags, draw() if draw else None

    @classmethod
    def _in_val(cls, image_ids: Iterable[str], val_share: float) -> set[str]:
        """The images of the split "val"; both splits have an image at least, if there are two and a share for each."""
        draws = {image_id: cls.draw(image_id) for image_id in image_ids}
        in_val = {image_id for image_id, drawn in draws.items() if drawn < val_share}
        if len(draws) > 1 and 0 < val_share < 1:
            in_val |= {min(draws, key=draws.__getitem__)}
            in_val -= {max(draws, key=draws.__getitem__)}
        return in_val

    @staticmethod
    def draw(image_id: str) -> float:
        """A number in [0, 1) that depends on the id alone; if it is below `val_share`, the image is in "val"."""
        return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:6], "big") / 2**48

    def _find(self, tagged: Sequence[TaggedFile], listing: Listing) -> dict[str, tuple[TaggedFile, Path]]:
        """All images on the list, with their files, by id."""
        finder = PhotoFinder(listing)
        found: dict[str, tuple[TaggedFile, Path]] = {}
        mistakes = []
        by_name = []
        for one in tagged:
            try:
                path = finder.find(one.file, one.where)
                if path is None:
                    raise UserError(
                        f"{one.where}: {quoted(one.file)}: no such image in {listing.folder}; add it, or take it off"
                        " the list"
                    )
                # One spelling on all systems, since the split follows from the id.
                below = unicodedata.normalize("NFC", path.relative_to(listing.folder).as_posix())
                image_id = image_id_of(below)
                if not is_plain_name(image_id):
                    raise UserError(f"{one.where}: {quoted(one.file)} makes no image id; rename the file")
                if image_id in found:
                    other = found[image_id][0]
                    raise UserError(
                        f"{one.where}: {one.file} has the id {image_id} of {other.file} ({other.where}); an image comes"
                        " once, with all its tags"
                    )
            except UserError as error:
                mistakes.append(error)
                continue
            found[image_id] = one, path
            # A list without endings is nothing to speak of.
            if unicodedata.normalize("NFC", one.file) not in (below, below.removesuffix(path.suffix)):
                by_name.append(f"{one.file} is {below}")
        raise_all(mistakes)
        if not found:
            raise UserError(f"{self.name}: lists no images")
        if by_name:
            print(f"{self.name}: {len(by_name)} images go by another name than on the list, such as: {by_name[0]}")
        if unlisted := len(listing.names()) - len(found):
            print(f"{self.name}: {unlisted} of the images in {listing.folder} are not on the list")
        return found

    def _has_masks_without_files(self, folder: Path | None, mask_dir: str) -> bool:
        """Masks are drawn of the images that have something to draw them from."""
        drawable = [one for one in self._tagged.values() if one.tags and one.draw_mask]
        if not mask_dir or not drawable:
            return super()._has_masks_without_files(folder, mask_dir)
        self._draws_masks = True
        if num_missing := sum(one.draw_mask is None for one in self._tagged.values()):
            print(
                f"{self.name}: {num_missing} of {len(self._tagged)} images have no mask, since an object has no outline"
            )
        return True


def image_id_of(file: str) -> str:
    """The id of an image, from its path: without suffix, with `_` for `/`."""
    path = PurePosixPath(file)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).replace("/", "_")


def list_images(folder: str | os.PathLike, *, skip: Sequence[str | os.PathLike]) -> Listing:
    """All images below a folder.

    Args:
        folder: The folder.
        skip: Folders in it that hold other images, such as masks.

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
    return listing
