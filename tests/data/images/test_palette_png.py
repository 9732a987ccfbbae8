import os
import struct
import zlib

import cv2
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import encode_grey, read_indexed, voc_palette, write_indexed

_GREY, _RGB, _PALETTE = 0, 2, 3
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def labels_of(depth: int) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
    return arrays.arrays(np.uint8, shapes, elements=st.integers(0, 2**depth - 1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_rows(values: np.ndarray, depth: int) -> bytes:
    data = b""
    for row in values:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        data += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return data


def make_png(values: np.ndarray, depth: int, color_type: int, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG by the letter of its specification, without a library for images."""
    height, width = values.shape
    data = b""
    if interlaced:
        for column, row, column_step, row_step in _PASSES:
            part = values[row::row_step, column::column_step]
            data += packed_rows(part, depth) if part.size else b""
    else:
        data = packed_rows(values, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    palette = chunk(b"PLTE", voc_palette()[: 2**depth].tobytes()) if color_type == _PALETTE else b""
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + extra + pixels + chunk(b"IEND", b"")


def test_palette_has_the_colors_of_the_voc_development_kit():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {value: tuple(palette[value].tolist()) for value in expected} == expected
    assert len(np.unique(palette, axis=0)) == 256


@_same_folder
@given(labels=labels_of(8))
def test_written_labels_read_back_and_show_in_voc_colors(tmp_path, labels):
    path = tmp_path / "labels.png"
    write_indexed(path, labels)
    np.testing.assert_array_equal(read_indexed(path), labels)
    np.testing.assert_array_equal(read_indexed(path.read_bytes()), labels)
    colors = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
    np.testing.assert_array_equal(colors, voc_palette()[labels])
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.png"]


@pytest.mark.parametrize("color_type", [_GREY, _PALETTE])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_all_depths_read_as_raw_values(depth, color_type):
    @settings(deadline=None, max_examples=25)
    @given(values=labels_of(depth), interlaced=st.booleans())
    def check(values, interlaced):
        np.testing.assert_array_equal(read_indexed(make_png(values, depth, color_type, interlaced)), values)

    check()


def test_transparency_and_gamma_do_not_change_the_indices():
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    extra = chunk(b"tRNS", bytes(range(16))) + chunk(b"tEXt", b"Comment\0none")
    np.testing.assert_array_equal(read_indexed(make_png(values, 4, _PALETTE, extra=extra)), values)
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    np.testing.assert_array_equal(read_indexed(make_png(values, 8, _GREY, extra=gamma)), values)


@given(labels=labels_of(8), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_changed_byte_is_found(labels, data):
    png = bytearray(encode_grey(labels))
    position = data.draw(st.integers(0, len(png) - 1))
    png[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UserError):
        read_indexed(bytes(png))


@given(labels=labels_of(8), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_cut_is_found(labels, data):
    png = encode_grey(labels)
    with pytest.raises(UserError):
        read_indexed(png[: data.draw(st.integers(0, len(png) - 1))])


@pytest.mark.parametrize("interlaced", [False, True])
def test_missing_rows_behind_valid_checksums_are_found(interlaced, capfd):
    values = np.ones((9, 9), np.uint8)
    whole = make_png(values, 8, _GREY, interlaced)
    start = whole.index(b"IDAT") - 4
    header = whole[:start].replace(struct.pack(">II", 9, 9), struct.pack(">II", 9, 10))
    length = 25 + 8
    header = header[:8] + chunk(b"IHDR", header[16:29]) + header[length:]
    with pytest.raises(UserError, match=r"incomplete"):
        read_indexed(header + whole[start:])
    assert capfd.readouterr().err == ""


def test_forged_size_costs_no_memory():
    whole = make_png(np.ones((1, 1), np.uint8), 8, _GREY)
    for side, message in ((2**31 - 1, "expected at most 134 megapixels"), (11_000, "incomplete")):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        with pytest.raises(UserError, match=message):
            read_indexed(whole[:8] + header + whole[33:])


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((4, 4, 3), np.uint8), "8-bit RGB"),
        (np.zeros((4, 4, 4), np.uint8), "8-bit RGBA"),
        (np.zeros((4, 4), np.uint16), "16-bit grey"),
        (np.zeros((4, 4, 3), np.uint16), "16-bit RGB"),
    ],
)
def test_other_kinds_of_png_are_refused_by_name(tmp_path, pixels, found):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), pixels)
    with pytest.raises(UserError, match=rf"mask.png: expected a palette PNG or an 8-bit grey PNG.*found {found}$"):
        read_indexed(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 not a PNG"])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mask.png: not a PNG"):
        read_indexed(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent.png: cannot read: No such file"):
        read_indexed(tmp_path / "absent.png")


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "labels.png"
    old = np.full((3, 3), 7, np.uint8)
    write_indexed(path, old)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match=r"disk full"):
        write_indexed(path, np.zeros((3, 3), np.uint8))
    np.testing.assert_array_equal(read_indexed(path), old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.png"]


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 3), np.int32), np.zeros((3, 3, 1), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_wrong_arrays_are_a_programming_error(tmp_path, labels):
    with pytest.raises(ValueError, match=r"expected non-empty uint8"):
        write_indexed(tmp_path / "labels.png", labels)


def test_real_masks(real_data):
    paths = sorted((real_data / "voc12_animals" / "SegmentationClass").glob("*.png"))[:50]
    assert len(paths) == 50
    for path in paths:
        values = read_indexed(path)
        present = np.flatnonzero(np.bincount(values.ravel()))
        assert set(present) <= {*range(7), 255}
        # An independent decoder resolves the file's own palette: one index, one color.
        colors = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
        found = {tuple(colors[values == value].max(0)) for value in present}
        assert found == {tuple(colors[values == value].min(0)) for value in present}
        assert len(found) == len(present)
