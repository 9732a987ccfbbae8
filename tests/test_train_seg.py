"""The segmentation stage: its share of the images, ResNet-101 from settings to masks, settings that make no sense."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_trained_stage
from tiny_voc import labels_from_masks, make_tiny_records

from oaa_tf import evaluate, export, predict, train_seg
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.targets import segmentation_targets
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.labels.label_files import DESCRIPTION_FILE
from oaa_tf.models.networks import NetworkDescription, load_network
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.train_seg import SegmentationStage, TrainSegSettings, chosen_positions, label_weights
from oaa_tf.training.initial_network import prepare_network


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    return make_tiny_records(tmp_path_factory.mktemp("records"))


def test_label_maps_and_masks_give_the_same_targets(records: RecordSet) -> None:
    masks = [records.record(position).mask for position in range(len(records))]
    views = ViewOptions(32, frame_size=40, min_scale=0.8, max_scale=1.2)
    options = {"batch_size": 2, "seed": 1, "num_steps": 4}
    kinds = (None, masks)
    datasets = [training_batches(records, views, targets=segmentation_targets(kind), **options) for kind in kinds]
    labels = set()
    for expected, *others in zip(*datasets, strict=True):
        labels |= set(np.unique(expected[keys.SEGMENTATION]))
        for other in others:
            np.testing.assert_array_equal(other[keys.SEGMENTATION], expected[keys.SEGMENTATION])
    assert len(labels) > 2


def settings_for(records: RecordSet, work_dir: Path, **options) -> TrainSegSettings:
    common = {"labels": "masks", "image_size": 32, "frame_size": 40, "batch_size": 2, "num_steps": 3, "width": 2}
    common |= {"backbone_weights": "none", "initializer": "he", "new_layer_multiplier": 3.0, "clip_norm": 10.0}
    common |= {"num_pictures": 0, "num_measured": 0}
    paths = {"records": str(records.manifest_path), "work_dir": str(work_dir)}
    return TrainSegSettings(**paths, **common | {"backbone": "resnet101"} | options)


@given(
    counts=st.lists(st.integers(0, 10_000), min_size=2, max_size=6).filter(any),
    balance=st.floats(0.01, 1),
)
def test_rare_labels_weigh_more(counts: list[int], balance: float) -> None:
    shares = np.array(counts) / sum(counts)
    weights = label_weights(shares, balance)
    assert (shares * weights).sum() == pytest.approx(1)
    assert (weights[shares == 0] == 0).all()
    known = weights[shares > 0] * shares[shares > 0] ** balance
    np.testing.assert_allclose(known, known[0])


def test_the_weights_are_those_of_the_labels_to_train_on(records: RecordSet, tmp_path: Path) -> None:
    stage = SegmentationStage(settings_for(records, tmp_path, balance=1, share=0.5))
    masks = np.concatenate([records.record(position).mask.ravel() for position in stage.chosen])
    counts = np.bincount(masks[masks != 255], minlength=len(records.classes) + 1)
    network, _ = prepare_network(records.classes, stage.settings, tmp_path, num_steps=1)
    weights = stage.model(network).label_weights
    expected = [counts.sum() / count / np.count_nonzero(counts) if count else 0 for count in counts]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def trained(records: RecordSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work_dir of a network on ResNet-101, whose first two blocks were frozen."""
    folder = tmp_path_factory.mktemp("trained")
    metrics = train_seg.run(settings_for(records, folder, freeze_blocks=2))
    assert np.isfinite(metrics["loss"])
    return folder


