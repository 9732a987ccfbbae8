"""Records from photos with tags: folders of classes, CSV, COCO."""

import json
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from own_data import FORMATS, write_own_data
from PIL import ExifTags, Image
from tiny_voc import attention_from_masks

from oaa_tf import evaluate, experiment_records, make_records, pipeline, train_seg
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.pipeline import PipelineSettings
from oaa_tf.training.pictures import measured_positions
from tools import ablation


def records_of(folder: Path, **settings) -> RecordSet:
    split = settings.get("split", "train")
    made = {"output_dir": str(folder / "records"), "val_share": 0.0, "num_workers": 1} | settings
    make_records.run(MakeRecordsSettings(**made))
    return RecordSet.open(folder / "records" / f"{split}.json")


def assert_same(records: RecordSet, expected: RecordSet, *, with_masks: bool = True) -> None:
    assert records.classes == expected.classes
    by_id = {image_id: position for position, image_id in enumerate(expected.image_ids)}
    assert sorted(records.image_ids) == sorted(by_id)
    for position, image_id in enumerate(records.image_ids):
        record, other = records.record(position), expected.record(by_id[image_id])
        assert records.labels[position] == expected.labels[by_id[image_id]]
        np.testing.assert_array_equal(record.image, other.image)
        np.testing.assert_array_equal(record.saliency, other.saliency)
        if with_masks:
            np.testing.assert_array_equal(record.mask, other.mask)


@pytest.mark.parametrize("form", ["csv", "coco"])
@pytest.mark.parametrize("classes", [(), ("cross", "circle")])
def test_formats_with_several_tags_agree_with_voc(tiny_voc, tmp_path, form, classes):
    (tiny_voc / "classes.txt").write_text("circle\ncross\nsquare\n")  # In alphabetical order, as CSV has them.
    saliency = str(tiny_voc / "saliency")
    expected = records_of(tmp_path / "voc_records", voc_dir=str(tiny_voc), saliency_dir=saliency, classes=classes)
    data = write_own_data(tiny_voc, tmp_path / "own", form)
    records = records_of(tmp_path, **data, saliency_dir=f"{data['image_dir']}/saliency", classes=classes)
    assert_same(records, expected)
    assert records.has_masks and records.has_saliency and records.labels_from == form


def test_folders_of_classes(tiny_voc, tiny_images, tmp_path, capsys):
    data = write_own_data(tiny_voc, tmp_path, "folders")
    photos = Path(data["image_dir"])
    (photos / "cross/old").mkdir()
    for name in ("", "SegmentationClass", "saliency"):
        suffix = ".png" if name else ".jpg"
        (photos / name / "cross/old").mkdir(exist_ok=True)
        (photos / name / f"cross/tiny_002{suffix}").rename(photos / name / f"cross/old/tiny_002{suffix}")
    records = records_of(tmp_path, **data, saliency_dir=str(photos / "saliency"))
    assert records.classes == ("circle", "cross", "square") and records.labels_from == "folders"
    assert records.image_ids == (
        *("circle_tiny_000", "circle_tiny_003", "circle_tiny_005", "cross_old_tiny_002"),
        *("square_tiny_001", "square_tiny_004"),
    )
    assert records.labels == ((0,), (0,), (0,), (1,), (2,), (2,))
    assert re.search(r"images per class: circle: 3\n +cross: 1\n +square: 2\n", capsys.readouterr().out)
    np.testing.assert_array_equal(records.record(3).saliency, tiny_images[2].saliency)
    # Masks number the classes as the folders are.
    np.testing.assert_array_equal(records.record(3).mask == 2, tiny_images[2].mask == 3)
    (photos / "classes.txt").write_text("square\ncircle\ncross\n")
    assert records_of(tmp_path, **data, mask_dir="").classes == ("square", "circle", "cross")


