"""Maps of a trained network, made again: as the training wrote them, and as it did not."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_trained_stage
from tiny_voc import make_tiny_records

from oaa_tf import evaluate, make_pseudo_labels, train_cls, train_integral
from oaa_tf.attention.extraction import extract_attention
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.make_maps import MakeMapsSettings, dry_run, run
from oaa_tf.metrics import image_scores
from oaa_tf.models.networks import load_network

IMAGE_SIZE = 48
TINY = {"image_size": IMAGE_SIZE, "batch_size": 2, "num_steps": 3, "width": 2, "backbone_weights": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Records, and both attention stages trained on them."""
    root = tmp_path_factory.mktemp("data")
    records = make_tiny_records(root)
    common = {"records": str(records.manifest_path), **TINY}
    train_cls.run(train_cls.TrainClsSettings(work_dir=str(root / "cls"), seed=4, **common))
    train_integral.run(
        train_integral.TrainIntegralSettings(
            maps=str(root / "cls/attention/oaa"), work_dir=str(root / "integral"), readout="sigmoid", **common
        )
    )
    return records, root


@pytest.fixture
def settings(data, tmp_path):
    records, root = data
    return MakeMapsSettings(
        records=str(records.manifest_path), stage_dir=str(root / "cls"), work_dir=str(tmp_path / "maps")
    )


@pytest.mark.parametrize(
    ("stage", "written", "options"),
    [("cls", "attention/cam", {}), ("integral", "attention/oaa_plus", {"readout": "sigmoid"})],
)
def test_they_are_the_maps_of_the_training(settings, data, tmp_path, stage, written, options):
    records, root = data
    settings = dataclasses.replace(settings, stage_dir=str(root / stage), **options)
    metrics = run(settings)
    maps, expected = (AttentionMaps.open(folder, records) for folder in (tmp_path / "maps", root / stage / written))
    np.testing.assert_array_equal(maps.maps, expected.maps)
    for name in ("kind", "image_size", "supervision", "seed"):
        assert getattr(maps, name) == getattr(expected, name)
    assert metrics["maps_kind"] == expected.kind and metrics["seed"] == expected.seed
    assert metrics["supervision"] == "image labels" and metrics["stage"] == "make_maps"


def test_views_size_and_readout(settings, data, tmp_path):
    records, root = data
    options = {"readout": "sigmoid", "scales": (1.0, 1.5), "flip": True}
    metrics = run(dataclasses.replace(settings, image_size=64, **options))
    extracted = extract_attention(load_network(root / "cls")[1], records, 64, **options)
    log_odds = np.log(extracted.probabilities / (1 - extracted.probabilities)).astype(np.float16)
    scores = image_scores(log_odds, records.labels, records.classes, threshold=0)
    assert metrics["images"] == json_ready(scores)
    expected = AttentionMaps.from_array(extracted.maps, records, image_size=64)
    maps = AttentionMaps.open(tmp_path / "maps", records)
    assert maps.grid == 8 and maps.image_size == 64
    np.testing.assert_allclose(maps.maps.astype(int), expected.maps, atol=1)


def test_other_images_than_those_of_the_training(settings, data, tmp_path):
    records, _ = data
    (tmp_path / "other").mkdir()
    others = make_tiny_records(tmp_path / "other", split="val", saliency=False)
    assert others.checksum != records.checksum
    run(dataclasses.replace(settings, records=str(others.manifest_path)))
    assert AttentionMaps.open(tmp_path / "maps", others).kind == "cam"
    with pytest.raises(UserError, match="maps in"):
        AttentionMaps.open(tmp_path / "maps", records)


def test_what_reads_maps_takes_them(settings, tmp_path):
    run(settings)
    common = {"records": settings.records, "maps": settings.work_dir}
    evaluated = evaluate.run(evaluate.EvaluateSettings(work_dir=str(tmp_path / "eval"), **common))
    assert evaluated["maps_kind"] == "cam" and evaluated["seed"] == 4
    labels = make_pseudo_labels.MakePseudoLabelsSettings(work_dir=str(tmp_path / "labels"), **common)
    assert make_pseudo_labels.run(labels)["supervision"] == "image labels"


def test_the_plan_and_a_finished_folder(settings, data, tmp_path, capsys):
    records, root = data
    settings = dataclasses.replace(settings, scales=(1.0, 2.0), flip=True)
    assert dry_run(settings) == {
        "stage": "make_maps",
        "state": "to do",
        "maps_kind": "cam",
        "supervision": "image labels",
        "split": "train",
        "images": len(records),
        "classes": len(records.classes),
        "image_size": IMAGE_SIZE,
        "views": 4,
        "writes": str(tmp_path / "maps/maps.json"),
    }
    assert not (tmp_path / "maps").exists()
    metrics = run(settings)
    assert dry_run(settings)["state"] == "done"
    # The batch size does not change the maps.
    assert run(dataclasses.replace(settings, batch_size=1)) == metrics
    assert f"make_maps: {tmp_path / 'maps'} is done" in capsys.readouterr().out
    with pytest.raises(UserError, match="--readout"):
        run(dataclasses.replace(settings, readout="sigmoid"))
    # Another network has taken the stage's place.
    shutil.copytree(root / "integral", tmp_path / "stage")
    with pytest.raises(UserError, match="was begun with other stage_dir"):
        run(dataclasses.replace(settings, stage_dir=str(tmp_path / "stage")))


def test_a_folder_that_is_no_finished_attention_stage(settings, data, tmp_path):
    _, root = data
    stage = tmp_path / "stage"
    settings = dataclasses.replace(settings, stage_dir=str(stage))
    make_trained_stage(stage, "attention")
    with pytest.raises(UserError, match=r"metrics.json: no such file; run the training stage to its end first"):
        run(settings)
    metrics = json.loads((root / "cls/metrics.json").read_text())
    path = stage / "metrics.json"
    for damage in ({"supervision": None}, {"supervision": ["x"]}, {"seed": "1"}, {"stage": 1}, {"settings": ["x"]}):
        path.write_text(json.dumps(metrics | damage))
        with pytest.raises(UserError, match=r"metrics.json: damaged"):
            run(settings)
    path.write_text(json.dumps(metrics | {"stage": "train_seg"}))
    with pytest.raises(UserError, match=r"--stage_dir=.*is of train_seg; expected the work_dir of train_cls or"):
        run(settings)
    # Of other classes than the records.
    path.write_text(json.dumps(metrics))
    description = json.loads((stage / "network.json").read_text())
    (stage / "network.json").write_text(json.dumps(description | {"classes": ["x", "y", "z"]}))
    with pytest.raises(UserError, match=r"--stage_dir=.*: for the classes x, y, z"):
        run(settings)
    assert not Path(settings.work_dir).exists()


def test_an_image_size_that_no_grid_fits(settings):
    with pytest.raises(UserError, match="--image_size=50: expected a multiple of 8"):
        dataclasses.replace(settings, image_size=50)
