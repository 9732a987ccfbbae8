"""Pictures: colors, sizes, and titles that can be read."""

import cv2
import numpy as np
import pytest

from oaa_tf.data.images.palette_png import voc_palette
from oaa_tf.report.visualization import (
    captioned,
    cell_size,
    colorize,
    grid,
    legend,
    overlay_attention,
    overlay_labels,
    overlay_mask,
    write_png,
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_colorize():
    colors = colorize(np.uint8([[0, 1, 15, 255]]))
    np.testing.assert_array_equal(colors[0, :3], [[0, 0, 0], [128, 0, 0], [192, 128, 128]])
    assert colors[0, 3].min() > 220  # almost white
    assert (voc_palette()[255] == [224, 224, 192]).all()  # and the file format's palette is left alone


def test_attention_gets_brighter(image):
    attention = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (30, 1))
    picture = overlay_attention(np.full_like(image, 128), attention)
    assert picture.shape == image.shape and picture.dtype == np.uint8
    brightness = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(brightness) >= 0).all() and brightness[-1] > brightness[0] + 80
    red, green, blue = picture[0, 0].astype(int)
    assert blue > green  # blue at 0
    red, green, blue = picture[0, -1].astype(int)
    assert red > blue and green > blue  # yellow at 1
    assert (overlay_attention(image, attention, opacity=1.0) == overlay_attention(255 - image, attention, 1.0)).all()


def test_attention_out_of_range_is_clipped(image):
    wild = np.full((30, 40), 7.0, np.float32)
    wild[0], wild[1] = -1, np.nan
    tame = np.ones((30, 40), np.float32)
    tame[:2] = 0
    np.testing.assert_array_equal(overlay_attention(image, wild), overlay_attention(image, tame))


def test_overlay_mask(image):
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 5:20] = 1
    labels[22:28, 5:20] = 255
    before = image.copy()
    picture = overlay_mask(image, labels)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(picture[5, 5], [128, 0, 0])  # outline
    np.testing.assert_allclose(picture[10, 10], 0.6 * np.array([128, 0, 0]) + 0.4 * image[10, 10], atol=1)
    np.testing.assert_allclose(picture[2, 30], 0.6 * image[2, 30], atol=1)  # background, darker
    assert picture[25, 10].min() > 120  # ignored, whitish


def test_labels_have_colors_patterns_and_white_edges(image):
    image[:] = 128
    labels = np.zeros((30, 40), np.uint8)
    labels[5:15, 5:15], labels[5:15, 20:35], labels[20:28, 5:30] = 1, 8, 255
    picture = overlay_labels(image, labels).astype(int)
    np.testing.assert_allclose(picture[2, 2], 128 * 0.55, atol=1)  # background, darker
    np.testing.assert_array_equal(picture[5, 5:15], 255)  # edge
    plain, striped, ignored = picture[6:14, 6:14], picture[6:14, 21:34], picture[22:27, 7:28]
    np.testing.assert_allclose(plain - 0.72 * np.array([0xE6, 0x9F, 0x00]), 0.28 * 128, atol=1)
    # The eighth class has the first one's color, with dark stripes.
    is_dark = striped.max(axis=-1) < 60
    assert 0.15 < is_dark.mean() < 0.35 and is_dark.any(axis=0).all()
    np.testing.assert_array_equal(striped[~is_dark], np.broadcast_to(plain[0, 0], striped[~is_dark].shape))
    assert ignored.min() > 160 and np.ptp(ignored) > 40  # hatched
    with pytest.raises(ValueError, match=r"labels is \[40, 30\], expected \[30, 40\]"):
        overlay_labels(image, np.zeros((40, 30), np.uint8))


def test_a_legend_takes_as_many_lines_as_it_needs():
    names = {label + 1: f"class number {label}" for label in range(5)}
    wide, narrow = legend(names, 1200), legend(names, 260)
    assert wide.shape == (36, 1200, 3) and narrow.shape == (5 * 36, 260, 3)
    for line in range(5):
        assert has_ink(narrow[36 * line : 36 * (line + 1), 40:])
    assert not has_ink(wide[:, -100:])
    assert legend({1: "a name that is far too long to fit"}, 60).shape == (36, 60, 3)


