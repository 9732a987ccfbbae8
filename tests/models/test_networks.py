"""Networks by description, and their weights in the work_dir of a stage."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.models.networks import NetworkDescription, load_network, take_common_layers
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER, checkpoints_in

CLASSES = ("cat", "dog")
ATTENTION = NetworkDescription("attention", CLASSES, image_size=48, width=2)
SEGMENTATION = NetworkDescription("segmentation", CLASSES, image_size=64, width=2)


def save_stage(folder: Path, description: NetworkDescription, seed: int = 0) -> keras.Model:
    """A work_dir as a training stage leaves it."""
    folder.mkdir()
    keras.utils.set_random_seed(seed)
    network, _ = description.build()
    description.write(folder)
    # Far from any initialisation.
    network.set_weights([value + 0.25 for value in network.get_weights()])
    checkpoint = tf.train.Checkpoint(network=[weight.value for weight in network.weights])
    tf.train.CheckpointManager(checkpoint, str(folder / CHECKPOINT_FOLDER), 2, checkpoint_name="step").save(3)
    return network


def assert_same(weights: list[np.ndarray], others: list[np.ndarray]) -> None:
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("description", "channels"), [(ATTENTION, 2), (SEGMENTATION, 3)])
def test_loading_gives_back_description_and_weights(
    tmp_path: Path, description: NetworkDescription, channels: int
) -> None:
    saved = save_stage(tmp_path / "stage", description)
    loaded, network, backbone = load_network(tmp_path / "stage")
    assert loaded == description
    assert network.output.shape[-1] == channels
    assert_same(network.get_weights(), saved.get_weights())
    assert_same(backbone.get_weights(), network.get_layer("vgg16").get_weights())


@pytest.mark.parametrize(("backbone", "width", "channels"), [("vgg16", 2, 32), ("MobileNetV2", 64, 512)])
def test_fc6_and_fc7_have_half_the_channels_on_other_backbones(backbone: str, width: int, channels: int) -> None:
    network, _ = NetworkDescription("segmentation", CLASSES, image_size=64, width=width, backbone=backbone).build()
    assert network.get_layer("fc6").filters == network.get_layer("fc7").filters == channels


def test_initialisation_of_the_new_layers() -> None:
    description = NetworkDescription("attention", CLASSES, image_size=48, width=8)
    # He initialisation for inputs that a ReLU has made, without their mean; the score layer is small in any case.
    for initializer, deviation in (
        ("gaussian", 0.01),
        ("he", np.sqrt(2 / (9 * 64))),
        ("centered_he", np.sqrt(2 / (1 - 1 / np.pi) / (9 * 64))),
    ):
        network, _ = description.build(initializer=initializer)
        assert np.std(network.get_layer("extra_conv1").kernel) == pytest.approx(deviation, rel=0.1)
        assert np.std(network.get_layer("class_aware_conv").kernel) == pytest.approx(0.01, rel=0.3)
        first, second = (np.asarray(network.get_layer(f"extra_conv{index}").kernel) for index in (1, 2))
        assert not np.array_equal(first, second)


def test_writing_twice_is_fine_and_another_network_is_refused(tmp_path: Path) -> None:
    ATTENTION.write(tmp_path)
    ATTENTION.write(tmp_path)
    other = NetworkDescription("attention", ("cat", "cow"), image_size=48, width=2)
    with pytest.raises(UserError, match="has classes cat, dog, not cat, cow; use another --work_dir"):
        other.write(tmp_path)
    wider = NetworkDescription("attention", CLASSES, image_size=48, width=4)
    with pytest.raises(UserError, match="has width 2, not 4"):
        wider.write(tmp_path)
    assert NetworkDescription.read(tmp_path) == ATTENTION


def test_a_folder_without_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/network\.json: no such file; expected the work_dir of a training"):
        load_network(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"task": "attention"}', '{"task": 1, "classes": ["a"]}', "null"),
        '{"task": "segmentation", "classes": ["a"], "image_size": 48, "backbone": "vgg19"}',
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(UserError, match=r"network\.json: damaged; expected the work_dir of a training stage"):
        load_network(tmp_path)


def test_a_stage_without_checkpoint_is_named(tmp_path: Path) -> None:
    ATTENTION.write(tmp_path)
    with pytest.raises(UserError, match="checkpoints: no checkpoint yet; run the training stage first"):
        load_network(tmp_path)


def test_a_checkpoint_of_other_shapes_is_named(tmp_path: Path) -> None:
    save_stage(tmp_path / "stage", ATTENTION)
    description = json.loads((tmp_path / "stage/network.json").read_text())
    (tmp_path / "stage/network.json").write_text(json.dumps(description | {"width": 3}))
    with pytest.raises(UserError, match=r"step-3: cannot be restored \(.+\)"):
        load_network(tmp_path / "stage")


def test_a_checkpoint_of_other_shapes_is_one_line_of_a_command(tmp_path: Path) -> None:
    """TensorFlow has a warning for each variable that the checkpoint holds beside the network's."""
    save_stage(tmp_path / "stage", ATTENTION)
    (path,) = (tmp_path / "stage" / CHECKPOINT_FOLDER).glob("step-3.index")
    network = [tf.Variable(tf.zeros((1, 2, 3)))]
    tf.train.Checkpoint(network=network, optimizer=[tf.Variable(0.0)]).write(str(path.with_suffix("")))
    command = [
        sys.executable,
        "-m",
        "oaa_tf.export",
        f"--stage_dir={tmp_path / 'stage'}",
        f"--output_dir={tmp_path}/out",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 2 and re.fullmatch(r"error: .*step-3: cannot be restored \(.+\).+\n", done.stderr)


@pytest.mark.parametrize(
    "damage", ["data cut", "data empty", "data missing", "data flipped", "index cut", "index empty"]
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    save_stage(tmp_path / "stage", ATTENTION)
    part, how = damage.split()
    (path,) = (tmp_path / "stage" / CHECKPOINT_FOLDER).glob(f"step-3.{part}*")
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[1000] ^= 16
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "flipped": data}[how])
    with pytest.raises(UserError, match=r"step-3: cannot be restored \(.+\)"):
        load_network(tmp_path / "stage")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"model_checkpoint_path: 'step-9'\n"])
