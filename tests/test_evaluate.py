"""Evaluation of maps, masks and models, against scores computed here from the same pixels."""

import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tiny_model import make_trained_stage
from tiny_voc import CLASSES, attention_from_masks, make_tiny_records

from oaa_tf import export
from oaa_tf.attention import map_files
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.evaluate import EvaluateSettings, run
from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.metrics import confusion_matrix, iou_per_class
from oaa_tf.models.segmenter import CLASSES_FILE, ORIGIN_FILE, file_checksums

CANVAS = 64


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_tiny_records(tmp_path_factory.mktemp("data"))


@pytest.fixture
def settings(records, tmp_path):
    """Settings to be completed with what is evaluated."""
    return lambda **changes: EvaluateSettings(
        **{"records": str(records.manifest_path), "work_dir": str(tmp_path / "evaluation")} | changes
    )


def expected_scores(records, predictions):
    pairs = zip(range(len(records)), predictions, strict=True)
    confusion = sum(confusion_matrix(records.record(p).mask, predicted, len(CLASSES)) for p, predicted in pairs)
    iou = iou_per_class(confusion)
    by_name = {name: None if np.isnan(one) else one for name, one in zip(["background", *CLASSES], iou, strict=True)}
    return {"mean_iou": np.nanmean(iou), "iou_per_class": by_name}


def assert_scores(scores, records, predictions):
    expected = expected_scores(records, predictions)
    assert scores["mean_iou"] == pytest.approx(expected["mean_iou"])
    assert scores["iou_per_class"] == pytest.approx(expected["iou_per_class"])


# Attention maps


@pytest.fixture
def maps_folder(records, tmp_path):
    rng = np.random.default_rng(0)
    maps = attention_from_masks(records, CANVAS)
    maps = np.maximum(maps, rng.integers(0, 120, maps.shape)).astype(np.uint8)
    AttentionMaps.save(tmp_path / "oaa", maps, records, kind="oaa", image_size=CANVAS, seed=5)
    return tmp_path / "oaa"


def thresholded(records, maps_folder, threshold):
    maps = AttentionMaps.open(maps_folder, records)
    for position in range(len(records)):
        classes, attention = maps.at_image_size(position)
        label = np.uint8(np.asarray(classes) + 1)[attention.argmax(axis=0)]
        yield np.where(attention.max(axis=0) * np.float32(255) > round(threshold * 255), label, np.uint8(0))


def test_maps(settings, records, maps_folder, tmp_path):
    metrics = run(settings(maps=str(maps_folder)))
    best, fixed = metrics["best"], metrics["fixed"]
    assert_scores(best, records, thresholded(records, maps_folder, best["threshold"]))
    assert_scores(fixed, records, thresholded(records, maps_folder, fixed["threshold"]))
    assert fixed["threshold"] == pytest.approx(0.3, abs=0.5 / 255)
    assert best["mean_iou"] == max(metrics["sweep"]["mean_iou"]) > fixed["mean_iou"]
    assert len(metrics["sweep"]["threshold"]) == 256
    assert best["absent"] == ["cow"] and best["num_labels_in_mean"] == 3
    assert 0 < best["precision"] <= 1 and 0 < best["recall"] <= 1
    assert metrics["evaluated"] == "maps" and metrics["maps_kind"] == "oaa" and metrics["seed"] == 5
    assert metrics["split"] == "train" and metrics["supervision"] == "image labels"
    assert metrics["records_checksum"] == records.checksum
    assert metrics["settings"]["threshold"] == 0.3
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text()) == metrics


def test_threshold_and_workers(settings, records, maps_folder, tmp_path):
    metrics = run(settings(maps=str(maps_folder), threshold=0.6, num_workers=1))
    assert metrics["fixed"]["threshold"] == 0.6
    assert_scores(metrics["fixed"], records, thresholded(records, maps_folder, 0.6))
    again = run(settings(maps=str(maps_folder), num_workers=3, work_dir=str(tmp_path / "again")))
    assert again["sweep"]["mean_iou"] == metrics["sweep"]["mean_iou"]


