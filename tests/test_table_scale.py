"""A table of cumulative attention that is finer than the grid of the network."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiny_voc import make_tiny_records

from oaa_tf import make_pseudo_labels, train_cls, train_integral
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.report.replay import replay_data
from oaa_tf.report.run_folder import RunFolder

CELLS = 4
"""Cells per side of the network's grid."""


def trained(records: RecordSet, work_dir: Path, **options) -> Path:
    """A classifier that learns nothing, so that its attention on a view is always the same."""
    train_cls.run(
        train_cls.TrainClsSettings(
            **{"records": str(records.manifest_path), "work_dir": str(work_dir), "image_size": 8 * CELLS, "width": 2},
            **{"batch_size": 2, "num_epochs": 3.0, "backbone_weights": "none", "initializer": "he"},
            **{"learning_rate": 0.0, "weight_decay": 0.0, "gate": "none", "accumulate_from_epoch": 0},
            **{"num_measured": 2} | options,
        )
    )
    return work_dir


@given(st.integers(0, CELLS), st.integers(0, CELLS), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_view_that_shows_an_image_larger_fills_cells_of_its_own(
    row: int, column: int, mirrored: bool, seed: int
) -> None:
    shape = [1, CELLS, CELLS, 2]
    attention = np.random.default_rng(seed).random(shape, np.float32)
    view = tf.constant([[1.0, 1.0, 8.0 * row, 8.0 * column, float(mirrored)]])
    everywhere = tf.ones([1, 2 * CELLS, 2 * CELLS], tf.bool)
    found, seen = attention_to_frame(tf.constant(attention), tf.ones(shape[:3], tf.bool), everywhere, view)
    expected = np.zeros([1, 2 * CELLS, 2 * CELLS, 2], np.float32)
    own = np.s_[:, row : row + CELLS, column : column + CELLS]
    expected[own] = attention[:, :, ::-1] if mirrored else attention
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.asarray(seen)[own].all() and np.asarray(seen).sum() == CELLS**2


def test_maps_of_whole_images_are_those_of_the_coarse_grid_in_between(tmp_path: Path) -> None:
    records = make_tiny_records(tmp_path)
    coarse, fine = (trained(records, tmp_path / str(n), table_scale=n, flip=False) for n in (1, 2))
    for name in ("attention/cam", "attention/oaa"):
        one, other = (AttentionMaps.open(folder / name, records) for folder in (coarse, fine))
        assert (one.grid, other.grid, other.image_size) == (CELLS, 2 * CELLS, 16 * CELLS)
        # Sizes that are rounded in only one of the frames show the network other pixels.
        even = [
            n for n in range(len(records)) if np.multiply(2, one.frame(n).content).tolist() == [*other.frame(n).content]
        ]
        assert len(even) == 2
        for position in even:
            between, found = one.for_image(position, 16 * CELLS)[1], other.for_image(position)[1]
            # CAM is normalised after it has been resampled.
            scale = np.maximum(between.max(axis=(1, 2), keepdims=True), 1e-8) if name.endswith("cam") else 1
            np.testing.assert_allclose(found, between / scale, atol=0.01)
            assert found.any()


@pytest.mark.slow
def test_larger_views_make_it_finer_and_later_stages_read_it(tmp_path: Path) -> None:
    records = make_tiny_records(tmp_path)
    options = {"min_scale": 2.0, "max_scale": 2.0, "fusions": ("max", "average")}
    coarse, fine = (trained(records, tmp_path / str(n) / "train_cls", table_scale=n, **options) for n in (1, 2))
    sizes = [json.loads((folder / "metrics.json").read_text())["table_bytes"] for folder in (coarse, fine)]
    assert 3.5 * sizes[0] < sizes[1] <= 4 * sizes[0]
    replayed = replay_data(RunFolder.open(fine.parent))
    assert len(replayed) == records.first_slots[-1] and all(entry["cumulative"] for entry in replayed)
    fine_maps = AttentionMaps.open(fine / "attention/oaa", records)
    between = np.concatenate(
        [AttentionMaps.open(coarse / "attention/oaa", records).for_image(p, 16 * CELLS)[1] for p in range(len(records))]
    )
    assert np.abs(fine_maps.maps / 255 - between).mean() > 0.02
    train_integral.run(
        train_integral.TrainIntegralSettings(
            **{"records": str(records.manifest_path), "maps": str(fine / "attention/oaa"), "image_size": 8 * CELLS},
            **{"work_dir": str(tmp_path / "plus"), "width": 2, "batch_size": 2, "num_steps": 2},
            **{"backbone_weights": "none", "num_measured": 2},
        )
    )
    assert AttentionMaps.open(tmp_path / "plus/attention/oaa_plus", records).grid == CELLS
    labels = make_pseudo_labels.run(
        make_pseudo_labels.MakePseudoLabelsSettings(
            records=str(records.manifest_path), maps=str(fine / "attention/oaa"), work_dir=str(tmp_path / "labels")
        )
    )
    assert labels["maps_kind"] == "oaa_max"


@pytest.mark.parametrize("scale", [0, 5])
def test_other_scales_are_refused(scale: int) -> None:
    with pytest.raises(Exception, match="table_scale"):
        train_cls.TrainClsSettings(records="r", work_dir="w", table_scale=scale)
