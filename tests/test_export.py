"""SavedModels that need nothing but TensorFlow."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_model import MODEL_CLASSES, make_trained_stage

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.export import ExportSettings, dry_run, is_current, run
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records
from oaa_tf.models.exported import export_network
from oaa_tf.models.inference import attention_functions, segmentation_functions
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.segmenter import ORIGIN_FILE, Segmenter, file_checksums
from oaa_tf.runs.atomic import complete_folder

FUNCTIONS = {"attention": attention_functions, "segmentation": segmentation_functions}


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, keras.Model]]:
    """Folder and network by task."""
    root = tmp_path_factory.mktemp("stages")
    return {task: (root / task, make_trained_stage(root / task, task)) for task in FUNCTIONS}


@pytest.fixture(scope="module")
def exported(stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SavedModels of both tasks."""
    root = tmp_path_factory.mktemp("exported")
    for task, (folder, _) in stages.items():
        run(ExportSettings(stage_dir=str(folder), output_dir=str(root / "new folder" / task)))
    return root / "new folder"


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_an_export_of_an_earlier_training_is_not_current(stages, exported: Path, tmp_path: Path) -> None:
    stage = shutil.copytree(stages["attention"][0], tmp_path / "stage")
    settings = ExportSettings(stage_dir=str(stage), output_dir=str(exported / "attention"))
    assert is_current(settings)
    assert not is_current(dataclasses.replace(settings, output_dir=str(tmp_path / "none")))
    shutil.rmtree(stage)
    make_trained_stage(stage, "attention", seed=1)
    assert not is_current(settings)
    # Somebody wants the space.
    shutil.rmtree(stage / "checkpoints")
    assert is_current(settings)


@pytest.mark.parametrize("task", FUNCTIONS)
def test_a_reloaded_model_gives_what_the_network_gives(task: str, stages, exported: Path) -> None:
    loaded = tf.saved_model.load(str(exported / task))
    functions = FUNCTIONS[task](stages[task][1], 48)
    assert set(loaded.signatures) == {*functions, "serving_default"}
    for shape in ((1, 48, 48), (2, 37, 90)):
        images = tf.constant(random_images(*shape))
        for name, function in functions.items():
            expected = function(images)
            result = loaded.signatures[name](images=images)
            assert result.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(result[key], value, err_msg=key)
            if name == "segment":
                assert len(np.unique(result["mask"])) > 1


