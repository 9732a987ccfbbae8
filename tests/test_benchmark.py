"""The benchmark's file, on a network so small that its figures mean nothing."""

import json

import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from tools import benchmark_measurements
from tools.benchmark import BenchmarkSettings, run
from tools.memory_use import in_a_process_of_its_own, peak_memory
from tools.step_profile import step_profile

RATIOS = {
    "step_over_bare",
    "accumulation_share",
    "png_loop_over_accumulation",
    "pipeline_over_training",
    "slots_1m_over_1k_step",
    "saved_model_over_bare",
    "wide_dilation_speedup",
    "xla_over_bare",
    "freeze_two_blocks_speedup",
    "train_seg_step_over_bare",
    "predict_over_network",
}


@pytest.mark.slow
def test_benchmark_writes_its_figures(tmp_path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_measurements, "_STEPS", 5)
    output = tmp_path / "new" / "figures.json"
    settings = BenchmarkSettings(output=str(output), image_size=32, width=2, batch_size=2, repeats=1)
    results = run(settings)
    written = json.loads(output.read_text())
    assert written.keys() == results.keys() > RATIOS | {"padding_share", "bytes_per_cell", "bfloat16_speedup"}
    for name in RATIOS:
        detail = written["details"][name]
        assert 0 < detail["low"] <= written[name] <= detail["high"]
    assert 0 <= written["padding_share"] < written["padding_share_square"] < 1
    assert written["bytes_per_cell"] == 1
    assert written["environment"]["cores"] >= 1 and written["settings"]["width"] == 2
    assert "step_over_bare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "named"), [({"image_size": 33}, "--image_size=33"), ({"output": "."}, "--output=.")]
)
def test_wrong_settings(changes: dict, named: str, tmp_path) -> None:
    with pytest.raises(UserError, match=named):
        run(BenchmarkSettings(**({"output": str(tmp_path / "figures.json"), "quick": True} | changes)))


def test_pytorch_is_missing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--beside_pytorch: needs PyTorch"):
        run(BenchmarkSettings(output=str(tmp_path / "figures.json"), beside_pytorch=True))


@pytest.mark.slow
def test_pytorch_takes_steps_beside_ours(tmp_path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "figures.json"
    chosen = {"quick": True, "beside_pytorch": True, "image_size": 32, "width": 2, "batch_size": 2, "repeats": 1}
    results = run(BenchmarkSettings(output=str(output), **chosen))
    assert results["float32_speed_over_pytorch"] > 0 and results["pytorch_float32_compiled_images_per_second"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"recompute": True}, {"accumulate_steps": 2}])
def test_peak_memory_is_measured(options: dict) -> None:
    assert in_a_process_of_its_own(peak_memory, 2, 2, **options) > 1e8


def test_a_profile_names_where_the_time_goes() -> None:
    images = tf.random.normal((4, 64, 64, 16))
    kernel = tf.Variable(tf.random.normal((3, 3, 16, 16)))

    @tf.function
    def take_step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME") ** 2)
        return tape.gradient(loss, kernel)

    take_step()
    shares = step_profile(take_step)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["convolutions, forward"] > 0.01 and shares["convolutions, gradients of kernels"] > 0.01
    assert shares["weight update"] == shares["table of cumulative attention"] == 0
