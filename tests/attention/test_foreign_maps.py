"""Maps to other code's formats and back."""

import base64
import pickle
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oaa_tf.attention.foreign_maps import (
    read_class_pngs,
    read_irn_dictionaries,
    to_grid,
    write_class_pngs,
    write_irn_dictionaries,
)
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.npy_dictionary import read_npy_dictionary
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.frame import STRIDE, Frame

CANVAS, GRID = 64, 8


class FakeRecords(SimpleNamespace):
    """What attention maps need to know of a record set."""

    require_classes, require_source = RecordSet.require_classes, RecordSet.require_source

    def __len__(self):
        return len(self.image_ids)


RECORDS = FakeRecords(
    manifest_path=Path("records/train.json"),
    classes=("cat", "dog", "cow"),
    image_ids=("2007_000001", "b"),
    labels=((0, 2), (1,)),
    sizes=np.array([[300, 400], [40, 20]], np.int32),
    first_slots=np.array([0, 2, 3]),
    checksum="ab" * 32,
)

# np.save of {"keys": tensor([1, 4]), "cam": tensor [2, 1, 2], "high_res": array [2, 2, 4]}, written by PyTorch 2.13.
PYTORCH_FILE = """
c-qxdOK;Oa5MDn*P(o3~p;B+*6j!PuXiF0iqE(A>z%(sINaj#kj=kv`9B=mFN`XeoB}#*Q%W~rf@YlF-M?!+J-SQGSabhLUcxOM&<C~dz=f%O%OAVc&xAg
!EpVuGM>gR{`^;*40x#V8#QXb&U-1Z`Y!7hk5z;L(L)@!5Mzn#k1eE-=%`AJveq(2xoT%U5>=qHg3J<h$MN^iIv`!p7kC%#m3m6md(O3QIjK<3Iu6Sc2()
l?lT%huM2k(L5E9N-MEAGXx&qIfb=?Ob&_ohRSm<ig&OsyjPTBW0!LYdjPXQBv-chMUMRg6l0vpqqqI;7S||%H6XKaBHPY1x$eQPO(at-H3XD+vBwFc83
xRK<!mDgvR>2O7!(Z`%CTB$D`H8SU>n=fE+PoIm=M{fKy3*8o6hfi;%`l1AwyxFHtCEgk2m5p%*j#!l{5UtIHMP8!VVHVy5Mkz$gebjFoKN$p{T&$*$R^
V`e^Re9FqUnIsU?a>^OFNSPr&FQM`jAkPb1g=x-BfZX3~HScb3wKngyHaG6D!mU3@m|^Q3$;@Zq?1Z7eVKuLz7fnUlr8Y0Mnm`w9Wa|@UYZEm~t59}?eF
;?q)78Ul+HmkV%sahytR&!5!}t1%tXO1qulhgG*@iig3;Ap|o7=zfX)fk7#{!>M{6X=LK<ps23*UI>2cNcP>r(|9{-$b1ZeMYCorI?Z23RPflTx-Pq<pz
0Iog~mQcd;V)~_q_@Q)Qi*^2D%{*1mz7g;URkWn}BKs3GsBxX@K
"""


def smooth_maps():
    """Maps that hardly change from one cell to the next, so that resampling there and back costs little."""
    rows, columns = np.mgrid[:GRID, :GRID] / GRID
    maps = [0.2 + 0.6 * rows, 0.9 - 0.5 * columns, 0.5 + 0.2 * np.sin(3 * rows + columns)]
    return np.rint(np.stack(maps) * 255).astype(np.uint8)


@pytest.fixture
def attention_maps(tmp_path):
    AttentionMaps.save(tmp_path / "oaa", smooth_maps(), RECORDS, kind="oaa", image_size=CANVAS)
    return AttentionMaps.open(tmp_path / "oaa", RECORDS)


def rough_maps():
    return np.random.default_rng(1).integers(0, 256, (3, GRID, GRID), np.uint8)


def assert_round_trip(returned, written, tolerance):
    assert returned.dtype == np.uint8 and returned.shape == (3, GRID, GRID)
    for position, slots in enumerate([slice(0, 2), slice(2, 3)]):
        height, width = RECORDS.sizes[position]
        rows, columns = Frame(int(height), int(width), CANVAS).valid_cells
        difference = returned[slots].astype(int) - written[slots]
        assert np.abs(difference[:, :rows, :columns]).max() <= tolerance
        assert (returned[slots, rows:] == 0).all() and (returned[slots, :, columns:] == 0).all()