def test_a_model_says_what_it_was_trained_on(stages, exported: Path, tmp_path: Path) -> None:
    origin = json.loads((exported / "attention" / ORIGIN_FILE).read_text())
    assert origin.pop("files") == file_checksums(exported / "attention")
    assert origin.pop("inference") == {"image_size": 48, "scales": [1.0], "flip": False}
    assert origin.pop("precision") == "float32"
    # This stage is not finished.
    checkpoint = origin.pop("checkpoint_checksum")
    assert origin == {"supervision": None, "seed": None, "records_checksum": None}
    known = {"supervision": "image labels", "seed": 3, "records_checksum": "ab"}
    folder = shutil.copytree(stages["attention"][0], tmp_path / "stage")
    (folder / "metrics.json").write_text(json.dumps(known | {"stage": "train_cls", "settings": {}}))
    run(ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model")))
    content = json.loads((tmp_path / "model" / ORIGIN_FILE).read_text())
    assert content == known | {
        "checkpoint_checksum": checkpoint,
        "inference": {"image_size": 48, "scales": [1.0], "flip": False},
        "precision": "float32",
        "files": file_checksums(tmp_path / "model"),
    }
    (folder / "metrics.json").write_text("[")
    with pytest.raises(UserError, match=r"metrics.json: damaged; delete it and run the training stage again"):
        run(ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model")))


def test_models_run_without_keras_and_alike(exported: Path, tmp_path: Path) -> None:
    script = """
        import sys
        # Importing it would fail.
        sys.modules["keras"] = None
        import numpy as np
        import tensorflow as tf

        images = tf.constant(np.load(sys.argv[2] + "/images.npy"))
        for task in ("attention", "segmentation"):
            model = tf.saved_model.load(sys.argv[1] + "/" + task)
            for name in set(model.signatures) - {"serving_default"}:
                for key, value in model.signatures[name](images=images).items():
                    np.save(f"{sys.argv[2]}/{task}_{key}.npy", value.numpy())
        assert sys.modules["keras"] is None and not any(name.startswith("oaa_tf") for name in sys.modules)
    """
    images = random_images(2, 61, 40)
    np.save(tmp_path / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(exported), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for task in FUNCTIONS:
        signatures = tf.saved_model.load(str(exported / task)).signatures
        for name in FUNCTIONS[task](None, 48):
            for key, value in signatures[name](images=tf.constant(images)).items():
                np.testing.assert_array_equal(np.load(tmp_path / f"{task}_{key}.npy"), value)


def test_what_export_says_and_writes(stages, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = ExportSettings(stage_dir=str(stages["segmentation"][0]), output_dir=str(tmp_path / "model"))
    assert run(settings) == {"signature": "segment", "classes": list(MODEL_CLASSES), "image_size": 48}
    assert "has the signature 'segment' for uint8 images" in capsys.readouterr().out
    assert json.loads((tmp_path / "model/assets.extra/classes.json").read_text()) == list(MODEL_CLASSES)
    # Nothing else is left over.
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    # Every weight once, and nothing else.
    variables = tf.train.list_variables(str(tmp_path / "model/variables/variables"))
    shapes = sorted(tuple(shape) for name, shape in variables if name.endswith("VARIABLE_VALUE"))
    assert shapes == sorted(tuple(weight.shape) for weight in stages["segmentation"][1].weights)


@pytest.mark.parametrize("task", FUNCTIONS)
def test_a_network_in_memory_is_exported_as_its_stage_is(task: str, stages, exported: Path, tmp_path: Path) -> None:
    output, origin = tmp_path / "model", {"supervision": "image labels", "seed": 4, "records_checksum": "ab"}
    name = export_network(stages[task][1], output, classes=MODEL_CLASSES, image_size=48, **origin)
    assert name == {"attention": "attention", "segmentation": "segment"}[task]
    class_prior = {"class_prior": False} if task == "segmentation" else {}
    assert json.loads((output / ORIGIN_FILE).read_text()) == origin | {
        "checkpoint_checksum": None,
        "inference": {"image_size": 48, "scales": [1.0], "flip": False} | class_prior,
        "precision": "float32",
        "files": file_checksums(output),
    }
    assert json.loads((output / "assets.extra/classes.json").read_text()) == list(MODEL_CLASSES)
    images = tf.constant(random_images(1, 37, 50))
    result, expected = (tf.saved_model.load(str(f)).signatures[name](images=images) for f in (output, exported / task))
    for key, value in expected.items():
        np.testing.assert_array_equal(result[key], value)


def test_a_network_of_other_classes_is_refused(stages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a network of 4 channels, for 5 classes: expected 5 or 6"):
        export_network(stages["segmentation"][1], tmp_path / "model", classes=["a"] * 5, image_size=48)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("views", [{"flip": True}, {"scales": [0.5, 1]}, {"class_prior": True}])
def test_a_bare_network_in_memory_has_no_views_and_no_class_prior(stages, tmp_path: Path, views: dict) -> None:
    with pytest.raises(ValueError, match="format 'keras' is the bare network"):
        export_network(
            stages["segmentation"][1], tmp_path / "model", classes=MODEL_CLASSES, image_size=48, format="keras", **views
        )
    assert list(tmp_path.iterdir()) == []


def test_another_image_size(stages, tmp_path: Path) -> None:
    folder, network = stages["attention"]
    settings = ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model"), image_size=80)
    assert run(settings)["image_size"] == 80
    images = tf.constant(random_images(1, 50, 50))
    result = tf.saved_model.load(str(tmp_path / "model")).signatures["attention"](images=images)
    expected, other = (attention_functions(network, size)["attention"](images)["scores"] for size in (80, 48))
    np.testing.assert_array_equal(result["scores"], expected)
    assert not np.allclose(result["scores"], other)


@pytest.mark.parametrize(
    ("task", "views"),
    [
        ("attention", {"scales": (0.5, 1.0), "flip": True}),
        ("segmentation", {"scales": (0.5,), "flip": True, "class_prior": True}),
    ],
)
def test_views_and_class_prior(task: str, views: dict, stages, exported: Path, tmp_path: Path) -> None:
    run(ExportSettings(stage_dir=str(stages[task][0]), output_dir=str(tmp_path / "model"), **views))
    images = tf.constant(random_images(2, 37, 90))
    name, function = next(iter(FUNCTIONS[task](stages[task][1], 48, **views).items()))
    one_view = tf.saved_model.load(str(exported / task)).signatures[name](images=images)
    result = tf.saved_model.load(str(tmp_path / "model")).signatures[name](images=images)
    inference = {"image_size": 48} | views | {"scales": list(views["scales"])}
    assert json.loads((tmp_path / "model" / ORIGIN_FILE).read_text())["inference"] == inference
    for key, value in function(images).items():
        np.testing.assert_array_equal(result[key], value)
        assert result[key].shape == one_view[key].shape and np.any(result[key] != one_view[key])
    # All views and signatures share one copy of the network.
    sizes = [(folder / "saved_model.pb").stat().st_size for folder in (exported / task, tmp_path / "model")]
    assert sizes[1] < 1.7 * sizes[0]


def test_another_precision(stages, exported: Path, tmp_path: Path) -> None:
    stage = str(stages["segmentation"][0])
    run(ExportSettings(stage_dir=stage, output_dir=str(tmp_path / "model"), precision="bfloat16"))
    assert json.loads((tmp_path / "model" / ORIGIN_FILE).read_text())["precision"] == "bfloat16"
    images = tf.constant(random_images(2, 61, 40))
    models = [tf.saved_model.load(str(folder)) for folder in (exported / "segmentation", tmp_path / "model")]
    expected, found = (model.signatures["probabilities"](images=images)["probabilities"] for model in models)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.any(found != expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format": "onnx", "precision": "bfloat16"},
            "--format=onnx: --precision can be float32 or int8 with it, not b",
        ),
        ({"format": "litert", "precision": "int8"}, "--format=litert: --precision can be float32 or float16 with it"),
        ({"precision": "int8", "records": "train.json"}, "--precision=int8: is for --format=onnx"),
        ({"format": "onnx", "precision": "int8"}, "--records: is needed for --precision=int8"),
        ({"format": "onnx", "records": "train.json"}, "--records=train.json: is for --precision=int8; leave it out"),
    ],
)
def test_precisions_of_formats(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        ExportSettings(stage_dir="stage", output_dir="model", **options)


def test_options_for_another_format_are_refused(stages, tmp_path: Path) -> None:
    for options in ({"format": "litert", "calibration": []}, {"format": "onnx", "float16_weights": True}):
        with pytest.raises(ValueError, match="calibration is for onnx, float16_weights for litert"):
            export_network(stages["attention"][1], tmp_path / "m", classes=MODEL_CLASSES, image_size=48, **options)


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16"])
def test_the_precision_of_the_training(trained_in: str, tmp_path: Path) -> None:
    make_trained_stage(tmp_path / "stage", "segmentation")
    description = NetworkDescription.read(tmp_path / "stage")
    (tmp_path / "stage/network.json").unlink()
    dataclasses.replace(description, trained_in=trained_in).write(tmp_path / "stage")
    run(ExportSettings(stage_dir=str(tmp_path / "stage"), output_dir=str(tmp_path / "model"), precision="as_trained"))
    assert json.loads((tmp_path / "model" / ORIGIN_FILE).read_text())["precision"] == trained_in


def test_a_class_prior_is_for_segmentation(stages, tmp_path: Path) -> None:
    folder, network = stages["attention"]
    settings = ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model"), class_prior=True)
    with pytest.raises(UserError, match=rf"--class_prior: .* not for that of --stage_dir={folder}; leave it out"):
        run(settings)
    with pytest.raises(ValueError, match="class_prior is for segmentation networks"):
        export_network(network, tmp_path / "model", classes=MODEL_CLASSES, image_size=48, class_prior=True)
    assert list(tmp_path.iterdir()) == []


def test_the_bare_network_has_no_views_and_no_class_prior() -> None:
    for views in ({"flip": True}, {"scales": (1.0, 2.0)}, {"class_prior": True}):
        with pytest.raises(UserError, match=r"--format=keras: the bare network sees one view; leave out"):
            ExportSettings(stage_dir="stage", output_dir="model", format="keras", **views)


def test_an_earlier_export_is_replaced(stages, tmp_path: Path) -> None:
    output = tmp_path / "model"
    run(ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(output)))
    run(ExportSettings(stage_dir=str(stages["segmentation"][0]), output_dir=str(output)))
    assert "attention" not in tf.saved_model.load(str(output)).signatures
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_earlier_export_is_whole_at_every_moment(stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "model"
    settings = ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(output))
    run(settings)
    moments = 0

    def watched(function: Callable) -> Callable:
        def call(*arguments, **options):
            nonlocal moments
            result = function(*arguments, **options)
            found = complete_folder(output)
            assert json.loads((found / ORIGIN_FILE).read_text())["files"] == file_checksums(found)
            moments += 1
            return result

        return call

    for name in ("rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    run(settings)
    assert moments > 4


@pytest.mark.slow
def test_a_kill_between_two_renames_leaves_a_model_to_predict_with(stages, tmp_path: Path) -> None:
    settings = ExportSettings(stage_dir=str(stages["segmentation"][0]), output_dir=str(tmp_path / "model"))
    run(settings)
    (tmp_path / "link").symlink_to("model")
    # What the kill leaves where the system can't exchange folders.
    (tmp_path / "model").rename(tmp_path / ".model.old")
    for name in ("model", "link"):
        assert Segmenter(tmp_path / name).classes == MODEL_CLASSES
    run(settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]


@pytest.mark.slow
def test_an_export_to_a_link_replaces_its_target(stages, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("model")
    for task in FUNCTIONS:
        run(ExportSettings(stage_dir=str(stages[task][0]), output_dir=str(tmp_path / "link")))
    assert (tmp_path / "link").is_symlink() and "segment" in tf.saved_model.load(str(tmp_path / "model")).signatures
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]


def test_other_folders_are_left_alone(stages, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="exists and is no export of this command; choose another"):
        run(ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(tmp_path / "model")))
    assert (tmp_path / "model" / "thesis.tex").read_text() == "x"


def test_an_output_that_cannot_be_written_is_named(stages, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output_dir=.*/file/model: cannot be written \(.+\)"):
        run(ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(tmp_path / "file/model")))


def test_a_full_disk_leaves_the_earlier_export(stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(tmp_path / "model"))
    run(settings)

    def save(module, folder: str, *arguments) -> None:
        (Path(folder) / "half").write_text("")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device\nand more")

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(UserError, match=r"--output_dir=.*/model: cannot be written \(No space left on device\)"):
        run(settings)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    tf.saved_model.load(str(tmp_path / "model"))


def test_a_stage_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/network\.json: no such file"):
        run(ExportSettings(stage_dir=str(tmp_path / "nowhere"), output_dir=str(tmp_path / "model")))
    assert list(tmp_path.iterdir()) == []


def encoded(images: list[np.ndarray], suffix: str) -> tf.Tensor:
    return tf.constant([cv2.imencode(suffix, image[..., ::-1])[1].tobytes() for image in images])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_servers_send_encoded_images_of_several_sizes(exported: Path, suffix: str) -> None:
    images = [random_images(48, 30), random_images(31, 75)]
    files = encoded(images, suffix)
    shown = [tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE") for data in files]
    segmentation, attention = (
        tf.saved_model.load(str(exported / task)).signatures for task in ("segmentation", "attention")
    )

    answer = segmentation["serving_default"](image_bytes=files)
    assert answer.keys() == {"mask_bytes", "shares"}
    for image, png, shares in zip(shown, answer["mask_bytes"], answer["shares"], strict=True):
        mask = segmentation["segment"](images=image[tf.newaxis])["mask"][0].numpy()
        np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], mask)
        np.testing.assert_allclose(shares, np.bincount(mask.ravel(), minlength=4) / mask.size, atol=1e-6)

    answer = attention["serving_default"](image_bytes=files)
    assert answer.keys() == {"attention_bytes", "scores"}
    for image, pngs, scores in zip(shown, answer["attention_bytes"], answer["scores"], strict=True):
        expected = attention["attention"](images=image[tf.newaxis])
        np.testing.assert_allclose(scores, expected["scores"][0], atol=1e-6)
        for index, png in enumerate(pngs):
            levels = tf.io.decode_png(png)[..., 0].numpy()
            np.testing.assert_array_equal(levels, np.rint(expected["attention"][0, ..., index] * np.float32(255)))


def test_a_keras_file_gives_the_network_back(stages, tmp_path: Path) -> None:
    for task, (folder, network) in stages.items():
        run(ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / task), format="keras"))
        loaded = keras.saving.load_model(tmp_path / task / "model.keras")
        images = random_images(2, 40, 64).astype(np.float32)
        np.testing.assert_array_equal(loaded(images), network(images))