def test_ctrl_c_does_not_wait_for_all_images(settings, maps_folder, monkeypatch):
    begun = []

    def histogram(*arguments):
        begun.append(arguments)
        time.sleep(0.2)

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(map_files, "attention_histogram", histogram)
    monkeypatch.setattr(map_files.ThresholdSweep, "add_histogram", stopped)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert guarded(lambda: run(settings(maps=str(maps_folder), num_workers=1))) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    # The one that was done, and the one that was under way; there are four.
    assert len(begun) == 2


def test_maps_of_other_records_are_refused(settings, records, maps_folder, tmp_path):
    other = make_tiny_records(tmp_path / "other", saliency=False)
    with pytest.raises(UserError, match=r"maps in .*: made from other records than .*train.json"):
        run(settings(maps=str(maps_folder), records=str(other.manifest_path)))


# Masks


@pytest.fixture
def masks(records, tmp_path):
    """Ground truth with mistakes, in a folder."""
    rng = np.random.default_rng(1)
    (tmp_path / "masks").mkdir()
    predictions = []
    for position, image_id in enumerate(records.image_ids):
        mask = records.record(position).mask.copy()
        mask[mask == 255] = 0
        wrong = rng.random(mask.shape) < 0.1
        mask[wrong] = rng.integers(0, 3, wrong.sum())
        write_indexed(tmp_path / "masks" / f"{image_id}.png", mask)
        predictions.append(mask)
    return tmp_path / "masks", predictions


def test_masks(settings, records, masks):
    folder, predictions = masks
    metrics = run(settings(masks=str(folder), require_complete=True))
    assert_scores(metrics, records, predictions)
    assert metrics["labelled_share"] == 1
    assert metrics["absent"] == ["cow"]
    assert metrics["supervision"] is None and metrics["seed"] is None


def test_masks_with_pixels_left_out(settings, records, masks):
    folder, predictions = masks
    predictions[0][:10] = 255
    write_indexed(folder / "a.png", predictions[0])
    metrics = run(settings(masks=str(folder), supervision="pixel masks"))
    assert_scores(metrics, records, predictions)
    known = sum(np.sum(records.record(position).mask != 255) for position in range(len(records)))
    assert metrics["labelled_share"] == pytest.approx(1 - 600 / known)
    assert metrics["supervision"] == "pixel masks"


def test_pseudo_labels_say_their_supervision(settings, records, masks, tmp_path):
    folder, _ = masks
    description = origin_of(records)
    (tmp_path / "pseudo_labels.json").write_text(json.dumps(description))
    metrics = run(settings(masks=str(folder)))
    assert metrics["supervision"] == "image labels + saliency" and metrics["seed"] == 4
    with pytest.raises(UserError, match=r"--supervision=image labels: .* was made from image labels \+ saliency"):
        run(settings(masks=str(folder), supervision="image labels"))


def origin_of(records):
    """What pseudo_labels.json says about the folder of masks beside it."""
    known = {"records_checksum": records.checksum, "classes": CLASSES}
    return known | {"supervision": "image labels + saliency", "seed": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records_checksum": "0"}, r"masks \(pseudo_labels.json\): made from other records than .*train.json"),
        (
            {"classes": ["cow", "dog", "cat"]},
            r"masks \(pseudo_labels.json\): for the classes cow, dog, cat, but .*train.json has cat, dog, cow",
        ),
        ({"supervision": "none"}, "pseudo_labels.json: damaged"),
        ({"classes": None}, "pseudo_labels.json: damaged"),
    ],
)
def test_masks_that_say_that_they_are_others_are_refused(settings, records, masks, tmp_path, changes, message):
    (tmp_path / "pseudo_labels.json").write_text(json.dumps(origin_of(records) | changes))
    with pytest.raises(UserError, match=message):
        run(settings(masks=str(masks[0])))


