"""Finds the photos that lists of other programs and other machines mean."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.folder_files import Listing
from oaa_tf.data.images.image_files import SUFFIXES

# Endings that a list may give for a photo that has another one here.
_OTHER_SUFFIXES = (*SUFFIXES, ".jfif", ".avif")
_UPLOAD_PREFIX = re.compile(r"\A[0-9a-f]{8}-(?=.)")
"""What Label Studio writes before the names of uploaded files."""


class PhotoFinder:
    """Looks photos up in a listing, never by a path of a list.

    Args:
        listing: All photos.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._by_name: dict[str, list[str]] = {}
        for name in listing.names():
            self._by_name.setdefault(PurePosixPath(name).name.casefold(), []).append(name)
        self._folders = {PurePosixPath(name).parent.name for name in listing.names()}

    def find(self, file: str, where: str) -> Path | None:
        """The photo that a list means: the one with this path, else the only one with this name.

        The ending may be missing or another one. In front of the name may be a path of another machine, or the prefix
        of an upload. But a photo in `cat/` is never meant by `dog/1.jpg` if there is a folder `dog` as well.

        Args:
            file: Path or name as the list gives it.
            where: The line, for error messages.

        Raises:
            UserError: Several photos have this name, or it is a link to somewhere outside.
        """
        # Label Studio's addresses of local files end with `?d=folder/name.jpg`.
        path = PurePosixPath(file.replace("\\", "/").split("?d=")[-1])
        parts = [part for part in path.parts if part not in ("/", "..")]
        if not parts:
            return None
        for start in range(len(parts)):
            for name in _without_suffix("/".join(parts[start:])):
                if (start == 0 or self._is_in_folder(name, parts)) and (found := self._listing.find(name)):
                    return found
        for name in _without_suffix(parts[-1]):
            for variant in (name, _UPLOAD_PREFIX.sub("", name, count=1)):
                key = unicodedata.normalize("NFC", variant).casefold()
                found_names = [each for each in self._by_name.get(key, []) if self._is_in_folder(each, parts)]
                if len(found_names) > 1:
                    raise UserError(
                        f"{where}: {file} can be {found_names[0]} or {found_names[1]}; write its path below"
                        f" {self._listing.folder}"
                    )
                if found_names:
                    return self._listing.find(found_names[0])
        return None

    def _is_in_folder(self, name: str, parts: list[str]) -> bool:
        """Whether a photo is in the folder that a list gives for it, if there is such a folder here."""
        return len(parts) < 2 or parts[-2] not in self._folders or PurePosixPath(name).parent.name == parts[-2]


def _without_suffix(path: str) -> list[str]:
    """A path as it is in a listing: without an ending of the images here, else with a dot in its name, or without."""
    suffix = PurePosixPath(path).suffix
    if suffix.lower() in SUFFIXES:
        return [path.removesuffix(suffix)]
    return [path, path.removesuffix(suffix)] if suffix.lower() in _OTHER_SUFFIXES else [path]