def test_missing_packages_are_named_before_any_work(stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    settings = ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(tmp_path / "model"), format="onnx")
    with pytest.raises(UserError, match=r"--format=onnx needs tf2onnx: pip install"):
        run(settings)
    assert list(tmp_path.iterdir()) == []


def runs_onnx(folder: Path):
    """A function from images to outputs by name."""
    session = pytest.importorskip("onnxruntime", reason="needs the extra onnx").InferenceSession(folder / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def runs_litert(folder: Path):
    """A function from images to outputs by name."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra litert")
    interpreter = litert.Interpreter(str(folder / "model.tflite"))
    (name,) = interpreter.get_signature_list()
    return lambda images: interpreter.get_signature_runner(name)(images=images)


def test_int8(stages, tmp_path: Path, records: RecordSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers compute with integers, and scores hardly change."""
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    folder, network = stages["attention"]
    output = tmp_path / "model"
    views = {"scales": (1.5,), "flip": True}
    settings = ExportSettings(
        stage_dir=str(folder),
        output_dir=str(output),
        format="onnx",
        precision="int8",
        records=str(records.manifest_path),
        **views,
    )
    run(settings)
    assert json.loads((output / ORIGIN_FILE).read_text())["precision"] == "int8"
    quantized = runs_onnx(output)
    original = attention_functions(network, 48, **views)["attention"]
    for position in range(len(records)):
        images = records.record(position).image[np.newaxis]
        np.testing.assert_allclose(quantized(images)["scores"], original(tf.constant(images))["scores"], atol=0.05)
    graph = onnx.load(output / "model.onnx").graph
    producers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    num_views = 2
    assert len(convolutions) == 17 * num_views
    assert all(producers[node.input[1]].op_type == "DequantizeLinear" for node in convolutions)

    voc = records.manifest_path.parents[1] / "voc"
    others = MakeRecordsSettings(voc_dir=str(voc), classes=("dog", "cat"), output_dir=str(tmp_path / "others"))
    make_records(others)
    for mistaken in (run, dry_run):
        message = rf"--stage_dir={folder}: for the classes cat, dog, cow, but .* has dog, cat"
        with pytest.raises(UserError, match=message):
            mistaken(dataclasses.replace(settings, records=str(others.manifest_path)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="--precision=int8 needs onnxruntime: pip install onnxruntime"):
        run(settings)


def test_litert_with_weights_in_float16(stages, tmp_path: Path) -> None:
    """The masks hardly change, and the file is half as large."""
    folder, _ = stages["segmentation"]
    for precision in ("float32", "float16"):
        output = str(tmp_path / precision)
        run(ExportSettings(stage_dir=str(folder), output_dir=output, format="litert", precision=precision))
    assert json.loads((tmp_path / "float16" / ORIGIN_FILE).read_text())["precision"] == "float16"
    images = random_images(1, 61, 40)
    full, half = (runs_litert(tmp_path / name)(images)["mask"] for name in ("float32", "float16"))
    assert np.mean(full == half) > 0.99 and len(np.unique(full)) > 1
    sizes = {name: (tmp_path / name / "model.tflite").stat().st_size for name in ("float32", "float16")}
    assert sizes["float16"] < sizes["float32"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "views"),
    [
        ("attention", {}),
        ("attention", {"scales": (0.75,), "flip": True}),
        ("segmentation", {}),
        ("segmentation", {"scales": (0.75,), "flip": True, "class_prior": True}),
    ],
    ids=["attention", "attention, views", "segmentation", "segmentation, views, class prior"],
)
@pytest.mark.parametrize(
    ("format", "package", "reload"),
    [("onnx", "tf2onnx", runs_onnx), ("litert", "ai_edge_litert", runs_litert)],
    ids=["onnx", "litert"],
)
def test_other_runtimes_give_the_same_on_real_images(
    format: str, package: str, reload, task: str, views: dict, stages, tmp_path: Path, real_data: Path
) -> None:
    pytest.importorskip(package, reason=f"needs the extra {format}")
    folder, network = stages[task]
    run(ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model"), format=format, **views))
    ported = reload(tmp_path / "model")
    functions = FUNCTIONS[task](network, 48, **views)
    name, original = next(iter(functions.items()))
    probabilities = functions.get("probabilities")
    shares_of_clear_pixels = []
    voc = real_data / "voc12_animals"
    for image_id in (voc / "ImageSets/Segmentation/mini_val.txt").read_text().split()[:6]:
        image = read_image(voc / "JPEGImages" / f"{image_id}.jpg")
        for images in (image[np.newaxis], np.stack([image, image[::-1]])[:, :61, :, :]):
            result, expected = ported(images), original(tf.constant(images))
            assert result.keys() == expected.keys()
            if name == "attention":
                # Attention is divided by the greatest score, whose rounding error it takes over.
                np.testing.assert_allclose(result["attention"], expected["attention"], atol=1e-3)
                np.testing.assert_allclose(result["scores"], expected["scores"], atol=1e-4)
                continue
            # Where two channels are as likely, rounding decides.
            two = np.sort(probabilities(tf.constant(images))["probabilities"], axis=-1)[..., -2:]
            clear = two[..., 1] - two[..., 0] > 1e-4
            np.testing.assert_array_equal(result["mask"][clear], expected["mask"].numpy()[clear])
            shares_of_clear_pixels.append(clear.mean())
    assert name == "attention" or np.mean(shares_of_clear_pixels) > 0.2
