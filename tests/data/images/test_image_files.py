import base64

import cv2
import numpy as np
import pytest

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.image_files import decode_image, read_for_record, read_image

# 8 x 8 pixels of RGB (200, 100, 50), stored as CMYK; OpenCV cannot write such files.
_CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAIBgYHBgUIBwcHCQkICgwUDQwLCwwZEhMPFB0aHx4dGhwcICQuJyAiLCMcHCg3KSwwMTQ0NB8nOT04MjwuMz"
    "Qy/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAcF/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwBI"
    "Qxif3//Z"
)

# An application segment of 34 bytes with one entry: orientation (0x0112) 6, a quarter turn.
_EXIF_ROTATED = (
    b"\xff\xe1\x00\x22Exif\0\0MM\x00*\x00\x00\x00\x08"
    b"\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
)


@pytest.fixture
def rgb():
    return np.random.default_rng(3).integers(0, 256, (13, 21, 3), np.uint8)


def write(path, pixels):
    """Writes RGB(A) or grey pixels with OpenCV, which wants blue first."""
    if pixels.ndim == 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[:, :, order])
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "16-bit", "grey", "16-bit grey"])
def test_png_of_every_kind_becomes_rgb_png(tmp_path, rgb, mode):
    expected = rgb
    pixels = rgb
    if mode == "RGBA":
        alpha = np.random.default_rng(4).integers(0, 256, (13, 21, 1), np.uint8)
        pixels = np.concatenate([rgb, alpha], axis=2)
    elif mode == "16-bit":
        pixels = rgb.astype(np.uint16) * 256 + 200
    elif mode == "grey":
        pixels = rgb[:, :, 0]
    elif mode == "16-bit grey":
        pixels = rgb[:, :, 0].astype(np.uint16) * 256 + 77
    if "grey" in mode:
        expected = np.repeat(rgb[:, :, :1], 3, axis=2)
    path = write(tmp_path / "image.png", pixels)
    np.testing.assert_array_equal(read_image(path), expected)
    data, height, width = read_for_record(path)
    assert (height, width) == (13, 21)
    assert data[24:26] == bytes([8, 2]), "8 bits per sample, RGB"
    np.testing.assert_array_equal(decode_image(data).numpy(), expected)


@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_is_kept_byte_for_byte(tmp_path, rgb, grey):
    path = write(tmp_path / "image.jpg", rgb[:, :, 0] if grey else rgb)
    data, height, width = read_for_record(path)
    assert data == path.read_bytes()
    assert (height, width) == (13, 21)
    image = decode_image(data).numpy()
    assert image.shape == (13, 21, 3)
    np.testing.assert_array_equal(image, read_image(path))
    assert np.abs(image.astype(int) - cv2.imread(str(path))[:, :, ::-1]).max() <= 4


def test_cmyk_jpeg_becomes_rgb_png(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(_CMYK_JPEG)
    data, height, width = read_for_record(path)
    assert (height, width) == (8, 8) and data.startswith(b"\x89PNG")
    assert np.abs(decode_image(data).numpy().astype(int) - (200, 100, 50)).max() <= 3
    np.testing.assert_array_equal(decode_image(data).numpy(), read_image(path))


def test_exif_orientation_is_ignored(tmp_path, rgb):
    path = write(tmp_path / "image.jpg", rgb)
    plain = read_image(path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + _EXIF_ROTATED + data[2:])
    assert cv2.imread(str(path)).shape == (21, 13, 3), "the orientation is there for those who look"
    np.testing.assert_array_equal(read_image(path), plain)
    assert read_for_record(path)[1:] == (13, 21)


def test_png_in_a_file_named_jpg_is_read(tmp_path, rgb):
    path = tmp_path / "image.jpg"
    path.write_bytes(write(tmp_path / "image.png", rgb).read_bytes())
    np.testing.assert_array_equal(read_image(path), rgb)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_one_pixel(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", np.full((1, 1, 3), 90, np.uint8))
    data, height, width = read_for_record(path)
    assert (height, width) == (1, 1)
    np.testing.assert_allclose(decode_image(data).numpy(), [[[90, 90, 90]]], atol=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_twenty_megapixels(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", np.full((5000, 4000), 90, np.uint8))
    assert read_for_record(path)[1:] == (5000, 4000)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_truncated_image_is_named_in_one_line(tmp_path, rgb, suffix, share, capfd):
    path = write(tmp_path / f"image{suffix}", np.tile(rgb, (10, 10, 1)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=rf"image{suffix}: truncated"):
        read_for_record(path)
    assert capfd.readouterr().err == "", "the decoders must not write lines of their own"


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"BM" + bytes(50), b"text"])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"image.jpg: expected a JPEG or PNG, found"):
        read_for_record(path)


def test_damaged_jpeg_is_named(tmp_path, rgb):
    path = write(tmp_path / "image.jpg", rgb)
    data = bytearray(path.read_bytes())
    data[20:60] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"image.jpg: truncated or damaged image"):
        read_for_record(path)


def test_damaged_png_is_named(tmp_path, rgb):
    path = write(tmp_path / "image.png", rgb)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"image.png: damaged PNG: wrong checksum"):
        read_for_record(path)