def test_photos_of_one_name_in_two_folders_are_two(tiny_voc, tmp_path):
    photos = tmp_path / "photos"
    for number, name in enumerate(("cat", "dog")):
        (photos / name).mkdir(parents=True)
        shutil.copy(tiny_voc / f"JPEGImages/tiny_00{number}.jpg", photos / name / "1.jpg")
    records = records_of(tmp_path, image_dir=str(photos))
    assert records.image_ids == ("cat_1", "dog_1") and records.labels == ((0,), (1,))
    shutil.copy(photos / "cat/1.jpg", photos / "dog/7.jpg")
    with pytest.raises(UserError, match=r"dog/7.jpg: the same photo as .*cat/1.jpg; photos with several tags"):
        records_of(tmp_path, image_dir=str(photos))


def test_names_in_either_spelling_of_unicode_and_without_suffix(tiny_voc, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = "Käse", "Café"
    for number, name in enumerate(names):
        shutil.copy(tiny_voc / f"JPEGImages/tiny_00{number}.jpg", photos / f"{unicodedata.normalize('NFD', name)}.jpg")
    (photos / "._Käse.jpg").write_bytes(b"what macOS leaves beside files")
    tags = tmp_path / "tags.csv"
    tags.write_text("\ufeffFile, Tags\nKäse.jpg,food\n\nCafé, place ;food;\n", encoding="utf-8")
    records = records_of(tmp_path, image_dir=str(photos), tags=str(tags))
    assert records.image_ids == names and records.labels == ((0,), (0, 1))


@pytest.mark.parametrize("form", ["folders", "csv", "coco", "annotations"])
def test_what_has_no_tag_is_kept_and_what_has_other_classes_is_not(tiny_voc, tmp_path, capsys, form):
    """Each form has one photo without tags, tiny_001, and one of a class that is not kept, tiny_004."""
    if form == "annotations":
        (tiny_voc / "Annotations/tiny_001.xml").write_text("<annotation/>")
        path = tiny_voc / "Annotations/tiny_003.xml"
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
        data = {"voc_dir": str(tiny_voc), "labels_from": "annotations", "skip_difficult": True}
    else:
        data = write_own_data(tiny_voc, tmp_path, form)
        photos = Path(data["image_dir"])
        if form == "folders":
            for folder, suffix in (("", "jpg"), ("SegmentationClass", "png")):
                (photos / folder / "Good").mkdir()
                (photos / folder / f"square/tiny_001.{suffix}").rename(photos / folder / f"Good/tiny_001.{suffix}")
        elif form == "csv":
            tags = Path(data["tags"])
            tags.write_text(tags.read_text().replace("tiny_001.jpg,square", "tiny_001.jpg,"))
        else:
            path = Path(data["tags"])
            content = json.loads(path.read_text())
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 999]
            path.write_text(json.dumps(content))
    records = records_of(tmp_path, **data, classes=("circle", "cross"))
    negatives = [position for position, labels in enumerate(records.labels) if not labels]
    assert [records.image_ids[position].rpartition("tiny_")[2] for position in negatives] == ["001"]
    assert records.num_negatives == 1
    # What shows no class is background, with or without a mask file.
    assert form != "coco" or not records.record(negatives[0]).mask.any()
    skipped = json.loads((tmp_path / "records/train.json").read_text())["skipped"]
    assert {entry["reason"] for entry in skipped} <= {"none of the kept classes"}
    # A photo with difficult objects alone shows something.
    assert any(entry["id"].endswith("tiny_003") for entry in skipped) == (form == "annotations")
    assert re.search(r"^negatives: +1$", capsys.readouterr().out, re.MULTILINE)


def test_folders_of_negatives(tiny_voc, tmp_path, capsys):
    data = write_own_data(tiny_voc, tmp_path, "folders") | {"mask_dir": ""}
    photos = Path(data["image_dir"])
    (photos / "square").rename(photos / "OK")
    assert records_of(tmp_path, **data).classes == ("circle", "cross")
    assert "photos without any class: OK; set --negative_folders to change that" in capsys.readouterr().out
    assert records_of(tmp_path, **data, negative_folders=("cross",)).classes == ("OK", "circle")
    (photos / "classes.txt").write_text("OK\ncircle\ncross\n")
    assert records_of(tmp_path, **data).classes == ("OK", "circle", "cross")
    (photos / "classes.txt").unlink()
    flags = [f"--image_dir={photos}", "--negative_folders=cross", "--val_share=0", "--nouse_saliency", "--mask_dir="]
    train, _ = experiment_records.make_all_records(pipeline_settings(*flags), tmp_path, seed=0)
    assert RecordSet.open(train).classes == ("OK", "circle")
    with pytest.raises(UserError, match=r"--negative_folders=.*: is for one subfolder per class"):
        MakeRecordsSettings(voc_dir="v", output_dir="o", negative_folders=("a",))


