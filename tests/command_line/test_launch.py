"""From a dataclass to a command: flags, presets, errors, exit codes."""

import ast
import contextlib
import dataclasses
import errno
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from stages import ROOT, launch_call, settings_class

from oaa_tf.command_line import boundary
from oaa_tf.command_line.boundary import guarded
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.flags import FILLED_IN_LATER
from oaa_tf.command_line.help import help_text, short_help
from oaa_tf.command_line.launch import description_of, parse
from oaa_tf.command_line.presets import STAGES
from oaa_tf.command_line.settings import Settings, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    records: str = setting(help="Where the records are.")
    work_dir: str = setting(help="Where to work.")
    seed: int = setting(0, help="Seed.", minimum=0)
    num_steps: int = setting(30, help="Steps.", minimum=1, maximum=1000)
    learning_rate: float = setting(0.1, help="Rate.", minimum=0)
    flip: bool = setting(True, help="Mirror.")
    gate: str = setting("paper", help="Gate.", choices=("paper", "none"))
    fusions: tuple[str, ...] = setting(("max",), help="Fusions.", choices=("max", "average"))
    scales: tuple[float, ...] = setting((0.5, 1.0), help="Scales.", minimum=0.1)
    log_every: int = setting(20, help="Logs.", may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed == 13:
            raise UserError("unlucky", flag="seed", value=self.seed)
        if self.num_steps == 13:
            raise UserError("unlucky", flag="num_steps", value=self.num_steps)
        if self.gate == "none" and self.num_steps == 14:
            raise UserError("none is unlucky with 14 steps", flag="gate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllSettings(Settings):
    work_dir: str = setting(help="Where to work.")
    seed: int = setting(0, help="Seed of all.", minimum=0)
    train_cls: TrainSettings
    train_seg: TrainSettings


PATHS = ("--records=r", "--work_dir=w")


def preset(folder: Path, text: str) -> str:
    path = folder / "some.flags"
    path.write_text(textwrap.dedent(text))
    return f"--flagfile={path}"


def error_of(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- settings ---


def test_settings_are_checked_and_normalised() -> None:
    settings = TrainSettings(records="r", work_dir="w", learning_rate=1, fusions=["max", "average"], scales=[1, 2])
    assert isinstance(settings.learning_rate, float)
    assert settings.fusions == ("max", "average") and settings.scales == (1.0, 2.0)
    assert hash(settings) == hash(dataclasses.replace(settings))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": 0}, "--num_steps=0: expected at least 1"),
        ({"num_steps": 1001}, "--num_steps=1001: expected at most 1000"),
        ({"num_steps": 2.5}, "--num_steps=2.5: expected int"),
        ({"num_steps": "7"}, "--num_steps='7': expected int"),
        ({"num_steps": True}, "--num_steps=True: expected int"),
        ({"num_steps": None}, "--num_steps=None: expected int"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan: expected at least 0"),
        ({"learning_rate": False}, "--learning_rate=False: expected float"),
        ({"flip": 1}, "--flip=1: expected bool"),
        ({"gate": "best"}, "--gate=best: expected one of paper, none"),
        ({"fusions": ("max", "sum")}, "--fusions=sum: expected one of max, average"),
        ({"fusions": "max"}, "--fusions='max': expected a sequence of values"),
        ({"scales": (1.0, 0.05)}, "--scales=0.05: expected at least 0.1"),
        ({"scales": ("a",)}, "--scales=a: expected float values"),
        ({"records": 3}, "--records=3: expected str"),
    ],
)
def test_bad_values_name_flag_and_expectation(values: dict, message: str) -> None:
    assert error_of(TrainSettings, **{"records": "r", "work_dir": "w"} | values) == message


def test_as_dict_of_nested_settings() -> None:
    one = TrainSettings(records="r", work_dir="w")
    values = AllSettings(work_dir="a", train_cls=one, train_seg=dataclasses.replace(one, num_steps=5)).as_dict()
    assert values["work_dir"] == "a" and values["train_cls.work_dir"] == "w"
    assert (values["train_cls.num_steps"], values["train_seg.num_steps"]) == (30, 5)
    assert values["train_cls.fusions"] == ["max"]


def test_what_may_change_on_resume() -> None:
    assert TrainSettings.free_on_resume() == {"log_every"}
    assert AllSettings.free_on_resume() == {"train_cls.log_every", "train_seg.log_every"}


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@given(
    records=names,
    seed=st.integers(0, 10**9).filter(lambda seed: seed != 13),
    learning_rate=st.floats(0, allow_infinity=False),
    flip=st.booleans(),
    fusions=st.lists(st.sampled_from(["max", "average"]), max_size=2, unique=True),
    scales=st.lists(st.floats(0.1, 1e9), min_size=1, max_size=3),
)
def test_flags_of_a_run_are_the_run(tmp_path_factory: pytest.TempPathFactory, **values) -> None:
    settings = TrainSettings(work_dir="w", **values)
    path = tmp_path_factory.getbasetemp() / "round_trip.flags"
    path.write_text(settings.as_flags(), encoding="utf-8")
    assert parse(TrainSettings, "train_cls", [f"--flagfile={path}"]) == settings


def test_flags_of_a_pipeline_run_are_the_run(tmp_path: Path) -> None:
    settings = parse(
        AllSettings, "pipeline", ["--work_dir=w", "--seed=4", "--train_cls.noflip", "--train_seg.fusions=max,average"]
    )
    path = tmp_path / "flags.txt"
    path.write_text(settings.as_flags())
    assert parse(AllSettings, "pipeline", [f"--flagfile={path}"]) == settings


# --- a stage's command line ---


def test_values_of_all_types() -> None:
    settings = parse(
        TrainSettings,
        "train_cls",
        [
            *PATHS,
            "--seed=3",
            "--learning_rate=1e-3",
            "--noflip",
            "--fusions=max,average",
            "--scales=1,2.5",
            "--gate",
            "none",
        ],
    )
    assert settings == TrainSettings(
        records="r",
        work_dir="w",
        seed=3,
        learning_rate=1e-3,
        flip=False,
        fusions=("max", "average"),
        scales=(1.0, 2.5),
        gate="none",
    )


def test_defaults_stay_when_nothing_is_said() -> None:
    assert parse(TrainSettings, "train_cls", PATHS) == TrainSettings(records="r", work_dir="w")
    assert parse(TrainSettings, "train_cls", [*PATHS, "--fusions="]).fusions == ()


def test_of_two_values_the_later_one_counts() -> None:
    assert parse(TrainSettings, "train_cls", [*PATHS, "--seed=1", "--seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--work_dir=w",), "--records is required: Where the records are."),
        ((*PATHS, "--num_step=3"), "unknown flag --num_step; did you mean --num_steps?"),
        ((*PATHS, "--train_cls.lerning_rate=3"), "unknown flag --lerning_rate; did you mean --learning_rate?"),
        ((*PATHS, "--xyzzy"), "unknown flag --xyzzy; see --help"),
        ((*PATHS, "--num_steps=many"), "flag --num_steps=many: invalid literal"),
        ((*PATHS, "--num_steps=0"), "--num_steps=0: expected at least 1"),
        ((*PATHS, "--learning_rate=fast"), "flag --learning_rate=fast: could not convert"),
        ((*PATHS, "--flip=perhaps"), "flag --flip=perhaps: "),
        ((*PATHS, "--flip", "false"), "unexpected argument 'false': every setting is a --flag"),
        ((*PATHS, "train.json"), "unexpected argument 'train.json': every setting is a --flag"),
        ((*PATHS, "--scales=1,a"), "--scales=1,a: expected float values"),
        ((*PATHS, "--scales="), "--scales=: expected one number at least"),
        ((*PATHS, "--seed"), "Missing value for flag --seed"),
        ((*PATHS, "--training.seed=1"), "--training.seed=1: 'training' is not a stage; did you mean train_integral?"),
        ((*PATHS, "--xyzzy.seed=1"), "--xyzzy.seed=1: 'xyzzy' is not a stage; expected one of pipeline, "),
    ],
)
def test_bad_command_lines_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert error_of(parse, TrainSettings, "train_cls", arguments).startswith(message)


