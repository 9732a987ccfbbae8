"""What a stage does before its first step."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_stage import TinyStage

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.train_seg import TrainSegSettings
from oaa_tf.training import initial_network
from oaa_tf.training.initial_network import prepare_network
from oaa_tf.training.settings import AttentionTrainingSettings


def settings_for(records: RecordSet, work_dir: Path, **options) -> AttentionTrainingSettings:
    options = {"image_size": 32, "width": 2, "backbone_weights": "none", "initializer": "he"} | options
    return AttentionTrainingSettings(records=str(records.manifest_path), work_dir=str(work_dir), **options)


def prepare(records: RecordSet, work_dir: Path, **options):
    work_dir.mkdir(exist_ok=True)
    settings = settings_for(records, work_dir, **options)
    return prepare_network(records.classes, settings, work_dir, num_steps=1)


def test_the_seed_decides_the_weights(records: RecordSet, tmp_path: Path) -> None:
    first, again, other = (
        prepare(records, tmp_path / name, seed=seed)[0].get_weights()
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


def test_the_network_is_described_in_the_work_dir(records: RecordSet, tmp_path: Path) -> None:
    prepare(records, tmp_path)
    assert NetworkDescription.read(tmp_path) == NetworkDescription("attention", records.classes, 32, width=2)


def test_settings_reach_the_optimizer_and_the_layers(records: RecordSet, tmp_path: Path) -> None:
    network, optimizer = prepare(records, tmp_path, momentum=0.7, weight_decay=0.03, clip_norm=4.0, freeze_blocks=3)
    assert (optimizer.momentum, optimizer.l2, optimizer.clip_norm) == (0.7, 0.03, 4.0)
    assert optimizer.multipliers[network.get_layer("extra_conv1").kernel.path] == 10
    assert len(network.trainable_variables) == 2 * (17 - 7)


def test_a_training_goes_on_in_the_precision_in_which_it_began(
    records: RecordSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fastest in ("bfloat16", "float32"):
        monkeypatch.setattr(initial_network, "fastest_precision", lambda fastest=fastest: fastest)
        network, _ = prepare(records, tmp_path, precision="auto")
        assert network.get_layer("extra_conv1").compute_dtype == "bfloat16"
    network, _ = prepare(records, tmp_path / "another", precision="auto")
    assert network.get_layer("extra_conv1").compute_dtype == "float32"


@pytest.mark.filterwarnings("ignore:Even though the `tf.config")
def test_starting_from_another_stage(records: RecordSet, tmp_path: Path) -> None:
    tf.config.run_functions_eagerly(True)
    try:
        stage = TinyStage.make("cls", records, tmp_path / "cls", num_steps=1)
        stage.train()
    finally:
        tf.config.run_functions_eagerly(False)
    trained = stage.model.network
    same, _ = prepare(records, tmp_path / "same", initial_weights=str(tmp_path / "cls"))
    for one, other in zip(same.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    options = {"image_size": 32, "width": 2, "initializer": "he", "initial_weights": str(tmp_path / "cls")}
    settings = TrainSegSettings(records="", labels="masks", work_dir=str(tmp_path / "seg"), **options)
    (tmp_path / "seg").mkdir()
    segmentation, _ = prepare_network(records.classes, settings, tmp_path / "seg", num_steps=1)
    for one, other in zip(
        segmentation.get_layer("vgg16").get_weights(), trained.get_layer("vgg16").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("option", ["backbone_weights", "initial_weights"])
def test_weights_that_are_missing_leave_a_work_dir_that_can_still_be_used(
    records: RecordSet, tmp_path: Path, option: str
) -> None:
    with pytest.raises(UserError, match="missing"):
        prepare(records, tmp_path, **{option: str(tmp_path / "missing.h5")})
    assert list(tmp_path.iterdir()) == []
    prepare(records, tmp_path, width=3)


def test_a_work_dir_of_other_classes_is_refused(records: RecordSet, tmp_path: Path) -> None:
    prepare(records, tmp_path)
    before = (tmp_path / "network.json").read_text()
    other = dataclasses.make_dataclass("Other", ["classes"])(classes=("bird", *records.classes[1:]))
    settings = settings_for(records, tmp_path)
    with pytest.raises(UserError, match="has classes cat, dog, cow, not bird, dog, cow; use another --work_dir"):
        prepare_network(other.classes, settings, tmp_path, num_steps=1)
    assert (tmp_path / "network.json").read_text() == before
