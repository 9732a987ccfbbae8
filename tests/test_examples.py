"""The examples do what they say."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import types
import urllib.error
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tiny_model import make_trained_stage

from oaa_tf import export

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_another_backbone_accumulates_attention() -> None:
    example = load("other_backbone")
    images, labels = example.demo_arrays(6, side=64)
    assert images.shape == (6, 64, 64, 3) and labels.sum(axis=1).min() >= 1
    model = example.accumulate(images, labels, epochs=3, alpha=0.35)
    table = model.cumulative_attention
    assert table.num_slots == labels.sum()
    # The first epoch warms up; the gate may refuse some of the other two.
    assert 0 < table.num_updates.numpy().max() <= 2
    maps = table.read("max", range(table.num_slots))
    assert maps.shape == (table.num_slots, 4, 4)
    accumulated = table.num_updates.numpy() > 0
    assert np.all(maps[~accumulated] == 0)
    # By Eq. 2, the greatest attention of a class is 1 wherever its score is positive.
    assert set(np.unique(maps[accumulated].max(axis=(1, 2)))) <= {0.0, 1.0} and maps.max() == 1
    picture = example.picture_of(model, images[:2], labels[:2])
    assert picture.dtype == np.uint8 and picture.ndim == 3


@pytest.mark.slow
def test_a_server_answers_in_the_format_of_tensorflow_serving(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs fastapi")
    pytest.importorskip("uvicorn", reason="needs uvicorn")
    call_server = load("call_server")
    make_trained_stage(tmp_path / "stage", "segmentation")
    export.run(export.ExportSettings(stage_dir=str(tmp_path / "stage"), output_dir=str(tmp_path / "model")))
    image = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "serve:app", "--port", str(port)]
    environment = os.environ | {"MODEL": str(tmp_path / "model")}
    url = f"http://127.0.0.1:{port}/v1/models/segment:predict"
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    with subprocess.Popen(command, env=environment) as server:
        try:
            mask, shares = _when_it_is_up(lambda: call_server.segment(url, png), server)
            with pytest.raises(urllib.error.HTTPError, match="400"):
                call_server.segment(url, b"no image")
        finally:
            server.terminate()
    expected = tf.saved_model.load(str(tmp_path / "model")).signatures["segment"](images=image[np.newaxis])["mask"][0]
    np.testing.assert_array_equal(tf.io.decode_png(mask)[..., 0], expected)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def _when_it_is_up(call, server: subprocess.Popen):
    for _ in range(600):
        try:
            return call()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            assert server.poll() is None, "the server has ended"
            time.sleep(0.5)
    raise AssertionError("the server did not come up")
