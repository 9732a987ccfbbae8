"""Tests of the synthetic demo data."""

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from oaa_tf import make_demo_data
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.demo import data_set, photos
from oaa_tf.demo.objects import CLASSES, draw_object

PARAMETERS = {"num_train": 8, "num_val": 4, "image_size": 96, "seed": 3}
LIGHT = np.array([-0.4, -0.7, 0.6])


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "data"
    data_set.write_demo_data(path, **PARAMETERS)
    return path


@pytest.fixture(scope="module")
def images():
    return [photos.draw_demo_image(0, "train", index, 96) for index in range(24)]


def ids_of(folder, split):
    return (folder / f"ImageSets/Segmentation/{split}.txt").read_text().split()


def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(folder, tmp_path):
    data_set.write_demo_data(tmp_path / "again", **PARAMETERS)
    data_set.write_demo_data(tmp_path / "other", **{**PARAMETERS, "seed": 4})
    assert files_of(tmp_path / "again") == files_of(folder)
    name = f"JPEGImages/{ids_of(folder, 'train')[0]}.jpg"
    assert files_of(tmp_path / "other")[name] != files_of(folder)[name]


def test_an_image_depends_neither_on_the_counts_nor_on_the_other_split(folder, tmp_path):
    data_set.write_demo_data(tmp_path / "fewer", **{**PARAMETERS, "num_train": 2, "num_val": 1})
    fewer, all_files = files_of(tmp_path / "fewer"), files_of(folder)
    images = [name for name in fewer if name.startswith(("JPEGImages", "SegmentationClass", "saliency", "Annotations"))]
    assert len(images) == 3 * 4
    assert all(fewer[name] == all_files[name] for name in images)
    train, val = (photos.draw_demo_image(0, split, 0, 96).image for split in photos.SPLITS)
    assert train.shape != val.shape or (train != val).any()


def test_lists_labels_masks_and_annotations_agree(folder):
    assert (folder / "classes.txt").read_text().split() == list(CLASSES)
    for split, count in (("train", 8), ("val", 4)):
        ids = ids_of(folder, split)
        lines = (folder / f"ImageSets/Segmentation/{split}_cls.txt").read_text().splitlines()
        assert len(ids) == count
        assert [line.split()[0] for line in lines] == ids
        for line in lines:
            image_id, *labels = line.split()
            mask = read_indexed(folder / "SegmentationClass" / f"{image_id}.png")
            in_mask = sorted(set(np.unique(mask).tolist()) - {0, 255})
            assert [int(label) + 1 for label in labels] == in_mask
            root = ElementTree.parse(folder / "Annotations" / f"{image_id}.xml").getroot()
            objects = root.findall("object")
            assert {CLASSES.index(node.findtext("name")) + 1 for node in objects} == set(in_mask)
            assert {node.findtext("difficult") for node in objects} == {"0"}
            image = cv2.imread(str(folder / "JPEGImages" / f"{image_id}.jpg"))
            saliency = cv2.imread(str(folder / "saliency" / f"{image_id}.png"), cv2.IMREAD_UNCHANGED)
            assert image.shape == (*mask.shape, 3)
            assert saliency.shape == mask.shape and saliency.dtype == np.uint8
            assert max(mask.shape) == 96


def test_boxes_enclose_the_objects_of_their_class(images):
    for item in images:
        boxed = np.zeros(item.mask.shape, np.uint8)
        for class_index, (left, top, right, bottom) in item.objects:
            inside = item.mask[top:bottom, left:right]
            assert (inside == class_index + 1).any()
            boxed[top:bottom, left:right] = 1
        assert boxed[(item.mask != 0) & (item.mask != 255)].all()


def test_every_class_leads_equally_often_and_a_quarter_of_the_images_has_two(images):
    assert sum(len(item.labels) == 2 for item in images) == 6
    assert all(1 <= len(item.labels) <= 2 for item in images)
    assert np.bincount([item.objects[0][0] for item in images], minlength=6).tolist() == [4] * 6


def test_landscape_and_portrait_occur(images):
    wider = [item.mask.shape[1] > item.mask.shape[0] for item in images]
    assert 0.25 < np.mean(wider) < 0.9


def test_a_border_two_pixels_wide_separates_objects_from_everything_else(images):
    for item in images:
        assert (item.mask == 255).any()
        for first, second in ((item.mask[1:], item.mask[:-1]), (item.mask[:, 1:], item.mask[:, :-1])):
            touching = (first != second) & (first != 255) & (second != 255)
            assert not touching.any()


