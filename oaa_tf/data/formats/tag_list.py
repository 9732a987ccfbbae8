"""Lists of photos and their tags, as people, spreadsheets and labelling tools write them.

```
file,tags                      filename,cat,dog               file,tags
img_001.jpg,dog;person         img_001.jpg,0,1                img_001.jpg,dog
holidays/img_002.jpg,cat       img_002.jpg,1,0                img_001.jpg,person
```

The first has all tags in a cell, the second a column of 0 and 1 for each class, the third a line for each tag. Label
Studio's CSV and its JSON-MIN are of the first kind; its JSON, and a JSON of tags by file, have the same content.
"""

import ast
import csv
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError, quoted, raise_all
from oaa_tf.data.formats.class_list import CLASSES_FILE, ClassList
from oaa_tf.data.formats.folder_files import as_text
from oaa_tf.data.formats.tagged_images import TaggedFile
from oaa_tf.data.images.input_files import read_bytes

# Names of columns, in lower case with `_` between words; the first that a file has counts.
_FILE_COLUMNS = (
    *("file", "filename", "file_name", "image", "image_name", "image_file", "image_path", "file_path", "filepath"),
    *("path", "img", "photo", "picture", "image_index", "image_id", "id"),
)
_TAG_COLUMNS = (
    *("tags", "tag", "labels", "label", "classes", "class", "class_name", "category", "categories"),
    *("choices", "choice", "finding_labels"),
)
_ONE_HOT = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclasses.dataclass
class _Row:
    """A photo, the line or record that names it, and its tags."""

    file: str
    where: str
    tags: list[str]


def read_csv_tags(path: Path, image_dir: Path, kept: Sequence[str]) -> tuple[list[TaggedFile], ClassList]:
    """The images of a CSV file and their tags.

    The classes are those of a class file in `image_dir`; without one, they are all tags in alphabetical order. Between
    columns are commas, semicolons or tabs; between tags in a cell are semicolons, commas or bars.

    Args:
        path: The list.
        image_dir: The folder of images; paths in the list start there.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: The file is missing or not such a list, or tags are unknown; the message names the lines.
    """
    text = _text(path)
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = []
    mistakes = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(header):
                lines.append((where, dict(zip(header, map(str.strip, cells), strict=True))))
            else:
                message = f'{len(cells)} fields, expected {len(header)}; put several tags into quotes: "dog;cat"'
                mistakes.append(UserError(f"{where}: {message}"))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a line of CSV: {error}") from None
    file_column, tag_column = _columns(header, f"{path}:1")
    raise_all(mistakes)
    classes = [name for name in header if name != file_column]
    if tag_column is None:
        return _tagged(_one_hot(lines, file_column, classes), path, image_dir, kept, classes)
    _name_unread(path, [name for name in classes if name != tag_column])
    rows = [_Row(line[file_column], where, _tags(line[tag_column])) for where, line in lines]
    return _tagged(rows, path, image_dir, kept)


def read_json_tags(
    content: Any, path: Path, image_dir: Path, kept: Sequence[str]
) -> tuple[list[TaggedFile], ClassList]:
    """The images of a JSON file and their tags: Label Studio's JSON or JSON-MIN, or tags by file name.

    Args:
        content: The file's content.
        path: The file.
        image_dir: The folder of images.
        kept: Classes to keep; all if empty.

    Raises:
        UserError: It is something else, or lists no images.
    """
    if isinstance(content, dict) and "shapes" in content:
        raise UserError(f"{path}: labelme's JSON of one photo is not read; run labelme2voc, and give --voc_dir")
    rows = []
    if isinstance(content, dict) and content and all(isinstance(tags, list | str) for tags in content.values()):
        rows = [_Row(file, f"{path}: {quoted(file)}", _tags(tags)) for file, tags in content.items()]
    elif isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        if all("data" in one for one in content):
            rows = _label_studio(content, path)
        else:
            keys = list(dict.fromkeys(key for one in content for key in one))
            file_key, tag_key = _columns(keys, str(path))
            if tag_key is not None:
                _name_unread(path, [key for key in keys if key not in (file_key, tag_key)])
                rows = [
                    _Row(str(one.get(file_key, "")), f"{path}: record {number}", _tags(one.get(tag_key)))
                    for number, one in enumerate(content, start=1)
                ]
    if not rows:
        raise UserError(f"{path}: expected COCO's instances JSON, or Label Studio's JSON or JSON-MIN with labels")
    return _tagged(rows, path, image_dir, kept)


def _text(path: Path) -> str:
    data = read_bytes(path)
    try:
        return as_text(data, path)
    except UserError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise UserError(f"{path}: expected a text file in UTF-8") from None
    print(f"{path}: not UTF-8, read as Windows-1252; check the names of the classes")
    return text