@pytest.mark.parametrize(
    ("stage", "argument", "meant"),
    [
        ("train_cls", "--imgae_size=96", "--image_size"),
        ("train_cls", "--train_cls.imgae_size=96", "--image_size"),
        ("pipeline", "--train_cls.imgae_size=96", "--train_cls.image_size"),
        ("pipeline", "--notrain_seg.squarecrops", "--train_seg.square_crops"),
        ("pipeline", "--train_seg.nosquarecrops", "--train_seg.square_crops"),
        ("ablation", "--make_pseudo_labels.dropbelow=0.1", "--make_pseudo_labels.drop_below"),
        ("accumulation_study", "--train_cls.imgae_size=96", "--train_cls.image_size"),
        ("evaluate", "--no-crf", "--crf"),
    ],
)
def test_the_nearest_flag_is_suggested(stage: str, argument: str, meant: str) -> None:
    message = error_of(parse, settings_class(stage), stage, ["--work_dir=w", argument])
    assert message.startswith("unknown flag --") and message.endswith(f"; did you mean {meant}?")


# --- presets ---

PRESET = """\
    # python -m oaa_tf.pipeline --flagfile=some.flags
    --pipeline.seed=7

    --train_cls.num_steps=900
    --train_cls.fusions=max,average
    --train_cls.noflip
    --train_seg.num_steps=600
    --train_seg.gate=none
    --evaluate.anything=1
"""


