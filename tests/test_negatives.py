"""Images that show none of the classes, such as parts without a defect, in every stage."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from oaa_tf import (
    evaluate,
    export,
    make_maps,
    make_pseudo_labels,
    make_records,
    relabel,
    train_affinity,
    train_cls,
    train_integral,
    train_seg,
)
from oaa_tf.attention.extraction import extract_attention
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records import keys
from oaa_tf.data.records.label_warnings import label_warnings
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.labels.rules import PseudoLabelOptions, confident_label, pseudo_label
from oaa_tf.losses import classification_loss, hybrid_loss, weights_of_images
from oaa_tf.metrics import ThresholdSweep, image_scores
from oaa_tf.models.networks import load_network

TRAINING = {
    "image_size": 32,
    "width": 2,
    "batch_size": 3,
    "num_steps": 4,
    "backbone_weights": "none",
    "initializer": "he",
    "new_layer_multiplier": 1.0,
    "clip_norm": 5.0,
    "num_pictures": 6,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    """Two parts with a defect, which have masks, and four without; one of these has a mask too."""
    folder = tmp_path_factory.mktemp("parts")
    photos = folder / "photos"
    generator = np.random.default_rng(0)
    for number in range(6):
        kind = "defect" if number < 2 else "good"
        pixels = generator.integers(90, 150, (40, 48, 3), np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        if kind == "defect":
            mask[10:20, 8 + 10 * number : 20 + 10 * number] = 1
            pixels[mask > 0] = (220, 60, 40)
        for place, image in ((photos / kind, pixels), (photos / "SegmentationClass" / kind, mask)):
            place.mkdir(parents=True, exist_ok=True)
            if image.ndim == 3 or number < 3:
                Image.fromarray(image).save(place / f"part_{number}.png")
    make_records.run(
        make_records.MakeRecordsSettings(image_dir=str(photos), val_share=0, output_dir=str(folder / "records"))
    )
    return RecordSet.open(folder / "records/train.json")


def test_they_are_in_the_records_and_weigh_as_much_as_the_others(records: RecordSet) -> None:
    assert records.classes == ("defect",)
    assert sorted(records.labels) == [(), (), (), (), (0,), (0,)]
    assert (records.num_negatives, records.negative_weight) == (4, 0.5)
    for position, labels in enumerate(records.labels):
        # Without a mask file too: what shows no class is background.
        assert records.record(position).mask.any() == bool(labels)


def test_their_batches_have_no_labels(records: RecordSet) -> None:
    (batch,) = training_batches(records, ViewOptions(32), batch_size=6, seed=0, num_steps=1)
    for position, labels in zip(batch[keys.POSITION].numpy(), batch[keys.LABELS].numpy(), strict=True):
        np.testing.assert_array_equal(labels, [len(records.labels[position])])


@pytest.fixture(scope="module")
def run(records: RecordSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages."""
    folder = tmp_path_factory.mktemp("run")
    where = {"records": str(records.manifest_path)}

    def settings(kind: type, name: str, **options):
        return kind(**where, work_dir=str(folder / name), **options)

    train_cls.run(settings(train_cls.TrainClsSettings, "cls", gate="none", **TRAINING))
    maps = str(folder / "cls/attention/oaa")
    train_integral.run(settings(train_integral.TrainIntegralSettings, "integral", maps=maps, **TRAINING))
    make_maps.run(settings(make_maps.MakeMapsSettings, "maps", stage_dir=str(folder / "cls")))
    for refine in ("none", "pamr", "crf"):
        labels = settings(make_pseudo_labels.MakePseudoLabelsSettings, f"labels_{refine}", maps=maps, refine=refine)
        make_pseudo_labels.run(labels)
    labels = str(folder / "labels_none")
    # With a batch of one, some batches have no map.
    spread = TRAINING | {"maps": maps, "labels": labels, "batch_size": 1}
    train_affinity.run(settings(train_affinity.TrainAffinitySettings, "affinity", **spread))
    train_seg.run(settings(train_seg.TrainSegSettings, "seg", labels=labels, frame_size=48, **TRAINING))
    export.run(export.ExportSettings(stage_dir=str(folder / "seg"), output_dir=str(folder / "model")))
    relabel.run(settings(relabel.RelabelSettings, "second_labels", model=str(folder / "model")))
    return folder


