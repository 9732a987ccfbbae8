"""Devices and number formats of a training; GPUs are made up, as no test has one."""

import types

import pytest
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.training import devices
from oaa_tf.training.devices import check_precision, choose_strategy, cpu_speedup, fastest_precision, use_devices
from oaa_tf.training.settings import TrainingSettings


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four GPUs, all in use until a test chooses."""
    found = [f"GPU:{number}" for number in range(4)]
    visible = list(found)

    def choose(chosen: list[str], kind: str) -> None:
        if chosen == ["GPU:3"]:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        visible[:] = chosen

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(visible))
    monkeypatch.setattr(tf.config, "set_visible_devices", choose)
    return visible


def settings(**options) -> TrainingSettings:
    return TrainingSettings(records="train.json", work_dir="work", **options)


@pytest.mark.parametrize(("given", "chosen"), [("", [0, 1, 2, 3]), ("2", [2]), ("2,0,2", [0, 2])])
def test_gpus_are_chosen_by_their_numbers(gpus: list[str], given: str, chosen: list[int]) -> None:
    use_devices(settings(devices=given))
    assert gpus == [f"GPU:{number}" for number in chosen]


@pytest.mark.parametrize("given", ["4", "-1", "0,", "GPU:0", "0 1"])
def test_a_gpu_that_is_not_there_is_named(gpus: list[str], given: str) -> None:
    with pytest.raises(UserError, match=f"--devices={given}: expected numbers from 0 to 3"):
        use_devices(settings(devices=given))


def test_gpus_are_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(UserError, match="--devices=0: expected nothing, as TensorFlow finds no GPU here"):
        use_devices(settings(devices="0"))


def test_other_gpus_than_those_in_use_are_refused(gpus: list[str]) -> None:
    with pytest.raises(UserError, match="--devices=3: this process uses other GPUs already; give all stages the same"):
        use_devices(settings(devices="3"))


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("found", [[], ["GPU:0"]])
def test_gpus_are_deterministic_on_demand(found: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: calls.append(1))
    use_devices(settings(deterministic=wanted))
    assert len(calls) == (1 if found and wanted else 0)


def test_one_device_needs_no_strategy() -> None:
    assert choose_strategy(1) is tf.distribute.get_strategy()


@pytest.mark.parametrize(("batch_size", "is_warned"), [(7, True), (8, False)])
def test_all_stages_share_one_strategy_and_small_parts_of_a_batch_are_said(
    gpus: list[str], batch_size: int, is_warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: types.SimpleNamespace(num_replicas_in_sync=4))
    devices._all_gpus.cache_clear()
    try:
        assert choose_strategy(batch_size) is choose_strategy(batch_size)
    finally:
        devices._all_gpus.cache_clear()
    assert ("--batch_size=7 on 4 GPUs: some get fewer than two images a step" in capsys.readouterr().out) == is_warned


def test_bfloat16_is_refused_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_flags", lambda: {"avx2", "avx512f"})
    with pytest.raises(UserError, match="this CPU has no bfloat16 instructions; use --precision=float32"):
        check_precision("bfloat16")
    check_precision("float32")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("speedup", "is_warned"), [(0.56, True), (1.8, False)])
def test_a_format_that_is_slower_is_said(
    speedup: float,
    is_warned: bool,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(devices, "cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(devices, "cpu_speedup", lambda precision: speedup)
    check_precision(precision)
    warned = f"in {precision} at 0.56 times the speed of float32" in capsys.readouterr().out
    assert warned == is_warned


def test_gpus_are_judged_by_what_they_can_do_and_not_by_a_measurement(
    gpus: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": (7, 5)})
    monkeypatch.setattr(devices, "cpu_speedup", lambda precision: 1 / 0)
    with pytest.raises(UserError, match=r"capability 8.0, here is \(7, 5\); use float16 or float32"):
        check_precision("bfloat16")
    check_precision("float16")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "speedup", "chosen"),
    [({"avx2"}, 9.0, "float32"), ({"amx_bf16"}, 4.0, "bfloat16"), ({"avx512_bf16"}, 0.9, "float32")],
)
def test_the_fastest_precision_of_a_cpu_is_measured_once(
    flags: set[str], speedup: float, chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fastest_precision.cache_clear()
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    monkeypatch.setattr(devices, "cpu_speedup", lambda precision: speedup)
    assert fastest_precision() == fastest_precision() == chosen
    assert capsys.readouterr().out.count("precision: ") == (flags != {"avx2"})
    fastest_precision.cache_clear()


@pytest.mark.parametrize(("capability", "chosen"), [((6, 1), "float32"), ((7, 5), "float16"), ((8, 6), "bfloat16")])
def test_the_fastest_precision_of_gpus(
    gpus: list[str], capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability})
    fastest_precision.cache_clear()
    assert fastest_precision() == chosen
    fastest_precision.cache_clear()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_speed_of_a_format_is_measured(precision: str) -> None:
    assert 0.001 < cpu_speedup(precision) < 1000