def test_class_pngs(attention_maps, tmp_path):
    write_class_pngs(attention_maps, tmp_path / "png")
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [
        "2007_000001_0.png", "2007_000001_2.png", "b_1.png"
    ]  # fmt: skip
    image = cv2.imread(str(tmp_path / "png" / "2007_000001_2.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (300, 400) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.rint(attention_maps.at_image_size(0)[1][1] * 255))
    assert_round_trip(read_class_pngs(tmp_path / "png", RECORDS, CANVAS), smooth_maps(), 1)


def test_irn_dictionaries(attention_maps, tmp_path):
    write_irn_dictionaries(attention_maps, tmp_path / "npy")
    content = np.load(tmp_path / "npy" / "2007_000001.npy", allow_pickle=True).item()
    assert content["keys"].dtype == np.int64 and content["keys"].tolist() == [0, 2]
    assert content["high_res"].dtype == np.float32
    np.testing.assert_array_equal(content["high_res"], attention_maps.at_image_size(0)[1])
    assert_round_trip(read_irn_dictionaries(tmp_path / "npy", RECORDS, CANVAS), smooth_maps(), 0)


def test_nothing_is_blurred_on_the_way(tmp_path):
    AttentionMaps.save(tmp_path / "oaa", rough_maps(), RECORDS, kind="oaa", image_size=CANVAS)
    maps = AttentionMaps.open(tmp_path / "oaa", RECORDS)
    write_irn_dictionaries(maps, tmp_path / "npy")
    assert_round_trip(read_irn_dictionaries(tmp_path / "npy", RECORDS, CANVAS), rough_maps(), 0)
    write_class_pngs(maps, tmp_path / "png")
    assert_round_trip(read_class_pngs(tmp_path / "png", RECORDS, CANVAS), rough_maps(), 1)


def test_constant_maps_come_back_exactly(tmp_path):
    maps = np.broadcast_to(np.uint8([255, 77, 0])[:, None, None], (3, GRID, GRID))
    AttentionMaps.save(tmp_path / "cam", maps, RECORDS, kind="cam", image_size=CANVAS)
    opened = AttentionMaps.open(tmp_path / "cam", RECORDS)
    write_class_pngs(opened, tmp_path / "png")
    write_irn_dictionaries(opened, tmp_path / "npy")
    for returned in (
        read_class_pngs(tmp_path / "png", RECORDS, CANVAS),
        read_irn_dictionaries(tmp_path / "npy", RECORDS, CANVAS),
    ):
        np.testing.assert_array_equal(returned[:2, :6], maps[:2, :6])  # 48 of 64 canvas rows
        np.testing.assert_array_equal(returned[2, :, :4], maps[2, :, :4])  # 32 of 64 canvas columns


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([8, 24, 40]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_pixels_of_the_grid_have_the_means_of_the_maps_over_every_cell(height, width, canvas, seed):
    frame = Frame(height, width, canvas)
    # Fewer pixels leave cells open; steep maps overshoot, and are clipped.
    assume(height >= 2 * frame.valid_cells[0] and width >= 2 * frame.valid_cells[1])
    values = 0.4 + 0.2 * np.random.default_rng(seed).random((2, height, width), np.float32)
    cells = to_grid(values, frame)
    rows, columns = frame.valid_cells
    assert (cells[:, rows:] == 0).all() and (cells[:, :, columns:] == 0).all()
    np.testing.assert_allclose(area_means(frame.to_image(cells), frame), area_means(values, frame), atol=1e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([8, 24, 200]), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_constants_stay_however_few_pixels_there_are(height, width, canvas, value):
    frame = Frame(height, width, canvas)
    rows, columns = frame.valid_cells
    cells = to_grid(np.full((1, height, width), value, np.float32), frame)
    np.testing.assert_allclose(cells[:, :rows, :columns], value, atol=1e-5)


def area_means(values, frame):
    # Brute force on pixels cut into 1/content parts, so that every cell border falls between parts.
    content_rows, content_columns = frame.content
    fine = values.repeat(content_rows, axis=1).repeat(content_columns, axis=2)
    expected = np.zeros((2, frame.grid, frame.grid), np.float32)
    for row in range(frame.valid_cells[0]):
        for column in range(frame.valid_cells[1]):
            area = fine[
                :,
                row * STRIDE * frame.height : (row + 1) * STRIDE * frame.height,
                column * STRIDE * frame.width : (column + 1) * STRIDE * frame.width,
            ]
            expected[:, row, column] = area.mean(axis=(1, 2))
    return expected


def test_pytorch_tensors_are_read_without_pytorch(tmp_path):
    (tmp_path / "b.npy").write_bytes(zlib.decompress(base64.b85decode("".join(PYTORCH_FILE.split()))))
    content = read_npy_dictionary(tmp_path / "b.npy")
    assert content["keys"].dtype == np.int64 and content["keys"].tolist() == [1, 4]
    np.testing.assert_array_equal(content["cam"], np.float32([[[0.25, 0.5]], [[0.75, 1.0]]]))
    np.testing.assert_array_equal(content["high_res"], np.tile(content["cam"], (1, 2, 2)))

    one_image = {"image_ids": ("b",), "labels": ((1, 4),), "sizes": np.array([[2, 4]]), "first_slots": np.array([0, 2])}
    records = FakeRecords(**vars(RECORDS) | one_image)
    maps = read_irn_dictionaries(tmp_path, records, image_size=8)
    np.testing.assert_array_equal(maps.ravel(), [96, 223])  # means of 0.25 and 0.5, of 0.75 and 1


def test_other_key_order_and_further_keys(tmp_path):
    attention = np.random.default_rng(0).random((3, 300, 400), np.float32)
    np.save(tmp_path / "2007_000001.npy", {"keys": np.array([2, 1, 0]), "high_res": attention, "cam": 0})
    np.save(tmp_path / "b.npy", {"keys": np.array([1]), "high_res": np.ones((1, 40, 20), np.float16)})
    maps = read_irn_dictionaries(tmp_path, RECORDS, CANVAS)
    frame = Frame(300, 400, CANVAS)
    np.testing.assert_array_equal(maps[:2], np.rint(to_grid(attention, frame)[[2, 0]] * 255))


@pytest.mark.parametrize(
    "content, message",
    [
        ({"keys": np.array([1])}, "has no 'high_res', only keys"),
        ({"keys": np.array([0]), "high_res": np.ones((1, 40, 20), np.float32)}, "no map for the label dog"),
        ({"keys": np.array([1]), "high_res": np.ones((1, 20, 40), np.float32)}, "20x40 pixels .* the image is 40x20"),
        ({"keys": np.array([1]), "high_res": np.ones((2, 40, 20), np.float32)}, "float32 \\[2, 40, 20\\], expected"),
        ({"keys": np.array([1]), "high_res": np.full((1, 40, 20), 1.5, np.float32)}, "expected \\[0, 1\\]"),
        ({"keys": np.array([1]), "high_res": np.full((1, 40, 20), np.nan, np.float32)}, "expected \\[0, 1\\]"),
        (np.ones(3), "it is an array of float64"),
        (np.array([1], object).reshape(()), "it holds a int"),
        ({"keys": pickle.loads}, "_pickle.loads is not allowed"),
    ],
)
def test_irn_files_are_checked(attention_maps, tmp_path, content, message):
    write_irn_dictionaries(attention_maps, tmp_path)
    np.save(tmp_path / "b.npy", content)
    with pytest.raises(UserError, match=message) as caught:
        read_irn_dictionaries(tmp_path, RECORDS, CANVAS)
    assert str(tmp_path / "b.npy") in str(caught.value)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path):
    np.save(tmp_path / "b.npy", {"keys": Malicious(tmp_path / "executed")})
    with pytest.raises(UserError, match=r"is not allowed"):
        read_npy_dictionary(tmp_path / "b.npy")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"])
def test_damaged_npy_files(tmp_path, damage):
    np.save(tmp_path / "b.npy", {"keys": np.arange(3)})
    (tmp_path / "b.npy").write_bytes(damage((tmp_path / "b.npy").read_bytes()))
    with pytest.raises(UserError, match=r"b.npy: not a dictionary of arrays"):
        read_npy_dictionary(tmp_path / "b.npy")


def test_missing_and_wrong_pngs(attention_maps, tmp_path):
    write_class_pngs(attention_maps, tmp_path)
    (tmp_path / "2007_000001_2.png").unlink()
    with pytest.raises(UserError, match=r"2007_000001_2.png"):
        read_class_pngs(tmp_path, RECORDS, CANVAS)
    cv2.imwrite(str(tmp_path / "2007_000001_2.png"), np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(UserError, match=r"2007_000001_2.png"):
        read_class_pngs(tmp_path, RECORDS, CANVAS)
    cv2.imwrite(str(tmp_path / "2007_000001_2.png"), np.zeros((400, 300), np.uint8))
    with pytest.raises(UserError, match=r"2007_000001_2.png: 400x300 pixels .* the image is 300x400"):
        read_class_pngs(tmp_path, RECORDS, CANVAS)
    with pytest.raises(UserError, match=r"missing"):
        read_irn_dictionaries(tmp_path / "missing", RECORDS, CANVAS)
