"""File names that come with data, in lists and manifests: they must not lead out of the data's folder."""

import os
from pathlib import Path

_MAX_BYTES = 200


def is_plain_name(name: object) -> bool:
    """Whether a value names a file directly in a folder, on any system, and may become the name of a result.

    It has at most 200 of the 255 bytes that file systems allow, which leaves room for suffixes and temporary names.
    """
    return (
        isinstance(name, str)
        and name.isprintable()
        and name not in ("", ".", "..")
        # On Windows, `C:name` leads out as well.
        and os.path.basename(name) == name
        and "\\" not in name
        and len(name.encode()) <= _MAX_BYTES
    )


def links_outside(path: Path, root: Path) -> bool:
    """Whether a file is a link to somewhere outside of the data's folder.

    A folder that is itself a link is the user's own choice; a file that links elsewhere came with the data.

    Args:
        path: The file; it need not exist.
        root: The data's folder, in which `path` is.
    """
    if not path.is_symlink():
        return False
    target = path.resolve()
    return not any(target.is_relative_to(place.resolve()) for place in (root, path.parent))
