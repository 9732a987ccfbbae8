import json

import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.coco import read_coco

ROBOFLOW = {
    "categories": [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ],
    "images": [
        {"id": 0, "file_name": "a.jpg", "height": 4, "width": 6.0},
        {"id": 1, "file_name": "b.jpg", "height": 4, "width": 6},
    ],
    "annotations": [
        {"id": 0, "image_id": 0, "category_id": 2, "area": 4.5, "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]]}
    ],
}


def read(folder, content):
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8-sig")
    return read_coco(folder / "a.json", ())


def test_roboflows_root_is_no_class(tmp_path):
    tagged, classes = read(tmp_path, ROBOFLOW)
    assert classes.known == ("cat", "dog") and [one.tags for one in tagged] == [(1,), ()]
    expected = np.zeros((4, 6), np.uint8)
    expected[:2, :3] = 2
    np.testing.assert_array_equal(tagged[0].draw_mask(), expected)
    np.testing.assert_array_equal(tagged[1].draw_mask(), 0 * expected)
    used = [{"image_id": 1, "category_id": 0}]
    assert read(tmp_path, ROBOFLOW | {"annotations": used})[1].known == ("pets", "cat", "dog")


def test_tags_need_no_more_than_names_and_ids(tmp_path):
    content = {
        "categories": [{"id": "k", "name": "cat"}, {"id": 7, "name": "dog"}],
        "images": [{"id": "a", "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": "a", "category_id": 7}, {"image_id": "a", "category_id": "k"}],
    }
    tagged, classes = read(tmp_path, content)
    assert classes.known == ("dog", "cat")
    assert [(one.file, one.tags, one.draw_mask) for one in tagged] == [("a.jpg", (0, 1), None), ("b.jpg", (), None)]


def test_wrong_annotations_are_named_at_once(tmp_path):
    wrong = [{"id": 5, "image_id": 9, "category_id": 1}, {"image_id": 0, "category_id": 9}]
    with pytest.raises(
        UserError, match=r"annotation 5: there is no image 9 \| .* annotation number 2: there is no cat"
    ):
        read(tmp_path, ROBOFLOW | {"annotations": wrong})
