import base64
import struct
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.decoding import decode_image
from oaa_tf.data.images.image_files import fitting_size, read_for_record, read_image

# 8 x 8 pixels of RGB (200, 100, 50), stored as CMYK; OpenCV cannot write such files.
_CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAIBgYHBgUIBwcHCQkICgwUDQwLCwwZEhMPFB0aHx4dGhwcICQuJyAiLCMcHCg3KSwwMTQ0NB8nOT04MjwuMz"
    "Qy/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAcF/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwBI"
    "Qxif3//Z"
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
        expected = np.rint(rgb * (alpha / 255) + (255 - alpha)).astype(np.uint8)
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
    data, size, stored = read_for_record(path)
    assert size == stored == (13, 21)
    assert data[24:26] == bytes([8, 2]), "8 bits per sample, RGB"
    np.testing.assert_array_equal(decode_image(data).numpy(), expected)


@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_is_kept_byte_for_byte(tmp_path, rgb, grey):
    path = write(tmp_path / "image.jpg", rgb[:, :, 0] if grey else rgb)
    data, size, stored = read_for_record(path)
    assert data == path.read_bytes()
    assert size == stored == (13, 21)
    image = decode_image(data).numpy()
    assert image.shape == (13, 21, 3)
    np.testing.assert_array_equal(image, read_image(path))
    assert np.abs(image.astype(int) - cv2.imread(str(path))[:, :, ::-1]).max() <= 4


def test_cmyk_jpeg_becomes_rgb_png(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(_CMYK_JPEG)
    data, size, _ = read_for_record(path)
    assert size == (8, 8) and data.startswith(b"\x89PNG")
    assert np.abs(decode_image(data).numpy().astype(int) - (200, 100, 50)).max() <= 3
    np.testing.assert_array_equal(decode_image(data).numpy(), read_image(path))


def save(path, image, kind, **options):
    """Writes pixels or an image of Pillow in one of its formats, whatever the file is called."""
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, kind, **options)
    return path