def test_a_stage_takes_its_own_lines(tmp_path: Path) -> None:
    file = preset(tmp_path, PRESET)
    cls = parse(TrainSettings, "train_cls", [*PATHS, file])
    assert (cls.num_steps, cls.fusions, cls.flip, cls.gate, cls.seed) == (900, ("max", "average"), False, "paper", 0)
    seg = parse(TrainSettings, "train_seg", [*PATHS, file])
    assert (seg.num_steps, seg.fusions, seg.flip, seg.gate) == (600, ("max",), True, "none")


def test_the_pipeline_takes_the_lines_of_its_stages_and_its_own(tmp_path: Path) -> None:
    settings = parse(AllSettings, "pipeline", ["--work_dir=w", preset(tmp_path, PRESET)])
    assert settings.seed == 7
    assert (settings.train_cls.num_steps, settings.train_cls.flip, settings.train_seg.num_steps) == (900, False, 600)
    # What the pipeline knows itself counts for its stages; what it fills in later says so.
    assert settings.train_cls.seed == settings.train_seg.seed == 7
    assert settings.train_cls.work_dir == "w" and settings.train_cls.records == FILLED_IN_LATER


@pytest.mark.parametrize("line", ["--train_cls.noflip", "--notrain_cls.flip", "--train_cls.flip=false"])
def test_no_can_stand_anywhere(tmp_path: Path, line: str) -> None:
    file = preset(tmp_path, line)
    assert parse(TrainSettings, "train_cls", [*PATHS, file]).flip is False
    assert parse(AllSettings, "pipeline", ["--work_dir=w", file]).train_cls.flip is False
    assert parse(AllSettings, "pipeline", ["--work_dir=w", file]).train_seg.flip is True


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_the_command_line_counts_more_than_a_preset(tmp_path: Path, before: bool, apart: bool) -> None:
    file = preset(tmp_path, "--train_cls.num_steps=900\n--train_cls.gate=none")
    files = file.split("=") if apart else [file]
    arguments = ["--num_steps=5", *files] if before else [*files, "--num_steps=5"]
    settings = parse(TrainSettings, "train_cls", [*PATHS, *arguments])
    assert (settings.num_steps, settings.gate) == (5, "none")
    arguments = [argument.replace("--num_steps", "--train_cls.num_steps") for argument in arguments]
    assert parse(AllSettings, "pipeline", ["--work_dir=w", *arguments]).train_cls.num_steps == 5


