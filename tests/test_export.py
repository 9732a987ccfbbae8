"""SavedModels that need nothing but TensorFlow."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_model import MODEL_CLASSES, make_trained_stage

from oaa_tf.errors import UserError
from oaa_tf.export import ExportSettings, run
from oaa_tf.models.inference import attention_functions, segmentation_functions
from oaa_tf.models.segmenter import ORIGIN_FILE, file_checksums

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
    # This stage is not finished.
    assert origin == {"supervision": None, "seed": None, "records_checksum": None}
    known = {"supervision": "image labels", "seed": 3, "records_checksum": "ab"}
    folder = shutil.copytree(stages["attention"][0], tmp_path / "stage")
    (folder / "metrics.json").write_text(json.dumps(known | {"loss": 0.5}))
    run(ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model")))
    content = json.loads((tmp_path / "model" / ORIGIN_FILE).read_text())
    assert content == known | {"files": file_checksums(tmp_path / "model")}
    (folder / "metrics.json").write_text("[")
    with pytest.raises(UserError, match=r"metrics.json: damaged; delete it and run the stage again"):
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
            for function in model.signatures.values():
                for key, value in function(images=images).items():
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
        for function in tf.saved_model.load(str(exported / task)).signatures.values():
            for key, value in function(images=tf.constant(images)).items():
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


def test_another_image_size(stages, tmp_path: Path) -> None:
    folder, network = stages["attention"]
    settings = ExportSettings(stage_dir=str(folder), output_dir=str(tmp_path / "model"), image_size=80)
    assert run(settings)["image_size"] == 80
    images = tf.constant(random_images(1, 50, 50))
    result = tf.saved_model.load(str(tmp_path / "model")).signatures["attention"](images=images)
    expected, other = (attention_functions(network, size)["attention"](images)["scores"] for size in (80, 48))
    np.testing.assert_array_equal(result["scores"], expected)
    assert not np.allclose(result["scores"], other)


def test_an_earlier_export_is_replaced(stages, tmp_path: Path) -> None:
    output = tmp_path / "model"
    run(ExportSettings(stage_dir=str(stages["attention"][0]), output_dir=str(output)))
    run(ExportSettings(stage_dir=str(stages["segmentation"][0]), output_dir=str(output)))
    assert "attention" not in tf.saved_model.load(str(output)).signatures
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_folders_are_left_alone(stages, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="exists and is no SavedModel of this command; choose another"):
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
        Path(folder).mkdir()
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
