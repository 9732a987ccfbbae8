import json
import os
import re

import cv2
import numpy as np
import pytest
from own_data import FORMATS, write_own_data
from PIL import ExifTags, Image

from oaa_tf import make_records
from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.dry_run import dry_run_text
from oaa_tf.command_line.launch import parse
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.images.palette_png import read_indexed, write_indexed
from oaa_tf.data.records.record_set import RecordSet


def command(run=make_records.run, **flags) -> int:
    """Runs the command with flags; returns its exit code."""
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    return guarded(lambda: run(parse(make_records.MakeRecordsSettings, "make_records", arguments)))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "records"


def lists(voc):
    return voc / "ImageSets" / "Segmentation"


def test_round_trip(tiny_voc, tiny_images, output, capsys):
    assert command(voc_dir=tiny_voc, output_dir=output, saliency_dir=tiny_voc / "saliency", images_per_shard=4) == 0
    assert "6 images in 2 shards" in capsys.readouterr().out
    records = RecordSet.open(output / "train.json")
    assert records.classes == ("circle", "square", "cross")
    assert records.labels_from == "list"
    assert records.has_masks and records.has_saliency
    assert records.labels == tuple(tiny.labels for tiny in tiny_images)
    assert records.image_ids == tuple(tiny.image_id for tiny in tiny_images)
    for position, tiny in enumerate(tiny_images):
        record = records.record(position)
        file = tiny_voc / "JPEGImages" / f"{tiny.image_id}.jpg"
        assert file.read_bytes() in records.read(position)
        np.testing.assert_array_equal(record.image, read_image(file))
        assert np.abs(record.image.astype(int) - tiny.image).mean() < 20
        np.testing.assert_array_equal(record.mask, tiny.mask)
        np.testing.assert_array_equal(record.saliency, tiny.saliency)
        assert tuple(records.sizes[position]) == tiny.mask.shape


@pytest.mark.parametrize("labels_from", ["list", "annotations", "masks"])
def test_all_sources_of_labels_agree(tiny_voc, tiny_images, output, labels_from):
    assert command(voc_dir=tiny_voc, output_dir=output, labels_from=labels_from) == 0
    records = RecordSet.open(output / "train.json")
    assert records.labels == tuple(tiny.labels for tiny in tiny_images)
    assert records.labels_from == labels_from
    assert not records.has_saliency


def test_subset_of_classes_skips_and_names_images(tiny_voc, tiny_images, output):
    assert command(voc_dir=tiny_voc, output_dir=output, classes="cross,circle") == 0
    records = RecordSet.open(output / "train.json")
    assert records.classes == ("cross", "circle")
    assert records.image_ids == ("tiny_000", "tiny_002", "tiny_003", "tiny_004", "tiny_005")
    assert records.labels == ((1,), (0,), (1,), (0,), (0, 1))
    mask = tiny_images[5].mask
    np.testing.assert_array_equal(
        records.record(4).mask, np.select([mask == 3, mask == 1, mask == 0], [1, 2, 0], default=255)
    )
    manifest = json.loads((output / "train.json").read_text())
    assert manifest["num_skipped"] == 1
    assert manifest["skipped"] == [{"id": "tiny_001", "reason": "none of the kept classes"}]


def test_difficult_objects_can_be_left_out(tiny_voc, output):
    path = tiny_voc / "Annotations" / "tiny_000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert command(voc_dir=tiny_voc, output_dir=output, labels_from="annotations", skip_difficult=True) == 0
    assert "tiny_000" not in RecordSet.open(output / "train.json").image_ids


def test_palette_and_grey_masks_give_the_same_records(tiny_voc, tiny_images, output):
    assert command(voc_dir=tiny_voc, output_dir=output / "grey") == 0
    for tiny in tiny_images:
        write_indexed(tiny_voc / "SegmentationClass" / f"{tiny.image_id}.png", tiny.mask)
    assert command(voc_dir=tiny_voc, output_dir=output / "palette") == 0
    grey, palette = (RecordSet.open(output / name / "train.json") for name in ("grey", "palette"))
    assert grey.checksum == palette.checksum


