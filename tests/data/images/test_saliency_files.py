"""Saliency maps of every kind become 8-bit grey maps of the image's size."""

import cv2
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.saliency_files import read_saliency

ROWS, COLUMNS = np.mgrid[:40, :60]
MAP = np.uint8(2 * ROWS + COLUMNS)


@pytest.mark.parametrize(
    ("suffix", "pixels", "tolerance"),
    [
        (".png", MAP, 0),
        (".png", MAP.astype(np.uint16) * 257, 0),
        (".png", cv2.cvtColor(MAP, cv2.COLOR_GRAY2BGR), 0),
        (".png", cv2.cvtColor(MAP, cv2.COLOR_GRAY2BGRA), 0),
        (".jpg", MAP, 6),
        (".JPG", cv2.cvtColor(MAP, cv2.COLOR_GRAY2BGR), 6),
    ],
    ids=["grey", "16-bit", "RGB", "RGBA", "JPEG", "RGB JPEG"],
)
def test_kinds(tmp_path, suffix, pixels, tolerance):
    path = tmp_path / f"map{suffix}"
    cv2.imwrite(str(path), pixels)
    saliency = read_saliency(path, 40, 60)
    assert saliency.dtype == np.uint8 and saliency.shape == (40, 60)
    assert np.abs(saliency.astype(int) - MAP).max() <= tolerance


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (13, 20), (14, 20), (213, 320)])
def test_other_sizes_of_the_same_proportions_are_resized(tmp_path, size):
    path = tmp_path / "map.png"
    cv2.imwrite(str(path), cv2.resize(MAP, size[::-1], interpolation=cv2.INTER_AREA))
    saliency = read_saliency(path, 40, 60)
    assert saliency.shape == (40, 60)
    assert np.abs(saliency.astype(int) - MAP)[4:-4, 4:-4].max() <= 4


@pytest.mark.parametrize("size", [(60, 40), (50, 50), (40, 66), (320, 320)])
def test_other_proportions_are_refused(tmp_path, size):
    path = tmp_path / "map.png"
    cv2.imwrite(str(path), np.zeros(size, np.uint8))
    with pytest.raises(UserError, match=rf"map.png: {size[1]}x{size[0]} pixels, but its image has 60x40; .* EXIF"):
        read_saliency(path, 40, 60)


def test_colors_are_refused(tmp_path):
    path = tmp_path / "map.png"
    cv2.imwrite(str(path), cv2.applyColorMap(MAP, cv2.COLORMAP_JET))
    with pytest.raises(UserError, match=r"map.png: has colors, expected a grey picture"):
        read_saliency(path, 40, 60)