@pytest.mark.parametrize("form", ["folders", "coco", "voc"])
def test_masks_of_some_photos_are_kept_and_measured(tiny_voc, tmp_path, capsys, form):
    data = {"voc_dir": str(tiny_voc)} if form == "voc" else write_own_data(tiny_voc, tmp_path, form)
    full = records_of(tmp_path / "full", **data)
    if form == "coco":
        path = Path(data["tags"])
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            if annotation["image_id"] not in (999, 995):  # tiny_001 and tiny_005.
                del annotation["segmentation"]
        path.write_text(json.dumps(content))
    else:
        for path in Path(data.get("image_dir", tiny_voc)).glob("SegmentationClass/**/*.png"):
            if path.stem not in ("tiny_001", "tiny_005"):
                path.unlink()
    capsys.readouterr()
    records = records_of(tmp_path, **data)
    assert ("4 of 6 images have no mask" if form == "coco" else "2 of 6 images have a mask") in capsys.readouterr().out
    assert [records.image_ids[position][-3:] for position in records.masked] in (["001", "005"], ["005", "001"])
    assert records.image_ids == full.image_ids
    for position in range(6):
        mask, of_full = records.record(position).mask, full.record(position).mask
        assert (mask is None) == (position not in records.masked)
        if mask is not None:
            np.testing.assert_array_equal(mask, of_full)
    # Pseudo labels that are the masks, and wrong where nobody knows: only what is known counts.
    (tmp_path / "labels").mkdir()
    for position, image_id in enumerate(records.image_ids):
        truth = full.record(position).mask
        write_indexed(tmp_path / f"labels/{image_id}.png", truth if position in records.masked else 0 * truth)
    settings = evaluate.EvaluateSettings(
        records=str(records.manifest_path), masks=str(tmp_path / "labels"), work_dir=str(tmp_path / "work")
    )
    metrics = evaluate.run(settings)
    assert metrics["mean_iou"] == 1 and (metrics["num_masks"], metrics["num_images"]) == (2, 6)
    assert measured_positions(records, 9) == list(records.masked)
    maps = attention_from_masks(full, 64)
    AttentionMaps.save(tmp_path / "maps", maps, records, kind="oaa", image_size=64, seed=0)
    assert AttentionMaps.open(tmp_path / "maps", records).curves().mean_iou.max() > 0.5
    with pytest.raises(UserError, match=r"--labels=masks: only 2 of the 6 images of .*train.json has a mask"):
        train_seg.SegmentationStage(
            train_seg.TrainSegSettings(records=str(records.manifest_path), labels="masks", work_dir="w")
        )


def test_boxes_alone_make_no_masks_and_polygons_do(tiny_voc, tmp_path, capsys):
    data = write_own_data(tiny_voc, tmp_path, "coco")
    path = Path(data["tags"])
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    path.write_text(json.dumps(content))
    assert not records_of(tmp_path, **data).has_masks
    assert "instances.json: no masks" in capsys.readouterr().out
    # A small object on a large one, and a crowd below both; the order in the file does not count.
    image = content["images"][5]
    content["images"] = [image]
    outlines = {"circle": [2, 2, 6, 2, 6, 6, 2, 6], "cross": [1, 1, 20, 1, 20, 9, 1, 9]}
    numbers = {category["name"]: category["id"] for category in content["categories"]}
    content["annotations"] = [
        {"id": rank, "image_id": image["id"], "category_id": numbers[name], "segmentation": [outline], "iscrowd": 0}
        for rank, (name, outline) in enumerate(outlines.items())
    ]
    crowd = [0, 0, image["width"], 0, image["width"], 10, 0, 10]
    content["annotations"].append(content["annotations"][0] | {"id": 9, "segmentation": [crowd], "iscrowd": 1})
    path.write_text(json.dumps(content))
    expected = np.zeros((image["height"], image["width"]), np.uint8)
    expected[:10] = 255
    expected[1:9, 1:20] = 3
    expected[2:6, 2:6] = 1
    np.testing.assert_array_equal(records_of(tmp_path, **data).record(0).mask, expected)
    assert not records_of(tmp_path, **data, mask_dir="").has_masks


