"""Attention maps on disk: one uint8 grid per (image, target class) pair of a record set."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, SupportsIndex

import numpy as np

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.metrics import SweepCurves, ThresholdSweep, attention_histogram
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.parallel import in_parallel
from oaa_tf.runs.supervision import is_supervision

MAPS_FILE = "maps.npy"
INFO_FILE = "maps.json"


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of all images of a record set, from a folder or from an array in memory.

    ```python
    records = RecordSet.open("records/train.json")
    maps = AttentionMaps.open("work/train_cls/attention/oaa", records)
    maps = AttentionMaps.from_array(table.maps(), records, image_size=304)
    classes, attention = maps.for_image(0)  # on the grid of the image's frame
    classes, attention = maps.at_image_size(0)  # on its pixels
    ```

    A folder holds `maps.npy`, uint8 `[num_slots, grid, grid]`, where attention is value / 255, and `maps.json`, which
    is written last: without it, the folder is incomplete. Padding cells of the frame are 0.

    Attributes:
        folder: The folder of the maps, None for maps in memory.
        records: The record set whose slots the rows are.
        maps: uint8 `[num_slots, grid, grid]`; memory-mapped and read-only if they come from a folder.
        kind: What made them, for example "cam", "oaa" or "oaa_plus".
        image_size: Side of the canonical frame in pixels.
        supervision: One of `SUPERVISIONS`.
        fallback_slots: Number of pairs that the gate never let through.
        seed: Seed of the run that made them, or None.
        checksum: SHA-256 of the values of `maps`, in hex.
    """

    folder: Path | None
    records: RecordSet
    maps: np.ndarray
    kind: str
    image_size: int
    supervision: str
    fallback_slots: int
    seed: int | None
    checksum: str

    @classmethod
    def from_array(
        cls,
        maps: np.ndarray,
        records: RecordSet,
        *,
        image_size: int,
        kind: str = "",
        supervision: str = "image labels",
        fallback_slots: int = 0,
        seed: int | None = None,
    ) -> Self:
        """Takes maps that are in memory.

        Args:
            maps: uint8 `[num_slots, grid, grid]`, or float in [0, 1], which is rounded to 1/255.
            records: The record set whose slots the rows are.
            image_size: Side of the canonical frame in pixels.
            kind: What made the maps, for example "cam".
            supervision: One of `SUPERVISIONS`.
            fallback_slots: Number of pairs that the gate never let through.
            seed: Seed of the run, if there was one.

        Raises:
            ValueError: The shape of the maps does not fit the records or the frame, or float maps leave [0, 1].
        """
        _check_shape(maps.shape, _expected_shape(records, image_size), records)
        maps = to_uint8(maps)
        return cls(None, records, maps, kind, image_size, supervision, fallback_slots, seed, _checksum(maps))

    @classmethod
    def save(
        cls,
        folder: str | os.PathLike,
        maps: np.ndarray | Iterable[np.ndarray],
        records: RecordSet,
        *,
        kind: str,
        image_size: int,
        supervision: str = "image labels",
        fallback_slots: int = 0,
        seed: int | None = None,
    ) -> None:
        """Writes maps to a folder, and replaces those that are there.

        Args:
            folder: Made if missing.
            maps: As in `from_array`; or parts of them, in order, which are written as they come.
            records: As in `from_array`.
            kind: As in `from_array`.
            image_size: As in `from_array`.
            supervision: As in `from_array`.
            fallback_slots: As in `from_array`.
            seed: As in `from_array`.

        Raises:
            ValueError: As in `from_array`.
        """
        expected = _expected_shape(records, image_size)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Without this, an interruption between the two files would leave new maps with the old description.
        (folder / INFO_FILE).unlink(missing_ok=True)
        header, digest, num_slots = io.BytesIO(), hashlib.sha256(), 0
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": expected})
        with atomic_write(folder / MAPS_FILE) as file:
            file.write(header.getbuffer())
            for part in [maps] if isinstance(maps, np.ndarray) else maps:
                if part.shape[1:] != expected[1:]:
                    _check_shape(part.shape, expected, records)
                num_slots += len(part)
                values = np.ascontiguousarray(to_uint8(part)).data
                digest.update(values)
                file.write(values)
            _check_shape((num_slots, *expected[1:]), expected, records)
        info = {
            "kind": kind,
            "image_size": image_size,
            "num_slots": num_slots,
            "classes": records.classes,
            "records_checksum": records.checksum,
            "maps_checksum": digest.hexdigest(),
            "supervision": supervision,
            "fallback_slots": fallback_slots,
            "seed": seed,
        }
        write_json(folder / INFO_FILE, info)

    @classmethod
    def open(cls, folder: str | os.PathLike, records: RecordSet) -> Self:
        """Opens a folder of maps and checks that they are complete, undamaged, and made from these records.

        Raises:
            UserError: They are not; the message names the folder or file.
        """
        folder = Path(folder)
        info_file, maps_file = folder / INFO_FILE, folder / MAPS_FILE
        try:
            info = read_json(info_file)
            _check_description(info)
        except OSError:
            raise UserError(
                f"{folder}: no complete attention maps here ({INFO_FILE} is missing); give a folder that train_cls or "
                "train_integral has written, such as <work_dir>/attention/oaa"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{info_file}: damaged; run the stage that wrote it again") from None
        records.require_classes(f"maps in {folder}", info["classes"])
        records.require_source(f"maps in {folder}", info["records_checksum"])
        try:
            # Unlike `np.load`, it reads arrays only, no archives and no pickles.
            maps = np.lib.format.open_memmap(maps_file, mode="r")
        except Exception as error:  # A damaged header raises almost anything, tokenize.TokenError for one.
            reason = first_line(error)
            raise UserError(f"{maps_file}: not readable ({reason}); run the stage that wrote it again") from None
        expected = _expected_shape(records, info["image_size"])
        if maps.shape != expected or maps.dtype != np.uint8:
            raise UserError(f"{maps_file}: {maps.dtype} {list(maps.shape)}, expected uint8 {list(expected)}")
        checksum = _checksum(maps)
        if checksum != info["maps_checksum"]:
            raise UserError(f"{maps_file}: damaged (its checksum is wrong); run the stage that wrote it again")
        described = {name: info[name] for name in ("kind", "image_size", "supervision", "fallback_slots", "seed")}
        return cls(folder=folder, records=records, maps=maps, checksum=checksum, **described)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Pickles those of a folder as the name of the folder."""
        if self.folder is None:
            return super().__reduce_ex__(protocol)
        return AttentionMaps.open, (self.folder.absolute(), self.records)

    @property
    def grid(self) -> int:
        """Cells per side of the grid."""
        return self.maps.shape[-1]

    def frame(self, position: int) -> Frame:
        """The canonical frame of an image."""
        height, width = self.records.sizes[position]
        return Frame(height=int(height), width=int(width), side=self.image_size)

    def for_image(self, position: int, side: int | None = None) -> tuple[tuple[int, ...], np.ndarray]:
        """Maps of one image on the grid of its frame.

        Args:
            position: The image's index in the record set.
            side: Side in pixels of another frame to whose grid the maps are resampled, see `Frame.to_frame`.

        Returns:
            The k class indices of the image, ascending, and float32 `[k, grid, grid]` in [0, 1].
        """
        first, end = self.records.first_slots[position : position + 2]
        maps = self.maps[first:end] / np.float32(255)
        if side not in (None, self.image_size):
            maps = self.frame(position).to_frame(maps, side)
        return self.records.labels[position], maps

    def at_image_size(self, position: int) -> tuple[tuple[int, ...], np.ndarray]:
        """Maps of one image, resampled bilinearly to its pixels.

        Args:
            position: The image's index in the record set.

        Returns:
            The k class indices of the image, ascending, and float32 `[k, height, width]` in [0, 1].
        """
        classes, maps = self.for_image(position)
        # Rounding can raise an interpolated 1 above 1.
        return classes, np.minimum(self.frame(position).to_image(maps), 1)

    def curves(self, *, num_workers: int = 0, scheduler: str = "") -> SweepCurves:
        """Scores of the maps at every threshold, compared with the masks in the records.

        Args:
            num_workers: Threads; 0 for one per core.
            scheduler: See `in_parallel`.

        Raises:
            ValueError: The records have no masks.
        """
        if not self.records.has_masks:
            raise ValueError(f"{self.records.manifest_path}: has no masks to compare with")
        num_classes = len(self.records.classes)

        def histogram(position: int) -> np.ndarray:
            mask = self.records.record(position).mask
            assert mask is not None  # It is one of those with masks.
            return attention_histogram(mask, self.at_image_size(position)[1], num_classes)

        sweep = ThresholdSweep(num_classes)
        label = f"evaluate {self.records.split}"
        histograms = in_parallel(histogram, self.records.masked, label, num_workers=num_workers, scheduler=scheduler)
        for position, one in zip(self.records.masked, histograms, strict=True):
            sweep.add_histogram(one, self.records.labels[position])
        return sweep.curves()


def to_uint8(maps: np.ndarray) -> np.ndarray:
    """Rounds attention in [0, 1] to 1/255 as uint8; uint8 maps pass through.

    Raises:
        ValueError: A value is NaN or outside [0, 1].
    """
    if maps.dtype == np.uint8:
        return maps
    # Written so that NaN fails too.
    if maps.size and not (maps.min() >= 0 and maps.max() <= 1):
        raise ValueError(f"attention ranges over [{maps.min()}, {maps.max()}], expected [0, 1]")
    return np.rint(maps * 255).astype(np.uint8)


def _check_description(info: dict[str, Any]) -> None:
    """Checks the types and ranges of what `maps.json` says.

    Raises:
        ValueError: A value is wrong.
        KeyError: A value is missing.
        TypeError: The classes are not a list.
    """
    texts = [info["kind"], info["records_checksum"], info["maps_checksum"], *info["classes"]]
    image_size, fallback_slots, seed = info["image_size"], info["fallback_slots"], info["seed"]
    is_right = (
        all(isinstance(text, str) for text in texts)
        and is_supervision(info["supervision"])
        and type(image_size) is type(fallback_slots) is int
        and image_size >= STRIDE
        and image_size % STRIDE == 0
        and fallback_slots >= 0
        and (seed is None or type(seed) is int)
    )
    if not is_right:
        raise ValueError("a value is out of range")


def _expected_shape(records: RecordSet, image_size: int) -> tuple[int, int, int]:
    return int(records.first_slots[-1]), image_size // STRIDE, image_size // STRIDE


def _check_shape(shape: tuple[int, ...], expected: tuple[int, ...], records: RecordSet) -> None:
    if shape != expected:
        raise ValueError(f"maps have shape {shape}, expected {expected} for {records.manifest_path}")


def _checksum(maps: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(maps).data).hexdigest()
