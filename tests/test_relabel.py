"""New labels from a network: the rule against a pixel-by-pixel reference, and the stage around it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_trained_stage
from tiny_voc import CLASSES, make_tiny_records

from oaa_tf import export
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.labels.label_files import PseudoLabels
from oaa_tf.models.segmenter import ORIGIN_FILE, Segmenter, file_checksums
from oaa_tf.relabel import RelabelSettings, confident_label, dry_run, run

NUM_CLASSES = 4


def reference(probabilities, classes, saliency, min_probability):
    """One pixel after the other, in float64."""
    height, width = probabilities.shape[:2]
    labels, margins = np.zeros((height, width), np.uint8), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            possible = {0: float(probabilities[y, x, 0])}
            possible |= {index + 1: float(probabilities[y, x, index + 1]) for index in classes}
            total = sum(possible.values())
            scores = {label: value / total for label, value in possible.items()}
            if saliency is not None:
                background = (scores[0] + 1 - saliency[y, x] / 255) / 2
                share = (1 - background) / sum(value for label, value in scores.items() if label)
                scores = {label: value * share if label else background for label, value in scores.items()}
            best = max(scores, key=scores.__getitem__)
            labels[y, x] = best if scores[best] >= min_probability else 255
            ranked = sorted(scores.values())
            # How far the pixel is from another label.
            margins[y, x] = min(ranked[-1] - ranked[-2], abs(ranked[-1] - min_probability))
    return labels, margins


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sets(st.integers(0, NUM_CLASSES - 1), min_size=1).map(sorted),
    sharpness=st.sampled_from([0.5, 3.0, 10.0]),
    use_saliency=st.booleans(),
    min_probability=st.sampled_from([0.0, 0.5, 0.7, 1.0]),
)
def test_the_rule(seed, classes, sharpness, use_saliency, min_probability):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=sharpness, size=(5, 6, NUM_CLASSES + 1))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    probabilities = probabilities.astype(np.float32)
    saliency = rng.integers(0, 256, (5, 6), np.uint8) if use_saliency else None
    labels = confident_label(probabilities, classes, saliency, min_probability)
    expected, margins = reference(probabilities, classes, saliency, min_probability)
    clear = margins > 1e-4
    np.testing.assert_array_equal(labels[clear], expected[clear])
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 255, *(index + 1 for index in classes)}
    if min_probability == 0:
        assert 255 not in labels


def test_a_network_that_is_sure_of_an_absent_class_says_nothing_about_the_others():
    probabilities = np.zeros((1, 1, 3), np.float32)
    probabilities[..., 2] = 1
    assert confident_label(probabilities, [0], None, 0.7).item() == 255
    # Saliency alone is no class.
    assert confident_label(probabilities, [0], np.full((1, 1), 255, np.uint8), 0.7).item() == 255
    assert confident_label(probabilities, [0], np.zeros((1, 1), np.uint8), 0.4).item() == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Records, and a SavedModel for their classes that says what it was trained with."""
    root = tmp_path_factory.mktemp("data")
    records = make_tiny_records(root)
    make_trained_stage(root / "stage", "segmentation")
    origin = {"supervision": "image labels", "seed": 5, "records_checksum": records.checksum}
    (root / "stage/metrics.json").write_text(
        json.dumps({"stage": "train_seg", "settings": {}, "classes": CLASSES, **origin})
    )
    export.run(export.ExportSettings(stage_dir=str(root / "stage"), output_dir=str(root / "model")))
    return records, root / "model"


@pytest.fixture
def settings(data, tmp_path):
    records, model = data
    return RelabelSettings(
        records=str(records.manifest_path), model=str(model), work_dir=str(tmp_path / "labels"), use_saliency=True
    )


def test_the_stage(settings, data, tmp_path):
    records, model = data
    assert dry_run(settings) | {"writes": None} == {
        "stage": "relabel",
        "state": "to do",
        "model": str(model),
        "supervision": "image labels + saliency",
        "split": "train",
        "images": 4,
        "images_left": 4,
        "classes": 3,
        "writes": None,
    }
    metrics = run(settings)
    assert metrics["supervision"] == "image labels + saliency" and metrics["seed"] == 5
    assert 0 <= metrics["mean_iou"] <= 1 and 0 < metrics["labelled_share"] <= 1
    segmenter = Segmenter(model)
    for position, image_id in enumerate(records.image_ids):
        record = records.record(position)
        expected = confident_label(
            segmenter.probabilities(record.image), records.labels[position], record.saliency, 0.7
        )
        labels = read_indexed(tmp_path / f"labels/SegmentationClass/{image_id}.png")
        np.testing.assert_array_equal(labels, expected)
    labels = PseudoLabels(tmp_path / "labels", records)
    assert len(labels) == 4 and labels.supervision == "image labels + saliency"
    assert dry_run(settings)["state"] == "done" and dry_run(settings)["images_left"] == 0


def test_probabilities_agree_with_masks(data):
    records, model = data
    segmenter = Segmenter(model)
    image = records.record(0).image
    probabilities = segmenter.probabilities(image)
    assert probabilities.shape == (*image.shape[:2], 4) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=-1) == segmenter(image)) > 0.999


def test_it_resumes_and_knows_its_own_work_dir(settings, tmp_path, capsys):
    without = dataclasses.replace(settings, use_saliency=False)
    metrics = run(without)
    assert metrics["supervision"] == "image labels"
    for name in ("metrics.json", "pseudo_labels.json", "SegmentationClass/b.png"):
        (tmp_path / "labels" / name).unlink()
    kept = tmp_path / "labels/SegmentationClass/a.png"
    time_before = kept.stat().st_mtime_ns
    assert dry_run(without)["images_left"] == 1
    assert run(without)["iou_per_class"] == metrics["iou_per_class"]
    assert kept.stat().st_mtime_ns == time_before
    run(without)
    assert "is done" in capsys.readouterr().out
    with pytest.raises(UserError, match="was begun with --nouse_saliency, not --use_saliency"):
        run(settings)


def test_what_does_not_go_together(settings, tmp_path):
    bare = make_tiny_records(tmp_path / "bare", saliency=False)
    with pytest.raises(UserError, match=r"--use_saliency: .*has no saliency maps"):
        run(dataclasses.replace(settings, records=str(bare.manifest_path)))
    make_trained_stage(tmp_path / "stage", "segmentation")
    export.run(export.ExportSettings(stage_dir=str(tmp_path / "stage"), output_dir=str(tmp_path / "silent")))
    with pytest.raises(UserError, match="silent: does not say what it was trained with"):
        run(dataclasses.replace(settings, model=str(tmp_path / "silent")))
    with pytest.raises(UserError, match=r"no model of oaa_tf\.export"):
        run(dataclasses.replace(settings, model=str(tmp_path)))
    assert not (tmp_path / "labels").exists()


def test_a_model_without_probabilities_is_refused_before_any_image(settings, data, tmp_path):
    model, masks_only = data[1], tmp_path / "masks only"
    loaded = tf.saved_model.load(str(model))
    tf.saved_model.save(loaded, str(masks_only), {"segment": loaded.signatures["segment"]})
    shutil.copytree(model / "assets.extra", masks_only / "assets.extra")
    origin = json.loads((masks_only / ORIGIN_FILE).read_text())
    (masks_only / ORIGIN_FILE).write_text(json.dumps(origin | {"files": file_checksums(masks_only)}))
    with pytest.raises(UserError, match="masks only: has no signature probabilities; export a SavedModel"):
        dry_run(dataclasses.replace(settings, model=str(masks_only)))