def test_predictions_of_an_evaluation_say_what_they_are_of(settings, records, masks, tmp_path):
    folder = masks[0].rename(tmp_path / "predictions")
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps(origin_of(records) | {"evaluated": "model"}))
    assert run(settings(masks=str(folder)))["seed"] == 4
    metrics.write_text(json.dumps(origin_of(records) | {"evaluated": "model", "classes": ["cat"]}))
    with pytest.raises(UserError, match=r"predictions \(metrics.json\): for the classes cat, but"):
        run(settings(masks=str(folder), work_dir=str(tmp_path / "again")))
    # The work_dir of another stage, in which somebody has put a folder of this name.
    metrics.write_text(json.dumps({"stage": "train_seg"}))
    assert run(settings(masks=str(folder), work_dir=str(tmp_path / "again")))["seed"] is None


def test_pseudo_labels_are_found_in_the_work_dir_of_their_stage(settings, records, masks, tmp_path):
    masks[0].rename(tmp_path / "SegmentationClass")
    (tmp_path / "pseudo_labels.json").write_text(json.dumps(origin_of(records)))
    assert run(settings(masks=str(tmp_path)))["seed"] == 4


def test_labels_that_never_occur_are_named_and_not_in_the_mean(settings, records, tmp_path):
    """Neither as 0 nor as 1: perfect predictions of two of three classes."""
    (tmp_path / "masks").mkdir()
    for position, image_id in enumerate(records.image_ids):
        write_indexed(tmp_path / "masks" / f"{image_id}.png", records.record(position).mask)
    metrics = run(settings(masks=str(tmp_path / "masks")))
    assert metrics["mean_iou"] == 1 and metrics["num_labels_in_mean"] == 3 and metrics["absent"] == ["cow"]
    assert metrics["iou_per_class"] == {"background": 1, "cat": 1, "dog": 1, "cow": None}
    # A label that is predicted and never true is wrong, and counts.
    mask = records.record(0).mask.copy()
    mask[mask == 1] = 3
    write_indexed(tmp_path / "masks" / "a.png", mask)
    metrics = run(settings(masks=str(tmp_path / "masks"), work_dir=str(tmp_path / "again")))
    assert metrics["iou_per_class"]["cow"] == 0 and metrics["absent"] == [] and metrics["mean_iou"] < 0.75


def test_done_and_replaced(settings, records, masks, capsys):
    folder, _ = masks
    metrics = run(settings(masks=str(folder)))
    assert run(settings(masks=str(folder))) == metrics
    assert "is done" in capsys.readouterr().out
    write_indexed(folder / "b.png", np.zeros((60, 40), np.uint8))
    with pytest.raises(UserError, match=r"was begun with other masks"):
        run(settings(masks=str(folder)))


def grey(values, dtype=np.uint8):
    return cv2.imencode(".png", np.asarray(values, dtype))[1].tobytes()


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "b.png: missing; a mask is needed for each of the 4 images"),
        (
            grey(np.zeros((40, 60))),
            "b.png: prediction is 40x60, ground truth 60x40 .height x width.; records hold large images made smaller",
        ),
        (grey(np.full((60, 40), 4)), "b.png: prediction has the value 4, expected 0..3 or 255"),
        (grey(np.zeros((60, 40, 3))), "b.png: expected a palette PNG or an 8-bit grey PNG"),
        (grey(np.zeros((60, 40)), np.uint16), "b.png: expected a palette PNG or an 8-bit grey PNG"),
        (grey(np.zeros((60, 40)))[:-20], "b.png: truncated PNG"),
        (b"text", "b.png: not a PNG"),
        (grey(np.full((60, 40), 255)), "b.png: has pixels without a label"),
    ],
)
def test_wrong_masks_are_named(settings, masks, content, message):
    folder, _ = masks
    (folder / "b.png").unlink()
    if content is not None:
        (folder / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(settings(masks=str(folder), require_complete=True))


def test_no_folder_of_masks(settings, tmp_path):
    with pytest.raises(UserError, match=r"--masks=.*nowhere: is not a folder"):
        run(settings(masks=str(tmp_path / "nowhere")))


# Models


class BrightPixels(tf.Module):
    """Calls bright pixels `label`; counts its calls."""

    def __init__(self, label):
        super().__init__()
        self.label = tf.Variable(label, dtype=tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def segment(self, images):
        bright = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1) > 130
        return {"mask": tf.where(bright, self.label, tf.constant(0, tf.uint8))}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def probabilities(self, images):
        """Of four labels; unsure among the pixels of an object, as their noise crosses the threshold."""
        share = tf.sigmoid((tf.reduce_mean(tf.cast(images, tf.float32), axis=-1) - 160) / 20)[..., tf.newaxis]
        return {"probabilities": (1 - share) * tf.one_hot(0, 4) + share * tf.one_hot(tf.cast(self.label, tf.int32), 4)}


def save_model(folder, *, label=2, classes=CLASSES, signature="segment", probabilities=None):
    module = BrightPixels(label)
    signatures = {signature: module.segment} | ({"probabilities": probabilities(module)} if probabilities else {})
    tf.saved_model.save(module, str(folder), signatures=signatures)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "classes.json").write_text(json.dumps(classes))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "saved_model")