def test_borders_of_a_hand_made_map():
    instances = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    assert photos._borders(instances).astype(int).tolist() == [[0, 0, 1, 1, 0, 0]] * 2


def test_objects_fill_a_sensible_share_of_the_image(images):
    share = [((item.mask != 0) & (item.mask != 255)).mean() for item in images]
    assert min(share) > 0.04 and max(share) < 0.6 and 0.1 < np.mean(share) < 0.4


def test_saliency_finds_the_foreground_but_not_perfectly(images):
    errors = []
    for item in images:
        inside, outside = (item.mask != 0) & (item.mask != 255), item.mask == 0
        assert item.saliency[inside].mean() > 2 * item.saliency[outside].mean()
        guess = item.saliency > 127
        errors.append(1 - (guess & inside).sum() / ((guess | inside) & (item.mask != 255)).sum())
    assert 0.02 < np.mean(errors) < 0.4


@pytest.mark.parametrize("body", range(3))
def test_two_classes_share_a_body_and_differ_in_a_minor_part(body):
    shares = []
    for pose in range(4):
        first, second = (draw_object(2 * body + sibling, (pose,), 128, LIGHT) for sibling in (0, 1))
        common = (first.distinctive == 0) & (second.distinctive == 0)
        np.testing.assert_array_equal(first.color[common], second.color[common])
        np.testing.assert_array_equal(first.alpha[common], second.alpha[common])
        assert np.abs(first.color - second.color)[~common].max() > 0.3
        shares += [sprite.distinctive.sum() / sprite.alpha.sum() for sprite in (first, second)]
    assert min(shares) > 0.1 and max(shares) < 0.25


def test_bodies_of_different_pairs_differ():
    colors = []
    for body in range(3):
        sprite = draw_object(2 * body, (0,), 128, LIGHT)
        own = (sprite.alpha == 1) & (sprite.distinctive == 0)
        colors.append(sprite.color[own].mean(0))
    assert all(np.abs(colors[one] - colors[other]).max() > 0.08 for one, other in ((0, 1), (0, 2), (1, 2)))


def test_sprites_are_not_cut_off():
    for class_index in range(len(CLASSES)):
        for pose in range(8):
            alpha = draw_object(class_index, (pose,), 96, LIGHT).alpha
            assert not (alpha[0].any() or alpha[-1].any() or alpha[:, 0].any() or alpha[:, -1].any())


def test_a_complete_folder_is_left_alone(folder):
    marks = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    data_set.write_demo_data(folder, **PARAMETERS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == marks


def test_a_run_that_was_stopped_is_completed(folder, tmp_path, monkeypatch):
    def fail(output_dir, image_id, demo_image):
        if image_id == "train_00003":
            raise OSError("disk full")
        write_image(output_dir, image_id, demo_image)

    write_image = data_set._write_image
    monkeypatch.setattr(data_set, "_write_image", fail)
    with pytest.raises(OSError, match="disk full"):
        data_set.write_demo_data(tmp_path, **PARAMETERS)
    assert not (tmp_path / "ImageSets/Segmentation/train.txt").exists()
    monkeypatch.undo()
    data_set.write_demo_data(tmp_path, **PARAMETERS)
    assert files_of(tmp_path) == files_of(folder)


def test_other_parameters_are_refused(folder):
    before = files_of(folder)
    with pytest.raises(UserError, match="seed=3"):
        data_set.write_demo_data(folder, **{**PARAMETERS, "seed": 5})
    assert files_of(folder) == before


def test_foreign_folders_and_files_are_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        data_set.write_demo_data(tmp_path, **PARAMETERS)
    with pytest.raises(UserError, match="not a folder"):
        data_set.write_demo_data(tmp_path / "thesis.txt", **PARAMETERS)
    assert files_of(tmp_path) == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json"])
def test_a_foreign_marker_is_refused(tmp_path, text):
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(UserError, match=r"demo\.json"):
        data_set.write_demo_data(tmp_path, **PARAMETERS)
    assert (tmp_path / "demo.json").read_text() == text


def test_the_command_writes_the_same_data(folder, tmp_path):
    arguments = [f"--output_dir={tmp_path / 'command'}", *(f"--{name}={value}" for name, value in PARAMETERS.items())]
    result = make_demo_data.run(parse(make_demo_data.MakeDemoDataSettings, "make_demo_data", arguments))
    assert result["classes"] == list(CLASSES) and result["num_train"] == 8
    assert files_of(tmp_path / "command") == files_of(folder)


def test_settings_out_of_range_name_the_flag():
    with pytest.raises(UserError, match="--image_size=16"):
        make_demo_data.MakeDemoDataSettings(output_dir="x", image_size=16)