def test_the_kernels_above_the_frozen_blocks_are_trained(records: RecordSet, trained: Path, tmp_path: Path) -> None:
    description, network, backbone = load_network(trained)
    assert description == NetworkDescription("segmentation", records.classes, 40, width=2, backbone="resnet101")
    settings = settings_for(records, tmp_path)
    before, _ = prepare_network(records.classes, settings, tmp_path, num_steps=1)
    changed = [
        after.path
        for after, start in zip(network.weights, before.weights, strict=True)
        if not np.array_equal(after.numpy(), start.numpy())
    ]
    names = [layer.name for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    trained_names = [name for name in names if name[:5] in ("conv3", "conv4", "conv5")]
    assert [path for path in changed if path.startswith("conv")] == [f"{name}/kernel" for name in trained_names]
    assert {path for path in changed if not path.startswith("conv")} == {
        f"{name}/{kind}" for name in ("fc6", "fc7", "score") for kind in ("kernel", "bias")
    }


@pytest.mark.parametrize("supervision", ["image labels", "image labels + saliency"])
def test_a_teacher_knows_what_its_labels_come_from(records: RecordSet, tmp_path: Path, supervision: str) -> None:
    folder = Path(labels_from_masks(records, tmp_path / "labels"))
    description = read_json(folder / DESCRIPTION_FILE) | {"supervision": supervision}
    write_json(folder / DESCRIPTION_FILE, description)
    settings = settings_for(records, tmp_path, labels=str(folder), teacher_after=0.5, num_steps=5, min_scale=0.8)
    stage = SegmentationStage(settings)
    network, _ = prepare_network(records.classes, settings, tmp_path, num_steps=1)
    model, [batch, *_] = stage.model(network), stage.batches(0)
    assert model.first_step == 2 and model.use_saliency == ("saliency" in supervision)
    assert (keys.SALIENCY in batch) == model.use_saliency
    if model.use_saliency:
        # In the tiny images, objects are salient, and nothing else.
        is_object = (batch[keys.SEGMENTATION] > 0) & (batch[keys.SEGMENTATION] < 255)
        np.testing.assert_array_equal(batch[keys.SALIENCY][is_object], 230)
        np.testing.assert_array_equal(batch[keys.SALIENCY][batch[keys.SEGMENTATION] == 0], 10)


def test_learning_rates_by_layer(records: RecordSet, tmp_path: Path) -> None:
    settings = settings_for(records, tmp_path)
    network, optimizer = prepare_network(records.classes, settings, tmp_path, num_steps=1)
    assert network.get_layer("fc6").kernel.shape == (3, 3, 64, 32)
    paths = [variable.path for variable in network.trainable_variables]
    rates = {path: optimizer.multipliers[path] for path in paths}
    assert {rate for path, rate in rates.items() if path.startswith("conv")} == {1.0}
    assert all(rates[f"{name}/kernel"] == 3.0 and rates[f"{name}/bias"] == 6.0 for name in ("fc6", "fc7", "score"))
    assert len(paths) == 104 + 6


@pytest.mark.slow
def test_export_evaluation_and_prediction(records: RecordSet, trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    export.run(export.ExportSettings(stage_dir=str(trained), output_dir=str(model)))
    images = Path(records.manifest_path).parents[1] / "voc/JPEGImages"
    settings = evaluate.EvaluateSettings(
        records=str(records.manifest_path), model=str(model), work_dir=str(tmp_path / "score")
    )
    assert 0 <= evaluate.run(settings)["mean_iou"] <= 1
    predict.run(predict.PredictSettings(model=str(model), images=(str(images),), output_dir=str(tmp_path / "masks")))
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    # On sides that are multiples of neither 8 nor 32.
    assert Segmenter(model)(np.zeros((37, 29, 3), np.uint8)).shape == (37, 29)


def test_initial_weights_are_those_of_the_same_backbone(records: RecordSet, trained: Path, tmp_path: Path) -> None:
    settings = settings_for(records, tmp_path / "same", initial_weights=str(trained))
    (tmp_path / "same").mkdir()
    network, _ = prepare_network(records.classes, settings, tmp_path / "same", num_steps=1)
    for one, other in zip(network.get_weights(), load_network(trained)[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    make_trained_stage(tmp_path / "vgg", "attention")
    settings = settings_for(records, tmp_path / "other", initial_weights=str(tmp_path / "vgg"))
    with pytest.raises(UserError, match=r"--initial_weights=.*vgg: backbone vgg16, not resnet101"):
        prepare_network(records.classes, settings, tmp_path / "other", num_steps=1)
    with pytest.raises(UserError, match="its checkpoint has backbone resnet101, not vgg16; use another --work_dir"):
        NetworkDescription("segmentation", records.classes, 40, width=2).write(trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "--backbone=resnet50: has no --width; leave that out"),
        (
            {"head_weights": "imagenet", "width": 64},
            "--head_weights=imagenet: fits --backbone=vgg16 with --width=64, not --backbone=resnet101 with --width=64;"
            " use --head_weights=none",
        ),
        (
            {"head_weights": "top.h5", "backbone": "vgg16"},
            "--head_weights=top.h5: fits --backbone=vgg16 with --width=64, not --backbone=vgg16 with --width=2;"
            " use --head_weights=none",
        ),
        (
            {"teacher_after": 0.3},
            "--teacher_after=0.3: is for pseudo labels; with --labels=masks, set --teacher_after=1",
        ),
    ],
)
def test_combinations_that_make_no_sense(records: RecordSet, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_for(records, tmp_path, **options)
    assert str(caught.value) == message


@pytest.fixture
def head_of_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of VGG16 with its top, which is large: every head weight is 1."""

    def load(network: keras.Model, weights: str) -> None:
        for name in ("fc6", "fc7") if weights != "none" else ():
            layer = network.get_layer(name)
            layer.set_weights([np.ones_like(value) for value in layer.get_weights()])

    monkeypatch.setattr("oaa_tf.training.initial_network.load_head_weights", load)
    # Narrow networks, which the settings refuse with head weights.
    monkeypatch.setattr("oaa_tf.models.networks.NetworkDescription.build", _build_narrow)


def _build_narrow(description: NetworkDescription, **options) -> tuple[keras.Model, keras.Model]:
    narrow = NetworkDescription(description.task, description.classes, description.image_size, width=2)
    return _build(narrow, **options)


_build = NetworkDescription.build


@pytest.mark.usefixtures("head_of_ones")
@pytest.mark.parametrize(("head_weights", "rate"), [("none", 3.0), ("imagenet", 1.0)])
def test_with_head_weights_only_the_score_layer_is_new(
    records: RecordSet, tmp_path: Path, head_weights: str, rate: float
) -> None:
    settings = settings_for(records, tmp_path, backbone="vgg16", width=64, head_weights=head_weights)
    network, optimizer = prepare_network(records.classes, settings, tmp_path, num_steps=1)
    for name in ("fc6", "fc7"):
        layer = network.get_layer(name)
        assert (np.asarray(layer.kernel) == 1).all() == (head_weights == "imagenet")
        assert optimizer.multipliers[layer.kernel.path] == rate
        assert optimizer.multipliers[layer.bias.path] == 2 * rate
    assert optimizer.multipliers[network.get_layer("score").kernel.path] == 3.0


@pytest.mark.usefixtures("head_of_ones")
def test_head_weights_go_with_a_start_from_the_classifier_only(records: RecordSet, tmp_path: Path) -> None:
    def prepare(initial: str, work_dir: Path) -> keras.Model:
        options = {"backbone": "vgg16", "width": 64, "head_weights": "imagenet", "backbone_weights": "none"}
        settings = settings_for(records, work_dir, initial_weights=initial, **options)
        work_dir.mkdir()
        return prepare_network(records.classes, settings, work_dir, num_steps=1)[0]

    for task in ("attention", "segmentation"):
        folder = tmp_path / task
        folder.mkdir()
        NetworkDescription(task, records.classes, 40).write(folder)
        save_checkpoint(folder)
    assert (np.asarray(prepare(str(tmp_path / "attention"), tmp_path / "one").get_layer("fc7").bias) == 1).all()
    with pytest.raises(UserError, match=r"--head_weights=imagenet: --initial_weights=.* has fc6 and fc7 already; use"):
        prepare(str(tmp_path / "segmentation"), tmp_path / "two")


def save_checkpoint(folder: Path) -> None:
    network, _ = NetworkDescription.read(folder).build()
    (folder / "checkpoints").mkdir()
    checkpoint = tf.train.Checkpoint(network=[weight.value for weight in network.weights])
    checkpoint.write(str(folder / "checkpoints/step-1"))


@given(num_images=st.integers(1, 200), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_a_share_of_the_images(num_images: int, share: float, seed: int) -> None:
    chosen = chosen_positions(num_images, share, seed)
    assert len(chosen) == max(round(share * num_images), 1)
    assert np.all(np.diff(chosen) > 0) and chosen[0] >= 0 and chosen[-1] < num_images


def test_all_images_are_all_images() -> None:
    np.testing.assert_array_equal(chosen_positions(7, 1.0, seed=3), np.arange(7))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_smaller_share_is_part_of_a_larger_one(seed: int) -> None:
    shares = [set(chosen_positions(1000, share, seed)) for share in (0.2, 0.5, 0.8, 1.0)]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[0] != set(chosen_positions(1000, 0.2, seed + 1)) and shares[0] != set(range(200))
