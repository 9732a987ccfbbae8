"""The stage around the pseudo label rule: files, resuming, refusals, and the numbers in metrics.json."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from tiny_voc import CLASSES, attention_from_masks, make_tiny_records

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed, voc_palette
from oaa_tf.labels.refined_attention import refined_attention
from oaa_tf.labels.rules import background_scores, min_max_normalized, pseudo_label
from oaa_tf.make_pseudo_labels import MakePseudoLabelsSettings, run
from oaa_tf.metrics import confusion_matrix, iou_per_class

CANVAS = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Records and maps: two settings of the stage."""
    folder = tmp_path_factory.mktemp("data")
    records = make_tiny_records(folder)
    AttentionMaps.save(
        folder / "oaa", attention_from_masks(records, CANVAS), records, kind="oaa", image_size=CANVAS, seed=3
    )
    return records, folder / "oaa"


@pytest.fixture
def settings(data, tmp_path):
    records, maps = data
    return MakePseudoLabelsSettings(
        records=str(records.manifest_path), maps=str(maps), work_dir=str(tmp_path / "labels"), use_saliency=True
    )


def labels_of(settings, records):
    return [read_indexed(f"{settings.work_dir}/SegmentationClass/{image_id}.png") for image_id in records.image_ids]


def test_labels_and_metrics(settings, data, tmp_path):
    records, maps_folder = data
    metrics = run(settings)
    maps = AttentionMaps.open(maps_folder, records)
    labels = labels_of(settings, records)
    confusion, pixels = 0, np.concatenate([one.ravel() for one in labels])
    for position, one in enumerate(labels):
        record = records.record(position)
        classes, attention = maps.at_image_size(position)
        np.testing.assert_array_equal(one, pseudo_label(attention, classes, record.saliency, settings))
        confusion = confusion + confusion_matrix(record.mask, one, len(CLASSES))
    iou = iou_per_class(confusion)
    assert metrics["mean_iou"] == pytest.approx(np.nanmean(iou)) and metrics["mean_iou"] > 0.7
    assert metrics["iou_per_class"]["dog"] == pytest.approx(iou[2])
    assert metrics["iou_per_class"]["cow"] is None and metrics["absent"] == ["cow"]
    assert metrics["num_labels_in_mean"] == 3
    assert metrics["labelled_share"] == pytest.approx(confusion[:, :-1].sum() / confusion.sum())
    assert metrics["mean_iou"] <= metrics["best_case"]["mean_iou"] <= 1
    assert metrics["ignored_share"] == pytest.approx(np.mean(pixels == 255))
    assert metrics["foreground_share"] == pytest.approx(np.mean((pixels > 0) & (pixels < 255)))
    assert metrics["images_ignored_whole"] == 0
    assert metrics["supervision"] == "image labels + saliency" and metrics["seed"] == 3
    assert metrics["records_checksum"] == records.checksum
    assert set(metrics["versions"]) == {"python", "tensorflow", "keras", "numpy", "opencv"}

    folder = tmp_path / "labels"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (folder / "flags.txt").read_text() == settings.as_flags()
    description = json.loads((folder / "pseudo_labels.json").read_text())
    assert description["records_checksum"] == records.checksum and description["classes"] == list(CLASSES)
    assert description["supervision"] == metrics["supervision"]
    # Anything that shows PNGs shows the VOC colors.
    colors = cv2.cvtColor(cv2.imread(str(folder / "SegmentationClass" / "b.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(colors, voc_palette()[labels[1]])


def test_without_saliency(settings, data, tmp_path):
    records, maps_folder = data
    metrics = run(dataclasses.replace(settings, use_saliency=False))
    assert metrics["supervision"] == "image labels"
    classes, attention = AttentionMaps.open(maps_folder, records).at_image_size(2)
    np.testing.assert_array_equal(labels_of(settings, records)[2], pseudo_label(attention, classes, None, settings))


def test_masks_stay_the_stronger_supervision(settings, data, tmp_path):
    records, maps_folder = data
    of_masks = tmp_path / "maps_of_masks"
    maps = AttentionMaps.open(maps_folder, records).maps
    AttentionMaps.save(of_masks, maps, records, kind="x", image_size=CANVAS, supervision="pixel masks")
    assert run(dataclasses.replace(settings, maps=str(of_masks)))["supervision"] == "pixel masks"


@pytest.mark.parametrize("use_saliency", [False, True])
@pytest.mark.parametrize("method", ["pamr", "crf"])
def test_refined_maps(settings, data, tmp_path, method, use_saliency):
    records, maps_folder = data
    plain = dataclasses.replace(settings, use_saliency=use_saliency)
    run(plain)
    refined = dataclasses.replace(plain, refine=method, work_dir=str(tmp_path / "refined"), num_workers=3)
    metrics = run(refined)
    assert metrics["settings"]["refine"] == method
    # The objects have a color of their own, and the maps are grids of 8 x 8 cells.
    assert metrics["mean_iou"] > 0.7
    maps = AttentionMaps.open(maps_folder, records)
    labels = labels_of(refined, records)
    for position, one in enumerate(labels):
        record = records.record(position)
        saliency = record.saliency if use_saliency else None
        classes, attention = maps.at_image_size(position)
        attention = min_max_normalized(attention)
        background = background_scores(attention, saliency, refined)
        attention = refined_attention(method, attention, background, record.image, crf_side=maps.image_size)
        np.testing.assert_array_equal(one, pseudo_label(attention, classes, saliency, refined))
    assert any((one != before).any() for one, before in zip(labels, labels_of(plain, records), strict=True))
    with pytest.raises(UserError, match=rf"--refine=none, not --refine={method}"):
        run(dataclasses.replace(refined, work_dir=plain.work_dir))


def test_an_unknown_refinement_is_refused(settings):
    with pytest.raises(UserError, match="--refine=crfs: expected one of none, pamr, crf"):
        dataclasses.replace(settings, refine="crfs")


def test_resume_makes_only_what_is_missing(settings, data, tmp_path, capsys):
    records, _ = data
    metrics = run(settings)
    labels = labels_of(settings, records)
    folder = tmp_path / "labels"
    for name in ("metrics.json", "pseudo_labels.json", "SegmentationClass/b.png"):
        (folder / name).unlink()
    kept = folder / "SegmentationClass" / "a.png"
    time_before = kept.stat().st_mtime_ns
    # The number of workers may change.
    assert run(dataclasses.replace(settings, num_workers=1))["mean_iou"] == metrics["mean_iou"]
    assert kept.stat().st_mtime_ns == time_before
    for before, after in zip(labels, labels_of(settings, records), strict=True):
        np.testing.assert_array_equal(before, after)

    capsys.readouterr()
    run(settings)
    assert "is done" in capsys.readouterr().out


def test_the_number_of_workers_does_not_matter(settings, data, tmp_path):
    records, _ = data
    run(settings)
    other = dataclasses.replace(settings, work_dir=str(tmp_path / "other"), num_workers=3)
    run(other)
    for image_id in records.image_ids:
        name = f"SegmentationClass/{image_id}.png"
        assert (tmp_path / "labels" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_another_runs_work_dir_is_refused(settings, data, tmp_path):
    run(settings)
    with pytest.raises(UserError, match=r"--drop_below=0.3.*--drop_below=0.4"):
        run(dataclasses.replace(settings, drop_below=0.4))


def test_replaced_maps_are_noticed(data, tmp_path):
    records, _ = data
    maps = attention_from_masks(records, CANVAS)
    settings = MakePseudoLabelsSettings(
        records=str(records.manifest_path), maps=str(tmp_path / "maps"), work_dir=str(tmp_path / "labels")
    )
    AttentionMaps.save(tmp_path / "maps", maps, records, kind="oaa", image_size=CANVAS)
    run(settings)
    AttentionMaps.save(tmp_path / "maps", 255 - maps, records, kind="oaa", image_size=CANVAS)
    with pytest.raises(UserError, match=r"was begun with other maps, which have been replaced"):
        run(settings)


def test_saliency_must_be_there(settings, tmp_path):
    records = make_tiny_records(tmp_path / "bare", masks=False, saliency=False)
    with pytest.raises(UserError, match=r"--use_saliency: .*train.json has no saliency maps"):
        run(dataclasses.replace(settings, records=str(records.manifest_path)))
    assert not (tmp_path / "labels").exists()


def test_without_masks_there_are_no_scores(tmp_path):
    with_masks = make_tiny_records(tmp_path / "full")
    records = make_tiny_records(tmp_path / "bare", masks=False, saliency=False)
    maps = attention_from_masks(with_masks, CANVAS)
    AttentionMaps.save(tmp_path / "maps", maps, records, kind="oaa", image_size=CANVAS)
    settings = MakePseudoLabelsSettings(
        records=str(records.manifest_path), maps=str(tmp_path / "maps"), work_dir=str(tmp_path / "labels")
    )
    metrics = run(settings)
    assert "mean_iou" not in metrics and metrics["foreground_share"] > 0
    with pytest.raises(UserError, match=r"made from other records"):
        run(dataclasses.replace(settings, records=str(with_masks.manifest_path), work_dir=str(tmp_path / "other")))


def test_a_tampered_label_file_is_named(settings, tmp_path):
    run(settings)
    folder = tmp_path / "labels"
    (folder / "metrics.json").unlink()
    cv2.imwrite(str(folder / "SegmentationClass" / "b.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match=r"b.png: is not of its image's size; delete it"):
        run(settings)
