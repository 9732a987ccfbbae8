"""Trainings, maps and exports with backbones other than the paper's, in bfloat16."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_voc import make_tiny_records

from oaa_tf import export, train_affinity, train_cls, train_integral, train_seg
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.inference import attention_functions
from oaa_tf.models.networks import load_network
from oaa_tf.train_affinity import TrainAffinitySettings
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.train_integral import TrainIntegralSettings
from oaa_tf.train_seg import TrainSegSettings

OPTIONS = {
    **{"image_size": 48, "batch_size": 2, "num_steps": 4, "checkpoint_every": 2, "log_every": 2, "initializer": "he"},
    **{"optimizer": "adamw", "learning_rate": 1e-3, "clip_norm": 1.0, "freeze_blocks": 1, "accumulate_steps": 2},
}


CLS: dict[str, Any] = {"gate": "none", "accumulate_from_epoch": 0}


def convolved(x, channels: int, **options):
    x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, **options)(x)
    return keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))


def residual(x):
    for channels in (4, 8, 8, 8, 8):
        before = keras.layers.Conv2D(channels, 1, strides=2)(x)
        x = keras.layers.Add()([convolved(x, channels, strides=2), before])
    return x


def depthwise(x):
    x = convolved(x, 4, strides=2)
    for _ in range(4):
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
        x = keras.layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x)
        x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = keras.layers.Multiply()([x, keras.layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    return x


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    return make_tiny_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module", params=[pytest.param(residual, marks=pytest.mark.slow), depthwise])
def common(request, records: RecordSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of all trainings with a network of one kind, from a file."""
    keras.utils.set_random_seed(3)
    images = keras.Input((None, None, 3))
    network = keras.Model(images, request.param(keras.layers.Rescaling(1 / 127.5, -1)(images)))
    path = tmp_path_factory.mktemp("backbone") / f"{request.param.__name__}.keras"
    network.save(path)
    return OPTIONS | {"records": str(records.manifest_path), "backbone": str(path), "precision": "bfloat16"}


@pytest.fixture(scope="module")
def classifier(common: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained classifier."""
    folder = tmp_path_factory.mktemp("trained") / "cls"
    train_cls.run(TrainClsSettings(**common, **CLS, work_dir=str(folder)))
    return folder


@pytest.fixture(scope="module")
def trained(common: dict[str, Any], classifier: Path) -> Path:
    """The folders of all trainings; the others start from the first."""
    root = classifier.parent
    warm = common | {"initial_weights": str(root / "cls")}
    maps = str(root / "cls/attention/oaa")
    train_integral.run(TrainIntegralSettings(**warm, maps=maps, work_dir=str(root / "integral")))
    spread = {"maps": maps, "labels": "masks", "optimizer": "sgd", "work_dir": str(root / "affinity")}
    train_affinity.run(TrainAffinitySettings(**warm | spread))
    train_seg.run(TrainSegSettings(**warm, labels="masks", frame_size=64, work_dir=str(root / "seg")))
    return root


def test_all_stages_train_it(trained: Path, records: RecordSet) -> None:
    for stage in ("cls", "integral", "affinity", "seg"):
        metrics = json.loads((trained / stage / "metrics.json").read_text())
        assert np.isfinite(metrics["loss"])
        # It is rebuilt without the file it came from.
        description, network, backbone = load_network(trained / stage)
        assert description.backbone.partition(".keras-")[0] in ("residual", "depthwise")
        images = np.random.default_rng(0).uniform(0, 255, (1, 48, 64, 3)).astype(np.float32)
        assert network(images).shape[1:3] == (6, 8) and backbone.name == description.backbone
    maps = AttentionMaps.open(trained / "integral/attention/oaa_plus", records)
    assert np.ptp(maps.for_image(0)[1]) > 0


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(
    classifier: Path, common: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(classifier, tmp_path / "cls")
    (tmp_path / "cls/metrics.json").unlink()
    for path in (tmp_path / "cls/checkpoints").glob("step-4.*"):
        path.unlink()
    train_cls.run(TrainClsSettings(**common, **CLS, work_dir=str(tmp_path / "cls")))
    (_, again, _), (_, before, _) = load_network(tmp_path / "cls"), load_network(classifier)
    for one, other in zip(again.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_training_that_computes_activations_again_is_the_same(
    classifier: Path, common: dict[str, Any], tmp_path: Path
) -> None:
    train_cls.run(TrainClsSettings(**common, **CLS, recompute=True, work_dir=str(tmp_path)))
    (_, again, _), (_, before, _) = load_network(tmp_path), load_network(classifier)
    for one, other in zip(again.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_exports_give_what_the_network_gives(classifier: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 44, 60, 3), np.uint8)
    found = {}
    for name, package, run in (
        ("saved_model", "tensorflow", run_saved_model),
        ("onnx", "onnxruntime", run_onnx),
        ("litert", "ai_edge_litert", run_litert),
    ):
        if importlib.util.find_spec(package):
            folder = tmp_path / name
            settings = export.ExportSettings(
                stage_dir=str(classifier), output_dir=str(folder), format=name, scales=(0.75,), flip=True
            )
            export.run(settings)
            found[name] = run(folder, images)
    network = load_network(classifier)[1]
    function = attention_functions(network, OPTIONS["image_size"], scales=(0.75,), flip=True)["attention"]
    expected = function(tf.constant(images))["attention"]
    for name, attention in found.items():
        # Attention is divided by the greatest score, whose rounding error it takes over.
        np.testing.assert_allclose(attention, expected, atol=1e-3, err_msg=name)


def run_saved_model(folder: Path, images: np.ndarray) -> np.ndarray:
    return tf.saved_model.load(str(folder)).signatures["attention"](images=tf.constant(images))["attention"]


def run_onnx(folder: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx").run(["attention"], {"images": images})[0]


def run_litert(folder: Path, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(folder / "model.tflite")).get_signature_runner("attention")(images=images)["attention"]


def test_a_keras_file_is_the_network(trained: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "keras")
    export.run(export.ExportSettings(stage_dir=str(trained / "seg"), output_dir=folder, format="keras"))
    images = np.random.default_rng(0).uniform(0, 255, (1, 40, 56, 3)).astype(np.float32)
    found = keras.saving.load_model(tmp_path / "keras/model.keras")(images)
    np.testing.assert_allclose(found, load_network(trained / "seg")[1](images), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "MobileNetV2", "width": 2}, "--backbone=MobileNetV2: has no --width; leave that out"),
    ],
)
def test_what_does_not_go_with_a_backbone(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainClsSettings(records="records.json", work_dir="work", **options)


def test_a_file_has_its_own_weights(common: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"has its own weights; leave --backbone_weights=vgg.h5 out"):
        TrainClsSettings(**common, work_dir="work", backbone_weights="vgg.h5").check_backbone_weights()


def test_weights_of_another_backbone_are_refused(classifier: Path, records: RecordSet, tmp_path: Path) -> None:
    settings = TrainSegSettings(
        records=str(records.manifest_path),
        labels="masks",
        initial_weights=str(classifier),
        work_dir=str(tmp_path / "seg"),
        **OPTIONS | {"backbone": "vgg16", "width": 2, "frame_size": 64},
    )
    with pytest.raises(UserError, match=r"backbone (residual|depthwise)\.keras-[0-9a-f]{8}, not vgg16; start from"):
        train_seg.run(settings)
