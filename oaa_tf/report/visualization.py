"""Pictures of images, attention maps and masks for TensorBoard and reports, all uint8 RGB."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from oaa_tf.data.images.palette_png import voc_palette
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.report.class_colors import label_layer, outline
from oaa_tf.runs.atomic import atomic_write

# Pixels without a label. VOC's own color for 255 is close to white too, and hard to tell from class 11 at a glance.
_IGNORE_COLOR = (240, 236, 226)
_TITLE_COLOR, _PAGE_COLOR, _EMPTY_COLOR = (40, 40, 40), (255, 255, 255), (245, 245, 245)
_CAPTION_COLOR, _CAPTION_SHADE = (255, 255, 255), 0.35
_TEXT_WEIGHT = 550  # Between regular and semibold.
_CELL_WIDTH = 240
_MAX_ASPECT = 1.25  # Of a column's cells, height over width.


def colorize(labels: np.ndarray) -> np.ndarray:
    """Colors a label map with the VOC palette; pixels without a label (255) become almost white.

    Args:
        labels: uint8 `[height, width]`, 0 background, `c + 1` class `c`, 255 ignore.

    Returns:
        uint8 `[height, width, 3]`.
    """
    palette = voc_palette().copy()
    palette[IGNORE_LABEL] = _IGNORE_COLOR
    return cv2.applyColorMap(labels, palette[:, np.newaxis])


def attention_colors(attention: np.ndarray) -> np.ndarray:
    """Colors an attention map: dark blue is 0, yellow 1.

    Args:
        attention: float `[height, width]` in [0, 1]; other values are clipped, NaN counts as 0.

    Returns:
        uint8 `[height, width, 3]`.
    """
    levels = np.rint(np.clip(np.nan_to_num(attention), 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def overlay_attention(image: np.ndarray, attention: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Lays an attention map over its image, in the colors of `attention_colors`.

    The image shows through in grey, so that only attention has color.

    Args:
        image: uint8 `[height, width, 3]`.
        attention: float `[height, width]` in [0, 1].
        opacity: Weight of the attention map's colors.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: The sizes differ.
    """
    _check_sizes(image, attention, "attention")
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(attention_colors(attention), opacity, grey, 1 - opacity, 0)


