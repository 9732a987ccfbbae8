"""The image files that a command line names: files, folders, globs, or a list on stdin."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.image_files import SUFFIXES, tell_other_files

_STDIN = "-"


def find_images(patterns: tuple[str, ...]) -> dict[str, Path]:
    """Files, the images in folders, and the files that globs match, each once, in alphabetical order.

    Prints how many other files a folder has.

    Args:
        patterns: Files, folders and globs; "-" for a list of them on stdin.

    Returns:
        The images by name of their masks: the path below the images' common folder, without extension.

    Raises:
        UserError: A pattern matches nothing, or two images would write the same mask.
    """
    found = set()
    for pattern in _with_stdin(patterns):
        path = Path(pattern)
        if path.is_dir():
            matches = [child for child in path.iterdir() if child.suffix.lower() in SUFFIXES]
            others = {child for child in path.iterdir() if child.is_file() and not child.name.startswith(".")}
            tell_other_files(path, others.difference(matches))
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(match) for match in glob.glob(pattern, recursive=True) if not Path(match).is_dir()]
        if not matches:
            raise UserError(f"no images there (expected {', '.join(SUFFIXES)})", flag="images", value=pattern)
        found.update(matches)
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in found])
    by_name: dict[str, Path] = {}
    for path in sorted(found):
        name = Path(os.path.relpath(path, common)).with_suffix("").as_posix()
        if name in by_name:
            raise UserError(f"{by_name[name]} and {path} would both write {name}.png; rename one", flag="images")
        by_name[name] = path
    return by_name


def refuse_among_images(output: Path, images: Mapping[str, Path], flag: str) -> None:
    """Refuses a folder for results whose files would lie among the images.

    Args:
        output: The value of `--output_dir`.
        images: The images, by path of their result below `output`, without extension.
        flag: Name of the flag that gives the images.

    Raises:
        UserError: A result would lie in the folder of an image.
    """
    if {(output / name).resolve().parent for name in images} & {path.resolve().parent for path in images.values()}:
        raise UserError(
            f"has images of --{flag} in it, which results could overwrite; choose another",
            flag="output_dir",
            value=output,
        )


def _with_stdin(patterns: Iterable[str]) -> Iterator[str]:
    """The patterns, with "-" replaced by the lines of stdin."""
    for pattern in patterns:
        if pattern != _STDIN:
            yield pattern
            continue
        lines = [line.rstrip("\r\n") for line in sys.stdin]
        if not any(lines):
            raise UserError(
                "nothing on stdin; expected image files, folders or globs, one a line", flag="images", value=_STDIN
            )
        yield from filter(None, lines)
