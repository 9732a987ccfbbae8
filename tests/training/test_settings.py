import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.train_integral import TrainIntegralSettings
from oaa_tf.train_seg import TrainSegSettings
from oaa_tf.training.settings import AttentionTrainingSettings, TrainingSettings

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "flags/paper_vgg16.flags"
PATHS = {"records": "train.json", "work_dir": "run"}


def test_defaults_are_the_papers() -> None:
    attention = AttentionTrainingSettings(**PATHS)
    assert (attention.batch_size, attention.steps_for(10_582), attention.divide_at) == (5, 30_000, 0.66667)
    assert (attention.learning_rate, attention.momentum, attention.weight_decay) == (1e-3, 0.9, 2e-4)
    segmentation = TrainSegSettings(**PATHS, labels="labels")
    assert (segmentation.batch_size, segmentation.steps_for(10_582), segmentation.poly_power) == (10, 15_000, 0.9)
    assert (segmentation.weight_decay, segmentation.min_scale, segmentation.max_scale) == (5e-4, 0.7, 1.3)
    assert segmentation.new_layer_multiplier == 10


@pytest.mark.parametrize(
    ("settings_class", "stage", "own", "differs"),
    [
        (TrainClsSettings, "train_cls", {}, set()),
        (TrainIntegralSettings, "train_integral", {"maps": "maps"}, set()),
        (TrainSegSettings, "train_seg", {"labels": "labels"}, {"head_weights"}),
    ],
)
def test_the_papers_preset_spells_out_the_defaults(
    settings_class: type[TrainingSettings], stage: str, own: dict[str, str], differs: set[str]
) -> None:
    flags = [f"--{name}={path}" for name, path in (PATHS | own).items()]
    preset, defaults = parse(settings_class, stage, [*flags, f"--flagfile={PRESET}"]), settings_class(**PATHS, **own)
    assert preset.num_steps == defaults.steps_for(10_582)
    in_preset = preset.as_dict() | {"num_steps": defaults.num_steps}
    assert {name for name, value in defaults.as_dict().items() if in_preset[name] != value} == differs