def test_the_split_is_a_matter_of_the_id_alone(tiny_voc, tmp_path):
    data = write_own_data(tiny_voc, tmp_path, "csv")
    found = {
        split: set(records_of(tmp_path, **data, split=split, val_share=0.5).image_ids) for split in ("train", "val")
    }
    # Golden: it must be the same on every machine, and in every version.
    assert found["val"] == {"tiny_003", "tiny_005"}
    assert found["train"] == {"tiny_000", "tiny_001", "tiny_002", "tiny_004"}
    tags = Path(data["tags"])
    lines = tags.read_text().splitlines()
    tags.write_text("\n".join([lines[0], *lines[:3:-1]]))
    assert records_of(tmp_path, **data, split="val", val_share=0.5).image_ids == ("tiny_005", "tiny_003")


def test_both_splits_of_a_few_photos_have_some(tiny_voc, tmp_path):
    data = write_own_data(tiny_voc, tmp_path, "csv")
    for share in (0.001, 0.999):
        sizes = [len(records_of(tmp_path, **data, split=split, val_share=share)) for split in ("train", "val")]
        assert sorted(sizes) == [1, 5]
    tags = Path(data["tags"])
    tags.write_text("".join(tags.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(UserError, match=r"--val_share=0.001: none of the 1 images of .*tags.csv is in the split val"):
        records_of(tmp_path, **data, split="val", val_share=0.001)


def test_shares_of_many_ids():
    draws = [make_records.TaggedImages.draw(f"IMG_{number}") for number in range(5000)]
    assert abs(sum(draw < 0.2 for draw in draws) / 5000 - 0.2) < 0.02


def test_records_are_made_again_when_tags_change(tiny_voc, tmp_path, capsys):
    data = write_own_data(tiny_voc, tmp_path, "csv")
    settings = MakeRecordsSettings(**data, output_dir=str(tmp_path / "records"), val_share=0.0)
    assert [make_records.run(settings)["up_to_date"] for _ in range(2)] == [False, True]
    tags = Path(data["tags"])
    tags.write_text(tags.read_text().replace("tiny_000.jpg,circle", "tiny_000.jpg,square"))
    assert not make_records.run(settings)["up_to_date"]


# Bad input: each function spoils the data, and may return settings.


def replace(file: str, old: str, new: str):
    """Spoils a text file."""

    def spoil(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def with_settings(**settings):
    return lambda folder: {name: str(value).format(folder=folder) for name, value in settings.items()}


def no_images(folder):
    for path in (folder / "photos").rglob("*.jpg"):
        path.rename(path.with_suffix(".mov"))


def missing_image(folder):
    (folder / "photos/tiny_003.jpg").unlink()


def loose_image(folder):
    shutil.copy(folder / "photos/circle/tiny_000.jpg", folder / "photos/loose.jpg")


def empty_class(folder):
    (folder / "photos/horse").mkdir()
    (folder / "photos/horse/a.mov").write_bytes(b"")


def unknown_folder(folder):
    (folder / "photos/classes.txt").write_text("circle\nsquare\n")


def folders_of_splits(folder):
    (folder / "photos/train").mkdir()
    for path in (folder / "photos").iterdir():
        if path.name in ("circle", "cross", "square"):
            path.rename(folder / "photos/train" / path.name)


def folders_of_splits_in_capitals(folder):
    for name, split in (("circle", "Training"), ("cross", "Test"), ("square", "Test/square")):
        (folder / "photos" / split).parent.mkdir(exist_ok=True)
        (folder / "photos" / name).rename(folder / "photos" / split)


def one_folder_of_folders(folder):
    (folder / "photos/images").mkdir()
    for name in ("circle", "cross", "square"):
        (folder / "photos" / name).rename(folder / "photos/images" / name)


def folders_of_negatives_alone(folder):
    shutil.rmtree(folder / "photos/cross")
    for name, negative in (("circle", "good"), ("square", "ok")):
        (folder / "photos" / name).rename(folder / "photos" / negative)


def yolo(folder):
    (folder / "photos/labels").mkdir()
    (folder / "photos/labels/tiny_000.txt").write_text("0 0.5 0.5 0.1 0.1\n")


def labelme(folder):
    loose_image(folder)
    (folder / "photos/loose.json").write_text("{}")


def three_loose_images(folder):
    for name in "abc":
        shutil.copy(folder / "photos/circle/tiny_000.jpg", folder / f"photos/{name}.jpg")


def two_damaged_files(folder):
    (folder / "photos/tiny_000.jpg").write_bytes(b"<html>")
    (folder / "photos/SegmentationClass/tiny_003.png").write_bytes(b"<html>")


def two_missing_images(folder):
    for name in ("tiny_001", "tiny_003"):
        (folder / f"photos/{name}.jpg").unlink()


def masks_in_another_order(folder):
    for path in (folder / "photos/SegmentationClass").iterdir():
        write_indexed(path, np.array([0, 3, 1, 2, *range(4, 256)], np.uint8)[read_indexed(path)])


def white_masks(folder):
    for path in (folder / "photos/SegmentationClass").iterdir():
        write_indexed(path, (read_indexed(path) > 0) * np.uint8(255))


def background_folder(folder):
    (folder / "photos/cross").rename(folder / "photos/None")
    return {"negative_folders": ("good",)}


def linked_folder(folder):
    (folder / "photos/cross").rename(folder / "elsewhere")
    (folder / "photos/cross").symlink_to(folder / "elsewhere")


def linked_image(folder):
    (folder / "photos/tiny_003.jpg").rename(folder / "secret.jpg")
    (folder / "photos/tiny_003.jpg").symlink_to(folder / "secret.jpg")


def damaged_image(folder):
    (folder / "photos/tiny_003.jpg").write_bytes(b"<html>")


def not_text(folder):
    (folder / "tags.csv").write_bytes(b"\xff\xd8\xff\x81")


def edit_json(change):
    def spoil(folder: Path) -> None:
        path = folder / "instances.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def cut_json(folder):
    (folder / "instances.json").write_text((folder / "instances.json").read_text()[:-20])


def set_in(list_name: str, index: int, **values):
    return edit_json(lambda content: content[list_name][index].update(values))


BAD_INPUT = [
    ("folders", with_settings(image_dir="{folder}/nothing"), "--image_dir=.*nothing: no such folder"),
    ("folders", no_images, "--image_dir=.*photos: no images in it; expected .jpg.* files, found 6 .mov"),
    ("folders", loose_image, "photos/loose.jpg: an image in no class' folder"),
    ("folders", empty_class, "photos/horse: no images in this class' folder"),
    ("folders", unknown_folder, "photos/cross: unknown class 'cross'; expected one of circle, square"),
    ("folders", folders_of_splits, "--image_dir=.*photos: its folders are splits, not classes: train"),
    ("folders", background_folder, "photos: the classes are those of objects, and 'None' is none: remove it"),
    ("folders", linked_folder, "photos/cross: links to a folder"),
    (
        "folders",
        folders_of_splits_in_capitals,
        "--image_dir=.*photos: its folders are splits, .*: Training, Test; name",
    ),
    ("folders", one_folder_of_folders, "--image_dir=.*photos: has one folder, images, with the folders circle, cross"),
    ("folders", folders_of_negatives_alone, "--image_dir=.*photos: all its folders are .* without a class: good, ok"),
    ("folders", yolo, "labels/tiny_000.txt: YOLO's boxes, which are not read; export COCO's JSON"),
    ("folders", labelme, "photos/loose.json: labelme's JSON of one photo, .*; run labelme2voc"),
    ("folders", three_loose_images, r"photos/a.jpg: an image in no .* \| .*photos/b.jpg: an image in no .*; move it"),
    ("csv", two_damaged_files, r"photos/tiny_00[01].jpg: expected .* \| .*/tiny_003.png: .*PNG"),
    (
        "csv",
        two_missing_images,
        r"tags.csv:3: 'tiny_001.jpg': no such image .*\| .*tags.csv:5: 'tiny_003.jpg': no such",
    ),
    ("csv", masks_in_another_order, r"tags.csv: masks of [345] images show other .* \(tags: circle, mask: square\), "),
    ("csv", white_masks, "SegmentationClass/tiny_.*png: like all masks here, it holds only 0 and 255"),
    ("csv", with_settings(tags="{folder}/absent.csv"), "absent.csv: cannot read: No such file"),
    ("csv", with_settings(mask_dir="../masks"), "--mask_dir=../masks: expected the name of a folder inside"),
    ("csv", with_settings(mask_dir="Masks"), "--mask_dir=Masks: no mask of .*tags.csv in .*Masks"),
    ("csv", with_settings(classes="unicorn"), "--classes: unknown unicorn; expected some of circle, cross, square"),
    ("csv", missing_image, "tags.csv:5: 'tiny_003.jpg': no such image in .*photos; add it, or take it off the list"),
    ("csv", linked_image, "photos/tiny_003.jpg: links to a file outside of the data folder"),
    ("csv", damaged_image, r"photos/tiny_003.jpg: expected an image \(JPEG.*HEIC\), found something else"),
    ("csv", not_text, "tags.csv: expected a text file in UTF-8"),
    (
        "csv",
        replace("tags.csv", "file,tags", "what,tags"),
        "tags.csv:1: expected a header such as file,tags, .*; found 'what,tags'",
    ),
    ("csv", replace("tags.csv", "000.jpg,circle", "000.jpg,circle,cross"), "tags.csv:2: 3 fields, expected 2"),
    (
        "csv",
        replace("tags.csv", "circle;square", "circle square"),
        "tags.csv:5: 'circle square' is one tag; .* semicolon",
    ),
    (
        "csv",
        replace("tags.csv", "tiny_001.jpg", "./tiny_000.jpg"),
        r"tags.csv:3: .* has the id tiny_000 .*tags.csv:2\)",
    ),
    ("csv", replace("tags.csv", "tiny_001.jpg", "../secret.jpg"), "tags.csv:3: '../secret.jpg': no such image"),
    ("csv", replace("tags.csv", "tiny_001.jpg", "/etc/passwd"), "tags.csv:3: '/etc/passwd': no such image"),
    ("csv", replace("tags.csv", "tiny_001.jpg", ""), "tags.csv:3: '': no such image"),
    (
        "csv",
        replace("tags.csv", "tiny_001.jpg", '"tiny_001.jpg'),
        "tags.csv:7: not a line of CSV: unexpected end of data",
    ),
    ("coco", cut_json, "instances.json: .*; expected COCO's instances JSON"),
    ("coco", edit_json(lambda content: content.pop("categories")), "instances.json: has no list 'categories'"),
    ("coco", edit_json(lambda content: content.update(images={})), "instances.json: its images are no list"),
    (
        "coco",
        edit_json(lambda content: content["images"].clear()),
        "instances.json: annotation 5: there is no image 1000",
    ),
    (
        "coco",
        edit_json(lambda content: content["images"].append(3)),
        "instances.json: number 7 of its images: expected an object",
    ),
    ("coco", set_in("images", 1, id=1000), "instances.json: image number 2: duplicate id 1000"),
    ("coco", set_in("images", 1, file_name=7), "instances.json: image 999: its 'file_name' is '7', expected text"),
    ("coco", set_in("images", 1, file_name="../a.jpg"), "instances.json: image 999: '../a.jpg': no such image"),
    ("coco", set_in("images", 1, height=41), r"instances.json: annotation 7: its segmentation has the size \[56, 40\]"),
    ("coco", set_in("categories", 0, name="circle"), "instances.json: a class is named twice"),
    ("coco", set_in("annotations", 0, category_id=99), "instances.json: annotation 5: there is no category 99"),
    (
        "coco",
        set_in("annotations", 0, segmentation=7),
        "instances.json: annotation 5: .* neither polygons nor run lengths",
    ),
    (
        "coco",
        set_in("annotations", 0, segmentation={"size": [40, 56], "counts": "o"}),
        "annotation 5: its string .* is cut",
    ),
    ("coco", with_settings(split="test", val_share=0.3), "--split=test: expected train or val, or --val_share=0"),
    ("coco", with_settings(labels_from="masks"), "--labels_from=masks: is for --voc_dir"),
    ("coco", with_settings(tags="{folder}/tags.xlsx"), "--tags=.*tags.xlsx: expected a .csv, .tsv or .json file"),
    ("coco", with_settings(tags="{folder}/tags.txt"), "--tags=.*tags.txt: YOLO's .* not read; export COCO's JSON"),
    ("coco", with_settings(tags="{folder}/a.xml"), "--tags=.*a.xml: CVAT's own XML .* not read; export COCO's JSON"),
    ("coco", with_settings(voc_dir="voc"), "expected one of --voc_dir and --image_dir, got both"),
    ("coco", with_settings(image_dir=""), "expected one of --voc_dir and --image_dir, got none"),
]


@pytest.mark.parametrize(("form", "spoil", "culprit"), BAD_INPUT, ids=[case[2][:50] for case in BAD_INPUT])
def test_bad_input_is_one_line_with_the_culprit(tiny_voc, tmp_path, capfd, form, spoil, culprit):
    settings = {"val_share": 0.0} | write_own_data(tiny_voc, tmp_path, form)
    changed = spoil(tmp_path) or {}
    if "classes" in changed:
        changed["classes"] = (changed["classes"],)
    settings |= changed | ({"val_share": float(changed["val_share"])} if "val_share" in changed else {})
    assert guarded(lambda: records_of(tmp_path, **settings)) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1, errors
    assert re.match(f"error: .*{culprit}", errors), errors
    output = tmp_path / "records"
    assert not output.exists() or list(output.iterdir()) == []


def test_the_pipelines_records_are_as_large_as_it_says(tiny_voc, tmp_path):
    data = write_own_data(tiny_voc, tmp_path, "csv")
    flags = [f"--{name}={value}" for name, value in data.items()]
    train, _ = experiment_records.make_all_records(
        pipeline_settings(*flags, "--val_share=0", "--max_side=45"), tmp_path, seed=0
    )
    assert RecordSet.open(train).sizes.max() == 45


@pytest.mark.parametrize("orientation", [3, 6])
def test_outlines_of_turned_photos_are_upright(tmp_path, orientation):
    # A red photo with a blue corner, top left; stored turned.
    upright = np.full((30, 40, 3), (200, 0, 0), np.uint8)
    upright[:10, :20] = (0, 0, 200)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "photos").mkdir()
    stored = np.rot90(upright, {3: 2, 6: 1}[orientation])
    Image.fromarray(stored).save(tmp_path / "photos/a.jpg", exif=exif, quality=95, subsampling=0)
    outline = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10]]}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 30, "width": 40}],
        "annotations": [outline],
        "categories": [{"id": 1, "name": "blue"}],
    }
    (tmp_path / "tags.json").write_text(json.dumps(content))
    record = records_of(tmp_path, image_dir=str(tmp_path / "photos"), tags=str(tmp_path / "tags.json")).record(0)
    assert np.mean((record.mask == 1) == (record.image[..., 2] > 100)) > 0.99