@pytest.mark.slow
def test_their_labels_are_background_everywhere(run: Path, records: RecordSet) -> None:
    for name in ("labels_none", "labels_pamr", "labels_crf", "second_labels"):
        for image_id, labels in zip(records.image_ids, records.labels, strict=True):
            found = read_indexed(run / name / "SegmentationClass" / f"{image_id}.png")
            assert labels or not found.any(), f"{name}: {image_id}"


@pytest.mark.slow
def test_only_defects_have_maps(run: Path, records: RecordSet) -> None:
    for name in (
        "cls/attention/cam",
        "cls/attention/oaa",
        "integral/attention/oaa_plus",
        "affinity/attention/spread",
        "maps",
    ):
        maps = AttentionMaps.open(run / name, records)
        assert maps.maps.shape == (2, 4, 4) and maps.maps.max() == 255
        for position, labels in enumerate(records.labels):
            classes, attention = maps.at_image_size(position)
            assert classes == labels and attention.shape == (len(labels), 40, 48)


@pytest.mark.slow
def test_evaluations_count_false_alarms(run: Path, records: RecordSet, tmp_path: Path) -> None:
    def scores(**what: str) -> dict:
        settings = evaluate.EvaluateSettings(
            records=str(records.manifest_path), work_dir=str(tmp_path / next(iter(what))), **what
        )
        return evaluate.run(settings)

    of_model, of_masks = scores(model=str(run / "model")), scores(masks=str(run / "labels_none/SegmentationClass"))
    for found in (of_model["images"]["defect"], of_masks["images"]["defect"]):
        assert (found["num_with"], found["num_without"]) == (2, 4)
    # By construction of pseudo labels.
    assert of_masks["images"]["defect"]["false_alarms"] == 0
    curves = scores(maps=str(run / "cls/attention/cam"))["sweep"]
    # Nothing is above 1, so all is background.
    assert curves["mean_iou"][-1] == pytest.approx(0.5 * (1 - 2 * 120 / (6 * 40 * 48)), abs=1e-6)


@pytest.mark.slow
def test_the_first_scores_are_the_log_odds_of_the_classes(records: RecordSet, tmp_path: Path) -> None:
    options = TRAINING | {"num_steps": 1, "learning_rate": 0.0, "num_pictures": 0}
    train_cls.run(
        train_cls.TrainClsSettings(records=str(records.manifest_path), work_dir=str(tmp_path / "cls"), **options)
    )
    _, network, _ = load_network(tmp_path / "cls")
    # Two images with the class, and four without it that weigh a half.
    assert network.get_layer("class_aware_conv").bias.numpy() == pytest.approx(0, abs=1e-6)


def test_a_class_whose_scores_are_all_negative_has_a_map_that_keeps_their_order(
    records: RecordSet, capsys: pytest.CaptureFixture
) -> None:
    def network(images, training=False):
        # The redder, the less negative.
        cells = tf.nn.avg_pool2d(images[..., :1] - images[..., 1:2], 8, 8, "VALID")
        return cells / 255 - 3

    extracted = extract_attention(network, records, 48, label="maps")
    assert extracted.num_empty == len(extracted.maps) == 2
    assert "maps: 2 of 2 maps have no positive score, and show probabilities instead" in capsys.readouterr().out
    np.testing.assert_allclose(extracted.maps.max(axis=(1, 2)), 1)
    for number, position in enumerate(np.flatnonzero([bool(labels) for labels in records.labels])):
        row, column = np.unravel_index(extracted.maps[number].argmax(), (6, 6))
        assert records.record(position).mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].any()
    assert (extracted.probabilities < 0.1).all() and extracted.probabilities.shape == (6, 1)


