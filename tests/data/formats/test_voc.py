import cv2
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.mask_files import labels_of_mask, read_mask
from oaa_tf.data.formats.voc import VOC_CLASSES, VocFolder


def write_list(root, text, name="train.txt"):
    (root / "ImageSets" / "Segmentation" / name).write_text(text)


def write_annotation(root, image_id, *objects):
    parts = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for name, difficult in objects
    )
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<?xml version='1.0'?><annotation>{parts}</annotation>")


@pytest.mark.parametrize(
    "line",
    [
        "tiny_000",
        "  tiny_000\t",
        "tiny_000.jpg",
        "/JPEGImages/tiny_000.jpg /SegmentationClassAug/tiny_000.png",
        "JPEGImages/tiny_000.jpg SegmentationClass/tiny_000.png",
        "\ufefftiny_000",
    ],
)
def test_lines_of_lists(tiny_voc, line):
    write_list(tiny_voc, f"{line}\r\n\r\ntiny_001\r\n")
    assert VocFolder(tiny_voc).image_ids("train") == ("tiny_000", "tiny_001")


def test_ids_keep_the_order_of_the_list_and_their_dots(tiny_voc):
    write_list(tiny_voc, "b.v2\na\n")
    assert VocFolder(tiny_voc).image_ids("train") == ("b.v2", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../tiny_000", "'../tiny_000' is no image id"),
        ("/etc/ssl/key.jpg", "is no image id"),
        ("..", "is no image id"),
        ("..\\tiny_000", "is no image id"),
        ("tiny_000 1", "expected one id"),
        ("tiny_000 tiny_000", "expected one id"),
        ("/JPEGImages/tiny_000.jpg /SegmentationClass/tiny_001.png", "expected one id"),
        ("tiny_001", "duplicate id tiny_001"),
    ],
)
def test_wrong_lines_of_lists_are_named(tiny_voc, line, message):
    write_list(tiny_voc, f"tiny_001\n{line}\n")
    with pytest.raises(UserError) as error:
        VocFolder(tiny_voc).image_ids("train")
    assert "train.txt:2: " in str(error.value) and message in str(error.value)


def test_image_of_any_suffix_is_found_and_two_of_one_id_are_not_guessed(tiny_voc):
    images = tiny_voc / "JPEGImages"
    for suffix in (".JPEG", ".Png"):
        (images / f"other{suffix}").write_bytes(b"")
        assert VocFolder(tiny_voc).images.find("other") == images / f"other{suffix}"
        (images / f"other{suffix}").unlink()
    (images / "tiny_000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"tiny_000.jpg: tiny_000.png has the same id"):
        VocFolder(tiny_voc).images.find("tiny_000")


def test_links_may_not_leave_the_folder_but_the_folder_may_be_a_link(tiny_voc, tmp_path):
    outside = tmp_path / "elsewhere"
    (tiny_voc / "JPEGImages").rename(outside)
    (tiny_voc / "JPEGImages").symlink_to(outside)
    (outside / "inner.jpg").symlink_to(outside / "tiny_000.jpg")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    (outside / "leak.jpg").symlink_to(secret)
    folder = VocFolder(tiny_voc)
    assert folder.images.find("tiny_000") is not None and folder.images.find("inner") is not None
    with pytest.raises(UserError, match=r"leak.jpg: links to a file outside"):
        folder.images.find("leak")


def test_classes_are_vocs_without_classes_txt(tiny_voc):
    (tiny_voc / "classes.txt").unlink()
    assert VocFolder(tiny_voc).class_list.known == VOC_CLASSES
    assert len(VOC_CLASSES) == 20 and VOC_CLASSES.index("person") == 14


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty line"),
        ("circle\n\ncross\n", "empty line"),
        ("circle\ncircle\n", "named twice"),
        ("circle\nbackground\n", "'background' is none: remove it"),
        ("circle\nNo Finding\n", "'No Finding' is none: remove it"),
        ("circle\nCircle\n", "circle and Circle differ only in case"),
    ],
)
def test_wrong_class_lists_are_named(tiny_voc, text, message):
    (tiny_voc / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=rf"classes.txt: .*{message}"):
        VocFolder(tiny_voc)