@pytest.mark.parametrize("form", FORMATS)
def test_the_pipelines_records(tiny_voc, tmp_path, form):
    data = write_own_data(tiny_voc, tmp_path, form)
    flags = [f"--{name}={value}" for name, value in data.items()]
    train, val = experiment_records.make_all_records(pipeline_settings(*flags, "--val_share=0.5"), tmp_path, seed=0)
    records, val_records = RecordSet.open(train), RecordSet.open(val)
    assert records.has_saliency and not val_records.has_saliency and records.has_masks and val_records.has_masks
    assert len(records) + len(val_records) == 6 and not {*records.image_ids} & {*val_records.image_ids}
    assert records.classes == val_records.classes
    train, val = experiment_records.make_all_records(pipeline_settings(*flags, "--val_share=0"), tmp_path, seed=0)
    assert len(RecordSet.open(train)) == 6 and val is None


def pipeline_settings(*flags: str) -> PipelineSettings:
    return parse(PipelineSettings, "pipeline", ["--work_dir=w", "--backbone_weights=none", *flags])


def test_splits_in_folders_that_tools_call_valid(tiny_voc, tmp_path):
    for split, name in (("train", "Train"), ("val", "valid")):
        write_own_data(tiny_voc, tmp_path / name, "folders", (split,))
        (tmp_path / name / "photos/classes.txt").write_text("circle\ncross\nsquare\n")
    flags = ["--nouse_saliency", f"--image_dir={tmp_path}/{{split}}/photos"]
    train, val = map(RecordSet.open, experiment_records.make_all_records(pipeline_settings(*flags), tmp_path, seed=0))
    assert len(train) == 6 and val.image_ids == ("circle_tiny_003", "circle_tiny_005", "square_tiny_004")


