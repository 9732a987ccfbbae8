"""Affinity from labels to spread maps, on tiny data."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_model import make_trained_stage
from tiny_voc import attention_from_masks, make_tiny_records

from oaa_tf import export, make_pseudo_labels
from oaa_tf.attention.affinity import distances, random_walk
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.spreading import Spreading
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import frame_batches
from oaa_tf.models.affinity import affinity_network
from oaa_tf.models.networks import load_network
from oaa_tf.models.vgg import vgg16_backbone
from oaa_tf.train_affinity import TrainAffinitySettings, dry_run, run
from tools.kill_test import compare

IMAGE_SIZE = 48


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordSet, AttentionMaps, TrainAffinitySettings]:
    """Records, maps of their masks, and the settings of a training on labels made from these."""
    root = tmp_path_factory.mktemp("affinity")
    records, maps = make_tiny_records(root), root / "maps"
    AttentionMaps.save(maps, attention_from_masks(records, 32), records, kind="cam", image_size=32)
    labels = make_pseudo_labels.MakePseudoLabelsSettings(
        records=str(records.manifest_path), maps=str(maps), work_dir=str(root / "labels")
    )
    make_pseudo_labels.run(labels)
    make_trained_stage(root / "cls", "attention")
    finished = {"stage": "train_cls", "supervision": "image labels", "seed": 0, "settings": {}}
    (root / "cls/metrics.json").write_text(json.dumps(finished))
    settings = TrainAffinitySettings(
        records=str(records.manifest_path),
        maps=str(maps),
        labels=str(root / "labels"),
        work_dir=str(root / "work"),
        initial_weights=str(root / "cls"),
        **{"image_size": IMAGE_SIZE, "batch_size": 3, "num_steps": 4, "num_epochs": 0.0, "checkpoint_every": 2},
        **{"width": 2, "backbone_weights": "none"},
    )
    return records, AttentionMaps.open(maps, records), settings


@pytest.fixture(scope="module")
def work(inputs: tuple) -> Path:
    """The folder of a finished training."""
    _, _, settings = inputs
    assert dry_run(settings)["state"] == "to do"
    metrics = run(settings)
    assert run(settings) == metrics
    return Path(settings.work_dir)


def test_spread_maps_are_the_walk_of_each_image(inputs: tuple) -> None:
    records, maps, _ = inputs
    network, _ = affinity_network(vgg16_backbone(width=2))
    options = {"power": 2.0, "num_steps": 5}
    positions = list(range(1, len(records)))
    found = Spreading(network, maps, IMAGE_SIZE, batch_size=2, **options)(positions)
    slot = 0
    for position in positions:
        (batch,) = frame_batches(records, IMAGE_SIZE, batch_size=1, chosen=[position])
        resampled = maps.frame(position).to_frame(maps.for_image(position)[1], IMAGE_SIZE)
        rows, columns = batch[keys.VALID].shape[1:]
        of_image = distances(network(batch[keys.IMAGE]))
        for before in resampled:
            attention = tf.constant(before[np.newaxis, :rows, :columns])
            walked = random_walk(attention, of_image, batch[keys.VALID], **options)[0].numpy()
            np.testing.assert_array_equal(found.before[slot], before)
            np.testing.assert_allclose(found.after[slot, :rows, :columns], walked / walked.max(), atol=1e-4)
            assert found.after[slot].max() == 1
            slot += 1
    assert slot == len(found.after) == len(found.edges)
    assert found.edges.min() >= 0 and found.edges.max() <= 1


def test_a_training_writes_maps_for_the_next_stage(inputs: tuple, work: Path, tmp_path: Path) -> None:
    records, maps, _ = inputs
    metrics = json.loads((work / "metrics.json").read_text())
    assert metrics["supervision"] == maps.supervision and metrics["num_pairs"] == len(maps.maps)
    spread = AttentionMaps.open(work / "attention/spread", records)
    assert (spread.kind, spread.image_size) == ("cam_spread", IMAGE_SIZE)
    assert spread.maps.max(axis=(1, 2)).tolist() == [255] * len(maps.maps)
    with pytest.raises(UserError, match=f"--stage_dir={work}: is of train_affinity"):
        export.run(export.ExportSettings(stage_dir=str(work), output_dir=str(tmp_path / "model")))


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(inputs: tuple, work: Path, tmp_path: Path) -> None:
    _, _, settings = inputs
    again = shutil.copytree(work, tmp_path / "again")
    for path in (again / "metrics.json", *(again / "checkpoints").glob("step-4.*")):
        path.unlink()
    run(dataclasses.replace(settings, work_dir=str(again)))
    assert compare("train_affinity", work, again)[1] == []


def test_the_backbone_stays_as_it_was(work: Path) -> None:
    _, network, backbone = load_network(work)
    _, _, before = load_network(work.parent / "cls")
    for mine, theirs in zip(backbone.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert network.count_params() > backbone.count_params()


def test_recompute_is_refused(inputs: tuple) -> None:
    _, _, settings = inputs
    with pytest.raises(UserError, match="--recompute: saves nothing here"):
        dataclasses.replace(settings, recompute=True)