def test_number_of_threads_changes_nothing(tiny_voc, output):
    for num_workers in (1, 5):
        assert command(voc_dir=tiny_voc, output_dir=output / str(num_workers), num_workers=num_workers) == 0
    one, five = (RecordSet.open(output / name / "train.json") for name in ("1", "5"))
    assert one.checksum == five.checksum and one.image_ids == five.image_ids


def test_no_mask_of_the_split_means_records_without_masks(tiny_voc, output, capsys):
    for path in (tiny_voc / "SegmentationClass").glob("tiny_00[012].png"):
        path.unlink()
    lists(tiny_voc).joinpath("train.txt").write_text("tiny_000\ntiny_001\n")
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    assert "no masks" in capsys.readouterr().out
    assert not RecordSet.open(output / "train.json").has_masks
    assert command(voc_dir=tiny_voc, output_dir=output, split="val") == 0
    assert RecordSet.open(output / "val.json").has_masks
    assert command(voc_dir=tiny_voc, output_dir=output, split="val", mask_dir="") == 0
    assert not RecordSet.open(output / "val.json").has_masks


def test_images_of_every_kind(tiny_voc, tiny_images, output):
    images = tiny_voc / "JPEGImages"
    for index, suffix in enumerate((".jpg", ".png", ".png", ".png", ".jpeg")):
        (images / f"tiny_{index:03d}.jpg").unlink()
        bgr = np.ascontiguousarray(tiny_images[index].image[:, :, ::-1])
        pixels = [
            bgr[:, :, 0],
            cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA),
            bgr.astype(np.uint16) * 257,
            bgr[:, :, 0],
            bgr,
        ][index]
        assert cv2.imwrite(str(images / f"tiny_{index:03d}{suffix}"), pixels)
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    records = RecordSet.open(output / "train.json")
    assert len(records) == 6
    for position in (1, 2):
        np.testing.assert_array_equal(records.record(position).image, tiny_images[position].image)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (4000, 5000)])
def test_images_of_any_size(tiny_voc, output, size):
    cv2.imwrite(str(tiny_voc / "JPEGImages" / "tiny_000.jpg"), np.full(size, 99, np.uint8))
    cv2.imwrite(str(tiny_voc / "SegmentationClass" / "tiny_000.png"), np.full(size, 1, np.uint8))
    lists(tiny_voc).joinpath("train.txt").write_text("tiny_000\n")
    assert command(voc_dir=tiny_voc, output_dir=output, max_side=0) == 0
    record = RecordSet.open(output / "train.json").record(0)
    assert record.image.shape == (*size, 3) and record.mask.shape == size


