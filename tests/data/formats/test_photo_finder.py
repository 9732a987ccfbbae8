import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.formats.photo_finder import PhotoFinder
from oaa_tf.data.formats.tagged_images import list_images


@pytest.fixture
def finder(tmp_path):
    for file in ("a.jpg", "dog/1.jpg", "dog/b.v2.JPG", "cat/1.jpg", "cat/0123abcd-9.png", "cat/9.jpg"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    return PhotoFinder(list_images(tmp_path, skip=()))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("a", "a.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.png", "a.jpg"),
        ("a.heic", "a.jpg"),
        ("A.jpg", "a.jpg"),
        ("/home/anna/photos/a.jpg", "a.jpg"),
        ("C:\\Users\\anna\\a.jpg", "a.jpg"),
        ("../photos/a.jpg", "a.jpg"),
        ("/data/upload/7/89abcdef-a.jpg", "a.jpg"),
        ("/data/local-files/?d=photos/dog/1.jpg", "dog/1.jpg"),
        ("dog/1.jpg", "dog/1.jpg"),
        ("/x/photos/dog/1.jpg", "dog/1.jpg"),
        ("b.v2.jpg", "dog/b.v2.JPG"),
        ("b.v2", "dog/b.v2.JPG"),
        # A name that looks like one with a prefix comes before one without it.
        ("0123abcd-9.png", "cat/0123abcd-9.png"),
        ("absent.jpg", None),
        ("b", None),
        ("b.v3", None),
        ("dog/9.jpg", None),
        ("/x/dog/a.jpg", None),
        ("", None),
        ("..", None),
        ("/", None),
        ("/etc/passwd", None),
    ],
)
def test_names_of_lists(finder, tmp_path, file, expected):
    assert finder.find(file, "tags.csv:7") == (tmp_path / expected if expected else None)


def test_two_photos_of_a_name_are_not_guessed(finder):
    with pytest.raises(UserError, match=r"tags.csv:7: 1.jpg can be cat/1 or dog/1; write its path below"):
        finder.find("1.jpg", "tags.csv:7")