def overlay_mask(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lays a label map over its image: classes in the VOC colors with an outline, background darkened.

    Args:
        image: uint8 `[height, width, 3]`.
        labels: uint8 `[height, width]`, 0 background, `c + 1` class `c`, 255 ignore.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: The sizes differ.
    """
    _check_sizes(image, labels, "labels")
    colors = colorize(labels)
    picture = cv2.addWeighted(colors, 0.6, image, 0.4, 0)
    cv2.copyTo(cv2.convertScaleAbs(image, alpha=0.6), (labels == 0).astype(np.uint8), picture)
    cv2.copyTo(colors, outline(labels).astype(np.uint8), picture)
    return picture


def overlay_labels(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lays a label map over its image in the colors and patterns of `class_colors`; `legend` explains them.

    Args:
        image: uint8 `[height, width, 3]`.
        labels: uint8 `[height, width]`, 0 background, `c + 1` class `c`, 255 ignore.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: The sizes differ.
    """
    _check_sizes(image, labels, "labels")
    layer = label_layer(labels)
    opacity = layer[..., 3:] / np.float32(255)
    return np.rint(opacity * layer[..., :3] + (1 - opacity) * image).astype(np.uint8)


def legend(names: Mapping[int, str], width: int) -> np.ndarray:
    """Explains the colors of `overlay_labels`: a swatch and a name for each label, on as many lines as necessary.

    Args:
        names: Names by label, `c + 1` for class `c` or 255; at least one.
        width: Width of the picture in pixels; longer names are cut off.

    Returns:
        uint8 `[height, width, 3]`.
    """
    text_size, gap, line_height = 18, 9, 36
    lines: list[list[tuple[int, str, int]]] = [[]]
    left = gap
    for label, name in names.items():
        needed = line_height + _text_width(name, text_size) + 2 * gap
        if left + needed > width and lines[-1]:
            lines.append([])
            left = gap
        lines[-1].append((label, name, left))
        left += needed
    picture = np.empty((line_height * len(lines), width, 3), np.uint8)
    picture[:] = _PAGE_COLOR
    for number, line in enumerate(lines):
        top = number * line_height + gap
        for label, name, left in line:
            swatch = picture[top : top + text_size, left : left + line_height - gap]
            swatch[:] = overlay_labels(np.full_like(swatch, 128), np.full(swatch.shape[:2], label, np.uint8))
            _write(picture, name, left + line_height, top + text_size // 2, text_size)
    return picture


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture with a line of text on a darkened strip at its lower edge; long text is set smaller.

    Args:
        picture: uint8 `[height, width, 3]`.
        caption: The text.

    Returns:
        uint8 `[height, width, 3]`.
    """
    height, width = picture.shape[:2]
    size = max(10, min(height, width) // 12)
    size = max(4, min(size, int(size * 0.94 * width / max(1, _text_width(caption, size)))))
    picture = picture.copy()
    strip = picture[-round(1.6 * size) :]
    strip[:] = strip * _CAPTION_SHADE
    _write(picture, caption, round(0.03 * width), height - round(0.8 * size), size, _CAPTION_COLOR)
    return picture


def cell_size(height: int, width: int, cell_width: int = _CELL_WIDTH) -> tuple[int, int]:
    """Height and width at which `grid` shows a picture that is alone in its row: as large as a column allows."""
    scale = min(cell_width / width, round(_MAX_ASPECT * cell_width) / height)
    return max(1, round(scale * height)), max(1, round(scale * width))


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    *,
    cell_width: int = _CELL_WIDTH,
) -> np.ndarray:
    """Puts pictures into a table with titles above the columns and before the rows.

    Pictures keep their aspect: each is made as large as fits into its row, which is as high as its highest picture.

    Args:
        rows: uint8 RGB pictures `[height, width, 3]` of any sizes; a row may be shorter than others.
        column_titles: Titles above the columns; none for no header.
        row_titles: One title per row, to its left; none for no such column.
        cell_width: Width of a column in pixels.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: There is no picture, or there are more titles than columns or rows.
    """
    num_columns = max(map(len, rows), default=0)
    if not num_columns:
        raise ValueError("no pictures to show")
    if len(column_titles) > num_columns or len(row_titles) > len(rows):
        raise ValueError(
            f"{len(column_titles)} column titles and {len(row_titles)} row titles for {len(rows)} rows of {num_columns}"
        )
    gap, text_size = max(2, cell_width // 40), max(10, cell_width // 13)
    left = 2 * gap + max((_text_width(title, text_size) for title in row_titles), default=-gap)
    left = max(left, gap)
    header = 2 * text_size if any(column_titles) else gap
    heights = [
        max((cell_size(picture.shape[0], picture.shape[1], cell_width)[0] for picture in row), default=text_size)
        for row in rows
    ]
    page = np.empty((header + sum(heights) + gap * len(rows), left + (cell_width + gap) * num_columns, 3), np.uint8)
    page[:] = _PAGE_COLOR

    for column, title in enumerate(column_titles):
        centre = left + column * (cell_width + gap) + cell_width // 2
        fitting = min(text_size, int(text_size * cell_width / max(1, _text_width(title, text_size))))
        _write(page, title, centre - _text_width(title, fitting) // 2, header // 2, fitting)
    top = header
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if number < len(row_titles):
            _write(page, row_titles[number], gap, top + height // 2, text_size)
        for column, picture in enumerate(row):
            x = left + column * (cell_width + gap)
            page[top : top + height, x : x + cell_width] = _letterboxed(picture, cell_width, height)
        top += height + gap
    return page


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes a picture, uint8 RGB `[height, width, 3]`, atomically; makes its folder if necessary."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(encoded(picture, ".png"))


def encoded(picture: np.ndarray, suffix: str, *options: int) -> bytes:
    """A picture as the content of a file.

    Args:
        picture: uint8 RGB `[height, width, 3]` or RGBA `[height, width, 4]`.
        suffix: Suffix of the format, for example ".png".
        *options: Options of `cv2.imencode`, for example `cv2.IMWRITE_JPEG_QUALITY, 90`.
    """
    order = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return cv2.imencode(suffix, cv2.cvtColor(picture, order), options)[1].tobytes()


def _check_sizes(image: np.ndarray, other: np.ndarray, name: str) -> None:
    if image.shape[:2] != other.shape:
        raise ValueError(f"{name} is {list(other.shape)}, expected {list(image.shape[:2])} as the image")


def _letterboxed(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = tuple(max(1, round(scale * side)) for side in picture.shape[1::-1])
    cell = np.empty((height, width, 3), np.uint8)
    cell[:] = _EMPTY_COLOR
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cell[y : y + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=interpolation)
    return cell


@functools.cache
def _font() -> "cv2.FontFace":
    """OpenCV's own font (from version 5 on): the same on every machine."""
    return cv2.FontFace("sans")


def _text_width(text: str, size: int) -> int:
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight=_TEXT_WEIGHT)
    return width


def _write(
    page: np.ndarray, text: str, left: int, middle: int, size: int, color: tuple[int, int, int] = _TITLE_COLOR
) -> None:
    """Writes a line of text, vertically centred on `middle`."""
    cv2.putText(page, text, (left, middle + round(0.36 * size)), color, _font(), size, weight=_TEXT_WEIGHT)
