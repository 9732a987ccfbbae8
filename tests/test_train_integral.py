"""What the integral attention model learns from."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_trained_stage
from tiny_voc import make_tiny_records

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.targets import attention_targets
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.train_integral import TrainIntegralSettings, dry_run, run


def test_the_targets_are_the_maps_of_the_labels_and_zero_elsewhere(tmp_path: Path) -> None:
    records = make_tiny_records(tmp_path)
    grid, num_slots = 5, records.first_slots[-1]
    array = np.random.default_rng(0).integers(1, 256, (num_slots, grid, grid), np.uint8)
    maps = AttentionMaps.from_array(array, records, image_size=8 * grid)
    options = {"batch_size": 2, "seed": 0, "num_steps": len(records)}
    seen = set()
    for batch in training_batches(records, ViewOptions(8 * grid), targets=attention_targets(maps), **options):
        for position, attention in zip(batch[keys.POSITION].numpy(), batch[keys.ATTENTION].numpy(), strict=True):
            seen.add(position)
            labels = list(records.labels[position])
            slots = slice(*records.first_slots[position : position + 2])
            np.testing.assert_array_equal(attention[..., labels], np.moveaxis(array[slots], 0, -1) / np.float32(255))
            assert attention.shape == (grid, grid, len(records.classes))
            assert np.all(np.delete(attention, labels, axis=-1) == 0)
    assert seen == set(range(len(records)))


def test_the_supervision_is_that_of_the_maps_it_learns(tmp_path: Path) -> None:
    records = make_tiny_records(tmp_path)
    maps = np.full([records.first_slots[-1], 4, 4], 200, np.uint8)
    AttentionMaps.save(tmp_path / "maps", maps, records, kind="x", image_size=32, supervision="pixel masks")
    settings = TrainIntegralSettings(
        records=str(records.manifest_path),
        maps=str(tmp_path / "maps"),
        work_dir=str(tmp_path / "work"),
        **{"image_size": 32, "batch_size": 2, "num_steps": 1, "width": 2, "backbone_weights": "none"},
    )
    assert run(settings)["supervision"] == "pixel masks"
    assert AttentionMaps.open(tmp_path / "work/attention/oaa_plus", records).supervision == "pixel masks"


def test_the_supervision_is_that_of_the_initial_weights_if_it_is_stronger(tmp_path: Path) -> None:
    records = make_tiny_records(tmp_path)
    maps = np.full([records.first_slots[-1], 4, 4], 200, np.uint8)
    AttentionMaps.save(tmp_path / "maps", maps, records, kind="x", image_size=32, supervision="image labels + saliency")
    make_trained_stage(tmp_path / "start", "segmentation")
    settings = TrainIntegralSettings(
        records=str(records.manifest_path),
        maps=str(tmp_path / "maps"),
        work_dir=str(tmp_path / "work"),
        initial_weights=str(tmp_path / "start"),
        **{"image_size": 32, "batch_size": 2, "num_steps": 1, "width": 2, "backbone_weights": "none"},
    )
    with pytest.raises(UserError, match=r"start: its training has not come to its end; run"):
        dry_run(settings)
    for start, expected in (("image labels", "image labels + saliency"), ("pixel masks", "pixel masks")):
        content = {"stage": "train_seg", "supervision": start, "seed": 0, "settings": {}}
        (tmp_path / "start/metrics.json").write_text(json.dumps(content))
        assert dry_run(settings)["supervision"] == expected
    assert run(settings)["supervision"] == "pixel masks"
    assert AttentionMaps.open(tmp_path / "work/attention/oaa_plus", records).supervision == "pixel masks"
    (tmp_path / "start/metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"start/metrics.json: damaged; delete it and run the training stage again"):
        dry_run(dataclasses.replace(settings, work_dir=str(tmp_path / "other")))