def test_presets_can_contain_presets(tmp_path: Path) -> None:
    (tmp_path / "base.flags").write_text("--train_cls.num_steps=900\n--train_cls.seed=3\n")
    file = preset(tmp_path, f"--flagfile={tmp_path}/base.flags\n--train_cls.num_steps=7")
    settings = parse(TrainSettings, "train_cls", [*PATHS, file])
    assert (settings.num_steps, settings.seed) == (7, 3)


def test_what_the_pipeline_fills_in_may_stand_in_a_preset(tmp_path: Path) -> None:
    file = preset(tmp_path, "--train_cls.records=elsewhere.json\n--train_cls.seed=5")
    settings = parse(AllSettings, "pipeline", ["--work_dir=w", file])
    assert (settings.train_cls.records, settings.train_cls.seed) == (FILLED_IN_LATER, 0)


WITHOUT_EFFECT = [
    ("--train_seg.backbone_weights=X", "pipeline sets this for all its stages; use --backbone_weights"),
    ("--nomake_pseudo_labels.use_saliency", "pipeline sets this for all its stages; use --nouse_saliency"),
    ("--make_pseudo_labels.nouse_saliency", "pipeline sets this for all its stages; use --nouse_saliency"),
    ("--train_integral.maps=X", "pipeline fills this in; leave it out"),
    ("--train_cls.records", "pipeline fills this in; leave it out"),
    ("--make_records.skip_difficult", "pipeline takes no settings of make_records; leave it out, or run make_records"),
    ("--make_records.classes=cat", "pipeline takes no settings of make_records; did you mean --classes?"),
    ("--export.scales=0.5,1", "pipeline takes no settings of export; leave it out, or run export by itself"),
    ("--noevaluate.crf", "pipeline takes no settings of evaluate; leave it out, or run evaluate by itself"),
]


@pytest.mark.parametrize(("argument", "message"), WITHOUT_EFFECT)
def test_flags_without_effect_are_for_presets_only(tmp_path: Path, argument: str, message: str) -> None:
    pipeline = settings_class("pipeline")
    refused = error_of(parse, pipeline, "pipeline", ["--work_dir=w", argument])
    assert refused.startswith(f"{argument.partition('=')[0]}: {message}")
    in_preset = parse(pipeline, "pipeline", ["--work_dir=w", preset(tmp_path, argument)])
    assert in_preset == parse(pipeline, "pipeline", ["--work_dir=w"])


