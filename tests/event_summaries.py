"""Pictures and texts from the files that TensorBoard reads; for scalars, see `oaa_tf.report.event_files`."""

from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event


def read_pictures(folder: Path) -> dict[tuple[str, int], np.ndarray]:
    """By tag and step, uint8 RGB `[height, width, 3]`."""
    pictures = {}
    for key, (width, height, encoded) in _summaries(folder, "images").items():
        picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert picture.shape[:2] == (int(height), int(width))
        pictures[key] = picture
    return pictures


def read_texts(folder: Path) -> dict[tuple[str, int], str]:
    """By tag and step."""
    return {key: text.item().decode() for key, text in _summaries(folder, "text").items()}


def _summaries(folder: Path, plugin: str) -> dict[tuple[str, int], np.ndarray]:
    found = {}
    for path in sorted(folder.glob("events*")):
        for data in tf.data.TFRecordDataset(str(path)):
            event = Event.FromString(data.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == plugin:
                    found[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return found