def test_splits_with_folders_of_their_own(tiny_voc, tmp_path):
    for split in ("train", "val"):
        data = write_own_data(tiny_voc, tmp_path / split, "coco", (split,))
    flags = [f"--{name}={path.replace('/val/', '/{split}/')}" for name, path in data.items()]
    manifests = experiment_records.make_all_records(pipeline_settings(*flags, "--nouse_saliency"), tmp_path, seed=0)
    train, val = map(RecordSet.open, manifests)
    assert len(train) == 6 and val.image_ids == ("tiny_003", "tiny_004", "tiny_005")


@pytest.mark.parametrize("command", [pipeline.dry_run, pipeline.run])
@pytest.mark.parametrize("flag", ["voc_dir", "image_dir"])
def test_without_saliency_maps_the_ways_out_are_named(tiny_voc, tmp_path, command, flag):
    folder = tiny_voc if flag == "voc_dir" else Path(write_own_data(tiny_voc, tmp_path, "folders")["image_dir"])
    shutil.rmtree(folder / "saliency")
    flags = [f"--work_dir={tmp_path}/work", "--backbone_weights=none", f"--{flag}={folder}"]
    with pytest.raises(
        UserError, match=r"/saliency: no such folder .* --saliency_model=u2netp, or .* --nouse_saliency"
    ):
        command(parse(PipelineSettings, "pipeline", flags))
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=str(folder)) as caught:
        command(parse(PipelineSettings, "pipeline", flags))
    assert "saliency maps" not in str(caught.value)