def test_a_stage_takes_no_flags_of_another_one() -> None:
    message = error_of(parse, TrainSettings, "train_cls", [*PATHS, "--train_seg.num_steps=5"])
    assert message == "--train_seg.num_steps: train_cls takes no settings of train_seg; did you mean --num_steps?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--train_cls.num_step=3", "unknown flag --train_cls.num_step; did you mean --train_cls.num_steps?"),
        ("--train_cls.num_steps=0", "--train_cls.num_steps=0: expected at least 1"),
        ("--train_cls.num_steps=13", "--train_cls.num_steps=13: unlucky"),
        ("--seed=13", "--seed=13: unlucky"),
        ("--train_cls.gate=none\n--train_cls.num_steps=14", "--train_cls.gate: none is unlucky"),
        ("--seed=-1", "--seed=-1: expected at least 0"),
        ("--trian_cls.num_steps=3", "--trian_cls.num_steps=3: 'trian_cls' is not a stage; did you mean train_cls?"),
        ("num_steps=3", "unexpected argument 'num_steps=3'"),
    ],
)
def test_errors_in_a_preset_of_the_pipeline(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(parse, AllSettings, "pipeline", ["--work_dir=w", preset(tmp_path, text)]).startswith(message)


def test_presets_that_cannot_be_read(tmp_path: Path) -> None:
    message = error_of(parse, TrainSettings, "train_cls", [*PATHS, f"--flagfile={tmp_path}/missing.flags"])
    assert message.startswith("--flagfile: ") and f"{tmp_path}/missing.flags" in message
    (tmp_path / "binary.flags").write_bytes(b"\xff\xfe\x00")
    message = error_of(parse, TrainSettings, "train_cls", [*PATHS, f"--flagfile={tmp_path}/binary.flags"])
    assert message.startswith("--flagfile: ")


# --- help and exit codes ---


def test_help_names_every_setting_with_its_default() -> None:
    text = help_text(TrainSettings, "train_cls", "trains.")
    assert text.startswith("train_cls: trains.\n")
    assert re.search(r"^  --gate=paper +Gate$", text, re.MULTILINE)
    assert re.search(r"^  --records +Where the records are$", text, re.MULTILINE)
    for field in dataclasses.fields(TrainSettings):
        assert f"  --{field.name}" in text
    # What one has to give comes first.
    assert text.index("--work_dir") < text.index("--flip")
    assert "--train_seg.<name>" in help_text(AllSettings, "pipeline", "runs all.")


def test_full_help_has_choices_and_ranges_of_all_stages() -> None:
    text = help_text(AllSettings, "pipeline", "runs all.", full=True)
    for paragraph in (
        "  --train_seg.num_steps=30\n      Steps. From 1 to 1000.\n",
        "  --train_cls.gate=paper\n      Gate. One of: paper, none.\n",
        "  --train_cls.scales=0.5,1.0\n      Scales. At least 0.1.\n",
        "  --train_cls.log_every=20\n      Logs. May change when a run is resumed.\n",
    ):
        assert paragraph in text
    # The pipeline has its own.
    assert "train_cls.seed" not in text and "train_cls.records" not in text


def test_help_is_in_groups() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class DataSettings(Settings, group="data"):
        crop: int = setting(3, help="Crop.")
        folder: str = setting(help="Folder.")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class StageSettings(DataSettings, group="stage"):
        crop: int = setting(4, help="Crop.")
        steps: int = setting(5, help="Steps.")

    lines = help_text(StageSettings, "train_cls", "trains.").splitlines()
    assert [line.split()[0] for line in lines if line][1:7] == [
        *("required:", "--folder", "data:", "--crop=4", "stage:", "--steps=5")
    ]


@pytest.mark.parametrize(("num_flags", "num_blank"), [(5, 2), (41, 0), (60, 0)])
def test_help_of_many_settings_gets_denser(num_flags: int, num_blank: int) -> None:
    flags = [(f"--flag_{number}=1", f"Number {number}. At least 0.") for number in range(num_flags)]
    lines = short_help("stage: works", {"options": flags}, [("--flagfile=", "")]).splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 80
    assert lines.count("") == num_blank
    assert sum("Number" in line for line in lines) == (num_flags if num_flags < 45 else 0)
    assert all(any(f"--flag_{number}=1" in line for line in lines) for number in range(num_flags))


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """By stage, what its program prints for `--help`; a process for all of them, which must not load TensorFlow."""
    program = textwrap.dedent("""
        import contextlib, io, json, runpy, sys
        sys.argv = ["-m", "--help"]
        helps = {}
        for module in %r:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                try:
                    runpy.run_module(module, run_name="__main__", alter_sys=True)
                except SystemExit as end:
                    assert end.code == 0
            helps[module] = output.getvalue()
        assert not any(name.startswith(("tensorflow.python", "keras.src")) for name in sys.modules)
        print(json.dumps(helps))
    """)
    modules = {".".join(launch_call(stage)[0].relative_to(ROOT).with_suffix("").parts): stage for stage in STAGES}
    done = subprocess.run(
        [sys.executable, "-c", program % list(modules)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {modules[module]: text for module, text in json.loads(done.stdout).items()}


def test_the_description_is_that_of_the_file() -> None:
    first_line = "From a dataclass to a command: flags, presets, errors, exit codes."
    assert description_of(preset) == description_of(functools.partial(preset, text="")) == first_line


@pytest.mark.parametrize("stage", STAGES)
def test_help_fits_on_a_screen_and_needs_no_tensorflow(stage: str, helps: dict[str, str]) -> None:
    lines = helps[stage].splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 80
    description = ast.get_docstring(ast.parse(launch_call(stage)[0].read_text())).splitlines()[0]
    # The stand-ins for TensorFlow and Keras change nothing.
    assert helps[stage] == help_text(settings_class(stage), stage, description) + "\n"


def into_a_closed_pipe(*command: str) -> tuple[int, str]:
    """Exit code and stderr of a program whose stdout nobody reads."""
    line = f"{shlex.join([sys.executable, *command])} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    return done.returncode, done.stderr


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_that_nobody_reads(flag: str) -> None:
    assert into_a_closed_pipe("-m", "oaa_tf.pipeline", flag) == (0, "")


@pytest.fixture
def sigterm():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("--seed=x: expected\nint"), 2, "error: --seed=x: expected int\n"),
        (OSError(errno.ENOSPC, "", "/full/file"), 2, "error: cannot write: /full/file: No space left on device; "),
        (PermissionError(errno.EACCES, "", "/x"), 2, "error: cannot read or write: /x: Permission denied; "),
        (FileExistsError(errno.EEXIST, "", "/x"), 2, "error: cannot read or write: /x: File exists; move it away or "),
        (NotADirectoryError(errno.ENOTDIR, "", "/x/y"), 2, "error: cannot read or write: /x/y: Not a directory; "),
        (IsADirectoryError(errno.EISDIR, "", "/x"), 2, "error: cannot read or write: /x: Is a directory; "),
        (OSError(errno.EROFS, ""), 2, "error: cannot write: Read-only file system; "),
        (MemoryError("1 GiB"), 2, "error: out of memory; end other programs, or lower --batch_size or "),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), 2, "error: out of memory; end other programs, "),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C; run the same command again to go on\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture) -> None:
    def run() -> None:
        raise error

    assert guarded(run) == code
    output = capsys.readouterr().err
    assert output.startswith(line) and output.count("\n") == 1