def test_losses_weigh_images() -> None:
    logits, labels = tf.constant([[1.0, -2.0], [0.5, 3.0]]), tf.constant([[1.0, 0.0], [0.0, 0.0]])
    weights = weights_of_images(labels, 0.25)
    np.testing.assert_array_equal(weights, [1, 0.25])
    of_images = [classification_loss(logits[index : index + 1], labels[index : index + 1]) for index in range(2)]
    assert float(classification_loss(logits, labels, weights)) == pytest.approx(
        float(of_images[0] + 0.25 * of_images[1]) / 2
    )
    maps, valid = tf.random.stateless_normal((2, 3, 3, 2), (0, 1)), tf.ones((2, 3, 3), tf.bool)
    # Without attention, N- is the whole image.
    nothing = tf.zeros((2, 3, 3, 2))
    expected = tf.reduce_mean(weights * tf.reduce_sum(tf.reduce_mean(tf.nn.softplus(maps), axis=[1, 2]), axis=1))
    assert float(hybrid_loss(maps, nothing, valid, weights)) == pytest.approx(float(expected), rel=1e-5)


def test_rules_without_a_class() -> None:
    nothing = np.zeros((0, 5, 7), np.float32)
    salient = np.full((5, 7), 255, np.uint8)
    for saliency in (None, salient):
        assert not pseudo_label(nothing, (), saliency, PseudoLabelOptions()).any()
        assert not confident_label(np.full((5, 7, 3), 1 / 3, np.float32), (), saliency, 0.9).any()


def test_a_sweep_counts_images_without_a_class_as_background() -> None:
    truth = np.array([[0, 1, 255]], np.uint8)
    sweep = ThresholdSweep(2)
    sweep.add(truth, np.zeros((0, 1, 3), np.float32), ())
    for confusion in sweep.confusions():
        np.testing.assert_array_equal(confusion, [[1, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_image_scores_by_hand() -> None:
    values = np.array([[0.9, 0], [0.4, 0], [0.4, 0], [0.1, 0]])
    labels = [(0, 1), (0, 1), (1,), (1,)]
    scores = image_scores(values, labels, ["scratch", "dent"], threshold=0.3)
    assert scores["scratch"] == {
        "num_with": 2,
        "num_without": 2,
        "detection_rate": 1.0,
        "false_alarms": 0.5,
        # Of four pairs, three are in order and one is a tie.
        "auc": 0.875,
    }
    assert scores["dent"]["detection_rate"] == 0 and np.isnan(scores["dent"]["auc"])


def test_labels_that_teach_nothing_are_named() -> None:
    assert label_warnings(["a", "b"], [(0,), (1,), ()]) == []
    assert label_warnings(["a", "b"], [(0,), (0,)]) == [
        "no image shows b",
        "2 of 2 images show a: without images that do not, the classifier learns nothing about where it is",
    ]
    assert label_warnings(["a", "b"], [(0,), (0,)], for_training=False) == ["no image shows b"]
    assert label_warnings(["a", "b"], [(0, 1), ()]) == ["a and b are on the same images: nothing tells them apart"]
    assert label_warnings(["Scratch", "scratches", "kind 1", "kind 2"], [(0,), (1,), (2,), (3,)]) == [
        "the classes Scratch and scratches have nearly the same name: is one of them a misspelt tag?"
    ]


def test_images_of_no_class_alone_are_for_validation_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"photos/{number}.png")
    tags = tmp_path / "tags.csv"

    def make(split: str, *tags_of_images: str) -> dict:
        tags.write_text("file,tags\n" + "".join(f"{number}.png,{tag}\n" for number, tag in enumerate(tags_of_images)))
        return make_records.run(
            make_records.MakeRecordsSettings(
                image_dir=str(tmp_path / "photos"),
                tags=str(tags),
                val_share=0.001,
                split=split,
                output_dir=str(tmp_path / "records"),
            )
        )

    with pytest.raises(UserError, match=r"tags\.csv: no image has a tag"):
        make("train", "", "", "")
    # Which of the three is in val, the names decide.
    found = [make("val", *("defect" if number != tagless else "" for number in range(3))) for tagless in range(3)]
    assert sorted(each["num_negatives"] for each in found) == [0, 0, 1]
    assert re.search(r"^warnings: +no image shows defect$", capsys.readouterr().out, re.MULTILINE)
    in_val = next(number for number, each in enumerate(found) if each["num_negatives"])
    with pytest.raises(UserError, match="none of the 2 images has a class of defect; check --classes"):
        make("train", *("defect" if number == in_val else "" for number in range(3)))