def test_the_page_about_the_paper_names_the_setting_that_is_no_default() -> None:
    _, _, section = (ROOT / "docs/explanation/paper.md").read_text().partition("## Settings (Sec. 4.1)\n")
    opening = " ".join(section.partition("|")[0].split())
    assert "the stages' defaults but one" in opening
    assert "fc6 and fc7 start from random weights unless `--head_weights` is set" in opening


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 100}, "--image_size=100: expected a multiple of 8"),
        ({"image_size": 8}, "--image_size=8: expected at least 16"),
        ({"min_scale": 1.2}, "--min_scale=1.2: expected at most --max_scale=1.0"),
        ({"min_scale": 0.0}, "--min_scale=0.0: expected at least 0.1"),
        ({"max_scale": 11}, "--max_scale=11.0: expected at most 10.0"),
        ({"batch_size": 0}, "--batch_size=0: expected at least 1"),
        ({"num_steps": -1}, "--num_steps=-1: expected at least 0"),
        ({"num_epochs": -0.5}, "--num_epochs=-0.5: expected at least 0"),
        ({"num_epochs": float("inf")}, "--num_epochs=inf: expected at most 1000000.0"),
        ({"learning_rate": -1e-3}, "--learning_rate=-0.001: expected at least 0"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan: expected at least 0"),
        ({"momentum": 1.5}, "--momentum=1.5: expected at most 0.999"),
        ({"initializer": "zeros"}, "--initializer=zeros: expected one of gaussian, he, centered_he"),
        ({"freeze_blocks": 6}, "--freeze_blocks=6: expected at most 5"),
        ({"seed": -1}, "--seed=-1: expected at least 0"),
        ({"seed": 2**32}, "--seed=4294967296: expected at most 4294967295"),
    ],
)
def test_bad_values_are_named(values: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainingSettings(**PATHS, **values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings_class", "extra", "message"),
    [
        (TrainClsSettings, {"gate": "best"}, "--gate=best: expected one of paper, topk, none"),
        (TrainClsSettings, {"fusions": ("max", "sum")}, "--fusions=sum: expected one of max, average, harmonic"),
        (TrainClsSettings, {"fusions": ()}, "--fusions=: expected one or more of max, average, harmonic, each once"),
        (
            TrainClsSettings,
            {"fusions": ("max", "max")},
            "--fusions=max,max: expected one or more of max, average, harmonic, each once",
        ),
        (TrainClsSettings, {"map_scales": (1.0, 15.0)}, "--map_scales=15.0: expected at most 4.0"),
        (TrainClsSettings, {"map_scales": (1.0, float("inf"))}, "--map_scales=inf: expected at most 4.0"),
        (TrainIntegralSettings, {"maps": "m", "loss": "l1"}, "--loss=l1: expected one of hybrid, mce"),
        (TrainSegSettings, {"labels": "m", "frame_size": 8}, "--frame_size=8: expected at least 16"),
    ],
)
def test_bad_values_of_the_stages_are_named(settings_class: type, extra: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_class(**PATHS, **extra)
    assert str(caught.value) == message


def test_views_of_the_stages() -> None:
    attention = AttentionTrainingSettings(**PATHS, image_size=64, flip=False, min_scale=0.8, max_scale=1.2)
    assert attention.views == ViewOptions(64, flip=False, min_scale=0.8, max_scale=1.2)
    assert attention.inference_size == 64
    segmentation = TrainSegSettings(**PATHS, labels="labels", image_size=64, frame_size=90)
    assert segmentation.views == ViewOptions(64, flip=True, min_scale=0.7, max_scale=1.3, frame_size=90, square=True)
    assert segmentation.inference_size == 90


@pytest.mark.parametrize(
    ("given", "num_images", "steps"),
    [
        ({}, 100, 30_000),
        ({"num_steps": 400}, 10_000, 400),
        ({"num_epochs": 5}, 100, 63),
        ({"num_epochs": 2.5}, 100, 32),
        ({"num_steps": 400, "num_epochs": 5}, 100, 400),
        ({"num_steps": 400, "num_epochs": 5}, 10_000, 6_250),
    ],
)
def test_the_longer_of_steps_and_epochs_counts(given: dict, num_images: int, steps: int) -> None:
    assert AttentionTrainingSettings(**PATHS, batch_size=8, **given).steps_for(num_images) == steps


def test_epochs_are_passes_over_the_images_that_are_chosen() -> None:
    assert TrainSegSettings(**PATHS, labels="labels", batch_size=8, num_epochs=4, share=0.2).steps_for(100) == 10


@given(step=st.integers(0, 39), num_steps=st.integers(1, 40), share=st.floats(0, 1))
def test_the_learning_rate_is_a_tenth_after_a_share_of_the_steps(step: int, num_steps: int, share: float) -> None:
    schedule = AttentionTrainingSettings(**PATHS, learning_rate=0.5, divide_at=share).schedule(num_steps)
    # `step` steps have been done.
    assert float(schedule(step)) == pytest.approx(0.05 if step >= round(share * num_steps) else 0.5)


def test_poly_schedule() -> None:
    schedule = TrainSegSettings(**PATHS, labels="labels", learning_rate=0.01, poly_power=0.9).schedule(100)
    rates = [float(schedule(step)) for step in range(100)]
    np.testing.assert_allclose(rates, [0.01 * (1 - step / 100) ** 0.9 for step in range(100)], rtol=1e-5)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSettings(**PATHS).seed = 3


@pytest.mark.parametrize("flag", ["records", "work_dir", "initial_weights"])
def test_a_url_is_no_folder(flag: str) -> None:
    url = "gs://bucket/some/file"
    with pytest.raises(UserError, match=f"--{flag}={url}: is a URL; copy it to a disk of this machine, or mount"):
        AttentionTrainingSettings(**PATHS | {flag: url})
