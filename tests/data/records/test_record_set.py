import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import encode_grey
from oaa_tf.data.records import keys
from oaa_tf.data.records.manifest import ImageEntry, Manifest
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.records.record_writer import RecordWriter, serialize

_CLASSES = ("circle", "square", "cross")


def write_records(folder, images, *, split="train", images_per_shard=2, masks=True):
    with RecordWriter(folder, split, images_per_shard=images_per_shard) as writer:
        for tiny in images:
            entry = ImageEntry(tiny.image_id, tiny.labels, *tiny.mask.shape)
            image_data = tf.io.encode_png(tiny.image).numpy()
            mask_data = encode_grey(tiny.mask) if masks else b""
            writer.write(entry, serialize(entry, image_data, mask_data, encode_grey(tiny.saliency)))
        writer.skip("left_out", "none of the kept classes")
        return writer.commit(classes=_CLASSES, labels_from="list", has_masks=masks, has_saliency=True)


@pytest.fixture
def manifest(tmp_path, tiny_images):
    return write_records(tmp_path / "records", tiny_images[:5])


def test_round_trip(manifest, tiny_images):
    records = RecordSet.open(manifest)
    assert len(records) == 5
    assert records.manifest_path == manifest
    assert records.split == "train"
    assert records.classes == _CLASSES
    assert records.labels_from == "list"
    assert records.has_masks and records.has_saliency
    assert records.image_ids == tuple(tiny.image_id for tiny in tiny_images[:5])
    for position, tiny in enumerate(tiny_images[:5]):
        record = records.record(position)
        assert record.image_id == tiny.image_id
        np.testing.assert_array_equal(record.image, tiny.image)
        np.testing.assert_array_equal(record.mask, tiny.mask)
        np.testing.assert_array_equal(record.saliency, tiny.saliency)


def test_labels_sizes_and_slots(manifest):
    records = RecordSet.open(manifest)
    assert records.labels == ((0,), (1,), (2,), (0, 1), (1, 2))
    assert records.sizes.dtype == np.int32
    assert records.sizes.tolist() == [[40, 56], [56, 40], [48, 48], [33, 61], [61, 47]]
    assert records.first_slots.dtype == np.int64
    assert records.first_slots.tolist() == [0, 1, 2, 3, 5, 7]
    matrix = records.label_matrix()
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]


def test_any_tensorflow_program_reads_the_same_records(manifest):
    records = RecordSet.open(manifest)
    paths = sorted(manifest.parent.glob("*.tfrecord"))
    assert [path.name for path in paths] == [f"train-0000{index}-of-00003.tfrecord" for index in range(3)]
    stored = [data.numpy() for data in tf.data.TFRecordDataset(list(map(str, paths)))]
    assert stored == [records.read(position) for position in range(5)]
    spec = {
        keys.IMAGE_ID: tf.io.FixedLenFeature([], tf.string),
        keys.HEIGHT: tf.io.FixedLenFeature([], tf.int64),
        keys.WIDTH: tf.io.FixedLenFeature([], tf.int64),
        keys.LABELS: tf.io.RaggedFeature(tf.int64),
    }
    parsed = tf.io.parse_single_example(stored[3], spec)
    assert parsed[keys.IMAGE_ID].numpy() == b"tiny_003"
    assert (parsed[keys.HEIGHT].numpy(), parsed[keys.WIDTH].numpy()) == (33, 61)
    assert parsed[keys.LABELS].numpy().tolist() == [0, 1]


def test_records_without_masks(tmp_path, tiny_images):
    records = RecordSet.open(write_records(tmp_path, tiny_images, masks=False))
    assert not records.has_masks
    assert records.record(0).mask is None
    assert records.record(0).saliency is not None


def test_threads_read_at_random_without_mixing(manifest):
    records = RecordSet.open(manifest)
    positions = np.random.default_rng(0).integers(0, 5, 2000).tolist()
    expected = [records.read(position) for position in range(5)]
    with ThreadPoolExecutor(8) as pool:
        for position, data in zip(positions, pool.map(records.read, positions), strict=True):
            assert data == expected[position]


@pytest.mark.parametrize("position", [-1, 5])
def test_position_out_of_range(manifest, position):
    with pytest.raises(IndexError, match=rf"position {position}: expected 0 to 4"):
        RecordSet.open(manifest).read(position)


def test_equal_records_have_equal_checksums_and_others_do_not(tmp_path, tiny_images):
    first = RecordSet.open(write_records(tmp_path / "a", tiny_images))
    again = RecordSet.open(write_records(tmp_path / "b", tiny_images))
    other = RecordSet.open(write_records(tmp_path / "c", tiny_images[::-1]))
    assert first.checksum == again.checksum != other.checksum
    assert len(first.checksum) == 64


def test_new_records_take_the_place_of_the_old(tmp_path, tiny_images):
    write_records(tmp_path, tiny_images, split="val")
    write_records(tmp_path, tiny_images, images_per_shard=1)
    (tmp_path / ".train.partial").mkdir()
    (tmp_path / ".train.partial" / "00000.tfrecord").write_bytes(b"left by a killed run")
    assert len(RecordSet.open(write_records(tmp_path, tiny_images, images_per_shard=3))) == 6
    assert len(RecordSet.open(tmp_path / "val.json")) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
        "train.json",
        "val-00000-of-00003.tfrecord",
        "val-00001-of-00003.tfrecord",
        "val-00002-of-00003.tfrecord",
        "val.json",
    ]


