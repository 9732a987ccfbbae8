"""Photos with tags: a folder of images, and what a list or the folders in it say about them."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.folder_files import Listing, inside
from oaa_tf.data.formats.source import Source, SourceImage, check_complete, check_masks
from oaa_tf.data.images.image_files import SUFFIXES
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.runs.file_names import is_plain_name

SALIENCY_DIR = "saliency"
"""Where the pipeline looks for saliency maps inside a data folder."""


@dataclasses.dataclass(frozen=True)
class TaggedFile:
    """What is known of one image.

    Attributes:
        file: Its path below the folder of images, with `/`.
        tags: Indices among all classes.
        where: Where that is said, for messages: `tags.csv:7`.
        draw_mask: Draws the image's mask, uint8 `[height, width]` with the indices + 1 of all classes; None when it is
            not known, or only from a file.
    """

    file: str
    tags: tuple[int, ...]
    where: str
    draw_mask: Callable[[], np.ndarray] | None = None


class TaggedImages(Source):
    """Images below one folder with tags from anywhere.

    An image's id is its path without suffix, with `_` for `/`: `dog/001.jpg` is `dog_001`. Masks and saliency maps lie
    as the images do: `SegmentationClass/dog/001.png`.

    Which split an image belongs to follows from its id alone, so that it stays there when others come.

    Args:
        listing: The images.
        tagged: Which of them there are, and their tags.
        name: Where the tags come from.
        labels_from: The kind of that, for the manifest.
        classes: All classes, and the kept ones.
        split: "train", "val", or any other name if `val_share` is 0.
        val_share: Share of the images that are in the split "val" instead of "train"; 0 has all in any split.
        mask_dir: Name of the masks' folder inside the folder of images; "" for none.
        saliency_dir: Path of the saliency maps' folder; "" for none.
        files: What was read.

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
        self.name = name
        self.labels_from = labels_from
        self.classes = classes.kept
        self.files = files
        self._class_list = classes
        if not tagged:
            raise UserError(f"{name}: lists no images")
        by_id: dict[str, TaggedFile] = {}
        for one in tagged:
            image_id = _image_id(one, listing.folder)
            if image_id in by_id:
                raise UserError(
                    f"{one.where}: {one.file} has the id {image_id} of {by_id[image_id].file}"
                    f" ({by_id[image_id].where}); an image comes once, with all its tags"
                )
            by_id[image_id] = one
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
        images = {image_id: _find_image(listing, one) for image_id, one in self._tagged.items()}
        missing = [image_id for image_id, path in images.items() if path is None]
        if missing:
            first = self._tagged[missing[0]]
            raise UserError(
                f"{first.where}: {first.file}: no such image in {listing.folder} ({len(missing)} of {len(images)} are"
                " missing); add it, or take it off the list"
            )
        masks = self._find_masks(listing.folder, mask_dir)
        saliency = {}
        if saliency_dir:
            maps = Listing(Path(saliency_dir), SUFFIXES, Path(saliency_dir), recursive=True)
            saliency = {image_id: maps.find(_stem(one.file)) for image_id, one in self._tagged.items()}
            check_complete(saliency, name, f"map in --saliency_dir={saliency_dir}", "add them")
        self.images = tuple(
            SourceImage(image_id, path, masks.get(image_id), saliency.get(image_id))
            for image_id, path in images.items()
        )

    def labels_and_mask(self, image: SourceImage) -> tuple[tuple[int, ...], np.ndarray | None]:
        """See `Source`."""
        tagged = self._tagged[image.image_id]
        labels = self._class_list.kept_labels(tagged.tags)
        if not self.has_masks or not labels:
            return labels, None
        drawn = read_indexed(image.mask) if image.mask else tagged.draw_mask()
        return labels, self._class_list.renumbered(drawn, image.mask or tagged.where)

    @staticmethod
    def draw(image_id: str) -> float:
        """The number in [0, 1) that an id has on every machine; below `val_share`, its image is in "val"."""
        return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:6], "big") / 2**48

    def _find_masks(self, folder: Path, mask_dir: str) -> dict[str, Path | None]:
        """Files of masks by image id; none if there are to be none, or if they are drawn."""
        mask_folder = inside(folder, mask_dir) if mask_dir else None
        masks: dict[str, Path | None] = dict.fromkeys(self._tagged)
        if mask_folder and mask_folder.is_dir():
            found = Listing(mask_folder, (".png",), folder, may_be_empty=True, recursive=True)
            masks = {image_id: found.find(_stem(one.file)) for image_id, one in self._tagged.items()}
        with_tags = [one for one in self._tagged.values() if one.tags]
        undrawable = [one for one in with_tags if one.draw_mask is None]
        if mask_dir and len(undrawable) < len(with_tags) and not any(masks.values()):
            if undrawable:
                raise UserError(
                    f"{undrawable[0].where}: {undrawable[0].file} has objects without an outline, other images have"
                    " outlines; add them, or set --mask_dir= for no masks"
                )
            self.has_masks = True
        else:
            check_masks(masks, self.name, mask_folder, mask_dir)
            self.has_masks = any(masks.values())
        return masks


def image_id_of(file: str) -> str:
    """The id of an image, from its path: without suffix, with `_` for `/`."""
    return _stem(file).replace("/", "_")


def _stem(file: str) -> str:
    path = PurePosixPath(file)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _image_id(tagged: TaggedFile, folder: Path) -> str:
    path = PurePosixPath(tagged.file)
    if "\\" in tagged.file or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{tagged.where}: {quoted(tagged.file)} is no path below {folder}, with / between folders")
    image_id = image_id_of(tagged.file)
    if not is_plain_name(image_id):
        raise UserError(f"{tagged.where}: {quoted(tagged.file)} makes no image id; rename the file")
    return image_id


def _find_image(listing: Listing, tagged: TaggedFile) -> Path | None:
    path = listing.find(_stem(tagged.file))
    named = PurePosixPath(tagged.file).suffix
    # A list may leave out the suffix, but not name another.
    is_named = path is not None and (named.lower() not in SUFFIXES or named == path.suffix)
    return path if is_named else None


def list_images(folder: str | os.PathLike, *, skip: Sequence[str | os.PathLike]) -> Listing:
    """All images below a folder.

    Args:
        folder: The folder.
        skip: Folders of other images in it.

    Raises:
        UserError: It is missing or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such folder", flag="image_dir", value=folder)
    listing = Listing(folder, SUFFIXES, folder, recursive=True, skip=tuple(map(Path, skip)), may_be_empty=True)
    if not list(listing):
        raise UserError(f"no images in it; expected {', '.join(SUFFIXES)} files", flag="image_dir", value=folder)
    return listing
