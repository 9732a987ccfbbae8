"""Maps and pseudo labels to the formats of other code and back, by the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_voc import attention_from_masks, make_tiny_records

from oaa_tf import convert, make_pseudo_labels, make_records
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.labels.label_files import PseudoLabels

IMAGE_SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records, maps in `oaa/` and pseudo labels in `labels/`."""
    root = tmp_path_factory.mktemp("convert")
    records = make_tiny_records(root)
    maps = attention_from_masks(records, IMAGE_SIZE)
    AttentionMaps.save(root / "oaa", maps, records, kind="oaa", image_size=IMAGE_SIZE, seed=3)
    make_labels(root, root / "oaa", root / "labels")
    return root


@pytest.fixture(scope="module")
def records(root: Path) -> RecordSet:
    return RecordSet.open(root / "records/train.json")


@pytest.fixture
def labels(root: Path, tmp_path: Path) -> Path:
    """The pseudo labels, to be changed."""
    return shutil.copytree(root / "labels", tmp_path / "labels")


def make_labels(root: Path, maps: Path, work_dir: Path) -> None:
    flags = {"records": str(root / "records/train.json"), "maps": str(maps), "work_dir": str(work_dir)}
    make_pseudo_labels.run(make_pseudo_labels.MakePseudoLabelsSettings(use_saliency=True, num_workers=1, **flags))


def converted(root: Path, direction: str, form: str, source: Path, target: Path, **settings) -> Path:
    settings = {"image_size": IMAGE_SIZE, "records": str(root / "records/train.json")} | settings
    names = {"direction": direction, "format": form, "source": str(source), "target": str(target)}
    convert.run(convert.ConvertSettings(**names | settings))
    return target


@pytest.mark.parametrize(("form", "tolerance"), [("oaa_png", 1), ("irn_npy", 0)])
def test_maps_come_back_and_stages_take_them(root, records, tmp_path, form, tolerance):
    written = converted(root, "export", form, root / "oaa", tmp_path / "written")
    assert len(list(written.iterdir())) == (5 if form == "oaa_png" else 4)
    back = converted(root, "import", form, written, tmp_path / "back", supervision="image labels + saliency")
    before, after = AttentionMaps.open(root / "oaa", records), AttentionMaps.open(back, records)
    for position in range(len(records)):
        rows, columns = before.frame(position).valid_cells
        (_, one), (_, other) = before.for_image(position), after.for_image(position)
        assert np.abs(one - other)[:, :rows, :columns].max() <= (tolerance + 0.01) / 255
    assert after.kind == f"imported_{form}" and after.image_size == IMAGE_SIZE and after.seed is None
    assert after.supervision == "image labels + saliency"
    make_labels(root, back, tmp_path / "labels")
    assert len(list((tmp_path / "labels/SegmentationClass").iterdir())) == 4


