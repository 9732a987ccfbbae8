"""Attention maps in the formats of other code, so that maps can be taken from one pipeline to another.

- OAA-PyTorch: `<id>_<class>.png`, 8-bit grey, the size of the image, one file per class index (from 0).
- IRN and its family: `<id>.npy`, a pickled dictionary with `keys`, int64 `[k]` class indices (from 0), and
  `high_res`, float32 `[k, height, width]` in [0, 1].

Class indices are those of the records; with the 20 VOC classes in their usual order they are the other code's too.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from oaa_tf.attention.map_files import AttentionMaps, to_uint8
from oaa_tf.attention.npy_dictionary import read_npy_dictionary
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import encode_grey, read_indexed
from oaa_tf.data.records.record_set import SIZES_ADVICE, RecordSet
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.parallel import in_parallel


def write_class_pngs(maps: AttentionMaps, folder: str | os.PathLike) -> None:
    """Writes `<id>_<class>.png` files as OAA-PyTorch does.

    Args:
        maps: The maps to convert.
        folder: Made if missing; files of the same name are replaced.
    """

    def write(position: int) -> None:
        image_id = maps.records.image_ids[position]
        for class_index, attention in zip(*maps.at_image_size(position), strict=True):
            with atomic_write(Path(folder) / f"{image_id}_{class_index}.png") as file:
                file.write(encode_grey(to_uint8(attention)))

    Path(folder).mkdir(parents=True, exist_ok=True)
    _for_each_image(write, maps.records, "write PNG maps")


def read_class_pngs(folder: str | os.PathLike, records: RecordSet, image_size: int) -> np.ndarray:
    """Reads `<id>_<class>.png` files of all images and their labels; other files are not looked at.

    Args:
        folder: Where the files are.
        records: The images; their labels say which classes are read.
        image_size: Side of the canonical frame in pixels.

    Returns:
        uint8 `[num_slots, grid, grid]`, ready for `AttentionMaps.save`; see `to_grid`.

    Raises:
        UserError: A file is missing, not an 8-bit grey PNG, or not of its image's size.
    """

    def read(position: int) -> np.ndarray:
        maps = []
        for class_index in records.labels[position]:
            path = Path(folder) / f"{records.image_ids[position]}_{class_index}.png"
            image = read_indexed(path)
            _check_size(path, image, records, position)
            maps.append(image / np.float32(255))
        return np.stack(maps)

    return _read_all(read, records, image_size, "read PNG maps")


def write_irn_dictionaries(maps: AttentionMaps, folder: str | os.PathLike) -> None:
    """Writes `<id>.npy` dictionaries as the IRN family reads them: 4 bytes per pixel and class.

    Args:
        maps: The maps to convert.
        folder: Made if missing; files of the same name are replaced.
    """

    def write(position: int) -> None:
        classes, attention = maps.at_image_size(position)
        content: Any = {"keys": np.asarray(classes, np.int64), "high_res": attention}
        with atomic_write(Path(folder) / f"{maps.records.image_ids[position]}.npy") as file:
            np.save(file, content)

    Path(folder).mkdir(parents=True, exist_ok=True)
    _for_each_image(write, maps.records, "write IRN maps")


def read_irn_dictionaries(folder: str | os.PathLike, records: RecordSet, image_size: int) -> np.ndarray:
    """Reads the `<id>.npy` dictionaries of all images; classes that are not among an image's labels are left out.

    Nothing in the files is executed, and values may be PyTorch tensors; see `npy_dictionary`.

    Args:
        folder: Where the files are.
        records: The images; their labels say which classes are read.
        image_size: Side of the canonical frame in pixels.

    Returns:
        uint8 `[num_slots, grid, grid]`, ready for `AttentionMaps.save`; see `to_grid`.

    Raises:
        UserError: A file is missing or something else, a label has no map, a map is not of its image's size or leaves
            [0, 1].
    """

    def read(position: int) -> np.ndarray:
        path = Path(folder) / f"{records.image_ids[position]}.npy"
        content = read_npy_dictionary(path)
        for key in ("keys", "high_res"):
            if key not in content:
                raise UserError(f"{path}: has no {key!r}, only {', '.join(content)[:80] or 'nothing'}")
        keys, attention = content["keys"].ravel().tolist(), content["high_res"]
        if attention.ndim != 3 or len(attention) != len(keys) or attention.dtype.kind != "f":
            raise UserError(
                f"{path}: high_res is {attention.dtype} {list(attention.shape)}, expected float32 "
                f"[{len(keys)}, height, width] for {len(keys)} keys"
            )
        _check_size(path, attention, records, position)
        missing = [records.classes[c] for c in records.labels[position] if c not in keys]
        if missing:
            found = ", ".join(map(str, keys[:20]))
            raise UserError(f"{path}: no map for the label {missing[0]} of the image; keys are {found}")
        chosen = attention[[keys.index(c) for c in records.labels[position]]].astype(np.float32)
        if not (chosen.min() >= 0 and chosen.max() <= 1):
            raise UserError(f"{path}: high_res ranges over [{chosen.min()}, {chosen.max()}], expected [0, 1]")
        return chosen

    return _read_all(read, records, image_size, "read IRN maps")


def to_grid(maps: np.ndarray, frame: Frame) -> np.ndarray:
    """Resamples maps of an image's pixels to the grid of its frame.

    Resampled back to pixels (`Frame.to_image`), the result has the maps' mean over the area of every cell. So maps that
    were written from a grid come back as they were; the means themselves would be blurred a little more each time.

    Args:
        maps: float32 `[k, height, width]` in [0, 1].
        frame: The image's frame.

    Returns:
        float32 `[k, grid, grid]` in [0, 1]; cells of the padding are 0.
    """
    rows, columns = _grid_matrix(frame, 0), _grid_matrix(frame, 1)
    # OpenCV's product, since numpy's is slow when other threads keep the cores busy (see `Frame.to_image`).
    product: Callable[..., np.ndarray] = cv2.gemm  # Its stubs want the matrix that a factor of 0 leaves out.
    cells = [product(product(rows, one, 1, None, 0), columns, 1, None, 0, flags=cv2.GEMM_2_T) for one in maps]
    # Beside a sharp edge, cells can overshoot.
    return np.clip(np.stack(cells), 0, 1)


@functools.lru_cache(maxsize=256)
def _grid_matrix(frame: Frame, axis: int) -> np.ndarray:
    """`to_grid` along one axis, before clipping, as a matrix, float32 `[grid, num_pixels]`."""
    num_pixels, num_valid = (frame.height, frame.width)[axis], frame.valid_cells[axis]
    means = _area_matrix(num_valid, num_pixels, num_pixels * STRIDE / frame.content[axis])
    # The pixels of a map that is 1 in one cell, or one row or column of cells, and 0 elsewhere.
    units = np.eye(num_valid, frame.grid, dtype=np.float32)
    units = np.broadcast_to(units[:, :, np.newaxis], (num_valid, frame.grid, frame.grid))
    if axis == 0:
        pixels = frame.to_image(units, width=1)[:, :, 0].T
    else:
        pixels = frame.to_image(units.swapaxes(1, 2), height=1)[:, 0].T
    blur = means @ pixels.astype(np.float64)
    matrix = np.zeros((frame.grid, num_pixels), np.float32)
    # As a correction to the means, and with a pseudo-inverse: images with fewer pixels than cells leave cells open.
    matrix[:num_valid] = means + np.linalg.pinv(blur, rcond=1e-3) @ (means - blur @ means)
    matrix.setflags(write=False)
    return matrix


def _area_matrix(num_valid: int, num_pixels: int, pixels_per_cell: float) -> np.ndarray:
    """Area averaging along one axis as a matrix, float64 `[num_valid, num_pixels]`.

    Rows sum to 1. The last valid cell may reach beyond the image: it is the mean over the part that it covers.
    """
    starts = np.arange(num_valid)[:, None] * pixels_per_cell
    pixels = np.arange(num_pixels)
    overlap = np.minimum(starts + pixels_per_cell, pixels + 1) - np.maximum(starts, pixels)
    overlap = np.maximum(overlap, 0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def _check_size(path: Path, maps: np.ndarray, records: RecordSet, position: int) -> None:
    height, width = records.sizes[position].tolist()
    if maps.shape[-2:] != (height, width):
        found = "x".join(map(str, maps.shape[-2:]))
        message = f"{path}: {found} pixels (height x width), but the image is {height}x{width}; {SIZES_ADVICE}"
        raise UserError(message)


def _read_all(read: Callable[[int], np.ndarray], records: RecordSet, image_size: int, label: str) -> np.ndarray:
    grid = image_size // STRIDE
    table = np.zeros((int(records.first_slots[-1]), grid, grid), np.uint8)

    def read_into_table(position: int) -> None:
        height, width = records.sizes[position].tolist()
        cells = to_grid(read(position), Frame(height=height, width=width, side=image_size))
        first, end = records.first_slots[position : position + 2]
        table[first:end] = to_uint8(cells)

    _for_each_image(read_into_table, records, label)
    return table


def _for_each_image(work: Callable[[int], None], records: RecordSet, label: str) -> None:
    for _ in in_parallel(work, range(len(records)), label):
        pass
