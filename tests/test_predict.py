"""Masks and overlays of image files."""

import io
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image
from tiny_model import MODEL_CLASSES, make_trained_stage

from oaa_tf import export
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.images.image_patterns import find_images
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.models.segmenter import ORIGIN_FILE, Segmenter
from oaa_tf.predict import PredictSettings, run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SavedModel folders by task."""
    root = tmp_path_factory.mktemp("models")
    for task in ("attention", "segmentation"):
        make_trained_stage(root / f"{task}_stage", task)
        export.run(export.ExportSettings(stage_dir=str(root / f"{task}_stage"), output_dir=str(root / task)))
    return {task: str(root / task) for task in ("attention", "segmentation")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several kinds and sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape in (
        ("a.jpg", (40, 60, 3)),
        ("b.png", (33, 20, 3)),
        ("grey.PNG", (24, 24)),
        ("one.jpeg", (1, 1, 3)),
    ):
        encoded = cv2.imencode(Path(name).suffix, generator.integers(0, 256, shape, np.uint8))[1]
        (folder / name).write_bytes(encoded.tobytes())
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(models: dict[str, str], images: Path | tuple[str, ...], output: Path, **options) -> dict:
    images = images if isinstance(images, tuple) else (str(images),)
    return run(PredictSettings(model=models["segmentation"], images=images, output_dir=str(output), **options))


def test_a_folder_of_images(models, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "masks"
    result = predict(models, photos, output)
    assert result["classes"] == ["background", *MODEL_CLASSES] and result["skipped"] == {}
    assert json.loads((output / "shares.json").read_text()) == result
    names = {"a", "b", "grey", "one"}
    pictures = {f"{n}.png" for n in names} | {f"{n}_overlay.jpg" for n in names}
    assert {path.name for path in output.iterdir()} == pictures | {"shares.json"}
    by_file = {image["file"]: image for image in result["images"]}
    segmenter = Segmenter(models["segmentation"])
    seen = set()
    for path in photos.glob("*.[jpP]*"):
        image = read_image(path)
        mask = read_indexed(output / f"{path.stem}.png")
        np.testing.assert_array_equal(mask, segmenter(image))
        assert by_file[str(path)]["mask"] == f"{path.stem}.png"
        shares = by_file[str(path)]["shares"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        for channel, name in enumerate(result["classes"]):
            assert shares.get(name, 0) == pytest.approx(np.mean(mask == channel), abs=1e-6)
        overlay = read_image(output / f"{path.stem}_overlay.jpg")
        assert overlay.shape == image.shape
        seen |= set(np.unique(mask))
    assert len(seen) > 1 and seen <= {0, 1, 2, 3}


def test_masks_refined_with_a_crf(models, photos: Path, tmp_path: Path) -> None:
    for name, crf in (("plain", False), ("refined", True)):
        predict(models, photos, tmp_path / name, crf=crf)
    segmenter = Segmenter(models["segmentation"], crf=True)
    probabilities = tf.saved_model.load(models["segmentation"]).signatures["probabilities"]
    num_changed = 0
    for path in photos.glob("*.[jpP]*"):
        image = read_image(path)
        mask = read_indexed(tmp_path / "refined" / f"{path.stem}.png")
        np.testing.assert_array_equal(mask, segmenter(image))
        found = probabilities(images=tf.constant(image[np.newaxis]))["probabilities"][0].numpy()
        marginals = dense_crf(np.moveaxis(found, -1, 0), image)
        assert np.mean(mask == marginals.argmax(axis=0)) > 0.99
        num_changed += np.sum(mask != read_indexed(tmp_path / "plain" / f"{path.stem}.png"))
    assert num_changed > 0


def test_without_overlays(models, photos: Path, tmp_path: Path) -> None:
    predict(models, photos / "a.jpg", tmp_path / "masks", overlays=False)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "shares.json"]


def test_large_images_are_segmented_small_and_masks_have_full_size(models, tmp_path: Path) -> None:
    y, x = np.meshgrid(np.arange(300), np.arange(200), indexing="ij")
    image = np.stack([128 + 120 * np.sin(y / 40), 128 + 120 * np.cos(x / 30), 40 + y / 2], axis=-1).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/large.png"), image)
    masks = []
    for max_side in (2000, 60):
        predict(models, tmp_path / "photos", tmp_path / str(max_side), max_side=max_side)
        masks.append(read_indexed(tmp_path / str(max_side) / "large.png"))
    assert masks[0].shape == masks[1].shape == (300, 200)
    assert np.mean(masks[0] == masks[1]) > 0.9
    # At 60 pixels, the mask is made of blocks of 5 x 5.
    np.testing.assert_array_equal(masks[1], masks[1][2::5, 2::5].repeat(5, axis=0).repeat(5, axis=1))


def test_images_that_cannot_be_read_are_named_and_the_others_done(models, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    (photos / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match="2 of 6 images were skipped: ") as caught:
        predict(models, photos, tmp_path / "masks")
    assert "broken.jpg" in str(caught.value) and "empty.png" in str(caught.value)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    result = json.loads((tmp_path / "masks/shares.json").read_text())
    assert len(result["images"]) == 4
    # What --json writes.
    assert caught.value.result == result
    assert set(result["skipped"]) == {str(photos / "broken.jpg"), str(photos / "empty.png")}
    assert "truncated JPEG" in result["skipped"][str(photos / "broken.jpg")]


def test_files_folders_and_globs(photos: Path) -> None:
    def names(*patterns: str) -> list[str]:
        return [path.name for path in find_images(patterns).values()]

    assert names(str(photos)) == ["a.jpg", "b.png", "grey.PNG", "one.jpeg"]
    assert names(str(photos / "*.jp*g")) == ["a.jpg", "one.jpeg"]
    assert names(str(photos / "b.png"), str(photos / "a.jpg"), str(photos)) == [
        "a.jpg",
        "b.png",
        "grey.PNG",
        "one.jpeg",
    ]
    # A file that one names is taken whatever it is called.
    assert names(str(photos / "notes.txt")) == ["notes.txt"]
    deep = photos / "deep" / "er"
    deep.mkdir(parents=True)
    (photos / "a.jpg").rename(deep / "a.jpg")
    assert names(str(photos / "**" / "*.jpg")) == ["a.jpg"]
    # Not the folder, which no image is in.
    assert names(str(photos / "*e*")) == ["grey.PNG", "notes.txt", "one.jpeg"]


def test_a_list_on_stdin(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(text: str) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return [path.name for path in find_images(("-",)).values()]

    (photos / "b.png").rename(photos / "b, and more.png")
    assert names(f"{photos}/one.jpeg\n{photos}/b, and more.png\r\n\n{photos}/a*\n") == [
        "a.jpg",
        "b, and more.png",
        "one.jpeg",
    ]
    for text, message in (("", "nothing on stdin"), ("\n", "nothing on stdin"), (f"{photos}/z.jpg\n", "no images")):
        with pytest.raises(UserError, match=rf"--images=.*: {message}"):
            names(text)


def test_patterns_without_images_are_named(photos: Path) -> None:
    (photos / "none").mkdir()
    for pattern in ("none", "*.gif", "missing.jpg"):
        with pytest.raises(UserError, match="no images there") as caught:
            find_images((str(photos), str(photos / pattern)))
        assert str(caught.value).startswith(f"--images={photos / pattern}: ")


def test_masks_of_several_folders_lie_as_their_images_do(models, photos: Path, tmp_path: Path) -> None:
    for folder in ("cat", "dog/old"):
        (photos / folder).mkdir(parents=True)
        shutil.copy(photos / "a.jpg", photos / folder / "1.jpg")
    patterns = (str(photos / "*" / "*.jpg"), str(photos / "cat" / ".." / "dog" / "old"))
    result = predict(models, patterns, tmp_path / "masks")
    assert {image["mask"] for image in result["images"]} == {"cat/1.png", "dog/old/1.png"}
    for image in result["images"]:
        mask = read_indexed(tmp_path / "masks" / image["mask"])
        np.testing.assert_array_equal(mask, Segmenter(models["segmentation"])(read_image(Path(image["file"]))))
    assert (tmp_path / "masks/dog/old/1_overlay.jpg").exists()
    # Nor may the masks of one folder go where images of another one are.
    with pytest.raises(UserError, match=r"--output_dir=.*: has images of --images in it"):
        predict(models, patterns, photos)


def test_two_images_of_one_name_are_refused(models, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes((photos / "b.png").read_bytes())
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would both write a\.png; rename one"):
        predict(models, photos, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_masks_never_take_the_place_of_images(models, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    monkeypatch.chdir(photos)
    for images, output in (((str(photos),), photos), (("b.png",), Path()), ((str(photos / "b.png"),), photos / "x/..")):
        with pytest.raises(UserError, match=r"--output_dir=.*: has images of --images in it"):
            predict(models, images, output)
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "file", "package"), [("onnx", "model.onnx", "onnxruntime"), ("litert", "model.tflite", "ai_edge_litert")]
)
def test_other_formats_make_the_same_masks(
    models, photos: Path, tmp_path: Path, monkeypatch, format: str, file: str, package: str
) -> None:
    pytest.importorskip(package)
    pytest.importorskip("tf2onnx")
    folder = tmp_path / "export"
    stage = str(Path(models["segmentation"]).parent / "segmentation_stage")
    export.run(export.ExportSettings(stage_dir=stage, output_dir=str(folder), format=format))
    for model, output in ((folder, "of_folder"), (folder / file, "of_file"), (models["segmentation"], "saved_model")):
        predict({"segmentation": str(model)}, photos, tmp_path / output, overlays=False)
    for name in ("a", "b", "grey", "one"):
        expected, *found = (
            read_indexed(tmp_path / output / f"{name}.png") for output in ("saved_model", "of_folder", "of_file")
        )
        np.testing.assert_array_equal(*found)
        # Rounding decides where two classes are equally probable.
        assert np.mean(found[0] == expected) > 0.99
    with pytest.raises(UserError, match="has no signature probabilities; export a SavedModel"):
        Segmenter(folder, crf=True)
    (folder / file).write_bytes((folder / file).read_bytes()[:1000])
    with pytest.raises(UserError, match=f"--model={folder}: no model of oaa_tf.export \\({file} has changed"):
        Segmenter(folder)
    (folder / ORIGIN_FILE).unlink()
    with pytest.raises(UserError, match=f"--model={folder}: no model of oaa_tf.export"):
        Segmenter(folder / file)
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"--model=.*{file}: needs {package.replace('_', '-')}: pip install"):
        Segmenter(folder)


def test_models_that_cannot_be_used_are_named(models, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "missing", tmp_path / "empty", photos / "a.jpg"):
        with pytest.raises(UserError) as caught:
            Segmenter(folder)
        assert str(caught.value).startswith(f"--model={folder}: no model of oaa_tf.export (")
    with pytest.raises(UserError, match=r"expected the signature segment \(a model of train_seg\), found attention"):
        Segmenter(models["attention"])


@pytest.mark.parametrize("damage", ["graph", "variables", "classes"])
def test_a_damaged_model_is_named(models, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(models["segmentation"], tmp_path / "model")
    path = {
        "graph": folder / "saved_model.pb",
        "variables": folder / "variables" / "variables.data-00000-of-00001",
        "classes": folder / "assets.extra" / "classes.json",
    }[damage]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"no model of oaa_tf\.export"):
        Segmenter(folder)


def test_an_output_that_cannot_be_written_is_named(models, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output_dir=.*/file/masks: cannot be written"):
        predict(models, photos, tmp_path / "file" / "masks")


def test_masks_and_overlays_are_upright(models, photos: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "turned.jpg", exif=exif)
    image = read_image(photos / "turned.jpg")
    assert image.shape == (60, 40, 3)
    predict(models, photos / "turned.jpg", tmp_path / "masks")
    mask = read_indexed(tmp_path / "masks/turned.png")
    np.testing.assert_array_equal(mask, Segmenter(models["segmentation"])(image))
    assert read_image(tmp_path / "masks/turned_overlay.jpg").shape == (60, 40, 3)


def test_other_formats_and_files_that_are_no_images(models, photos: Path, tmp_path: Path, capsys) -> None:
    with Image.open(photos / "b.png") as image:
        image.save(photos / "web.webp", lossless=True)
    (photos / "clip.MP4").write_bytes(b"")
    predict(models, photos, tmp_path / "masks")
    np.testing.assert_array_equal(*(read_indexed(tmp_path / f"masks/{name}.png") for name in ("b", "web")))
    assert f"{photos}: not read, since they are no images: 1 .mp4, 1 .txt\n" in capsys.readouterr().out


def test_ten_images_that_cannot_be_read_are_named_and_the_rest_counted(models, photos: Path, tmp_path: Path) -> None:
    for number in range(12):
        (photos / f"empty_{number:02d}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"12 of 16 images were skipped: .*empty_00.jpg: .* \| and 2 more$") as caught:
        predict(models, photos, tmp_path / "masks")
    assert len(caught.value.result["skipped"]) == 12
