"""JSON files: written whole or not at all, and checked when they are read, since users edit and damage them."""

import json
import os
from pathlib import Path
from typing import Any

from oaa_tf.command_line.json_values import json_ready
from oaa_tf.runs.atomic import atomic_write


def read_json(path: str | os.PathLike, kind: type = dict) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        kind: The expected type of its content: `dict`, `list`, or `object` for anything.

    Raises:
        OSError: It can't be read.
        ValueError: It is not JSON in UTF-8, or holds another type; the message begins with the file's name.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path.name}: holds a {type(content).__name__}, expected a {kind.__name__}")
    return content


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file atomically; see `json_ready` for the values that are allowed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = json.JSONEncoder(indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        # Piece by piece: the whole text of a million photos takes several GB.
        for piece in encoder.iterencode(json_ready(value)):
            file.write(piece.encode())
        file.write(b"\n")
