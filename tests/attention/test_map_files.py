"""Attention map folders: what is saved comes back, and nothing damaged or foreign is opened."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from oaa_tf.attention.map_files import AttentionMaps, to_uint8
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet

LABELS = ((0, 2), (1,), (0, 1, 2))
SIZES = np.array([[30, 40], [40, 20], [25, 25]], np.int32)
CANVAS, GRID, NUM_SLOTS = 40, 5, 6


class FakeRecords(SimpleNamespace):
    """What attention maps need to know of a record set."""

    require_classes, require_source = RecordSet.require_classes, RecordSet.require_source


def make_records(**changes):
    attributes = {
        "manifest_path": Path("records/train.json"),
        "classes": ("cat", "dog", "cow"),
        "image_ids": ("a", "b", "c"),
        "labels": LABELS,
        "sizes": SIZES,
        "first_slots": np.array([0, 2, 3, 6]),
        "checksum": "ab" * 32,
    }
    return FakeRecords(**attributes | changes)


@pytest.fixture
def maps():
    return np.random.default_rng(0).integers(0, 256, (NUM_SLOTS, GRID, GRID), dtype=np.uint8)


def save(folder, maps, records=None, **changes):
    settings = {"kind": "oaa", "image_size": CANVAS, "supervision": "image labels", "fallback_slots": 2, "seed": 7}
    AttentionMaps.save(folder, maps, records or make_records(), **settings | changes)


def test_round_trip(tmp_path, maps):
    save(tmp_path / "attention" / "oaa", maps)
    opened = AttentionMaps.open(tmp_path / "attention" / "oaa", make_records())
    np.testing.assert_array_equal(opened.maps, maps)
    assert (opened.kind, opened.image_size, opened.grid) == ("oaa", CANVAS, GRID)
    assert (opened.supervision, opened.fallback_slots, opened.seed) == ("image labels", 2, 7)
    for position, slots in enumerate([slice(0, 2), slice(2, 3), slice(3, 6)]):
        classes, attention = opened.for_image(position)
        assert classes == LABELS[position]
        assert attention.dtype == np.float32
        np.testing.assert_array_equal(np.rint(attention * 255), maps[slots])
        assert attention.min() >= 0 and attention.max() <= 1
    assert sorted(path.name for path in (tmp_path / "attention" / "oaa").iterdir()) == ["maps.json", "maps.npy"]


def test_maps_in_memory_are_those_that_a_folder_would_have(tmp_path, maps):
    in_memory = AttentionMaps.from_array(maps / np.float32(255), make_records(), image_size=CANVAS, kind="oaa")
    save(tmp_path, maps, fallback_slots=0, seed=None)
    opened = AttentionMaps.open(tmp_path, make_records())
    np.testing.assert_array_equal(in_memory.maps, opened.maps)
    for field in dataclasses.fields(AttentionMaps):
        if field.name not in ("folder", "maps", "records"):
            assert getattr(in_memory, field.name) == getattr(opened, field.name), field.name
    assert in_memory.folder is None
    for wrong in ({"image_size": 48}, {"maps": maps[1:]}, {"maps": maps + 0.5}):
        with pytest.raises(ValueError, match=r"expected"):
            AttentionMaps.from_array(**{"maps": maps, "records": make_records(), "image_size": CANVAS} | wrong)
    with pytest.raises(ValueError, match=r"train.json: has no masks to compare with"):
        AttentionMaps.from_array(maps, make_records(has_masks=False), image_size=CANVAS).curves()


def test_maps_are_read_only_and_saved_again(tmp_path, maps):
    save(tmp_path, maps)
    first = AttentionMaps.open(tmp_path, make_records())
    with pytest.raises(ValueError, match=r"read-only"):
        first.maps[0] = 0
    save(tmp_path, 255 - maps, kind="cam", seed=None)
    second = AttentionMaps.open(tmp_path, make_records())
    np.testing.assert_array_equal(second.maps, 255 - maps)
    assert second.kind == "cam" and second.seed is None and second.checksum != first.checksum
    np.testing.assert_array_equal(first.maps, maps)  # the open file is still the old one


def test_float_maps_are_rounded(tmp_path):
    save(tmp_path, np.full((NUM_SLOTS, GRID, GRID), 0.3, np.float32))
    assert (AttentionMaps.open(tmp_path, make_records()).maps == 76).all()
    np.testing.assert_array_equal(to_uint8(np.float32([0, 0.001, 0.002, 1])), [0, 0, 1, 255])
    for wrong in (np.nan, -0.01, 1.01):
        with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
            to_uint8(np.float32([0.5, wrong]))


def test_at_image_size(tmp_path):
    maps = np.full((NUM_SLOTS, GRID, GRID), 255, np.uint8)
    maps[:2, 4:] = 0  # padding below the 30 x 40 image: 3.75 rows of cells are seen
    save(tmp_path, maps)
    classes, attention = AttentionMaps.open(tmp_path, make_records()).at_image_size(0)
    assert classes == (0, 2)
    assert attention.shape == (2, 30, 40) and attention.dtype == np.float32
    assert attention.max() <= 1
    np.testing.assert_allclose(attention, 1, atol=1e-6)


def test_wrong_shape_is_not_saved(tmp_path, maps):
    with pytest.raises(ValueError, match=r"shape \(5, 5, 5\), expected \(6, 5, 5\)"):
        save(tmp_path, maps[1:])
    with pytest.raises(ValueError, match=r"expected \(6, 6, 6\)"):
        save(tmp_path, maps, image_size=48)


def error_of_opening(folder, records=None):
    with pytest.raises(UserError) as caught:
        AttentionMaps.open(folder, records or make_records())
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_other_records_are_refused(tmp_path, maps):
    save(tmp_path, maps)
    other = make_records(checksum="cd" * 32)
    assert f"maps in {tmp_path}: made from other records than records/train.json" in error_of_opening(tmp_path, other)
    other = make_records(classes=("cat", "dog"))
    assert "for the classes cat, dog, cow, but records/train.json has cat, dog" in error_of_opening(tmp_path, other)


def test_incomplete_or_damaged_folders_are_refused(tmp_path, maps):
    assert "no complete attention maps here" in error_of_opening(tmp_path / "missing")
    save(tmp_path, maps)
    info_file, maps_file = tmp_path / "maps.json", tmp_path / "maps.npy"
    info, content = info_file.read_text(), maps_file.read_bytes()

    maps_file.write_bytes(content[:-1])
    assert "maps.npy: not readable" in error_of_opening(tmp_path)
    maps_file.write_bytes(b"")
    assert "maps.npy: not readable" in error_of_opening(tmp_path)
    maps_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "maps.npy: damaged" in error_of_opening(tmp_path)
    np.save(maps_file, maps.astype(np.float32))
    assert "float32 [6, 5, 5], expected uint8 [6, 5, 5]" in error_of_opening(tmp_path)
    maps_file.unlink()
    assert "maps.npy: not readable" in error_of_opening(tmp_path)
    maps_file.write_bytes(content)

    for damaged in (info[:40], "[]", json.dumps(json.loads(info) | {"image_size": None})):
        info_file.write_text(damaged)
        assert "maps.json: damaged" in error_of_opening(tmp_path)
    info_file.unlink()
    assert "maps.json is missing" in error_of_opening(tmp_path)


def test_interrupted_saving_leaves_no_complete_folder(tmp_path, maps, monkeypatch):
    save(tmp_path, maps)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("oaa_tf.attention.map_files.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 255 - maps)
    assert "maps.json is missing" in error_of_opening(tmp_path)


def test_is_frozen(tmp_path, maps):
    save(tmp_path, maps)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AttentionMaps.open(tmp_path, make_records()).kind = "cam"


def test_a_full_disk_names_the_file_and_leaves_no_half_maps(tmp_path, maps, small_files):
    with pytest.raises(OSError, match="File too large") as caught, small_files(100):
        save(tmp_path, maps)
    assert caught.value.filename == str(tmp_path / "maps.npy")
    assert list(tmp_path.iterdir()) == []
