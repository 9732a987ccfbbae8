"""Data for the slider that replays current and cumulative attention of a few training images."""

from typing import Any

import numpy as np

from oaa_tf.attention.history import read_history
from oaa_tf.data.images.image_files import fitting_size
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.report import pictures
from oaa_tf.report.run_folder import RunFolder

_MAX_STEPS = 40
_HEAT_SIDE = 64
_PHOTO_SIDE = 320


def replay_data(run: RunFolder) -> list[dict[str, Any]]:
    """What the page's script replays, an entry per image and class; empty if the run kept no history.

    Returns:
        For each: "image", "name" of the class, "photo", "width" and "height"; and lists, an item a step: "steps",
        "epochs", "attention" and "cumulative" (data URIs), "scores", "updates", and "waiting", true before the
        accumulation begins.

    Raises:
        UserError: A snapshot or `flags.txt` is damaged.
    """
    stage, records = run.stages.get("train_cls"), run.train_records
    if stage is None or records is None or not (history := read_history(stage.path)):
        return []
    batch_size, first_epoch = map(stage.number, ("batch_size", "accumulate_from_epoch"))
    every = np.linspace(0, len(history) - 1, min(len(history), _MAX_STEPS)).round().astype(int)
    steps = [list(history)[index] for index in every]
    side = STRIDE * history[steps[-1]].cumulative.shape[-1]
    entries = []
    # The images of the last step: a resumed run may show another number of pictures.
    for slot in history[steps[-1]].slots.tolist():
        position = records.position_of(slot)
        record = records.record(position)
        height, width = record.image.shape[:2]
        frame = Frame(height, width, side)
        size = fitting_size(record.image, _HEAT_SIDE)
        found = [(step, history[step], row) for step in steps for row in np.flatnonzero(history[step].slots == slot)]
        epochs = [step * batch_size / len(records) for step, _, _ in found]
        entry = {
            "image": record.image_id,
            "name": records.classes[records.labels[position][slot - records.first_slots[position]]],
            "photo": pictures.photo(record.image, _PHOTO_SIDE),
            "height": height,
            "width": width,
            "steps": [step for step, _, _ in found],
            "epochs": [round(epoch, 1) for epoch in epochs],
            "scores": [round(float(snapshot.scores[row]), 3) for _, snapshot, row in found],
            "updates": [int(snapshot.num_updates[row]) for _, snapshot, row in found],
            "waiting": [epoch <= first_epoch for epoch in epochs],
        }
        for key in ("attention", "cumulative"):
            grids = [getattr(snapshot, key)[row] / np.float32(255) for _, snapshot, row in found]
            entry[key] = [pictures.heat(frame.to_image(grid, *size)) for grid in grids]
        entries.append(entry)
    return entries
