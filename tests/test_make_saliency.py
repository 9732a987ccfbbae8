"""Saliency maps of photos, with tiny networks that the tests write themselves."""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from oaa_tf import experiment_records, make_records
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.images.saliency_files import read_saliency
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.make_saliency import MakeSaliencySettings, dry_run, run
from oaa_tf.models import saliency_network
from oaa_tf.models.saliency_network import Preprocessing, PublishedNetwork, SaliencyNetwork
from oaa_tf.pipeline import PipelineSettings

onnx = pytest.importorskip("onnx", reason="needs onnx (requirements-dev.txt)")
pytest.importorskip("onnxruntime", reason="needs onnxruntime (requirements-dev.txt)")

WEIGHTS = (3.0, -2.0, 1.0)
BIAS = 0.25


def write_network(path: Path, *, ending: str = "Sigmoid", channels: int = 3, outputs: int = 1, side: int | str = 8):
    """A network of one 1x1 convolution and an activation, on images of `side` pixels, or of any size."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.resize(np.float32(WEIGHTS), (outputs, channels, 1, 1))
    nodes = [
        helper.make_node("Conv", ["image", "weights", "bias"], ["logits"]),
        helper.make_node(ending, ["logits"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", floats, [1, channels, side, side])],
        [helper.make_tensor_value_info("map", floats, [1, outputs, side, side])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.full(outputs, BIAS, np.float32), "bias"),
        ],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "tiny.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Smooth photos in two folders, one of them stored sideways, and a file that is no photo."""
    folder = tmp_path / "photos"
    for name, (height, width) in {"cat/1.png": (24, 40), "cat/2.jpg": (5, 30), "dog/1.jpg": (16, 12)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
        image = np.uint8(np.stack([200 * x, 180 * y, 90 + 60 * np.sin(6 * x * y)], axis=-1))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if name == "dog/1.jpg" else 1
        Image.fromarray(image).save(folder / name, exif=exif, quality=95)
    (folder / "notes.txt").write_text("no photo")
    return folder


def saliency(network: Path, photos: Path, **options) -> dict:
    return run(MakeSaliencySettings(model=str(network), image_dir=str(photos), **options))


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Linear interpolation along both axes, over as many pixels as an output pixel covers."""
    for axis, count in enumerate(size):
        scale = values.shape[axis] / count
        centres = (np.arange(count) + 0.5) * scale
        distances = np.abs(np.arange(values.shape[axis]) + 0.5 - centres[:, None])
        weights = np.maximum(0, 1 - distances / max(scale, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return values


def expected_map(image: np.ndarray, mean: list[float], deviation: list[float]) -> np.ndarray:
    small = resized(image.astype(float), (8, 8))
    logits = (small / small.max() - mean) / deviation @ WEIGHTS + BIAS
    found = 1 / (1 + np.exp(-logits))
    return resized(255 * (found - found.min()) / np.ptp(found), image.shape[:2])


@pytest.mark.parametrize(
    ("options", "mean", "deviation"),
    [
        ({}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ({"mean": (0.5,), "deviation": (1.0,)}, [0.5] * 3, [1.0] * 3),
    ],
)
def test_maps_are_those_of_the_network_and_lie_as_the_photos_do(network, photos, options, mean, deviation) -> None:
    result = saliency(network, photos, **options)
    assert (result["made"], result["kept"], result["skipped"]) == (3, 0, {})
    maps = photos / "saliency"
    assert sorted(path.relative_to(maps).as_posix() for path in maps.rglob("*.*")) == [
        "cat/1.png",
        "cat/2.png",
        "dog/1.png",
        "saliency.json",
    ]
    for name in ("cat/1.png", "cat/2.jpg", "dog/1.jpg"):
        image = read_image(photos / name)
        found = read_indexed((maps / name).with_suffix(".png"))
        assert found.shape == image.shape[:2]
        np.testing.assert_allclose(found, expected_map(image, mean, deviation), atol=5)
        called = SaliencyNetwork(str(network), MakeSaliencySettings(model="", image_dir="x", **options).preprocessing)
        np.testing.assert_array_equal(called(image), found)
    assert read_indexed(maps / "dog/1.png").shape == (12, 16)  # Stored 16 high, and turned.
    description = json.loads((maps / "saliency.json").read_text())
    assert description.items() <= result.items()
    assert description["network"] == "tiny" and description["size"] == [8, 8]
    assert description["sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()
    assert (description["mean"], description["deviation"]) == (mean, deviation)
    assert description["supervision"] == "image labels + saliency"


def test_records_take_the_maps(network, photos, tmp_path) -> None:
    saliency(network, photos)
    settings = make_records.MakeRecordsSettings(
        image_dir=str(photos),
        val_share=0.0,
        output_dir=str(tmp_path / "records"),
        saliency_dir=str(photos / "saliency"),
    )
    make_records.run(settings)
    records = RecordSet.open(tmp_path / "records/train.json")
    assert records.image_ids == ("cat_1", "cat_2", "dog_1") and records.has_saliency
    np.testing.assert_array_equal(records.record(2).saliency, read_indexed(photos / "saliency/dog/1.png"))


def test_photos_of_records(network, photos, tmp_path) -> None:
    common = {"image_dir": str(photos), "val_share": 0.0, "output_dir": str(tmp_path / "records")}
    make_records.run(make_records.MakeRecordsSettings(**common, max_side=20))
    manifest = tmp_path / "records/train.json"
    with pytest.raises(UserError, match="--output_dir=: expected a folder for the maps, with --records"):
        MakeSaliencySettings(model=str(network), records=str(manifest))
    maps = tmp_path / "maps"
    run(MakeSaliencySettings(model=str(network), records=str(manifest), output_dir=str(maps)))
    # As large as the photo in the records, and under the name of the photo, where make_records looks for it.
    assert read_indexed(maps / "cat/1.png").shape == (12, 20)
    make_records.run(make_records.MakeRecordsSettings(**common, saliency_dir=str(maps)))
    assert RecordSet.open(manifest).has_saliency


def test_single_photos(network, photos, tmp_path) -> None:
    images = (str(photos / "cat/1.png"), str(photos / "dog"))
    result = run(MakeSaliencySettings(model=str(network), images=images, output_dir=str(tmp_path / "maps")))
    assert result["made"] == 2 and (tmp_path / "maps/cat/1.png").exists() and (tmp_path / "maps/dog/1.png").exists()
    with pytest.raises(UserError, match=r"--output_dir=.*: has images of --images in it"):
        run(MakeSaliencySettings(model=str(network), images=images, output_dir=str(photos)))


def test_a_second_run_makes_what_is_missing(network, photos) -> None:
    saliency(network, photos)
    maps = photos / "saliency"
    before = (maps / "dog/1.png").read_bytes()
    (maps / "dog/1.png").unlink()
    (maps / "cat/1.png").write_bytes(b"not touched")
    renamed = shutil.copy(network, network.with_name("renamed.onnx"))
    looked_at = dry_run(MakeSaliencySettings(model=str(renamed), image_dir=str(photos)))
    assert (looked_at["images"], looked_at["images_left"]) == (3, 1) and not (maps / "dog/1.png").exists()
    result = saliency(renamed, photos)
    assert (result["made"], result["kept"]) == (1, 2)
    assert (maps / "dog/1.png").read_bytes() == before and (maps / "cat/1.png").read_bytes() == b"not touched"


def test_maps_of_two_networks_are_not_mixed(network, photos, tmp_path) -> None:
    saliency(network, photos)
    maps = photos / "saliency"
    other = write_network(tmp_path / "other.onnx", side=16)
    for refused in (lambda: saliency(other, photos), lambda: saliency(network, photos, mean=(0.5,))):
        with pytest.raises(UserError, match=r"--output_dir=.*/saliency: has maps of tiny, which differs in "):
            refused()
    saliency(other, photos, output_dir=str(tmp_path / "elsewhere"))
    (maps / "saliency.json").write_text("{")
    with pytest.raises(UserError, match=r"saliency\.json: damaged"):
        saliency(network, photos)
    (maps / "saliency.json").unlink()
    with pytest.raises(UserError, match=r"has maps, but no saliency\.json"):
        saliency(network, photos)


def test_photos_that_cannot_be_read_are_named_and_the_others_done(network, photos) -> None:
    (photos / "cat/3.jpg").write_bytes((photos / "cat/2.jpg").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of 4 images were skipped: .*cat/3\.jpg: truncated JPEG") as caught:
        saliency(network, photos)
    assert caught.value.result["made"] == 3 and list(caught.value.result["skipped"]) == ["cat/3"]
    assert len(list((photos / "saliency").rglob("*.png"))) == 3


def test_logits_and_photos_where_nothing_stands_out(photos, tmp_path) -> None:
    plain = write_network(tmp_path / "plain.onnx", ending="Identity")
    with pytest.raises(UserError, match=r"--model=.*plain\.onnx: gives values from .* expected 0 to 1; add --logits"):
        saliency(plain, photos)
    Image.new("RGB", (9, 9), (10, 20, 30)).save(photos / "cat/flat.png")
    saliency(plain, photos, logits=True)
    saliency(write_network(tmp_path / "tiny.onnx"), photos, output_dir=str(tmp_path / "maps"))
    assert not read_indexed(photos / "saliency/cat/flat.png").any()
    for name in ("cat/1.png", "dog/1.png"):
        np.testing.assert_allclose(
            *(read_indexed(folder / name) for folder in (photos / "saliency", tmp_path / "maps"))
        )


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        (
            {"channels": 4},
            {},
            r"expected one input, float \[1, 3, height, width\], found tensor\(float\) \[1, 4, 8, 8\]",
        ),
        ({"outputs": 2}, {}, r"expected a map as the first output, found float32 \[1, 2, 8, 8\]"),
        ({"side": "any"}, {}, "takes images of any size; choose one with --size"),
        ({}, {"size": 16}, "--size=16: the network takes 8x8 pixels; leave --size out"),
        ({}, {"mean": (0.1, 0.2)}, "--mean=0.1,0.2: expected one number, or three"),
        ({}, {"deviation": (0.0,)}, "--deviation=0.0: expected one positive number, or three"),
        (
            {},
            {"images": ("x.jpg",)},
            "expected one of --image_dir, --images and --records, got --image_dir and --images",
        ),
    ],
)
def test_networks_and_flags_that_do_not_fit_are_named(photos, tmp_path, options, flags, message) -> None:
    with pytest.raises(UserError, match=message):
        saliency(write_network(tmp_path / "net.onnx", **options), photos, **flags)
    assert not (photos / "saliency").exists()


def test_a_network_of_any_size_gets_one(photos, tmp_path) -> None:
    assert saliency(write_network(tmp_path / "any.onnx", side="any"), photos, size=8)["size"] == [8, 8]


def test_files_that_are_no_networks_are_named(photos, tmp_path, network, monkeypatch) -> None:
    (tmp_path / "broken.onnx").write_bytes(network.read_bytes()[:50])
    for name, message in (
        ("missing.onnx", "no such file; expected u2netp, "),
        ("broken.onnx", "cannot be read as ONNX"),
    ):
        with pytest.raises(UserError, match=f"--model=.*{name}: {message}"):
            saliency(tmp_path / name, photos)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="saliency maps need onnxruntime: pip install onnxruntime"):
        saliency(network, photos)


@pytest.fixture
def publish(network, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Publishes the network as "u2netp", at a file's address; returns where its download is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def publish(**changes: str) -> Path:
        sha256 = hashlib.sha256(network.read_bytes()).hexdigest()
        published = PublishedNetwork(network.as_uri(), sha256, 1, Preprocessing(8, (0.5,) * 3, (1.0,) * 3))
        monkeypatch.setitem(saliency_network.PUBLISHED, "u2netp", dataclasses.replace(published, **changes))
        return tmp_path / "cache/oaa_tf/u2netp.onnx"

    return publish


def test_a_published_network_is_downloaded_once(publish, network, photos, tmp_path) -> None:
    cached = publish()
    settings = MakeSaliencySettings(model="u2netp", image_dir=str(photos))
    other = dataclasses.replace(settings, mean=(0.1,))
    for refused in (run, dry_run):
        with pytest.raises(UserError, match="u2netp has its own preprocessing; leave out --size, --mean, "):
            refused(other)
    assert dry_run(settings)["downloads"] == [network.as_uri()] and not cached.exists()
    result = run(settings)
    assert (result["network"], result["mean"]) == ("u2netp", [0.5, 0.5, 0.5])
    assert [path.name for path in cached.parent.iterdir()] == ["u2netp.onnx"]
    # A copy is known by what is in it.
    copy = shutil.copy(network, tmp_path / "copy.onnx")
    network.unlink()
    assert run(settings)["kept"] == 3 and dry_run(settings)["downloads"] == []
    assert saliency(copy, photos)["kept"] == 3
    with pytest.raises(UserError, match="u2netp has its own preprocessing"):
        saliency(copy, photos, mean=(0.1,))
    cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cache/oaa_tf/u2netp\.onnx: damaged, or another network than u2netp"):
        run(settings)


def test_downloads_that_fail_are_one_line(publish, photos) -> None:
    cached = publish(url="http://127.0.0.1:9/u2netp.onnx")
    settings = MakeSaliencySettings(model="u2netp", image_dir=str(photos))
    with pytest.raises(
        UserError, match=r"--model=u2netp: cannot download http://127.*refused.*save it .*/u2netp\.onnx"
    ):
        run(settings)
    publish(sha256="0" * 64)
    with pytest.raises(UserError, match=r"--model=u2netp: file:.*tiny\.onnx has sent another file, with the SHA-256 "):
        run(settings)
    assert not list(cached.parent.iterdir()) and not (photos / "saliency").exists()


def test_u2netp_finds_the_objects_of_real_photos(real_data: Path, tmp_path: Path) -> None:
    model = real_data / "weights/u2netp.onnx"
    if not model.exists():
        pytest.skip(f"no {model}")
    voc = real_data / "voc12_animals"
    names = [path.stem for path in sorted((voc / "saliency").iterdir())[::200]]
    images = tuple(str(voc / f"JPEGImages/{name}.jpg") for name in names)
    result = run(MakeSaliencySettings(model=str(model), images=images, output_dir=str(tmp_path)))
    assert result["network"] == "u2netp"
    scores = []
    for folder in (tmp_path, voc / "saliency"):
        shared = united = 0
        for name in names:
            mask = read_indexed(voc / f"SegmentationClass/{name}.png")
            found = read_saliency(folder / f"{name}.png", *mask.shape) > 127
            shared += np.sum(found & (mask > 0) & (mask < 255))
            united += np.sum((found | (mask > 0)) & (mask < 255))
        scores.append(shared / united)
    assert scores[0] > scores[1] - 0.1


def pipeline_settings(network: Path, photos: Path, work_dir: Path, *flags: str) -> PipelineSettings:
    common = (f"--image_dir={photos}", f"--work_dir={work_dir}", "--backbone_weights=none", "--val_share=0")
    return parse(PipelineSettings, "pipeline", [*common, f"--saliency_model={network}", *flags])


def test_a_pipeline_makes_the_maps_beside_its_records(network: Path, photos: Path, tmp_path: Path) -> None:
    chosen = pipeline_settings(network, photos, tmp_path / "work")
    shown, *_ = experiment_records.dry_run_records(chosen, tmp_path / "work", seed=0)
    assert {" ".join(line.split()) for line in shown["saliency_maps"]} >= {"images left: 3", "downloads: -"}
    assert not (tmp_path / "work").exists()
    manifest, _ = experiment_records.make_all_records(chosen, tmp_path / "work", seed=0)
    records = RecordSet.open(manifest)
    assert records.has_saliency
    assert records.saliency_network == f"tiny {hashlib.sha256(network.read_bytes()).hexdigest()[:8]}"
    expected = SaliencyNetwork(str(network))(read_image(photos / "dog/1.jpg"))
    np.testing.assert_array_equal(records.record(records.image_ids.index("dog_1")).saliency, expected)
    shown, *_ = experiment_records.dry_run_records(chosen, tmp_path / "work", seed=0)
    assert shown["saliency_maps"][2].split() == ["images", "left:", "0"]
    assert shown["records"] == {"train": "done, 3 images"}
    other = pipeline_settings(write_network(tmp_path / "other.onnx", side=16), photos, tmp_path / "work")
    with pytest.raises(UserError, match=r"^\S+/records/saliency has maps of tiny, which differs in .*, or delete that"):
        experiment_records.make_all_records(other, tmp_path / "work", seed=0)


def test_a_pipeline_mixes_no_maps(network: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "saliency").mkdir()
    with pytest.raises(
        UserError, match=r"--saliency_model=.*saliency has maps already; leave the flag out to use them"
    ):
        experiment_records.make_all_records(pipeline_settings(network, photos, tmp_path), tmp_path, seed=0)
    with pytest.raises(UserError, match=r"--saliency_model=.*: makes maps, so it needs --use_saliency"):
        pipeline_settings(network, photos, tmp_path, "--nouse_saliency")
    with pytest.raises(UserError, match=r"--saliency_model=u2net: is for photos of your own; the demo data have maps"):
        parse(PipelineSettings, "pipeline", ["--work_dir=work", "--saliency_model=u2net"])


def test_a_pipeline_names_its_own_flag_for_the_network(photos: Path, tmp_path: Path, capsys) -> None:
    any_size = write_network(tmp_path / "any.onnx", side="side")
    for model, message in (
        ("u2nett", "no such file; expected u2netp, u2net, isnet or the path of an ONNX file"),
        (any_size, "takes images of any size; choose one with --size, best that of its training; make the maps with"),
    ):
        for command in (experiment_records.dry_run_records, experiment_records.make_all_records):
            with pytest.raises(UserError, match=rf"^--saliency_model={model}: {message}"):
                command(pipeline_settings(model, photos, tmp_path / "work"), tmp_path / "work", seed=0)
    # Only make_records tells what there is to say of the photos.
    assert capsys.readouterr().out == ""
