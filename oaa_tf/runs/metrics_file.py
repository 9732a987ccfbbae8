"""`metrics.json`: the results of a stage and the software versions it ran on; written last, by `run_once`."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.command_line.settings import Settings
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.supervision import is_supervision
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir


def read_training_metrics(stage_dir: Path) -> dict[str, Any] | None:
    """The content of a training stage's `metrics.json`; None before the training's end.

    Args:
        stage_dir: The stage's work_dir.

    Raises:
        UserError: The file is damaged.
    """
    path = stage_dir / METRICS_FILE
    try:
        metrics = read_json(path)
        stage, supervision, seed = metrics["stage"], metrics["supervision"], metrics["seed"]
        valid = isinstance(stage, str) and is_supervision(supervision) and type(seed) is int
        if not valid or not isinstance(metrics["settings"], dict):
            raise ValueError(metrics)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; delete it and run the training stage again") from None
    return metrics


def run_once(
    stage: str, settings: Settings, inputs: Mapping[str, str], work: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Claims a stage's work_dir, does its work and writes its `metrics.json`, unless that has been done.

    Args:
        stage: Name of the stage.
        settings: Its settings.
        inputs: Checksums of its input data, see `WorkDir.claim`.
        work: Does the work in the given folder, from where an earlier call stopped, and returns the metrics.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: From `WorkDir.claim` or `work`.
    """
    with WorkDir.claim(settings, inputs) as work_dir:
        if (metrics := work_dir.finished_metrics()) is not None:
            print(f"{stage}: {work_dir.path} is done")
            return metrics
        return write_metrics(work_dir.path, work(work_dir.path))


def write_metrics(work_dir: str | os.PathLike, metrics: dict[str, Any]) -> dict[str, Any]:
    """Writes `<work_dir>/metrics.json`, atomically, with the software versions under the key "versions".

    Args:
        work_dir: Folder of the stage; made if missing.
        metrics: Any nesting of dicts with string keys, sequences, numpy arrays and scalars. NaN and infinity, which
            JSON does not have, become null.

    Returns:
        The content of the file.
    """
    written = json_ready(metrics | {"versions": versions()})
    write_json(Path(work_dir) / METRICS_FILE, written)
    return written


def origin(stage: str, settings: Settings, records: Mapping[str, Any], *, supervision: str | None) -> dict[str, Any]:
    """The entries of `metrics.json` that say where its numbers come from.

    Args:
        stage: Name of the stage.
        settings: The stage's settings, with or without a `seed`.
        records: `RecordSet.provenance`.
        supervision: One of `SUPERVISIONS`; None if it is not known.
    """
    return {
        "stage": stage,
        **records,
        "supervision": supervision,
        "seed": getattr(settings, "seed", None),
        "settings": settings.as_dict(),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries that results depend on; None for one that is not installed.

    TensorFlow and Keras are looked up, not imported.
    """
    return {
        "python": platform.python_version(),
        "tensorflow": _installed("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"),
        "keras": _installed("keras", "keras-nightly"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _installed(*names: str) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
