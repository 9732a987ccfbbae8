"""Presets: every line is about an existing setting, and every command takes every preset."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from stages import launch_call, settings_class

from oaa_tf.command_line.launch import parse
from oaa_tf.command_line.presets import STAGES
from oaa_tf.command_line.settings import Settings

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "flags").glob("*.flags"))
ONE_OF = {"evaluate": ("maps",), "make_records": ("voc_dir",), "make_saliency": ("records", "output_dir")}
TRAINING_STAGES = ("train_cls", "train_integral", "make_pseudo_labels", "train_seg")


def required(stage: str) -> list[str]:
    """Flags for what has to be given; `evaluate` wants one of three things to evaluate, `make_records` one of two."""
    fields = [field for field in dataclasses.fields(settings_class(stage)) if "help" in field.metadata]
    needed = [field for field in fields if field.default is dataclasses.MISSING or field.name in ONE_OF.get(stage, ())]
    return [f"--{field.name}={(field.metadata['choices'] or ['x'])[0]}" for field in needed]


def lines_of(preset: Path) -> list[str]:
    return [line for line in preset.read_text().splitlines() if line and not line.startswith("#")]


def names_of(preset: Path, stage: str) -> set[str]:
    """The settings of a stage that the preset sets."""
    matches = (re.match(rf"--(?:no)?{stage}\.(?:no(?=\w+$))?(\w+)", line) for line in lines_of(preset))
    return {match[1] for match in matches if match}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_a_program_of_its_name(stage: str) -> None:
    _, call = launch_call(stage)
    assert ast.literal_eval(call.args[2]) == stage
    assert issubclass(settings_class(stage), Settings)
    for field in dataclasses.fields(settings_class(stage)):
        if "help" in field.metadata:
            assert field.metadata["help"].endswith("."), field.name


def test_there_are_presets() -> None:
    assert {"demo", "paper_vgg16", "paper_resnet101", "voc12_animals_cpu"} <= {preset.stem for preset in PRESETS}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_line_names_a_stage_and_one_of_its_settings(preset: Path) -> None:
    seen = set()
    for line in lines_of(preset):
        match = re.fullmatch(r"--(no)?([a-z_]+)\.(\w+)(=.*)?", line)
        assert match, f"{line!r}: expected --<stage>.<setting>=<value>"
        _, stage, name, value = match.groups()
        assert stage in STAGES, line
        fields = {field.name for field in dataclasses.fields(settings_class(stage))}
        if name not in fields and value is None:
            name = name.removeprefix("no")
        assert name in fields, line
        assert (stage, name) not in seen, f"{line}: a second time"
        seen.add((stage, name))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_command_takes_every_preset(preset: Path, stage: str) -> None:
    settings = parse(settings_class(stage), stage, [*required(stage), f"--flagfile={preset}"])
    plain = parse(settings_class(stage), stage, required(stage))
    own = {field.name for field in dataclasses.fields(settings) if "help" in field.metadata}
    changed = {name for name in own if getattr(settings, name) != getattr(plain, name)}
    assert changed <= names_of(preset, stage)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_stage_has_the_same_settings_alone_and_in_the_pipeline(preset: Path) -> None:
    pipeline = parse(settings_class("pipeline"), "pipeline", ["--work_dir=x", f"--flagfile={preset}"])
    outer = {field.name for field in dataclasses.fields(pipeline)}
    for stage in TRAINING_STAGES:
        alone = parse(settings_class(stage), stage, [*required(stage), f"--flagfile={preset}"])
        for field in dataclasses.fields(alone):
            if field.name not in outer and field.default is not dataclasses.MISSING:
                assert getattr(getattr(pipeline, stage), field.name) == getattr(alone, field.name), field.name


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_opens_with_its_command(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = preset.read_text()
    # A long command goes on in indented lines; after it comes a description.
    program = re.match(r"# python -m (?:oaa_tf|tools)\.(\w+) (.*(?:\n#   .*)*)\n# \w", text)
    assert program
    arguments = shlex.split(program[2].replace("\n#", ""))
    assert f"--flagfile=flags/{preset.name}" in arguments
    parse(settings_class(program[1]), program[1], arguments)