def test_second_run_does_nothing_until_something_changes(tiny_voc, output, capsys):
    def outcome(**flags):
        assert command(voc_dir=tiny_voc, output_dir=output, **flags) == 0
        return "up to date" if "up to date" in capsys.readouterr().out else "made"

    assert outcome() == "made"
    assert outcome() == "up to date"
    assert outcome(num_workers=2) == "up to date"
    assert outcome(classes="circle") == "made"
    assert outcome() == "made"
    path = tiny_voc / "SegmentationClass" / "tiny_000.png"
    os.utime(path, ns=(1, 1))
    assert outcome() == "made"
    labels = lists(tiny_voc) / "train_cls.txt"
    labels.write_text(labels.read_text().replace("tiny_000 0", "tiny_000 1"))
    assert outcome() == "made"
    shard = next(output.glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert outcome() == "made"
    assert outcome() == "up to date"


def test_failed_run_leaves_the_finished_records(tiny_voc, output, capsys):
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (tiny_voc / "JPEGImages" / "tiny_005.jpg").write_bytes(b"damaged")
    assert command(voc_dir=tiny_voc, output_dir=output) == 2
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


# Bad input: each function spoils the folder, and may return flags.


def missing_folder(voc):
    return {"voc_dir": voc / "absent"}


def missing_image_folder(voc):
    (voc / "JPEGImages").rename(voc / "Images")


def empty_image_folder(voc):
    for path in (voc / "JPEGImages").iterdir():
        path.unlink()


def missing_list(voc):
    return {"split": "test"}


def empty_list(voc):
    (lists(voc) / "train.txt").write_text("\n \n")


def binary_list(voc):
    (lists(voc) / "train.txt").write_bytes(b"\xff\xd8\xff\xe0")


def missing_label_list(voc):
    (lists(voc) / "train_cls.txt").unlink()


def id_without_labels(voc):
    (lists(voc) / "train_cls.txt").write_text("tiny_000 0\n")


def id_without_image(voc):
    (voc / "JPEGImages" / "tiny_003.jpg").unlink()


def id_without_mask(voc):
    (voc / "SegmentationClass" / "tiny_003.png").unlink()
    return {"labels_from": "masks"}


def wrong_mask_folder(voc):
    return {"mask_dir": "SegmentationClas"}


def labels_from_absent_masks(voc):
    (voc / "SegmentationClass").rename(voc / "Masks")
    return {"labels_from": "masks"}


def id_without_annotation(voc):
    (voc / "Annotations" / "tiny_003.xml").unlink()
    return {"labels_from": "annotations"}


def id_without_saliency(voc):
    (voc / "saliency" / "tiny_003.png").unlink()
    return {"saliency_dir": voc / "saliency"}


def missing_saliency_folder(voc):
    return {"saliency_dir": voc / "absent"}


def mask_of_other_size(voc):
    write_indexed(voc / "SegmentationClass" / "tiny_003.png", np.ones((61, 33), np.uint8))


def saliency_of_other_size(voc):
    cv2.imwrite(str(voc / "saliency" / "tiny_003.png"), np.ones((61, 33), np.uint8))
    return {"saliency_dir": voc / "saliency"}


def color_mask(voc):
    cv2.imwrite(str(voc / "SegmentationClass" / "tiny_003.png"), np.full((33, 61, 3), (9, 0, 0), np.uint8))


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def truncated_image(voc):
    cut(voc / "JPEGImages" / "tiny_003.jpg")


def image_cut_before_its_end_marker(voc):
    path = voc / "JPEGImages" / "tiny_003.jpg"
    path.write_bytes(path.read_bytes()[:-2])


def corrupt_image(voc):
    (voc / "JPEGImages" / "tiny_003.jpg").write_bytes(b"<html>404</html>")


def corrupt_png_image(voc):
    path = voc / "JPEGImages" / "tiny_003.jpg"
    path.unlink()
    path = path.with_suffix(".png")
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (33, 61, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[1000] ^= 8
    path.write_bytes(data)


def truncated_mask(voc):
    cut(voc / "SegmentationClass" / "tiny_003.png")


def truncated_saliency(voc):
    cut(voc / "saliency" / "tiny_003.png")
    return {"saliency_dir": voc / "saliency"}


def image_is_a_folder(voc):
    (voc / "JPEGImages" / "tiny_003.jpg").unlink()
    (voc / "JPEGImages" / "tiny_003.jpg").mkdir()


def class_out_of_range_in_list(voc):
    (lists(voc) / "train_cls.txt").write_text("tiny_000 3\n")


def class_out_of_range_in_mask(voc):
    path = voc / "SegmentationClass" / "tiny_003.png"
    mask = read_indexed(path)
    mask[0, 0] = 9
    write_indexed(path, mask)


def duplicate_id(voc):
    path = lists(voc) / "train.txt"
    path.write_text(path.read_text() + "tiny_003\n")


def id_outside(voc):
    (lists(voc) / "train.txt").write_text("../../secret\n")


def link_outside(voc):
    path = voc / "JPEGImages" / "tiny_003.jpg"
    path.rename(voc.parent / "secret.jpg")
    path.symlink_to(voc.parent / "secret.jpg")


def entity_in_annotation(voc):
    (voc / "Annotations" / "tiny_003.xml").write_text(
        '<!DOCTYPE a [<!ENTITY b "x">]><annotation><object><name>&b;</name></object></annotation>'
    )
    return {"labels_from": "annotations"}


def unknown_class_in_annotation(voc):
    (voc / "Annotations" / "tiny_003.xml").write_text("<annotation><object><name>unicorn</name></object></annotation>")
    return {"labels_from": "annotations"}


def nothing_left(voc):
    (lists(voc) / "train_cls.txt").write_text("".join(f"tiny_{index:03d} 0\n" for index in range(6)))
    return {"classes": "cross", "mask_dir": ""}


def unwritable_output(voc):
    (voc.parent / "file").write_text("")
    return {"output_dir": voc.parent / "file" / "records"}


def output_is_a_file(voc):
    (voc.parent / "file").write_text("")
    return {"output_dir": voc.parent / "file"}


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        (missing_folder, "voc/absent: no such folder"),
        (missing_image_folder, "JPEGImages: cannot read the folder: No such file"),
        (empty_image_folder, "JPEGImages: empty folder"),
        (missing_list, "Segmentation/test.txt: no such list"),
        (empty_list, "train.txt: empty list"),
        (binary_list, "train.txt: expected a text file in UTF-8"),
        (missing_label_list, "train_cls.txt: no such list of labels"),
        (id_without_labels, "train_cls.txt: no line for 5 of 6 ids, first tiny_001"),
        (id_without_image, "train.txt: 1 of 6 ids have no image in .*JPEGImages, first tiny_003"),
        (id_without_mask, "train.txt: 1 of 6 ids have no mask in .*SegmentationClass, first tiny_003; labels come"),
        (wrong_mask_folder, "--mask_dir=SegmentationClas: no mask of"),
        (labels_from_absent_masks, "--labels_from=masks: .* has no mask of"),
        (id_without_annotation, "train.txt: 1 of 6 ids have no annotation in .*/Annotations, first tiny_003; add them"),
        (id_without_saliency, "train.txt: 1 of 6 ids have no map in --saliency_dir=.*saliency, first tiny_003"),
        (missing_saliency_folder, "voc/absent: cannot read the folder"),
        (mask_of_other_size, "SegmentationClass/tiny_003.png: 33x61 pixels, but .*tiny_003.jpg has 61x33"),
        (saliency_of_other_size, "saliency/tiny_003.png: 33x61 pixels, but its image has 61x33"),
        (color_mask, "SegmentationClass/tiny_003.png: has colors; add CVAT's labelmap.txt"),
        (truncated_image, "JPEGImages/tiny_003.jpg: truncated JPEG"),
        (image_cut_before_its_end_marker, "JPEGImages/tiny_003.jpg: truncated JPEG"),
        (corrupt_image, r"JPEGImages/tiny_003.jpg: expected an image \(JPEG.*HEIC\)"),
        (corrupt_png_image, "JPEGImages/tiny_003.png: damaged PNG"),
        (truncated_mask, "SegmentationClass/tiny_003.png: truncated PNG"),
        (truncated_saliency, "saliency/tiny_003.png: truncated PNG"),
        (image_is_a_folder, "JPEGImages/tiny_003.jpg: cannot read: Is a directory"),
        (class_out_of_range_in_list, "train_cls.txt:1: class 3 of tiny_000 is out of range"),
        (class_out_of_range_in_mask, "SegmentationClass/tiny_003.png: pixel value 9 is no class"),
        (duplicate_id, "train.txt:7: duplicate id tiny_003"),
        (id_outside, "train.txt:1: '../../secret' is no image id"),
        (link_outside, "JPEGImages/tiny_003.jpg: links to a file outside"),
        (entity_in_annotation, "tiny_003.xml: annotation with a DOCTYPE or ENTITY"),
        (unknown_class_in_annotation, "tiny_003.xml: unknown class 'unicorn'"),
        (nothing_left, "train.txt: none of the 6 images has a class of "),
        (unwritable_output, "--output_dir=.*file/records: cannot be written"),
        (output_is_a_file, "--output_dir=.*file: cannot be written"),
    ],
)
def test_bad_input_is_one_line_with_the_culprit_and_exit_code_2(tiny_voc, output, capfd, spoil, culprit):
    flags = {"voc_dir": tiny_voc, "output_dir": output} | (spoil(tiny_voc) or {})
    assert command(**flags) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1, errors
    assert re.match(f"error: .*{culprit}", errors), errors
    assert not output.exists() or list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        ({"classes": "circle,dog"}, "--classes: unknown dog; expected some of circle, square, cross"),
        ({"classes": "circle,circle"}, "--classes=circle,circle: a class is named twice"),
        ({"split": "../train"}, "--split=../train: expected the plain name"),
        ({"labels_from": "boxes"}, "--labels_from=boxes: expected one of list, annotations, masks"),
        ({"skip_difficult": "true"}, "--skip_difficult: only annotations know difficult objects"),
        ({"images_per_shard": 0}, "--images_per_shard=0: expected at least 1"),
        ({"clases": "circle"}, "unknown flag --clases; did you mean --classes"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(tiny_voc, output, capsys, flags, culprit):
    assert command(voc_dir=tiny_voc, output_dir=output, **flags) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and culprit in errors
    assert not output.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tiny_voc, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert command(voc_dir=tiny_voc, output_dir=locked) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_real_voc_images(real_data, output):
    voc = real_data / "voc12_animals"
    assert command(voc_dir=voc, output_dir=output, split="mini_train", saliency_dir=voc / "saliency") == 0
    records = RecordSet.open(output / "mini_train.json")
    assert len(records) == 48 and records.has_masks and records.has_saliency
    for position in range(0, 48, 5):
        record = records.record(position)
        np.testing.assert_array_equal(record.mask, read_indexed(voc / "SegmentationClass" / f"{record.image_id}.png"))
        saliency = cv2.imread(str(voc / "saliency" / f"{record.image_id}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(record.saliency, saliency)
    listed = dict(line.split(" ", 1) for line in (lists(voc) / "mini_train_cls.txt").read_text().splitlines())
    assert records.labels == tuple(tuple(map(int, listed[image_id].split())) for image_id in records.image_ids)


def test_a_full_disk_is_one_line_and_leaves_the_finished_records(tiny_voc, output, capsys, small_files):
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    capsys.readouterr()
    with small_files(1000):
        assert command(voc_dir=tiny_voc, output_dir=output, mask_dir="") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {output}: cannot write records: ")
    assert "File too large" in lines[0] and lines[0].endswith("; free space, run again")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


# Photos as people see them


def turn(path, orientation):
    """Stores a photo turned, with the EXIF orientation by which viewers turn it back."""
    with Image.open(path) as image:
        method = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image.transpose(method).save(path, "JPEG", quality=95, subsampling=0, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6])
def test_turned_photos_fit_their_upright_masks_and_maps(tiny_voc, tiny_images, output, orientation):
    turn(tiny_voc / "JPEGImages/tiny_003.jpg", orientation)
    assert command(voc_dir=tiny_voc, output_dir=output, saliency_dir=tiny_voc / "saliency") == 0
    records = RecordSet.open(output / "train.json")
    record, tiny = records.record(3), tiny_images[3]
    assert record.image.shape[:2] == tuple(records.sizes[3]) == tiny.mask.shape
    np.testing.assert_array_equal(record.mask, tiny.mask)
    np.testing.assert_array_equal(record.saliency, tiny.saliency)
    for label in tiny.labels:
        inside = tiny.mask == label + 1
        assert np.abs(record.image[inside].mean(axis=0) - tiny.image[inside].mean(axis=0)).max() < 8


def test_masks_of_the_pixels_as_stored_are_refused(tiny_voc, output, capsys):
    turn(tiny_voc / "JPEGImages/tiny_003.jpg", 6)
    path = tiny_voc / "SegmentationClass/tiny_003.png"
    write_indexed(path, np.ascontiguousarray(np.rot90(read_indexed(path))))
    assert command(voc_dir=tiny_voc, output_dir=output) == 2
    assert "33x61 pixels, but " in (error := capsys.readouterr().err) and "upright as its EXIF" in error


def test_large_photos_are_stored_small_with_their_masks_and_maps(tiny_voc, tiny_images, output, capsys):
    assert command(voc_dir=tiny_voc, output_dir=output / "all", saliency_dir=tiny_voc / "saliency", max_side=0) == 0
    assert re.search(r"^stored smaller: +0$", capsys.readouterr().out, re.MULTILINE)
    assert command(voc_dir=tiny_voc, output_dir=output, saliency_dir=tiny_voc / "saliency", max_side=50) == 0
    assert re.search(r"^stored smaller: +4$", capsys.readouterr().out, re.MULTILINE)
    whole, small = RecordSet.open(output / "all/train.json"), RecordSet.open(output / "train.json")
    for position, tiny in enumerate(tiny_images):
        record = small.record(position)
        height, width = tiny.mask.shape
        if max(height, width) <= 50:
            assert small.read(position) == whole.read(position)
            continue
        scale = 50 / max(height, width)
        size = (round(height * scale), round(width * scale))
        assert record.image.shape[:2] == record.mask.shape == record.saliency.shape == size
        assert tuple(small.sizes[position]) == size
        assert set(np.unique(record.mask)) <= set(np.unique(tiny.mask))
        # The nearest pixel of the large mask, from the middle of each pixel of the small one.
        rows, columns = (
            np.int64((np.arange(new) + 0.5) * old / new) for new, old in zip(size, tiny.mask.shape, strict=True)
        )
        assert np.mean(record.mask == tiny.mask[np.ix_(rows, columns)]) > 0.98
        expected = cv2.resize(tiny.saliency, size[::-1], interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(record.saliency, expected)


def test_masks_are_compared_with_the_photo_before_it_is_made_smaller(tiny_voc, output, capsys):
    path = tiny_voc / "SegmentationClass/tiny_003.png"
    write_indexed(path, cv2.resize(read_indexed(path), (50, 27), interpolation=cv2.INTER_NEAREST))
    assert command(voc_dir=tiny_voc, output_dir=output, max_side=50) == 2
    assert "tiny_003.png: 50x27 pixels, but " in capsys.readouterr().err


def test_all_wrong_files_are_named_at_once(tiny_voc, output, capsys):
    image_with_end_cut = tiny_voc / "JPEGImages/tiny_000.jpg"
    cut(image_with_end_cut)
    corrupt_image(tiny_voc)
    mask_of_other_size(tiny_voc)
    (tiny_voc / "SegmentationClass/tiny_004.png").write_bytes(b"")
    assert command(make_records.examine, voc_dir=tiny_voc, output_dir=output) == 2
    assert not output.exists()
    error = capsys.readouterr().err
    assert error.count(" | ") == 2 and len(error.splitlines()) == 1
    for file in ("JPEGImages/tiny_000.jpg: trunc", "JPEGImages/tiny_003.jpg: exp", "SegmentationClass/tiny_004.png: "):
        assert file in error
    assert command(voc_dir=tiny_voc, output_dir=output) == 2
    assert capsys.readouterr().err == error
    assert not list(output.iterdir())


def test_ten_wrong_files_are_named_and_the_rest_counted(tiny_voc, output, capsys):
    ids = [f"copy_{number:02d}" for number in range(13)]
    for image_id in ids:
        (tiny_voc / "JPEGImages" / f"{image_id}.jpg").write_bytes(b"")
    (lists(tiny_voc) / "train.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
    (lists(tiny_voc) / "train_cls.txt").write_text("".join(f"{image_id} 0\n" for image_id in ids))
    assert command(voc_dir=tiny_voc, output_dir=output) == 2
    error = capsys.readouterr().err
    assert " | and 3 more; replace the file or take it off the list" in error
    assert [image_id in error for image_id in ids] == [True] * 10 + [False] * 3


def test_files_that_are_no_images_are_counted_by_ending(tiny_voc, output, capsys):
    for name in ("a.mov", "b.MOV", "notes.txt", "README", ".DS_Store"):
        (tiny_voc / "JPEGImages" / name).write_text("")
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    assert (
        "JPEGImages: not read, since they are no images: 2 .mov, 1 .txt, 1 without ending\n" in capsys.readouterr().out
    )


def test_endings_in_any_case_and_other_formats(tiny_voc, tiny_images, output):
    for number, (suffix, kind) in enumerate((("JPG", "JPEG"), ("PnG", "PNG"), ("WebP", "WEBP"), ("TIF", "TIFF"))):
        path = tiny_voc / f"JPEGImages/tiny_{number:03d}"
        path.with_suffix(".jpg").unlink()
        Image.fromarray(tiny_images[number].image).save(path.with_suffix(f".{suffix}"), kind)
    assert command(voc_dir=tiny_voc, output_dir=output) == 0
    records = RecordSet.open(output / "train.json")
    for position in (1, 3):
        np.testing.assert_array_equal(records.record(position).image, tiny_images[position].image)


@pytest.mark.parametrize("form", ["voc", *FORMATS])
def test_the_dry_run_reports_what_the_run_reports_and_writes_nothing(tiny_voc, tmp_path, capsys, form):
    write_indexed(tiny_voc / "SegmentationClass/tiny_004.png", np.zeros_like(tiny_mask(tiny_voc, "tiny_004")))
    data = {"voc_dir": str(tiny_voc)} if form == "voc" else write_own_data(tiny_voc, tmp_path / "own", form)
    folder = tiny_voc / "JPEGImages" if form == "voc" else tmp_path / "own/photos"
    (folder / "notes.docx").write_text("")
    names = {**data, "output_dir": tmp_path / "records", "classes": "circle,square"}
    flags = [f"--{name}={value}" for name, value in names.items()]
    settings = parse(make_records.CommandSettings, "make_records", [*flags, "--val_share=0", "--max_side=50"])

    def lines(text):
        return {" ".join(line.split()) for line in text.splitlines()}

    before = set(tmp_path.rglob("*"))
    found = make_records.dry_run(settings)
    output = capsys.readouterr()
    shown = lines(output.out + dry_run_text(found))
    assert set(tmp_path.rglob("*")) == before
    assert "records train: 6/6 images" in output.err
    made = make_records.run_command(settings)
    said = lines(capsys.readouterr().out)
    assert said - shown == {f"{settings.manifest_path}: 5 images in 1 shards"}
    assert {name: value for name, value in found.items() if name not in ("state", "writes")}.items() <= made.items()
    assert found["state"] == "to do" and found["num_images"] == found["num_masks"] == 5
    assert found["skipped"] == {"none of the kept classes": 1}
    assert found["images_per_class"] == {"circle": 3, "square": 2 if form == "folders" else 4}
    assert found["num_stored_smaller"] == 4 and found["sizes"]["largest"].startswith("50x")
    assert "tiny_004" in found["warnings"][0]
    assert any("no images: 1 .docx" in line for line in said)
    after = make_records.dry_run(settings)
    output = capsys.readouterr()
    assert after["state"] == "done" and "images (100 %)" not in output.err
    assert after == found | {"state": "done", "num_stored_smaller": None, "warnings": []}


def test_a_preset_adds_the_time_of_an_epoch(tiny_voc, tmp_path, capsys):
    preset = tmp_path / "small.flags"
    preset.write_text(
        "--train_cls.width=2\n--train_cls.image_size=32\n--train_integral.width=2\n--train_seg.num_steps=9"
    )
    flags = [f"--flagfile={preset}", f"--voc_dir={tiny_voc}", f"--output_dir={tmp_path / 'records'}"]
    settings = parse(
        make_records.CommandSettings,
        "make_records",
        [*flags, "--train_seg.width=2", "--train_seg.backbone_weights=none"],
    )
    found, made = make_records.dry_run(settings), make_records.run_command(settings)
    for one in (found, made):
        assert set(one["epoch_seconds"]) == {"train_cls", "train_integral", "train_seg"}
        assert 0 < one["epoch_seconds"]["train_cls"] < one["epoch_seconds"]["train_integral"]
    assert "epoch: train_cls: about" in " ".join(capsys.readouterr().out.split())
    # What an epoch takes is not what the records depend on.
    assert RecordSet.open(made["manifest"]).checksum
    assert "epoch_seconds" not in make_records.dry_run(parse(make_records.CommandSettings, "make_records", flags[1:]))
    assert make_records.run(settings.of_records)["up_to_date"]


def tiny_mask(voc, image_id):
    return read_indexed(voc / f"SegmentationClass/{image_id}.png")