def bright_pixels(records):
    for position in range(len(records)):
        image = records.record(position).image
        yield np.where(image.mean(axis=-1, dtype=np.float32) > 130, 2, 0).astype(np.uint8)


def test_two_sets_of_masks(settings, records, masks, model, tmp_path, capsys):
    folder, predictions = masks
    metrics = run(settings(model=str(model), compare=str(folder), supervision="image labels"))
    others = expected_scores(records, predictions)["mean_iou"]
    found = metrics["compared"]
    assert found["difference"] == pytest.approx(metrics["mean_iou"] - others)
    assert found["low"] <= found["difference"] <= found["high"] and found["with"] == str(folder)
    assert f"{100 * found['difference']:+.1f} points against {folder} (95 %: " in capsys.readouterr().out
    back = run(settings(masks=str(folder), compare=str(tmp_path / "evaluation"), work_dir=str(tmp_path / "back")))
    assert back["compared"]["difference"] == pytest.approx(-found["difference"])
    (folder / "b.png").unlink()
    with pytest.raises(UserError, match=r"--compare=.*masks: b.png is not in it; expected a mask for each image with"):
        run(settings(masks=metrics["predictions"], compare=str(folder), work_dir=str(tmp_path / "missing")))


def test_model(settings, records, model, tmp_path):
    metrics = run(settings(model=str(model), supervision="image labels"))
    assert_scores(metrics, records, bright_pixels(records))
    assert metrics["labelled_share"] == 1 and metrics["supervision"] == "image labels"
    assert metrics["inference"] is None
    assert metrics["predictions"] == str(tmp_path / "evaluation" / "predictions")
    for image_id, expected in zip(records.image_ids, bright_pixels(records), strict=True):
        np.testing.assert_array_equal(read_indexed(f"{metrics['predictions']}/{image_id}.png"), expected)
    # The written predictions have the same scores, given by their folder or by the work_dir that it is in.
    for given in (tmp_path / "evaluation/predictions", tmp_path / "evaluation"):
        masks = run(settings(masks=str(given), require_complete=True, work_dir=str(tmp_path / f"of_{given.name}")))
        assert masks["iou_per_class"] == metrics["iou_per_class"] and masks["supervision"] == "image labels"


def test_a_model_says_what_it_was_trained_with_and_whether_it_has_changed(settings, tmp_path):
    folder = save_model(tmp_path / "said")
    inference = {"image_size": 48, "scales": [1.0, 2.0], "flip": True}
    content = {"supervision": "pixel masks", "seed": 6, "inference": inference, "files": file_checksums(folder)}
    (folder / ORIGIN_FILE).write_text(json.dumps(content))
    metrics = run(settings(model=str(folder)))
    assert metrics["supervision"] == "pixel masks" and metrics["seed"] == 6
    assert metrics["inference"] == inference
    with pytest.raises(UserError, match=r"--supervision=image labels: .* was made from pixel masks"):
        run(settings(model=str(folder), supervision="image labels"))
    (folder / CLASSES_FILE).write_text(json.dumps(["dog", "cat", "cow"]))
    with pytest.raises(UserError, match=r"said: no model of oaa_tf.export \(.*classes.json has changed since"):
        run(settings(model=str(folder)))