def test_checkpoints_are_found_without_the_list_of_tensorflow(tmp_path: Path, content: bytes | None) -> None:
    saved = save_stage(tmp_path / "stage", ATTENTION)
    listing = tmp_path / "stage" / CHECKPOINT_FOLDER / "checkpoint"
    listing.unlink() if content is None else listing.write_bytes(content)
    assert_same(load_network(tmp_path / "stage")[1].get_weights(), saved.get_weights())


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    folder = tmp_path / CHECKPOINT_FOLDER
    folder.mkdir()
    for name in ("step-9.index", "step-10.index", "step-100.data-00000-of-00001", "step-x.index", "other-11.index"):
        (folder / name).touch()
    assert checkpoints_in(tmp_path) == [str(folder / "step-9"), str(folder / "step-10")]


def test_starting_from_the_same_task_takes_everything(tmp_path: Path) -> None:
    saved = save_stage(tmp_path / "stage", ATTENTION)
    network, backbone = ATTENTION.build()
    take_common_layers(str(tmp_path / "stage"), ATTENTION, network, backbone)
    assert_same(network.get_weights(), saved.get_weights())


def test_starting_from_another_task_takes_the_backbone(tmp_path: Path) -> None:
    saved = save_stage(tmp_path / "stage", ATTENTION)
    network, backbone = SEGMENTATION.build()
    before = network.get_layer("fc6").get_weights()
    take_common_layers(str(tmp_path / "stage"), SEGMENTATION, network, backbone)
    assert_same(network.get_layer("vgg16").get_weights(), saved.get_layer("vgg16").get_weights())
    assert_same(network.get_layer("fc6").get_weights(), before)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (NetworkDescription("segmentation", CLASSES, 48, width=3), "--initial_weights=.*stage: width 2, not 3"),
        (
            NetworkDescription("attention", ("cat", "cow"), 48, width=2),
            "--initial_weights=.*stage: classes cat, dog, not cat, cow",
        ),
        (
            NetworkDescription("attention", ("cat, dog",), 48, width=2),
            "--initial_weights=.*stage: classes cat, dog, not cat, dog; start from a stage that has the same",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, wanted: NetworkDescription, message: str) -> None:
    save_stage(tmp_path / "stage", ATTENTION)
    network, backbone = wanted.build()
    before = network.get_weights()
    with pytest.raises(UserError, match=message):
        take_common_layers(str(tmp_path / "stage"), wanted, network, backbone)
    assert_same(network.get_weights(), before)
