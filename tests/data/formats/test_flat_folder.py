"""Roboflow's exports with what is known of a photo beside it."""

import cv2
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.flat_folder import is_flat_folder, read_flat_folder
from oaa_tf.data.formats.tagged_images import list_images

XML = "<annotation><object><name>{}</name></object></annotation>"


def write_photos(folder, *names):
    for name in names:
        cv2.imwrite(str(folder / f"{name}.jpg"), np.zeros((4, 6, 3), np.uint8))


def read(folder):
    listing = list_images(folder, skip=())
    assert is_flat_folder(listing)
    tagged, classes, files = read_flat_folder(listing, ())
    assert files and all(path.is_file() for path in files)
    return {one.file: one for one in tagged}, classes.known


def test_xml(tmp_path):
    write_photos(tmp_path, "a.rf.1", "b")
    (tmp_path / "a.rf.1.xml").write_text(XML.format("dog") + "\n")
    (tmp_path / "b.xml").write_text("<annotation/>")
    tagged, known = read(tmp_path)
    assert known == ("dog",) and tagged["a.rf.1.jpg"].tags == (0,) and tagged["b.jpg"].tags == ()
    write_photos(tmp_path, "c", "d")
    with pytest.raises(UserError, match=r"c.jpg: no mask or XML beside this photo \| .*d.jpg: no mask .*; add it"):
        read(tmp_path)


def test_masks(tmp_path):
    write_photos(tmp_path, "a", "b")
    for name, value in (("a", 2), ("b", 0)):
        cv2.imwrite(str(tmp_path / f"{name}_mask.png"), np.full((4, 6), value, np.uint8))
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    tagged, known = read(tmp_path)
    assert known == ("cat", "dog") and tagged["a.jpg"].tags == (1,) and tagged["b.jpg"].tags == ()
    np.testing.assert_array_equal(tagged["a.jpg"].draw_mask(), np.full((4, 6), 2))
    (tmp_path / "_classes.csv").write_text("filename, cat\na.jpg, 1\n")
    with pytest.raises(UserError, match=r"_classes.csv: expected Pixel Value,Class and a line for each value"):
        read(tmp_path)


def test_photos_alone_are_not_flat(tmp_path):
    write_photos(tmp_path, "a_mask")
    (tmp_path / "b.xml").write_text(XML)
    assert not is_flat_folder(list_images(tmp_path, skip=()))