@pytest.mark.slow
def test_a_model_that_is_exported_again_is_the_same_one(settings, tmp_path, capsys):
    make_trained_stage(tmp_path / "stage", "segmentation")

    def export_model(**changes):
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        export.run(
            export.ExportSettings(stage_dir=str(tmp_path / "stage"), output_dir=str(tmp_path / "model"), **changes)
        )
        return file_checksums(tmp_path / "model")["saved_model.pb"]

    first = export_model()
    metrics = run(settings(model=str(tmp_path / "model")))
    # TensorFlow does not write the same file twice.
    assert export_model() != first
    assert run(settings(model=str(tmp_path / "model"))) == metrics
    assert "is done" in capsys.readouterr().out
    export_model(flip=True)
    with pytest.raises(UserError, match="was begun with other model"):
        run(settings(model=str(tmp_path / "model")))


def test_model_resumes_from_written_predictions(settings, records, model, tmp_path):
    metrics = run(settings(model=str(model)))
    (tmp_path / "evaluation" / "metrics.json").unlink()
    (tmp_path / "evaluation" / "predictions" / "b.png").unlink()
    # A prediction that is there is not made again.
    write_indexed(tmp_path / "evaluation" / "predictions" / "c.png", np.zeros((48, 48), np.uint8))
    assert run(settings(model=str(model)))["mean_iou"] < metrics["mean_iou"]
    assert (tmp_path / "evaluation" / "predictions" / "b.png").exists()


@pytest.fixture(scope="module")
def probabilistic_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "saved_model"
    return save_model(folder, probabilities=lambda module: module.probabilities)


def test_model_with_crf(settings, records, probabilistic_model, tmp_path):
    metrics = run(settings(model=str(probabilistic_model), crf=True))
    assert metrics["crf"] is True and metrics["settings"]["crf"] is True
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["crf"] is True

    unrefined, expected = [], []
    for position in range(len(records)):
        image = records.record(position).image
        share = 1 / (1 + np.exp((160 - image.mean(axis=-1, dtype=np.float32)) / 20))
        zero = np.zeros_like(share)
        unrefined.append(np.where(share > 0.5, 2, 0).astype(np.uint8))
        marginals = dense_crf(np.stack([1 - share, zero, share, zero]), image)
        expected.append(marginals.argmax(axis=0).astype(np.uint8))
        written = read_indexed(f"{metrics['predictions']}/{records.image_ids[position]}.png")
        # Rounding may decide where two labels are equally likely.
        assert np.mean(written == expected[-1]) > 0.999
    assert metrics["mean_iou"] == pytest.approx(expected_scores(records, expected)["mean_iou"], abs=1e-3)
    # What noise had put on the wrong side has come back.
    assert metrics["mean_iou"] > expected_scores(records, unrefined)["mean_iou"] + 0.01


def test_predictions_without_crf_are_not_taken_for_refined_ones(settings, probabilistic_model, tmp_path):
    assert run(settings(model=str(probabilistic_model)))["crf"] is False
    (tmp_path / "evaluation" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"was begun with --nocrf, not --crf"):
        run(settings(model=str(probabilistic_model), crf=True))


