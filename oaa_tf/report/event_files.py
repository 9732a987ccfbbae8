"""Scalars from the files that TensorBoard reads."""

from pathlib import Path

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """All scalar summaries of a training stage.

    A resumed run has several files; of a step that was taken twice, the later one counts.

    Args:
        folder: A stage's `tensorboard` folder.

    Returns:
        By tag, the values by step in ascending order; empty if there are none.
    """
    scalars: dict[str, dict[int, float]] = {}
    # The names begin with the time in seconds.
    for path in sorted(folder.glob("events.out.tfevents.*")):
        try:
            for data in tf.data.TFRecordDataset(str(path)):
                event = Event.FromString(data.numpy())
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "scalars":
                        scalars.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
        except tf.errors.DataLossError:
            continue  # A run that was killed, or is running, leaves a record half written.
    return {tag: dict(sorted(values.items())) for tag, values in scalars.items()}