def exif_of(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, rgb, kind, options, orientation):
    smooth = cv2.resize(rgb, (48, 32), interpolation=cv2.INTER_CUBIC)
    path = save(tmp_path / "image", smooth, kind, exif=exif_of(orientation), **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = read_image(path)
    # The decoders of JPEG round differently.
    np.testing.assert_allclose(pixels.astype(int), expected, atol=4 if kind == "JPEG" else 0)
    data, size, stored = read_for_record(path)
    assert size == stored == expected.shape[:2] == ((48, 32) if orientation in (5, 6, 7, 8) else (32, 48))
    if kind == "JPEG" and orientation in (0, 1, 9):
        assert data == path.read_bytes()
    elif kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode_image(data), expected)
    else:
        assert data.startswith(b"\xff\xd8")
        assert np.abs(decode_image(data).numpy().astype(int) - pixels).mean() < 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_other_formats_are_read_whatever_the_file_is_called(tmp_path, rgb, kind, options):
    path = save(tmp_path / "image.jpg", rgb, kind, **options)
    np.testing.assert_array_equal(read_image(path), rgb)
    data, size, _ = read_for_record(path)
    assert size == (13, 21)
    np.testing.assert_allclose(decode_image(data).numpy().astype(int), rgb, atol=60 if kind == "WEBP" else 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_the_first_frame_counts(tmp_path, kind):
    frames = [Image.new("RGB", (9, 5), color) for color in ((255, 0, 0), (0, 255, 0))]
    path = save(tmp_path / "image", frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_pixels_of_a_palette_lie_on_white(tmp_path, kind):
    image = Image.fromarray(np.uint8([[0, 1], [1, 2]]), "P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    path = save(tmp_path / "image", image, kind, transparency=1)
    assert read_image(path).tolist() == [[[10, 20, 30], [255] * 3], [[255] * 3, [0, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
def test_tiffs_of_every_kind(tmp_path, rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    path = save(tmp_path / "image.tif", image, "TIFF")
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_stretched_by_the_bits_in_use(tmp_path, rgb, bits, suffix, channels):
    colors = rgb[..., :channels][..., :3]
    colors[0, 0] = 255
    values = colors.astype(np.uint16) << (bits - 8)
    if channels == 4:
        values = np.dstack([values, np.full((13, 21), 65535, np.uint16)])
    path = write(tmp_path / f"image{suffix}", values[..., 0] if channels == 1 else values)
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(colors, rgb.shape))


def test_a_turned_tiff_of_16_bits(tmp_path, rgb):
    path = write(tmp_path / "image.tif", rgb.astype(np.uint16) << 8)
    data = path.read_bytes()
    # A new directory at the end, with the orientation among the other entries, which are in order.
    (start,) = struct.unpack("<I", data[4:8])
    (number,) = struct.unpack("<H", data[start : start + 2])
    entries = [data[start + 2 + 12 * index :][:12] for index in range(number)]
    entries.append(struct.pack("<HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", number + 1) + b"".join(entries) + bytes(4)
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + directory)
    np.testing.assert_array_equal(read_image(path), np.rot90(rgb, -1))


def test_a_damaged_tiff_of_16_bits_is_named(tmp_path, capfd):
    path = write(tmp_path / "image.tif", np.random.default_rng(0).integers(0, 4096, (300, 400, 3), np.uint16))
    data = path.read_bytes()
    path.write_bytes(data[:1000] + bytes(2000) + data[3000:])
    with pytest.raises(UserError, match=r"image.tif: truncated or damaged image"):
        read_image(path)
    assert "OpenCV" not in capfd.readouterr().err


def test_values_of_32_bits_are_named(tmp_path):
    path = save(tmp_path / "image.tif", np.float32([[0.1, 0.9]]), "TIFF")
    with pytest.raises(UserError, match=r"image.tif: expected 8 or 16 bits per value, found 32; convert it"):
        read_image(path)


_HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(50)


def test_heic_without_its_library_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "image.jpg"
    path.write_bytes(_HEIC)
    with pytest.raises(UserError, match=r"image.jpg: a HEIC file; install .*pip install pillow-heif\), or convert it"):
        read_image(path)


def test_heic_with_its_library(tmp_path, monkeypatch, rgb):
    library = types.SimpleNamespace(HeifImageFile=lambda file: Image.fromarray(rgb) if file.read() == _HEIC else None)
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    path = tmp_path / "image.heic"
    path.write_bytes(_HEIC)
    np.testing.assert_array_equal(read_image(path), rgb)
    assert read_for_record(path)[0].startswith(b"\xff\xd8")


def test_damaged_exif_is_passed_over_without_a_word(tmp_path, rgb):
    path = save(tmp_path / "image.jpg", rgb, "JPEG", exif=exif_of(6))
    data = path.read_bytes()
    # The orientation's entry stays whole, but a second one is said to follow.
    place = data.index(b"MM\0*") + 8
    path.write_bytes(data[: place + 1] + b"\x09" + data[place + 2 :])
    program = f"from oaa_tf.data.images.image_files import read_image; print(read_image({str(path)!r}).shape)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "EXIF" not in done.stderr and "warn" not in done.stderr.lower().replace("warning: all log", "")
    assert done.stdout.strip() == "(21, 13, 3)"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_large_images_are_stored_small(tmp_path, kind):
    rows, columns = np.mgrid[:400, :300]
    image = np.stack([rows // 2, columns // 2, (rows + columns) // 4], axis=-1).astype(np.uint8)
    path = save(tmp_path / "image", image, kind)
    data, size, stored = read_for_record(path, 100)
    assert size == (400, 300) and stored == (100, 75)
    assert data.startswith(b"\xff\xd8") == (kind == "JPEG")
    # Means of 4 x 4 pixels.
    expected = image.reshape(100, 4, 75, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(decode_image(data).numpy().astype(int), expected, atol=5 if kind == "JPEG" else 1)
    for max_side in (0, 400):
        assert read_for_record(path, max_side)[1:] == ((400, 300), (400, 300))
        assert (read_for_record(path, max_side)[0] == path.read_bytes()) == (kind == "JPEG")


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), max_side=st.integers(1, 3000))
def test_fitting_sizes_keep_the_proportions(height, width, max_side):
    fitting = fitting_size(np.broadcast_to(np.uint8(0), (height, width)), max_side)
    if max(height, width) <= max_side:
        assert fitting == (height, width)
    else:
        assert max(fitting) == max_side and min(fitting) >= 1
        scale = max_side / max(height, width)
        assert abs(fitting[0] - height * scale) <= max(0.5, 1 - height * scale)
        assert abs(fitting[1] - width * scale) <= max(0.5, 1 - width * scale)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_one_pixel(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", np.full((1, 1, 3), 90, np.uint8))
    data, size, _ = read_for_record(path)
    assert size == (1, 1)
    np.testing.assert_allclose(decode_image(data).numpy(), [[[90, 90, 90]]], atol=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_twenty_megapixels(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", np.full((5000, 4000), 90, np.uint8))
    assert read_for_record(path)[1] == (5000, 4000)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_truncated_image_is_named_in_one_line(tmp_path, rgb, suffix, share, capfd):
    path = write(tmp_path / f"image{suffix}", np.tile(rgb, (10, 10, 1)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=rf"image{suffix}: truncated"):
        read_for_record(path)
    assert capfd.readouterr().err == "", "the decoders must not write lines of their own"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"text", "something else"),
        (b"%PDF-1.7", "a PDF"),
        (b"\0\0\0\x20ftypqt  ", "a video"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "AVIF; convert it to JPEG"),
    ],
)
def test_other_files_are_named(tmp_path, content, found):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"image.jpg: expected an image \(JPEG.*HEIC\), found {found}"):
        read_for_record(path)


@pytest.mark.parametrize("content", [b"GIF89a", b"BM" + bytes(50), b"II*\0" + bytes(50), b"RIFF\0\0\0\0WEBPVP8 "])
def test_beginnings_of_images_are_damaged_ones(tmp_path, content, capfd):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"image.jpg: truncated or damaged image"):
        read_for_record(path)
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File)")
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("WEBP", {}), ("BMP", {}), ("GIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_other_formats_cut_short_are_named(tmp_path, rgb, kind, options, share, capfd):
    path = save(tmp_path / "image", np.tile(rgb, (10, 10, 1)), kind, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"image: truncated or damaged image"):
        read_for_record(path)
    assert capfd.readouterr().err == "", "the decoders must not write lines of their own"


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