@pytest.mark.usefixtures("sigterm")
def test_done_is_0_and_sigterm_143(capsys: pytest.CaptureFixture) -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again to go on\n"


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_closed_terminal_and_a_schedulers_warning_end_like_sigterm(
    number: int, capsys: pytest.CaptureFixture
) -> None:
    # Under `nohup`, a closed terminal is ignored from the start.
    signal.signal(number, signal.SIG_DFL)
    assert guarded(lambda: os.kill(os.getpid(), number)) == 128 + number
    expected = f"stopped by {signal.Signals(number).name}; run the same command again to go on\n"
    assert capsys.readouterr().err == expected


@pytest.mark.usefixtures("sigterm")
def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert boundary.stop_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    assert guarded(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0


@pytest.mark.parametrize("on_windows", [False, True])
@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_python_swallows_comes_again(
    number: int,
    code: int,
    is_slow: bool,
    on_windows: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    # Python drops what is raised inside of __del__; TensorFlow's graphs have one, and there are many of them.
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(boundary, "_ON_WINDOWS", on_windows)
    if is_slow:
        # On a busy machine it can take long to start a thread.
        start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: (start(thread), time.sleep(0.2)))

    class Graph:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    def run() -> None:
        graph = Graph()
        del graph
        for _ in range(1000):
            time.sleep(0.01)

    assert guarded(run) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_counts_more_than_what_fails_on_the_way_out(
    number: int, code: int, capsys: pytest.CaptureFixture
) -> None:
    # TensorFlow's C++ makes another error of it, without the first one as its context.
    def run() -> None:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(10)
        raise RuntimeError("KeyboardInterrupt")

    assert guarded(run) == code
    output = capsys.readouterr().err
    assert output.startswith("stopped by ") and output.count("\n") == 1


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "a bug", "/x")])
def test_bugs_keep_their_traceback(error: Exception) -> None:
    def run() -> None:
        raise error

    with pytest.raises(type(error), match="a bug"):
        guarded(run)