def test_make_records_reads_the_labels_with_the_names_of_the_photos(root, records, labels, tmp_path):
    """From photos in folders to COCO's JSON of their labels, and with this as list and masks to records again."""
    photos = tmp_path / "photos"
    for image_id, (label, *_) in zip(records.image_ids, records.labels, strict=True):
        name = records.classes[label]
        (photos / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(root / f"voc/JPEGImages/{image_id}.jpg", photos / name / f"{image_id}.JPG")
    (photos / "classes.txt").write_text("\n".join(records.classes))
    flags = {"image_dir": str(photos), "val_share": 0.0, "num_workers": 1}
    make_records.run(make_records.MakeRecordsSettings(output_dir=str(tmp_path / "first"), **flags))
    first = RecordSet.open(tmp_path / "first/train.json")
    assert all(file.endswith(".JPG") and (photos / file).is_file() for file in first.files)
    (labels / "SegmentationClass").rename(tmp_path / "before")
    (labels / "SegmentationClass").mkdir()
    for position, image_id in enumerate(first.image_ids):
        labelled = read_indexed(tmp_path / f"before/{image_id.rpartition('_')[2]}.png")
        labelled[0, 0] = first.labels[position][0] + 1
        write_indexed(labels / f"SegmentationClass/{image_id}.png", labelled)
    description = json.loads((labels / "pseudo_labels.json").read_text())
    (labels / "pseudo_labels.json").write_text(json.dumps(description | {"records_checksum": first.checksum}))
    made_from = str(tmp_path / "first/train.json")
    path = converted(root, "export", "coco_json", labels, tmp_path / "labels.json", records=made_from)
    assert [image["file_name"] for image in json.loads(path.read_text())["images"]] == list(first.files)
    make_records.run(make_records.MakeRecordsSettings(output_dir=str(tmp_path / "second"), tags=str(path), **flags))
    second = RecordSet.open(tmp_path / "second/train.json")
    assert second.image_ids == first.image_ids and second.files == first.files and second.classes == first.classes
    for position, image_id in enumerate(first.image_ids):
        expected = read_indexed(labels / f"SegmentationClass/{image_id}.png")
        np.testing.assert_array_equal(second.record(position).mask, expected)


def test_labels_come_back_exactly(root, records, labels, tmp_path):
    # Beside what the rule made: an image that is ignored whole, and one that is all background.
    for image_id, value in (("c", 255), ("d", 0)):
        path = labels / f"SegmentationClass/{image_id}.png"
        write_indexed(path, np.full_like(read_indexed(path), value))
    json_file = converted(root, "export", "coco_json", labels, tmp_path / "new/labels.json")
    back = converted(root, "import", "coco_json", json_file, tmp_path / "back")
    expected, found = PseudoLabels(labels, records), PseudoLabels(back, records)
    assert found.checksum == expected.checksum and found.supervision == "image labels"
    assert {255, 0} < {value for label_map in found for value in np.unique(label_map).tolist()}


def test_what_coco_says_of_labels(root, labels, tmp_path):
    path = labels / "SegmentationClass/a.png"
    mask = np.zeros_like(read_indexed(path))
    mask[5:8, 10:30] = 1
    mask[20, 2] = 255
    write_indexed(path, mask)
    content = json.loads(converted(root, "export", "coco_json", labels, tmp_path / "labels.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["cat", "dog", "cow"]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}
    cat, ignored = (one for one in content["annotations"] if one["image_id"] == 1)
    assert (cat["category_id"], cat["iscrowd"], cat["area"], cat["bbox"]) == (1, 0, 60, [10, 5, 20, 3])
    assert cat["segmentation"]["size"] == [40, 60]
    assert (ignored["category_id"], ignored["iscrowd"], ignored["area"], ignored["bbox"]) == (1, 1, 1, [2, 20, 1, 1])


def test_labels_of_other_classes_are_ignored_and_names_with_folders_are_ids(root, records, tmp_path):
    """What another program has written: more images and classes, in another order, as polygons."""
    square = [[2, 3, 12, 3, 12, 9, 2, 9]]
    content = {
        "categories": [{"id": number, "name": name} for number, name in enumerate(("cow", "zebra", "dog", "cat"))],
        "images": [
            {"id": number, "file_name": f"{image_id}.png", "height": int(size[0]), "width": int(size[1])}
            for number, (image_id, size) in enumerate(zip(records.image_ids, records.sizes, strict=True))
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "segmentation": square},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": square},
        ],
    }
    content["images"].append({"id": 77, "file_name": "other.jpg", "height": 9, "width": 9})
    (tmp_path / "a.json").write_text(json.dumps(content))
    back = converted(root, "import", "coco_json", tmp_path / "a.json", tmp_path / "back")
    for image_id, value in (("a", 1), ("b", 255), ("c", 0)):
        labels = read_indexed(back / f"SegmentationClass/{image_id}.png")
        assert (labels[3:9, 2:12] == value).all() and np.count_nonzero(labels) in (60, 0)


def smaller(content):
    content["images"][3] |= {"height": 9, "width": 9}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 4]


def edited(change):
    """Spoils the labels' JSON."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        (Path.unlink, "labels.json: cannot read: No such file"),
        (lambda path: path.write_text("{"), "labels.json: .*; expected COCO's instances JSON"),
        (edited(lambda content: content["images"].pop()), "labels.json: annotation [0-9]+: there is no image 4"),
        (edited(lambda content: content["images"][3].update(file_name="x.jpg")), "labels.json: has no image d; all 4"),
        (edited(lambda content: content["categories"][2].update(name="pig")), "labels.json: has no category cow, only"),
        (edited(lambda content: content["annotations"][0].update(segmentation=[])), "a.jpg has objects without an out"),
        (edited(lambda content: content["images"][3].update(width=9)), "labels.json: annotation .* has the size"),
        (edited(smaller), "labels.json: image 4: 9x9 pixels, the image has 50x30"),
    ],
)
def test_wrong_labels_are_one_line(root, tmp_path, spoil, culprit):
    path = converted(root, "export", "coco_json", root / "labels", tmp_path / "labels.json")
    spoil(path)
    with pytest.raises(UserError, match=culprit):
        converted(root, "import", "coco_json", path, tmp_path / "back")
    assert not (tmp_path / "back/pseudo_labels.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 60}, "--image_size=60: expected a multiple of 8"),
        ({"form": "coco"}, "--format=coco: expected one of oaa_png, irn_npy, coco_json"),
        ({"direction": "both"}, "--direction=both: expected one of export, import"),
        ({"form": "irn_npy"}, "labels: no complete attention maps here"),
        ({"source": "nothing"}, "--source=.*nothing: no pseudo_labels.json in it"),
        ({"direction": "import", "form": "oaa_png", "source": "nothing"}, "--source=.*nothing: is not a folder"),
        ({"direction": "import", "form": "oaa_png"}, "a_0.png: cannot read: No such file"),
        ({"target": "labels"}, "--target=.*labels: is what to convert; choose another"),
        ({"target": "oaa"}, "--target=.*oaa: expected a .json file"),
        ({"target": "records/train.json/a.json"}, "--target=.*a.json: cannot be written .*; choose another folder"),
    ],
)
def test_mistakes_are_one_line(root, tmp_path, settings, message):
    chosen = {"direction": "export", "form": "coco_json", "source": "labels", "target": "new.json"} | settings
    chosen |= {
        "source": root / chosen["source"],
        "target": (root if "target" in settings else tmp_path) / chosen["target"],
    }
    with pytest.raises(UserError, match=message):
        converted(root, **chosen)