def test_models_that_crf_cannot_refine_are_refused(settings, model, tmp_path):
    with pytest.raises(UserError, match=r"--model=.*: has no signature probabilities; export a SavedModel"):
        run(settings(model=str(model), crf=True))

    def of_three_labels(module):
        signature = [tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")]
        return tf.function(
            lambda images: {"probabilities": tf.cast(images, tf.float32) / 255}, input_signature=signature
        )

    other = save_model(tmp_path / "three", probabilities=of_three_labels)
    with pytest.raises(UserError, match=r"three: probabilities \[40, 60, 3\], expected \[40, 60, 4\]"):
        run(settings(model=str(other), crf=True))


def test_submission(settings, records, model, tmp_path):
    metrics = run(settings(model=str(model), submission=True))
    folder = tmp_path / "evaluation" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    assert metrics["predictions"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]
    assert_scores(metrics, records, bright_pixels(records))


def test_submission_needs_no_ground_truth(settings, model, tmp_path):
    bare = make_tiny_records(tmp_path / "bare", masks=False, saliency=False)
    metrics = run(settings(model=str(model), submission=True, records=str(bare.manifest_path)))
    assert not {"mean_iou", "images"} & metrics.keys()


def test_without_true_masks_the_tags_say_what_is_found(settings, records, model, tmp_path):
    bare = make_tiny_records(tmp_path / "bare", masks=False, saliency=False)
    with_masks = run(settings(model=str(model)))
    without = run(settings(model=str(model), records=str(bare.manifest_path), work_dir=str(tmp_path / "model")))
    assert without["images"] == with_masks["images"]
    assert (without["mean_iou"], without["num_masks"]) == (None, 0) and "iou_per_class" not in without
    masks = settings(masks=without["predictions"], records=str(bare.manifest_path), work_dir=str(tmp_path / "masks"))
    assert run(masks)["images"] == with_masks["images"]
    write_indexed(Path(without["predictions"]) / "b.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(UserError, match=r"b.png: prediction is 3x4"):
        run(dataclasses.replace(masks, work_dir=str(tmp_path / "other_size")))
    with pytest.raises(UserError, match=r"--records=.*train.json: has no masks to compare maps with; make the records"):
        run(settings(maps=str(tmp_path), records=str(bare.manifest_path)))


def test_wrong_models_are_refused(settings, model, tmp_path):
    with pytest.raises(UserError, match=r"no model of oaa_tf.export"):
        run(settings(model=str(tmp_path)))
    with pytest.raises(UserError, match=r"classes: for the classes cat, cow, but .*train.json has cat, dog, cow"):
        run(settings(model=str(save_model(tmp_path / "classes", classes=["cat", "cow"]))))
    with pytest.raises(UserError, match=r"expected the signature segment .*, found attention"):
        run(settings(model=str(save_model(tmp_path / "signature", signature="attention"))))
    with pytest.raises(UserError, match=r"values up to 9, expected \[40, 60\] and at most 3"):
        run(settings(model=str(save_model(tmp_path / "range", label=9)), work_dir=str(tmp_path / "other")))
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / "saved_model.pb").write_bytes(b"\xff" * 10)
    with pytest.raises(UserError, match=r"damaged: no model of oaa_tf.export"):
        run(settings(model=str(damaged), work_dir=str(tmp_path / "another")))
    (damaged / "assets.extra" / "classes.json").unlink()
    with pytest.raises(UserError, match=r"damaged: no model of oaa_tf.export"):
        run(settings(model=str(damaged)))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "expected one of --maps, --masks and --model, got none"),
        ({"maps": "x", "model": "y"}, "got --maps and --model"),
        ({"maps": "x", "submission": True}, "--submission: needs --model"),
        ({"masks": "x", "crf": True}, "--crf: needs --model, not --masks"),
        ({"maps": "x", "require_complete": True}, "--require_complete: is for --masks"),
        ({"maps": "x", "compare": "y"}, "--compare=y: is for --masks and --model, not --maps"),
        ({"maps": "x", "supervision": "none"}, "--supervision=none: expected one of"),
        ({"maps": "x", "threshold": 1.5}, "--threshold=1.5: expected at most 1"),
    ],
)
def test_settings_are_checked(settings, changes, message):
    with pytest.raises(UserError, match=message):
        settings(**changes)


def test_settings_are_frozen(settings):
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings(maps="x").maps = "y"