def test_masks_and_labels_number_all_classes(tiny_voc, tiny_images):
    tiny = tiny_images[5]
    folder = VocFolder(tiny_voc, classes=("cross", "circle"))
    mask = read_mask(folder.masks.find(tiny.image_id), folder.class_list)
    np.testing.assert_array_equal(mask, tiny.mask)
    assert labels_of_mask(mask) == tiny.labels
    assert folder.listed_labels("train") == {tiny.image_id: tiny.labels for tiny in tiny_images}
    assert folder.annotated_labels("tiny_005", skip_difficult=False) == tiny.labels
    # circle, square, cross are 1, 2, 3 in the files.
    expected = np.select([tiny.mask == 3, tiny.mask == 1, tiny.mask == 0], [1, 2, 0], 255)
    np.testing.assert_array_equal(folder.class_list.renumbered(mask, ""), expected)
    assert folder.class_list.kept_labels((0, 1, 2)) == (0, 1)


def test_pixel_value_beyond_the_classes_is_named(tiny_voc):
    mask = np.zeros((4, 4), np.uint8)
    mask[0] = 255
    mask[2, 1] = 4
    with pytest.raises(UserError, match=r"a.png: pixel value 4 is no class; expected 0 to 3 .*classes.txt\) and 255"):
        VocFolder(tiny_voc).class_list.renumbered(mask, "a.png")


def test_another_mask_folder_and_none(tiny_voc):
    (tiny_voc / "SegmentationClass").rename(tiny_voc / "SegmentationClassAug")
    assert VocFolder(tiny_voc).masks.find("tiny_000") is None
    assert VocFolder(tiny_voc, mask_dir="").masks is None
    expected = tiny_voc / "SegmentationClassAug" / "tiny_000.png"
    assert VocFolder(tiny_voc, mask_dir="SegmentationClassAug").masks.find("tiny_000") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiny_000 3\n", "train_cls.txt:1: class 3 of tiny_000 is out of range; expected 0 to 2"),
        ("tiny_000 0\ntiny_001 -1\n", "train_cls.txt:2: class -1 of tiny_001"),
        ("tiny_000 dog\n", "train_cls.txt:1: class dog of tiny_000"),
        (f"tiny_000 {'9' * 5000}\n", "train_cls.txt:1: class 9"),
        ("tiny_000 0\ntiny_000 1\n", "train_cls.txt:2: duplicate id tiny_000"),
    ],
)
def test_wrong_label_lists_are_named(tiny_voc, text, message):
    write_list(tiny_voc, text, "train_cls.txt")
    with pytest.raises(UserError) as error:
        VocFolder(tiny_voc).listed_labels("train")
    assert message in str(error.value)


def test_difficult_objects(tiny_voc):
    write_annotation(tiny_voc, "tiny_000", ("cross", 1), ("circle", 0), ("circle", 1))
    folder = VocFolder(tiny_voc)
    assert folder.annotated_labels("tiny_000", skip_difficult=False) == (0, 2)
    assert folder.annotated_labels("tiny_000", skip_difficult=True) == (0,)


def test_unknown_class_in_an_annotation_is_an_error_but_one_that_is_not_kept_is_not(tiny_voc):
    write_annotation(tiny_voc, "tiny_000", ("circle", 0), ("square", 0))
    assert VocFolder(tiny_voc, classes=("circle",)).annotated_labels("tiny_000", skip_difficult=False) == (0, 1)
    write_annotation(tiny_voc, "tiny_000", ("circle", 0), ("unicorn", 0))
    with pytest.raises(
        UserError, match=r"tiny_000.xml: unknown class 'unicorn'; expected one of circle, square, cross"
    ):
        VocFolder(tiny_voc, classes=("circle",)).annotated_labels("tiny_000", skip_difficult=False)


