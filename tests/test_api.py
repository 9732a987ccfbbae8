"""The names that notebooks use."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from stages import settings_class

import oaa_tf
from oaa_tf.command_line.console import COMMANDS


def test_every_name_is_there_and_documented() -> None:
    assert oaa_tf.__all__ == sorted(oaa_tf.__all__)
    for name in oaa_tf.__all__:
        value = getattr(oaa_tf, name)
        assert value.__name__ == name and value.__doc__
    assert set(oaa_tf.__all__) < set(dir(oaa_tf))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'oaa_tf' has no attribute 'Attention'"):
        _ = oaa_tf.Attention
    with pytest.raises(ImportError):
        exec("from oaa_tf import Attention")


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = """
        import sys
        import oaa_tf
        heavy = {"tensorflow", "keras", "numpy", "cv2"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[1], check=True)


@pytest.mark.parametrize("name", ["AttentionClassifier", "DeepLabLargeFOV", "HybridLoss", "IntegralAttentionModel"])
def test_classes_are_registered_with_keras(name: str) -> None:
    assert keras.saving.get_registered_object(f"oaa_tf>{name}") is getattr(oaa_tf, name)


@pytest.mark.parametrize(
    "imports", ["import keras, oaa_tf", pytest.param("import oaa_tf.models, keras", marks=pytest.mark.slow)]
)
def test_what_another_process_has_saved_can_be_loaded_and_trained_on(tmp_path: Path, imports: str) -> None:
    backbone = oaa_tf.recomputed(oaa_tf.vgg16_backbone(2))
    network = oaa_tf.class_aware_network(backbone, num_classes=2, initializer="centered_he", attention_drop=0.5)
    labels = np.array([[1, 0], [1, 1]], np.float32)
    model = oaa_tf.AttentionClassifier(network, oaa_tf.CumulativeAttention.for_labels(labels, grid=2))
    model.compile(oaa_tf.paper_optimizer(network, backbone, 0.01))
    batch = {"image": np.ones((2, 16, 16, 3), np.float32), "labels": labels, "position": np.arange(2)}
    model.train_step(batch)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", **batch, scores=model(batch["image"]))
    script = f"""
        {imports}
        import numpy as np
        model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
        batch = dict(np.load({str(tmp_path / "batch.npz")!r}))
        np.testing.assert_array_equal(model(batch["image"]), batch.pop("scores"))
        assert type(model.optimizer).__name__ == "CaffeSGD" and model.optimizer.iterations == 1
        model.train_step(batch)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[1], check=True)


def test_all_classes_of_keras_files_are_imported() -> None:
    root = Path(oaa_tf.__file__).parent
    registering = {path for path in root.rglob("*.py") if "@keras.saving.register_keras_serial" in path.read_text()}
    script = "import sys, oaa_tf.models; print([getattr(module, '__file__', '') for module in [*sys.modules.values()]])"
    done = subprocess.run([sys.executable, "-c", script], cwd=root.parent, check=True, capture_output=True, text=True)
    assert len(registering) > 8 and registering <= {Path(path) for path in ast.literal_eval(done.stdout) if path}


@pytest.mark.parametrize("name", ["attention", "data", "labels", "losses", "metrics", "models"])
def test_public_submodules_have_their_names(name: str) -> None:
    module = getattr(oaa_tf, name)
    names = getattr(module, "__all__", None) or ["hybrid_loss" if name == "losses" else "mean_iou"]
    assert names == sorted(names)
    for public in names:
        assert getattr(module, public).__doc__
    assert set(names) < set(dir(module))
    with pytest.raises(AttributeError, match=f"module 'oaa_tf.{name}' has no attribute 'Nothing'"):
        _ = module.Nothing


def test_the_settings_of_every_command_are_public() -> None:
    bases = {command: [base.__name__ for base in settings_class(command).__mro__] for command in COMMANDS}
    classes = {next(name for name in names if name in oaa_tf.__all__) for names in bases.values()}
    assert len(classes) == len(COMMANDS)
    with pytest.raises(oaa_tf.UserError, match="--batch_size=0"):
        oaa_tf.TrainClsSettings(records="train.json", work_dir="work", batch_size=0)


@pytest.mark.parametrize("name", ["DeepLabLargeFOV", "IntegralAttentionModel"])
def test_models_are_made_again_from_their_config(name: str) -> None:
    options = {"attention_loss": "mce"} if name == "IntegralAttentionModel" else {}
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)])
    model = getattr(oaa_tf, name)(network, accumulate_steps=3, **options)
    config = keras.saving.serialize_keras_object(model)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(model) and again.accumulate_steps == 3
    assert all(getattr(again, key) == value for key, value in options.items())
    images = np.ones((1, 8, 8, 3), np.float32)
    again.network.set_weights(network.get_weights())
    np.testing.assert_array_equal(again(images), model(images))