def write_splits_of_other_classes(voc, folder):
    """Writes photos in two parts, the second of which has no folder `circle`, and masks of background."""
    for split in ("train", "val"):
        write_own_data(voc, folder / split, "folders")
    shutil.rmtree(folder / "val/photos/circle")
    for path in (folder / "val/photos/SegmentationClass").rglob("*.png"):
        write_indexed(path, np.zeros_like(read_indexed(path)))
    return f"--image_dir={folder}/{{split}}/photos"


@pytest.mark.parametrize("command", [pipeline.dry_run, pipeline.run, ablation.dry_run, ablation.run])
def test_validation_photos_of_other_classes_are_refused_before_any_training(tiny_voc, tmp_path, command):
    image_dir = write_splits_of_other_classes(tiny_voc, tmp_path)
    kind = PipelineSettings if command in (pipeline.dry_run, pipeline.run) else ablation.AblationSettings
    with pytest.raises(UserError) as caught:
        command(parse(kind, "pipeline", [f"--work_dir={tmp_path}/work", image_dir, "--backbone_weights=none"]))
    assert str(caught.value) == (
        f"{image_dir}: train has the classes circle, cross, square, but val has cross, square; write the same"
        " classes.txt into the folders of both, or keep classes that both have with --classes"
    )
    assert not (tmp_path / "work/train_cls").exists() and not (tmp_path / "work/seed0").exists()


@pytest.mark.parametrize("remedy", ["classes.txt", "--classes"])
def test_what_to_do_about_validation_photos_of_other_classes(tiny_voc, tmp_path, remedy):
    flags = [write_splits_of_other_classes(tiny_voc, tmp_path)]
    if remedy == "classes.txt":
        for split in ("train", "val"):
            (tmp_path / split / "photos/classes.txt").write_text("circle\ncross\nsquare\n")
    else:
        flags.append("--classes=cross,square")
    train, val = map(RecordSet.open, experiment_records.make_all_records(pipeline_settings(*flags), tmp_path, seed=0))
    assert train.classes == val.classes
