"""More classes than masks can number, such as ImageNet's thousand: attention has no limit, masks have one."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from oaa_tf import make_pseudo_labels, make_records, pipeline, train_cls, train_integral
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.records.keys import MAX_MASK_CLASSES
from oaa_tf.data.records.label_warnings import label_warnings
from oaa_tf.data.records.manifest import Manifest
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.networks import NetworkDescription

NUM_CLASSES = MAX_MASK_CLASSES + 46
TRAINING = {"image_size": 32, "width": 2, "batch_size": 4, "num_steps": 3, "backbone_weights": "none"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 300 classes with tags; the last one shows the first class and the last."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    tags = [[f"kind {NUM_CLASSES - 1 - number:03d}"] for number in range(NUM_CLASSES)]
    tags[-1].append(f"kind {NUM_CLASSES - 1:03d}")
    for number in range(NUM_CLASSES):
        cv2.imwrite(str(folder / f"{number}.jpg"), generator.integers(0, 256, (24, 32, 3), np.uint8))
    lines = [f"{number}.jpg,{'|'.join(names)}" for number, names in enumerate(tags)]
    (folder / "tags.csv").write_text("\n".join(["file,tags", *lines]))
    return folder


def settings(photos: Path, output_dir: Path, **changes) -> make_records.MakeRecordsSettings:
    data = {"image_dir": str(photos), "tags": str(photos / "tags.csv"), "val_share": 0.0}
    return make_records.MakeRecordsSettings(**data, output_dir=str(output_dir), **changes)


@pytest.fixture(scope="module")
def records(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    folder = tmp_path_factory.mktemp("records")
    made = make_records.run(settings(photos, folder))
    assert made["images_per_class"]["kind 000"] == 1 and made["images_per_class"]["kind 299"] == 2
    return RecordSet.open(folder / "train.json")


def test_attention_of_any_number_of_classes(records: RecordSet, tmp_path: Path) -> None:
    assert len(records.classes) == NUM_CLASSES and records.labels[-1] == (0, NUM_CLASSES - 1)
    common = TRAINING | {"records": str(records.manifest_path)}
    train_cls.run(train_cls.TrainClsSettings(**common, work_dir=str(tmp_path / "cls")))
    maps = str(tmp_path / "cls/attention/oaa")
    train_integral.run(train_integral.TrainIntegralSettings(**common, maps=maps, work_dir=str(tmp_path / "integral")))
    classes, attention = AttentionMaps.open(tmp_path / "integral/attention/oaa_plus", records).for_image(299)
    assert classes == (0, NUM_CLASSES - 1) and attention.shape == (2, 4, 4)
    with pytest.raises(UserError, match=r"train\.json: 300 classes, but label maps can number 254; choose some with"):
        make_pseudo_labels.run(
            make_pseudo_labels.MakePseudoLabelsSettings(
                records=str(records.manifest_path), maps=maps, work_dir=str(tmp_path / "labels")
            )
        )


def test_masks_of_too_many_classes_are_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "masks").mkdir(exist_ok=True)
    cv2.imwrite(str(photos / "masks/0.png"), np.zeros((24, 32), np.uint8))
    with pytest.raises(UserError, match=r"300 classes, but masks can number 254; make the records without masks"):
        make_records.run(settings(photos, tmp_path, mask_dir="masks"))


def test_the_pipeline_refuses_them_before_it_trains(photos: Path, tmp_path: Path) -> None:
    data = (f"--image_dir={photos}", f"--tags={photos}/tags.csv", "--val_share=0", "--nouse_saliency")
    chosen = parse(pipeline.PipelineSettings, "pipeline", [*data, f"--work_dir={tmp_path}", "--backbone_weights=none"])
    for start in (pipeline.dry_run, pipeline.run):
        with pytest.raises(UserError, match="300 classes, but label maps can number 254"):
            start(chosen)
    assert not (tmp_path / "train_cls").exists()


def test_a_network_for_masks_has_a_limit(tmp_path: Path) -> None:
    attention = NetworkDescription("attention", tuple(map(str, range(NUM_CLASSES))), 32, width=2)
    attention.write(tmp_path)
    assert NetworkDescription.read(tmp_path) == attention
    (tmp_path / "network.json").write_text((tmp_path / "network.json").read_text().replace("attention", "segmentation"))
    with pytest.raises(UserError, match="damaged"):
        NetworkDescription.read(tmp_path)


def test_a_manifest_with_masks_has_a_limit(records: RecordSet, tmp_path: Path) -> None:
    manifest = Manifest.read(records.manifest_path)
    dataclasses.replace(manifest, has_masks=True).write(tmp_path / "train.json")
    with pytest.raises(UserError, match="wrong classes"):
        Manifest.read(tmp_path / "train.json")


def test_a_thousand_classes_are_compared_at_once() -> None:
    """Half a million pairs of names; every pair alone took minutes."""
    names = [f"{first}{second}{third}" for first in "abcdefghij" for second in "klmnopqrst" for third in "uvwxyzABCD"]
    labels = [(number,) for number in range(1000)]
    assert label_warnings([*names, "grasshopper", "grashopper"], [*labels, (1000,), (1001,)]) == [
        "the classes grasshopper and grashopper have nearly the same name: is one of them a misspelt tag?"
    ]