def _columns(header: Sequence[str], where: str) -> tuple[str, str | None]:
    """The columns of files and tags; without the latter, every other column is a class."""
    by_name = {re.sub(r"[\W_]+", "_", name.strip().lower()): name for name in reversed(header)}
    files, tags = (
        next((by_name[name] for name in names if name in by_name), None) for names in (_FILE_COLUMNS, _TAG_COLUMNS)
    )
    if files is None or len(header) < 2:
        raise UserError(
            f"{where}: expected a header such as file,tags, or file and a column of 0 and 1 for each class; found"
            f" {quoted(','.join(header))}"
        )
    if len(set(header)) < len(header):
        raise UserError(f"{where}: two columns have the same name: {quoted(','.join(header))}")
    return files, tags


def _one_hot(lines: Sequence[tuple[str, Mapping[str, str]]], file_column: str, classes: Sequence[str]) -> list[_Row]:
    rows = []
    mistakes = []
    for where, line in lines:
        values = {name: _ONE_HOT.get(line[name].lower()) for name in classes}
        if wrong := [name for name in classes if values[name] is None]:
            message = f"{quoted(line[wrong[0]])} in the column {quoted(wrong[0])}, expected 0 or 1; or name the column"
            mistakes.append(UserError(f"{where}: {message} of tags 'tags'"))
        rows.append(_Row(line[file_column], where, [name for name in classes if values[name]]))
    raise_all(mistakes)
    return rows


def _label_studio(tasks: Sequence[Mapping[str, Any]], path: Path) -> list[_Row]:
    """The images of Label Studio's JSON. A task that nobody has labelled is none: it may show anything."""
    rows = []
    num_unlabelled = 0
    try:
        for number, task in enumerate(tasks, start=1):
            files = [value for value in task["data"].values() if isinstance(value, str)]
            file_key = next((key for key in _FILE_COLUMNS if key in task["data"]), None)
            done = [one for one in task["annotations"] if not one.get("was_cancelled")]
            tags = [tag for one in done for result in one["result"] for tag in _tags(result["value"])]
            if done:
                file = str(task["data"][file_key]) if file_key else files[0]
                rows.append(_Row(file, f"{path}: task {number}", tags))
            else:
                num_unlabelled += 1
    except (KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"{path}: task {number}: not as Label Studio writes it in JSON") from None
    if num_unlabelled:
        print(f"{path}: {num_unlabelled} of {len(tasks)} tasks have no annotation and are left out")
    return rows


def _tags(value: Any) -> list[str]:
    """The tags in a cell, or in a value of Label Studio; none for an empty cell or list.

    A cell holds tags between separators, Python's or JSON's list of them, or Label Studio's object with such a list.
    """
    if isinstance(value, str):
        text = value.strip()
        value = _parsed(text) if text.startswith(("[", "{")) else None
        if value is None:
            return [tag.strip() for tag in re.split("[;|,]", text) if tag.strip()]
    tags, rest = [], [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [of_key for key, of_key in one.items() if str(key).endswith(("labels", "choices"))]
        elif isinstance(one, list):
            rest += one
        elif one is not None and str(one).strip():
            tags.append(str(one).strip())
    return tags


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _tagged(
    rows: Sequence[_Row], path: Path, image_dir: Path, kept: Sequence[str], columns: Sequence[str] = ()
) -> tuple[list[TaggedFile], ClassList]:
    """Puts the rows of each photo together, and finds the classes; `columns` are classes that no photo need have."""
    by_file: dict[str, _Row] = {}
    for row in rows:
        first = by_file.setdefault(row.file, row)
        if first is not row:
            first.tags += row.tags
    if len(by_file) < len(rows):
        print(f"{path}: {len(rows)} lines of {len(by_file)} images; the tags of an image are put together")
    used = sorted({tag for row in rows for tag in row.tags}.union(columns))
    if not used:
        raise UserError(f"{path}: no image has a tag")
    classes = ClassList.of_folder(image_dir, kept, used, path)
    if classes.where == path:
        _refuse_spaces(rows, used)
    tagged = []
    mistakes = []
    for row in by_file.values():
        try:
            indices = [classes.index(tag, row.where) for tag in row.tags]
        except UserError as error:
            mistakes.append(error)
            continue
        tagged.append(TaggedFile(row.file, tuple(sorted(set(indices))), row.where))
    raise_all(mistakes)
    return tagged, classes


def _refuse_spaces(rows: Sequence[_Row], used: Sequence[str]) -> None:
    """Refuses tags with spaces between them: one whose words are tags, or one that holds all words of another."""
    several = {tag: set(tag.split()) for tag in used if len(tag.split()) > 1}
    suspects = {
        tag
        for tag, words in several.items()
        if words <= set(used) or any(words > other_words for other_words in several.values())
    }
    for row in rows:
        if found := [tag for tag in row.tags if tag in suspects]:
            raise UserError(
                f"{row.where}: {quoted(found[0])} is one tag; between tags write a semicolon, or list the classes in"
                f" {CLASSES_FILE}"
            )


def _name_unread(path: Path, columns: Sequence[str]) -> None:
    if columns:
        print(f"{path}: columns that are not read: {', '.join(columns)}")
