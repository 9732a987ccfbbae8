import cv2
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.class_list import ClassList, read_class_file
from oaa_tf.data.formats.mask_files import MaskAgreement, read_mask, white_is_class
from oaa_tf.data.images.palette_png import write_indexed

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,128,0::\ncat:250,50,83::\ndog:51,221,255:head:run\n"


def write_rgb(path, colors):
    cv2.imwrite(str(path), np.array(colors, np.uint8)[..., ::-1])


def class_list(folder):
    return ClassList.of_folder(folder, (), ("cat", "dog"), "folders")


def test_colors_of_a_label_map(tmp_path):
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    classes = class_list(tmp_path)
    assert classes.known == ("cat", "dog")
    path = tmp_path / "a.png"
    write_rgb(path, [[[0, 0, 0], [0, 128, 0]], [[51, 221, 255], [250, 50, 83]]])
    np.testing.assert_array_equal(read_mask(path, classes), [[0, 0], [2, 1]])
    # A grey mask has the numbers of the classes.
    cv2.imwrite(str(path), np.array([[0, 2], [1, 255]], np.uint8))
    np.testing.assert_array_equal(read_mask(path, classes), [[0, 2], [1, 255]])
    write_rgb(path, [[[0, 0, 0], [1, 2, 3]]])
    with pytest.raises(UserError, match=r"a.png: the color 1,2,3 is in no line of .*labelmap.txt"):
        read_mask(path, classes)


def test_colors_of_a_palette_count_where_there_is_a_label_map(tmp_path):
    path = tmp_path / "a.png"
    write_indexed(path, np.array([[0, 1], [2, 0]], np.uint8))  # VOC's palette: 1 is 128,0,0 and 2 is 0,128,0.
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:0,128,0::\ndog:128,0,0::\n")
    np.testing.assert_array_equal(read_mask(path, class_list(tmp_path)), [[0, 2], [1, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:1,2\n", "'cat:1,2': expected CVAT's name:red,green,blue::"),
        ("cat:1,2,256::\n", "expected CVAT's"),
        ("cat\n", "expected CVAT's"),
        ("cat:1,2,3::\ndog:1,2,3::\n", "two lines have the same color"),
        ("background:0,0,0::\n", "names no class"),
    ],
)
def test_wrong_label_maps(tmp_path, text, message):
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(UserError, match=rf"labelmap.txt: .*{message}|labelmap.txt: {message}"):
        class_list(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "cat\ndog\n"),
        ("class_names.txt", "_background_\ncat\ndog\n"),
        ("classes.txt", "__ignore__\n_background_\ncat\ndog\n"),
        ("classes.txt", "Background\ncat\ndog\n"),
    ],
)
def test_the_background_of_a_class_file_is_0_in_masks(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    found = read_class_file(tmp_path)
    assert found.names == ("cat", "dog") and found.counts_background == (text.split("\n")[0] != "cat")


def test_the_first_class_file_counts(tmp_path):
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert class_list(tmp_path).known == ("dog", "cat")


def test_grey_masks_in_rgb(tmp_path):
    write_rgb(tmp_path / "a.png", [[[0, 0, 0], [2, 2, 2]]])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", class_list(tmp_path)), [[0, 2]])


@pytest.mark.parametrize(
    ("masks", "expected"),
    [([[0, 255], [0, 0]], True), ([[0, 255], [0, 1]], False), ([[0, 1, 255]], False), ([[0, 0]], False)],
)
def test_white_is_the_only_class_if_no_mask_has_another_value(tmp_path, masks, expected):
    paths = [tmp_path / f"{rank}.png" for rank in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        cv2.imwrite(str(path), np.array([mask], np.uint8))
    one = ClassList(("crack",), (), "folders")
    assert white_is_class(paths, one) is expected
    if expected:
        np.testing.assert_array_equal(read_mask(paths[0], one, white_is_class=True), [[0, 1]])
        with pytest.raises(
            UserError, match=r"0.png: like all masks here, it holds only 0 and 255.* n-th of .* cat, dog"
        ):
            white_is_class(paths, ClassList(("cat", "dog"), (), "folders"))


def test_masks_that_contradict_tags():
    agreement = MaskAgreement(("cat", "dog"))
    agreement.add("a", (0,), (0, 1))
    agreement.add("b", (1,), (1,))
    agreement.add("c", (1,), ())
    assert agreement.warnings("tags.csv") == ["masks of images with tags that show none: c"]
    agreement.add("d", (0,), (1,))
    assert agreement.warnings("tags.csv")[1:] == [
        "masks of 1 images show other classes than the tags: d (tags: cat, mask: dog)"
    ]
    swapped = MaskAgreement(("cat", "dog"))
    swapped.add("a", (0,), (1,))
    swapped.add("b", (1,), (0,))
    with pytest.raises(UserError, match=r"tags.csv: masks of 2 images .* a \(tags: cat, mask: dog\), b .*; write the"):
        swapped.warnings("tags.csv")