def test_as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""\
            '''Does something.

            With care.
            '''
            import dataclasses
            import sys
            import numpy as np
            from oaa_tf.command_line.errors import UserError
            from oaa_tf.command_line.launch import launch
            from oaa_tf.command_line.settings import Settings, setting

            @dataclasses.dataclass(frozen=True, kw_only=True)
            class ProgramSettings(Settings):
                num_steps: int = setting(help="Steps.", minimum=1)

            def run(settings):
                print("warning: slow", file=sys.stderr)
                if settings.num_steps > 99:
                    raise UserError("some were skipped", result={"skipped": 2})
                if settings.num_steps > 9:
                    raise UserError("--num_steps: too many")
                print("ran", settings.num_steps)
                return {"loss": np.float32(0.5), "scores": np.array([1.0, np.nan])}

            def dry_run(settings):
                return {"steps": settings.num_steps, "checkpoint_bytes": 2_000_000}

            launch(ProgramSettings, run, "train_cls", dry_run)
        """)
    )

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # With its messages wanted, TensorFlow is loaded where it is used: here, nowhere.
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")

    def call(*arguments: str) -> tuple[int, str, str]:
        result = subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), *arguments], capture_output=True, text=True
        )
        return result.returncode, result.stdout, result.stderr

    warning = "warning: slow\n"
    assert call("--num_steps=3") == (0, "ran 3\n", warning)
    assert call("--num_steps=10") == (2, "", f"{warning}error: --num_steps: too many\n")
    result = json.dumps({"loss": 0.5, "scores": [1.0, None]}, indent=1) + "\n"
    assert call("--num_steps=3", "--json") == (0, result, f"{warning}ran 3\n")
    assert call("--num_steps=3", "--json", "--quiet") == (0, result, "")
    assert call("--num_steps=3", "--quiet") == (0, "", "")
    assert call("--num_steps=10", "--quiet") == (2, "", "error: --num_steps: too many\n")
    # Part of the work is done: that is written too.
    skipped = json.dumps({"skipped": 2}, indent=1) + "\n"
    assert call("--num_steps=100", "--json") == (2, skipped, f"{warning}error: some were skipped\n")
    assert call("--num_steps=100") == (2, "", f"{warning}error: some were skipped\n")
    assert call("--num_steps=10", "--json") == (2, "", f"{warning}error: --num_steps: too many\n")
    assert call("--num_steps=3", "--dry_run") == (0, "steps:      3\ncheckpoint: 2.00 MB\n", "")
    plan = json.dumps({"steps": 3, "checkpoint_bytes": 2_000_000}, indent=1) + "\n"
    assert call("--num_steps=3", "--dry_run", "--json") == (0, plan, "")
    assert call("--num_steps=3", "--dry_run", "--quiet") == (0, "", "")
    assert call("--num_steps=0", "--dry_run") == (2, "", "error: --num_steps=0: expected at least 1\n")
    assert call() == (2, "", "error: --num_steps is required: Steps.\n")
    code, output, errors = call("--help")
    assert code == 0 and "--num_steps" in output and errors == ""
    assert output.startswith("train_cls: Does something.\n\n")
    assert into_a_closed_pipe(str(tmp_path / "program.py"), "--num_steps=3") == (141, warning)