def test_without_commit_the_old_records_stay(manifest, tiny_images):
    before = {path.name: path.read_bytes() for path in manifest.parent.iterdir()}
    with pytest.raises(KeyboardInterrupt), RecordWriter(manifest.parent, "train", images_per_shard=2) as writer:
        entry = ImageEntry("other", (0,), 1, 1)
        writer.write(entry, serialize(entry, b"image"))
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in manifest.parent.iterdir()} == before


def test_failed_write_is_one_line(tmp_path, monkeypatch):
    class FullDisk(tf.io.TFRecordWriter):
        def write(self, record):
            raise tf.errors.ResourceExhaustedError(None, None, "shard; No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", FullDisk)
    with (
        pytest.raises(UserError, match=r"cannot write records: shard; No space left on device"),
        RecordWriter(tmp_path, "train", images_per_shard=2) as writer,
    ):
        writer.write(ImageEntry("a", (0,), 1, 1), b"data")
    assert list(tmp_path.iterdir()) == []


def shard(manifest):
    return manifest.with_name("train-00001-of-00003.tfrecord")


def remove_shard(manifest):
    shard(manifest).unlink()


def cut_at_record_boundary(manifest):
    data = shard(manifest).read_bytes()
    shard(manifest).write_bytes(data[: 16 + int.from_bytes(data[:8], "little")])


def cut_inside_record(manifest):
    shard(manifest).write_bytes(shard(manifest).read_bytes()[:-3])


def flip_bit(manifest):
    data = bytearray(shard(manifest).read_bytes())
    data[len(data) // 2] ^= 4
    shard(manifest).write_bytes(data)


def flip_length(manifest):
    data = bytearray(shard(manifest).read_bytes())
    data[1] ^= 1
    shard(manifest).write_bytes(data)


def swap_shards(manifest):
    other = manifest.with_name("train-00000-of-00003.tfrecord")
    first, second = other.read_bytes(), shard(manifest).read_bytes()
    other.write_bytes(second)
    shard(manifest).write_bytes(first)


def change_version(manifest):
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"version": 99}))


def edit_labels(manifest):
    content = json.loads(manifest.read_text())
    content["images"][0]["labels"] = [2]
    manifest.write_text(json.dumps(content))


def cut_manifest(manifest):
    manifest.write_text(manifest.read_text()[:-40])


def scramble_manifest(manifest):
    manifest.write_bytes(b"\xff\xfe\x00")


def put_other_json(manifest):
    manifest.write_text('{"mean_iou": 0.5}')


def put_list(manifest):
    manifest.write_text("[1, 2]")


def remove_manifest(manifest):
    manifest.unlink()


@pytest.mark.parametrize(
    ("damage", "culprit", "message"),
    [
        (remove_shard, "train-00001-of-00003.tfrecord", "No such file"),
        (cut_at_record_boundary, "train-00001-of-00003.tfrecord", "damaged shard: [0-9]+ bytes, expected"),
        (cut_inside_record, "train-00001-of-00003.tfrecord", "damaged shard: [0-9]+ bytes, expected"),
        (flip_bit, "train-00001-of-00003.tfrecord", "damaged shard: wrong checksum"),
        (flip_length, "train-00001-of-00003.tfrecord", "damaged shard: wrong checksum"),
        (swap_shards, "train-00000-of-00003.tfrecord", "damaged shard"),
        (change_version, "train.json", "records of version 99, expected 1"),
        (edit_labels, "train.json", "damaged or edited manifest"),
        (cut_manifest, "train.json", "damaged manifest: not JSON"),
        (scramble_manifest, "train.json", "damaged manifest: not JSON"),
        (put_other_json, "train.json", "not a manifest of records"),
        (put_list, "train.json", "not a manifest of records"),
        (remove_manifest, "train.json", "No such file"),
    ],
)
def test_damage_is_named_in_one_line(manifest, damage, culprit, message):
    damage(manifest)
    with pytest.raises(UserError, match=rf"{culprit}: .*{message}.*make_records") as error:
        RecordSet.open(manifest)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [remove_shard, cut_at_record_boundary, cut_inside_record, flip_length])
def test_damage_that_is_found_without_reading_all_data(manifest, damage):
    damage(manifest)
    with pytest.raises(UserError, match=r"train-00001-of-00003.tfrecord: .*run make_records again"):
        RecordSet.open(manifest, verify=False)


def test_shard_that_shrinks_while_open(manifest):
    records = RecordSet.open(manifest)
    cut_at_record_boundary(manifest)
    records.read(2)
    with pytest.raises(UserError, match=r"train-00001-of-00003.tfrecord: was cut while in use"):
        records.read(3)


def test_manifest_round_trip(manifest):
    content = Manifest.read(manifest)
    copy = manifest.with_name("copy.json")
    content.write(copy)
    assert Manifest.read(copy) == content
    assert copy.read_bytes() == manifest.read_bytes()
    readable = json.loads(manifest.read_text())
    assert (readable["num_images"], readable["num_skipped"]) == (5, 1)
    assert readable["skipped"] == [{"id": "left_out", "reason": "none of the kept classes"}]