@pytest.mark.parametrize(
    "data",
    [
        "<annotation><object><name>\n Käse </name></object></annotation>".encode(),
        "\ufeff<annotation><object><name>Käse</name></object></annotation>".encode(),
        "<?xml version='1.0' encoding='utf-8'?><annotation><object><name>Käse</name></object></annotation>".encode(),
        '<?xml version="1.0" encoding="ISO-8859-1"?><annotation><object><name>Käse</name></object></annotation>'.encode(
            "latin1"
        ),
        '<?xml version="1.0" encoding="utf-16"?><annotation><object><name>Käse</name></object></annotation>'.encode(
            "utf-16"
        ),
        '<annotation xmlns="http://voc"><object><name>Käse</name><bndbox><xmin>1.5</xmin></bndbox></object></annotation>'
        .encode(),
    ],
)  # fmt: skip
def test_annotations_in_the_encoding_that_they_declare(tiny_voc, data):
    (tiny_voc / "classes.txt").write_text("circle\nKäse\n", encoding="utf-8")
    (tiny_voc / "Annotations" / "tiny_000.xml").write_bytes(data)
    assert VocFolder(tiny_voc).annotated_labels("tiny_000", skip_difficult=False) == (1,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<annotation><object><bndbox/></object></annotation>", "object 1 has no <name>"),
        (b"<annotations><image/></annotations>", "CVAT's own XML is not read; export"),
        (b"<?xml version='1.0' encoding='utf-9'?><annotation/>", "not in the encoding that it declares"),
        (
            b"<?xml version='1.0' encoding='ascii'?><annotation>\xff</annotation>",
            "not in the encoding that it declares",
        ),
    ],
)
def test_annotations_that_are_not_read_say_why(tiny_voc, data, message):
    (tiny_voc / "Annotations" / "tiny_000.xml").write_bytes(data)
    with pytest.raises(UserError, match=rf"tiny_000.xml: {message}"):
        VocFolder(tiny_voc).annotated_labels("tiny_000", skip_difficult=False)


def test_lists_of_boxes_are_in_main(tiny_voc):
    (tiny_voc / "ImageSets/Main").mkdir()
    (tiny_voc / "ImageSets/Main/default.txt").write_text("tiny_001\n")
    (tiny_voc / "ImageSets/Main/train.txt").write_text("tiny_001\n")
    assert VocFolder(tiny_voc).image_ids("default") == ("tiny_001",)
    assert len(VocFolder(tiny_voc).image_ids("train")) == 6


def test_numbers_of_a_list_do_not_count_the_background(tiny_voc):
    (tiny_voc / "classes.txt").write_text("background\ncircle\nsquare\ncross\n")
    with pytest.raises(
        UserError, match=r"classes.txt: the numbers in train_cls.txt begin with the first class: remove"
    ):
        VocFolder(tiny_voc).listed_labels("train")


def test_all_wrong_lines_are_named_at_once(tiny_voc):
    write_list(tiny_voc, "".join(f"../{number}\n" for number in range(12)))
    with pytest.raises(UserError, match=r"train.txt:1: .* \| .*train.txt:10: .* \| and 2 more"):
        VocFolder(tiny_voc).image_ids("train")
    write_list(tiny_voc, "tiny_000 9\ntiny_001 0\ntiny_001 1\n", "train_cls.txt")
    with pytest.raises(UserError, match=r"train_cls.txt:1: class 9 .* \| .*train_cls.txt:3: duplicate id tiny_001"):
        VocFolder(tiny_voc).listed_labels("train")


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "circle">]><annotation><object><name>&b;</name></object></annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        "<annotation><object>",
        "",
        "circle",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_annotations_with_entities_or_without_sense_are_refused(tiny_voc, text, encoding):
    (tiny_voc / "Annotations" / "tiny_000.xml").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=r"tiny_000.xml: "):
        VocFolder(tiny_voc).annotated_labels("tiny_000", skip_difficult=False)


def test_real_folder(real_data):
    root = real_data / "voc12_animals"
    folder = VocFolder(root)
    ids = folder.image_ids("mini_val")
    listed = folder.listed_labels("mini_val")
    assert len(ids) == 16
    for image_id in ids:
        mask = read_mask(folder.masks.find(image_id), folder.class_list)
        assert mask.shape == cv2.imread(str(folder.images.find(image_id)), cv2.IMREAD_IGNORE_ORIENTATION).shape[:2]
        assert labels_of_mask(mask) == listed[image_id]
