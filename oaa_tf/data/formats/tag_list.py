"""A CSV file of photos and their tags.

```
file,tags
img_001.jpg,dog;person
holidays/img_002.jpg,cat
```
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from oaa_tf.command_line.errors import UserError, quoted
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList, read_class_file
from oaa_tf.data.formats.folder_files import as_text
from oaa_tf.data.formats.tagged_images import TaggedFile
from oaa_tf.data.images.input_files import read_bytes

_HEADER = ["file", "tags"]


def read_tag_list(path: Path, image_dir: Path, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images of a list and their tags.

    The classes are the lines of `classes.txt` in `image_dir`; without this file, they are all tags in alphabetical
    order.

    Args:
        path: The list.
        image_dir: The folder of images; paths in the list start there.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: The file is missing or not such a list, or a tag is unknown; the message names the line.
    """
    lines = _read(path)
    listed = read_class_file(image_dir)
    used = sorted({tag for _, _, tags in lines for tag in tags})
    if not listed:
        for number, _, tags in lines:
            for tag in tags:
                if len(words := tag.split()) > 1 and set(words) <= set(used):
                    raise UserError(f"{path}:{number}: {quoted(tag)} is one tag; between tags write a semicolon")
        if not used:
            raise UserError(f"{path}: no image has a tag")
    classes = ClassList(listed or used, kept, image_dir / CLASSES_FILE if listed else path)
    return [
        TaggedFile(file, tuple(classes.index(tag, f"{path}:{number}") for tag in tags), f"{path}:{number}")
        for number, file, tags in lines
    ], classes


def _read(path: Path) -> list[tuple[int, str, list[str]]]:
    """Line number, file and tags of each image."""
    reader = csv.reader(io.StringIO(as_text(read_bytes(path), path), newline=""), strict=True)
    lines = []
    try:
        header = next(reader, [])
        if [name.strip().lower() for name in header] != _HEADER:
            found = quoted(",".join(header))
            raise UserError(f"{path}:1: expected the header {','.join(_HEADER)}, found {found}")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(_HEADER):
                raise UserError(
                    f"{path}:{reader.line_num}: {len(fields)} fields, expected 2: a file, a comma, and its tags with"
                    " semicolons between them"
                )
            file, tags = (field.strip() for field in fields)
            lines.append((reader.line_num, file, [tag.strip() for tag in tags.split(";") if tag.strip()]))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a line of CSV: {error}") from None
    return lines
