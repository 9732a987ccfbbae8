"""An exported model for segmentation as a Python function."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.models.signatures import MODEL_FILES, load_signatures
from oaa_tf.runs.atomic import complete_folder
from oaa_tf.runs.json_file import read_json
from oaa_tf.runs.supervision import is_supervision
from oaa_tf.runs.work_dir import files_checksum

CLASSES_FILE = Path("assets.extra") / "classes.json"
"""The file in an export with its class names, a JSON list."""

ORIGIN_FILE = Path("assets.extra") / "origin.json"
"""The file in an export that describes where it comes from: "supervision", "seed" and "records_checksum"
of its training, and "checkpoint_checksum" (each null if unknown); how it processes an image ("inference"); the
"precision" of its computations; and the checksums of its other files ("files")."""


class Segmenter:
    """A SavedModel, ONNX or LiteRT file for segmentation; for masks that a CRF refines, a SavedModel.

    Attributes:
        classes: Names of the foreground classes.
        supervision: What the model was trained with, None if unknown.
        seed: Seed of its training, None if unknown.
        inference: How it processes an image ("image_size", "scales", "flip", "class_prior"), None if unknown.
    """

    def __init__(self, folder: str | Path, *, crf: bool = False) -> None:
        """Loads the model.

        Args:
            folder: The folder of the export, or the model's file in it.
            crf: Whether `dense_crf` turns the probabilities of the model into masks.

        Raises:
            UserError: It is no model of `oaa_tf.export`, is damaged, or has another signature; or a package is missing.
        """
        is_file = Path(folder).name in MODEL_FILES and Path(folder).is_file()
        self._folder = folder = complete_folder(Path(folder).parent if is_file else Path(folder))
        self._crf = crf
        try:
            self.classes = tuple(read_json(folder / CLASSES_FILE, list))
            if not self.classes or not all(isinstance(name, str) for name in self.classes):
                raise ValueError(f"{CLASSES_FILE.name}: expected names")
            self._origin = _checked_origin(folder)
            self.supervision, self.seed, self.inference = map(self._origin.get, ("supervision", "seed", "inference"))
            self._signatures = load_signatures(folder)
        except UserError:
            raise
        except Exception as error:  # Every format has many types of errors for a damaged file.
            raise self._error(f"no model of oaa_tf.export ({first_line(error)})") from None
        if "segment" not in self._signatures:
            found = ", ".join(self._signatures) or "none"
            raise self._error(f"expected the signature segment (a model of train_seg), found {found}")
        if crf:
            self.require_probabilities()

    @classmethod
    def of_records(cls, folder: str | Path, records: RecordSet, *, crf: bool = False) -> Self:
        """Loads a model for the classes of records.

        Raises:
            UserError: As the constructor, or the model has other classes.
        """
        segmenter = cls(folder, crf=crf)
        records.require_classes(f"--model={folder}", segmenter.classes)
        return segmenter

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the name of the folder; another process loads the model again."""
        return functools.partial(type(self), crf=self._crf), (self._folder.absolute(),)

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 (hex) of the model, for `WorkDir.claim`.

        If `origin.json` names the checkpoint, the checksum covers the classes and what else `origin.json` says, but no
        files: these differ in every export, even if nothing has changed. Otherwise it covers the files.
        """
        if self._origin.get("checkpoint_checksum") is None:
            return files_checksum(sorted(path for path in self._folder.rglob("*") if path.is_file()))
        said = {name: value for name, value in self._origin.items() if name != "files"}
        return hashlib.sha256(json.dumps([self.classes, said], sort_keys=True).encode()).hexdigest()

    def require_probabilities(self) -> None:
        """Checks that the model gives probabilities, which a CRF needs.

        Raises:
            UserError: It has no signature `probabilities`.
        """
        if "probabilities" not in self._signatures:
            raise self._error("has no signature probabilities; export a SavedModel")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segments one image.

        Args:
            image: uint8 RGB `[height, width, 3]`.

        Returns:
            uint8 `[height, width]`: 0 background, c + 1 class c.

        Raises:
            UserError: The model fails, or its output has another dtype, shape or range.
        """
        with self._named_errors(image):
            if self._crf:
                labels_first = np.ascontiguousarray(np.moveaxis(self.probabilities(image), -1, 0))
                mask = dense_crf(labels_first, image).argmax(axis=0).astype(np.uint8)
            else:
                mask = self._signatures["segment"](image[np.newaxis])[0]
        expected, num_classes = image.shape[:2], len(self.classes)
        if mask.dtype != np.uint8 or mask.shape != expected or mask.max() > num_classes:
            raise self._error(
                f"a mask of {mask.dtype} {list(mask.shape)} with values up to {mask.max()},"
                f" expected {list(expected)} and at most {num_classes}"
            )
        return mask

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The probabilities of background and classes at every pixel.

        Args:
            image: uint8 RGB `[height, width, 3]`.

        Returns:
            float32 `[height, width, C + 1]`, background first.

        Raises:
            UserError: The model fails, its output has another shape, or it has no signature `probabilities`.
        """
        self.require_probabilities()
        with self._named_errors(image):
            probabilities = self._signatures["probabilities"](image[np.newaxis])[0]
        expected = (*image.shape[:2], len(self.classes) + 1)
        if probabilities.shape != expected:
            raise self._error(f"probabilities {list(probabilities.shape)}, expected {list(expected)}")
        return probabilities

    @contextlib.contextmanager
    def _named_errors(self, image: np.ndarray) -> Iterator[None]:
        """Turns errors of a model into a `UserError` that names the model and the size of the image."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            size = "x".join(map(str, image.shape[:2]))
            raise self._error(f"fails on an image of {size} pixels: {first_line(error)}") from None

    def _error(self, message: str) -> UserError:
        return UserError(message, flag="model", value=self._folder)


def file_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of all files of an export except `ORIGIN_FILE`, by their paths inside it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / ORIGIN_FILE)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _checked_origin(folder: Path) -> dict[str, Any]:
    """The content of `ORIGIN_FILE`, after a check that no file has changed, which TensorFlow would not notice.

    Raises:
        ValueError: The file is damaged, or another file has changed.
    """
    if not (folder / ORIGIN_FILE).exists():
        # Exported by an earlier version, or by another program.
        return {}
    origin = read_json(folder / ORIGIN_FILE)
    supervision, expected = origin.get("supervision"), origin.get("files")
    is_whole = isinstance(expected, dict) and any(name in expected for name in MODEL_FILES)
    if not is_whole or not (supervision is None or is_supervision(supervision)):
        raise ValueError(f"{ORIGIN_FILE.name} is damaged")
    found = file_checksums(folder)
    for name, checksum in expected.items():
        if found.get(name) != checksum:
            raise ValueError(f"{name} has changed since {ORIGIN_FILE.name} was written; export it again")
    return origin