@pytest.mark.parametrize("size", [(240, 180), (90, 240), (3, 240), (240, 4)])
def test_a_caption_stays_in_its_picture(size):
    white = np.full((*size, 3), 255, np.uint8)
    short, long = captioned(white, "dog"), captioned(white, "a class with a name of many words  0.97")
    assert short.shape == long.shape == white.shape and (white == 255).all()
    for picture in (short, long):
        assert (picture[-6:] < 100).mean() > 0.3  # darkened
        assert (picture[: size[0] // 2 - 8] == 255).all()
    if min(size) > 60:
        for picture in (short, long):
            letters = picture[-24:].min(axis=-1) > 200
            assert letters[:, : size[1] // 2].any() and not letters[-10:, -3:].any()


@pytest.mark.parametrize(("size", "expected"), [((30, 40), (180, 240)), ((400, 200), (300, 150)), ((1, 900), (1, 240))])
def test_the_size_in_the_grid(size, expected):
    assert cell_size(*size) == expected
    page = grid([[np.zeros((*size, 3), np.uint8)]])
    assert (page == 0).all(axis=-1).sum() == expected[0] * expected[1]


def test_sizes_must_agree(image):
    with pytest.raises(ValueError, match=r"attention is \[30, 41\], expected \[30, 40\]"):
        overlay_attention(image, np.zeros((30, 41)))
    with pytest.raises(ValueError, match=r"labels is \[40, 30\], expected \[30, 40\]"):
        overlay_mask(image, np.zeros((40, 30), np.uint8))


def test_grid_places_pictures(image):
    red, blue = np.full((50, 100, 3), [255, 0, 0], np.uint8), np.full((100, 50, 3), [0, 0, 255], np.uint8)
    page = grid([[red, blue], [blue]], cell_width=100)
    is_red, is_blue = ((page == color).all(axis=-1) for color in ([255, 0, 0], [0, 0, 255]))
    assert is_red.sum() == 50 * 100  # as large as its column allows
    # Twice 125 x 62: no higher than 1.25 times the column's width.
    assert is_blue.sum() == 2 * 125 * 62
    left, right = np.flatnonzero(is_red.any(axis=0)), np.flatnonzero(is_blue[:120].any(axis=0))
    assert left.max() < right.min()
    assert page.dtype == np.uint8 and (page[0] == 255).all()


def has_ink(region):
    return bool((cv2.cvtColor(region, cv2.COLOR_RGB2GRAY) < 100).any())


def test_grid_writes_titles(image):
    white = np.full_like(image, 255)
    plain = grid([[white, white], [white, white]])
    assert not has_ink(plain)
    titled = grid([[white, white], [white, white]], ["image", "ground truth"], ["cat, dog", "cow"])
    assert titled.shape[0] > plain.shape[0] and titled.shape[1] > plain.shape[1]
    header, left = titled.shape[0] - plain.shape[0], titled.shape[1] - plain.shape[1]
    middle = left + (titled.shape[1] - left) // 2
    assert has_ink(titled[:header, left:middle]) and has_ink(titled[:header, middle:])
    body = titled[header + 6 :]
    assert has_ink(body[: len(body) // 2, :left]) and has_ink(body[len(body) // 2 :, :left])
    assert not has_ink(body[:, left + 6 :])


def test_a_long_title_stays_in_its_column(image):
    white = np.full_like(image, 255)
    page = grid([[white, white]], ["", "a title that is much too long for a column of this width"], cell_width=120)
    assert not has_ink(page[:, :124])
    assert has_ink(page[:, 124:])
    long_row = grid([[white]], [], ["aeroplane, bicycle, boat, bottle, chair, person"], cell_width=120)
    assert long_row.shape[1] > 2 * 120 and not has_ink(long_row[:, -120:])


def test_grid_refuses():
    with pytest.raises(ValueError, match=r"no pictures"):
        grid([[]])
    with pytest.raises(ValueError, match=r"2 column titles and 0 row titles for 1 rows of 1"):
        grid([[np.zeros((2, 2, 3), np.uint8)]], ["a", "b"])


def test_write_png(image, tmp_path):
    write_png(tmp_path / "new" / "picture.png", image)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "picture.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.png"]
