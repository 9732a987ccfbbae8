"""Scalars from the files that TensorBoard reads."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.util.tensor_util import make_ndarray


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """All scalar summaries of a training stage.

    A resumed run has several files; if it took a step twice, the later value counts. A file that ends in an incomplete
    record, because its run was killed or still goes on, is read up to there.

    Args:
        folder: A stage's `tensorboard` folder.

    Returns:
        By tag, the values by step in ascending order.
    """
    scalars: dict[str, dict[int, float]] = {}
    # The names begin with the time in seconds, so the latest file comes last.
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    scalars.setdefault(value.tag, {})[event.step] = float(make_ndarray(value.tensor))
    return {tag: dict(sorted(values.items())) for tag, values in scalars.items()}
