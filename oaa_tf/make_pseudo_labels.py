"""Turns attention maps into pseudo segmentation labels.

This is stage 3 (paper, Sec. 4).

    python -m oaa_tf.make_pseudo_labels --records=records/train.json --maps=runs/integral/attention/oaa_plus \
        --work_dir=runs/pseudo_labels

Writes `SegmentationClass/<id>.png` with the VOC palette (0 background, c + 1 class c, 255 ignored). The description
`pseudo_labels.json` comes last: it marks the folder as complete and names its records.
"""

import dataclasses
from typing import Any

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.parallel_settings import ParallelSettings
from oaa_tf.command_line.settings import setting
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.labels.label_files import dry_run_pseudo_labels, require_few_classes, require_saliency, write_pseudo_labels
from oaa_tf.labels.rules import PseudoLabelOptions, background_scores, min_max_normalized, pseudo_label
from oaa_tf.runs.metrics_file import origin
from oaa_tf.runs.supervision import supervision_of_labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakePseudoLabelsSettings(ParallelSettings, PseudoLabelOptions):
    """The numbers of the labelling rule, and the maps to apply it to."""

    records: str = setting(help="Manifest of the training records, from make_records (<split>.json).")
    maps: str = setting(help="Folder of attention maps, such as attention/oaa_plus of train_integral.")
    work_dir: str = setting(help="Folder for the labels; run again in it to resume.")
    use_saliency: bool = setting(False, help="Take the background from the records' saliency maps, as the paper does.")
    refine: str = setting(
        "none",
        help="Fit the maps to the image's edges before labelling: local refinement (PAMR) or a fully connected CRF.",
        choices=("none", "pamr", "crf"),
    )


def run(settings: MakePseudoLabelsSettings) -> dict[str, Any]:
    """Labels all images that have no label map yet.

    Returns:
        The content of `metrics.json`, see `write_pseudo_labels`.

    Raises:
        UserError: The records, the maps and the settings do not go together, or work_dir holds another run.
    """
    records, maps, checksums = _inputs(settings)

    def make(position: int, record: Record) -> np.ndarray:
        classes, attention = maps.at_image_size(position)
        saliency = record.saliency if settings.use_saliency else None
        if settings.refine != "none" and classes:
            from oaa_tf.labels.refined_attention import refined_attention

            # The rule compares these scores. A CRF gains nothing from more pixels than the network saw.
            attention = min_max_normalized(attention)
            background = background_scores(attention, saliency, settings)
            attention = refined_attention(
                settings.refine, attention, background, record.image, crf_side=maps.image_size
            )
        return pseudo_label(attention, classes, saliency, settings)

    supervision = supervision_of_labels(
        maps.supervision, use_saliency=settings.use_saliency, saliency_network=records.saliency_network
    )
    description = origin("make_pseudo_labels", settings, records.provenance, supervision=supervision) | {
        "seed": maps.seed,
        "maps_kind": maps.kind,
        "maps_checksum": maps.checksum,
    }
    return write_pseudo_labels(
        settings,
        checksums,
        records,
        description,
        make,
        num_workers=settings.num_workers,
        scheduler=settings.scheduler,
    )


def dry_run(settings: MakePseudoLabelsSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    records, maps, checksums = _inputs(settings)
    made_from = {"maps": f"{maps.kind}: {settings.maps}"}
    return dry_run_pseudo_labels("make_pseudo_labels", settings, checksums, records, made_from)


def _inputs(settings: MakePseudoLabelsSettings) -> tuple[RecordSet, AttentionMaps, dict[str, str]]:
    """The records, the maps, and their checksums."""
    records = RecordSet.open(settings.records)
    require_few_classes(len(records.classes), settings.records)
    if settings.use_saliency:
        require_saliency(records)
    maps = AttentionMaps.open(settings.maps, records)
    return records, maps, {"records": records.checksum, "maps": maps.checksum}


if __name__ == "__main__":
    launch(MakePseudoLabelsSettings, run, "make_pseudo_labels", dry_run)
