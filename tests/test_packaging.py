"""The wheel: what is in it, and that its program `oaa-tf` runs every command from anywhere."""

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from oaa_tf.command_line import console
from oaa_tf.command_line.console import COMMANDS
from oaa_tf.command_line.presets import STAGES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMAND_FILES = {path.stem for path in (ROOT / "oaa_tf").glob("*.py") if "    launch(" in path.read_text()}


def oaa_tf(*arguments: str) -> subprocess.CompletedProcess:
    """Runs `oaa-tf` with these arguments, as the installed program does."""
    program = "import sys; from oaa_tf.command_line.console import main; sys.argv[0] = 'bin/oaa-tf'; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_one_program_is_installed() -> None:
    assert PROJECT["project"]["scripts"] == {"oaa-tf": "oaa_tf.command_line.console:main"}


def test_every_command_of_the_package_has_a_name() -> None:
    assert len(COMMANDS) == len(set(COMMANDS)) and set(COMMANDS) == COMMAND_FILES
    tools = {
        "benchmark",
        "backbone_table",
        "ablation",
        "accumulation_study",
        "kill_test",
        "scale_test",
        "size_test",
        "soak_test",
        "time_to_maps",
        "time_to_quality",
    }
    assert set(STAGES) - set(COMMANDS) == tools


def test_every_package_is_in_the_wheel() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"] == {
        "find": {"include": ["oaa_tf", "oaa_tf.*"], "namespaces": False}
    }
    folders = {path.parent for path in (ROOT / "oaa_tf").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_lock_has_a_version_of_every_requirement() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    text = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    lock = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = {name.lower(): version for name, version in (line.split("==") for line in lock)}
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement = requirements.Requirement(line)
            assert locked[requirement.name] in requirement.specifier, f"{line}: run make lock"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_the_commands_in_their_order(arguments: list[str]) -> None:
    program = f"""if True:
        import sys
        from oaa_tf.command_line.console import main
        sys.argv = ["bin/oaa-tf", *{arguments}]
        try:
            main()
        finally:
            assert not {{"tensorflow.python", "keras.src", "numpy", "absl"}} & sys.modules.keys()
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip().partition(" ") for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _, _ in lines] == list(COMMANDS)
    for name, _, description in lines:
        assert description.strip() == importlib.import_module(f"oaa_tf.{name}").__doc__.splitlines()[0]


@pytest.mark.parametrize("command", ["train_cls", "make_pseudo_labels"])
def test_a_command_is_run_with_its_own_arguments(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(sys, "argv", ["/usr/bin/oaa-tf", command, "--work_dir=w", "--help"])
    monkeypatch.setattr(console.runpy, "run_module", lambda name, **options: ran.append((name, options, sys.argv[1:])))
    console.main()
    assert ran == [(f"oaa_tf.{command}", {"run_name": "__main__", "alter_sys": True}, ["--work_dir=w", "--help"])]


def test_a_command_shows_its_own_help() -> None:
    done = oaa_tf("evaluate", "--help")
    assert done.returncode == 0 and done.stdout.startswith("evaluate: ") and "--records" in done.stdout


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("train-cls", "did you mean train_cls?"),
        ("benchmark", "oaa-tf --help lists the commands"),
        ("--flagfile=x", "oaa-tf --help lists the commands"),
    ],
)
def test_an_unknown_command_is_one_line(name: str, advice: str) -> None:
    done = oaa_tf(name, "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: '{name}' is not a command; {advice}\n"


@pytest.mark.slow
def test_the_installed_wheel_runs_outside_the_repository(tmp_path: Path) -> None:
    def python(executable: str | Path, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(executable), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    source = tmp_path / "source"
    # A copy, since building leaves files behind.
    # tools/ too, which must not get into the wheel.
    for name in ("oaa_tf", "tools"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path / "dist"), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "No module named pip" in done.stderr:
        pytest.skip("needs pip and a network, to fetch setuptools")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"oaa_tf", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    files = {str(path.relative_to(source)) for path in (source / "oaa_tf").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("oaa_tf/")} == files

    # An environment with this one's packages and the wheel.
    python(sys.executable, "-m", "venv", "--without-pip", "installed")
    (site,) = (tmp_path / "installed").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    outer = python(sys.executable, "-c", "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))")
    (site / "outer.pth").write_text(outer)
    program = tmp_path / "installed/bin/oaa-tf"
    program.write_text("from oaa_tf.command_line.console import main\nmain()\n")
    installed = site.parents[2] / "bin/python"
    output = python(installed, str(program), "make_demo_data", "--output_dir=demo", "--num_train=2", "--num_val=1")
    assert "Traceback" not in output
    assert len(list((tmp_path / "demo/JPEGImages").iterdir())) == 3
    assert "required:" in python(installed, str(program), "predict", "--help")
    assert "make_pseudo_labels" in python(installed, str(program), "--help")
