"""Lists of tags as spreadsheets, competitions and labelling tools write them: all say the same of three photos."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.tag_list import read_csv_tags, read_json_tags

PLAIN = "file,tags\na.jpg,dog\nb.jpg,dog;cat\nc.jpg,\n"
EXPECTED = {"a.jpg": ("dog",), "b.jpg": ("cat", "dog"), "c.jpg": ()}

CSV = {
    "plain": PLAIN,
    "semicolons of a German Excel": 'file;tags\na.jpg;dog\nb.jpg;"dog;cat"\nc.jpg;\n',
    "tabs": PLAIN.replace(",", "\t"),
    "Windows": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "UTF-16": PLAIN.encode("utf-16"),
    "commas in cells": 'file,tags\na.jpg,dog\nb.jpg,"dog, cat"\nc.jpg,""\n',
    "bars in cells": "Image Index,Finding Labels\na.jpg,dog\nb.jpg,dog|cat\nc.jpg,\n",
    "lists of Python": "file,tags\na.jpg,['dog']\nb.jpg,\"['dog', 'cat']\"\nc.jpg,[]\n",
    "columns of 0 and 1": "image_id,cat,dog\na.jpg,0,1\nb.jpg,1,1\nc.jpg,0,0\n",
    "Roboflow": "filename, cat, dog\na.jpg, 0, 1\nb.jpg, 1, 1\nc.jpg, 0, 0\n",
    "a line for each tag": "file,label\na.jpg,dog\nb.jpg,dog\nc.jpg,\nb.jpg,cat\n",
    "other columns": "split,file,tags,width\ntrain,a.jpg,dog,3\nval,b.jpg,dog;cat,4\nval,c.jpg,,5\n",
    "empty cells after the last": "file,tags,,\na.jpg,dog,,\n".replace(",,\n", "\n")
    + "b.jpg,dog;cat,,,\nc.jpg,,\n,,\n",
    "Label Studio": 'image,id,choice\na.jpg,1,dog\nb.jpg,2,"{""choices"": [""dog"", ""cat""]}"\nc.jpg,3,\n',
    "Label Studio's boxes": (
        'image,label\na.jpg,"[{""x"": 1, ""rectanglelabels"": [""dog""]}]"\n'
        'b.jpg,"[{""rectanglelabels"": [""dog""]}, {""rectanglelabels"": [""cat""]}]"\nc.jpg,[]\n'
    ),
}

TASKS = [
    {"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["dog"]}}]}]},
    {
        "data": {"image": "b.jpg"},
        "annotations": [
            {"result": [{"type": "rectanglelabels", "value": {"x": 3.5, "rectanglelabels": ["dog"]}}]},
            {"result": [{"type": "brushlabels", "value": {"brushlabels": ["cat"]}}]},
            {"was_cancelled": True, "result": [{"type": "choices", "value": {"choices": ["cow"]}}]},
        ],
    },
    {"data": {"image": "c.jpg"}, "annotations": [{"result": []}]},
    {"data": {"image": "not labelled.jpg"}, "annotations": []},
]
JSON = {
    "Label Studio": TASKS,
    "JSON-MIN": [
        {"image": "a.jpg", "id": 1, "choice": "dog"},
        {"image": "b.jpg", "id": 2, "choice": {"choices": ["dog", "cat"]}},
        {"image": "c.jpg", "id": 3},
    ],
    "tags by file": {"a.jpg": ["dog"], "b.jpg": ["dog", "cat"], "c.jpg": []},
}


def names_of(found):
    tagged, classes = found
    return {one.file: tuple(classes.known[index] for index in one.tags) for one in tagged}


def read_csv(folder, content, kept=()):
    path = folder / "tags.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv_tags(path, folder, kept)


@pytest.mark.parametrize("kind", CSV)
def test_csv(tmp_path, kind):
    assert names_of(read_csv(tmp_path, CSV[kind])) == EXPECTED


@pytest.mark.parametrize("kind", JSON)
def test_json(tmp_path, kind):
    assert names_of(read_json_tags(JSON[kind], tmp_path / "tags.json", tmp_path, ())) == EXPECTED


def test_what_is_not_taken_is_said(tmp_path, capsys):
    read_csv(tmp_path, CSV["other columns"])
    assert "tags.csv: columns that are not read: split, width" in capsys.readouterr().out
    read_csv(tmp_path, CSV["a line for each tag"])
    assert "tags.csv: 4 lines of 3 images; the tags of an image are put together" in capsys.readouterr().out
    read_json_tags(TASKS, tmp_path / "tags.json", tmp_path, ())
    assert "tags.json: 1 of 4 tasks have no annotation and are left out" in capsys.readouterr().out


def test_windows_1252_is_read_and_said(tmp_path, capsys):
    assert names_of(read_csv(tmp_path, "file,tags\na.jpg,Kätzchen\n".encode("cp1252"))) == {"a.jpg": ("Kätzchen",)}
    assert "tags.csv: not UTF-8, read as Windows-1252" in capsys.readouterr().out


def test_a_class_without_photos_has_a_column(tmp_path):
    _, classes = read_csv(tmp_path, "file,dog,ant\na.jpg,1,0\n")
    assert classes.known == ("ant", "dog")


@given(
    tags=st.lists(st.lists(st.sampled_from(["dog", "red cat", "Kuh", "[x"]), unique=True), min_size=1, max_size=6),
    separator=st.sampled_from([";", ",", "|", " ; "]),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_separators_of_cells_and_columns_do_not_matter(tmp_path_factory, tags, separator, delimiter):
    folder = tmp_path_factory.mktemp("csv")
    lines = [f'"{number}.jpg"{delimiter}"{separator.join(one)}"' for number, one in enumerate([*tags, ["dog"]])]
    found = names_of(read_csv(folder, f"file{delimiter}tags\n" + "\n".join(lines)))
    assert [set(one) for one in found.values()] == [set(one) for one in [*tags, ["dog"]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg,dog\nb.jpg,cat\n", r"tags.csv:1: expected a header such as file,tags, .*; found 'a.jpg,dog'"),
        ("file\na.jpg\n", r"tags.csv:1: expected a header"),
        ("file,tags,tags\na.jpg,dog,cat\n", "tags.csv:1: two columns have the same name"),
        (
            "file,dog,age\na.jpg,1,37\n",
            "tags.csv:2: '37' in the column 'age', expected 0 or 1; .* column of tags 'tags'",
        ),
        ("file,tags\na.jpg,dog\nb.jpg,cat\nc.jpg,dog cat\n", "tags.csv:4: 'dog cat' is one tag; .* semicolon"),
        (
            "image_name,tags\na,clear primary\nb,agriculture clear primary\n",
            "tags.csv:3: 'agriculture clear primary' is one tag; .* or list the classes in classes.txt",
        ),
        ("file,tags\na.jpg,dog\nb.jpg,Dog\n", "tags.csv: the classes Dog and dog differ only in case"),
        ("file,tags\na.jpg,dog\nb.jpg,No Finding\n", "tags.csv: .* 'No Finding' is none: remove it; .* has no tag"),
        ("file,tags\na.jpg,\n", "tags.csv: no image has a tag"),
        (
            "file,tags\na.jpg,dog,cat\nb.jpg,dog\nc.jpg\n",
            r"tags.csv:2: 3 fields, expected 2 \| .*tags.csv:4: 1 fields, expected 2; put several tags into quotes",
        ),
    ],
)
def test_what_is_no_such_list_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path, content)


def test_twelve_unknown_tags_are_named_at_once(tmp_path):
    (tmp_path / "classes.txt").write_text("dog\n")
    lines = "".join(f"{number}.jpg,x{number}\n" for number in range(12))
    with pytest.raises(UserError) as error:
        read_csv(tmp_path, f"file,tags\n{lines}")
    text = str(error.value)
    assert "tags.csv:2: unknown class 'x0' | " in text and "tags.csv:11: unknown class 'x9' | and 2 more" in text
    assert text.count("expected one of dog") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"version": "5", "shapes": [], "imagePath": "a.jpg"},
            "labelme's JSON of one photo is not read; run labelme2voc",
        ),
        ([{"x": 1}], "expected a header"),
        ([1, 2], "expected COCO's instances JSON, or Label Studio's"),
        ({"a": 3}, "expected COCO's instances JSON, or Label Studio's"),
        ([{"data": {"image": "a.jpg"}}], "task 1: not as Label Studio writes it"),
    ],
)
def test_other_json_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"tags.json: .*{message}"):
        read_json_tags(json.loads(json.dumps(content)), tmp_path / "tags.json", tmp_path, ())
