"""The pipeline's picture grid: the results of each stage for a few training images, side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.report.visualization import grid, overlay_attention, overlay_mask, write_png


def write_picture_grid(
    path: Path,
    records: RecordSet,
    positions: list[int],
    *,
    maps: Mapping[str, Path],
    label_folder: Path,
    model: Path,
) -> None:
    """Writes one row per training image: image, attention maps, pseudo label, prediction and, if known, the truth.

    Attention is the maximum over the image's classes.

    Args:
        path: The PNG to write.
        records: The training records.
        positions: Positions of the images to show.
        maps: Folders of attention maps by column title.
        label_folder: Folder of the pseudo labels' `<id>.png`.
        model: SavedModel with the signature `segment`.
    """
    opened = {title: AttentionMaps.open(folder, records) for title, folder in maps.items()}
    segment = Segmenter(model)
    rows, names = [], []
    for position in positions:
        record = records.record(position)
        labels = {
            "pseudo label": read_indexed(label_folder / f"{record.image_id}.png"),
            "prediction": segment(record.image),
            "ground truth": record.mask,
        }
        row = {"image": record.image}
        for title, attention_maps in opened.items():
            attention = attention_maps.at_image_size(position)[1]
            row[title] = overlay_attention(record.image, np.max(attention, axis=0, initial=0))
        row |= {title: overlay_mask(record.image, each) for title, each in labels.items() if each is not None}
        if record.mask is None and records.has_masks:
            row["ground truth"] = np.full_like(record.image, 255)
        rows.append(row)
        names.append(", ".join(records.classes[label] for label in records.labels[position]) or "no class")
    write_png(path, grid([list(row.values()) for row in rows], list(rows[0]), names))
