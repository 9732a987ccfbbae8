"""The wheel: which commands it has, and that they run from anywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from oaa_tf.command_line import console
from oaa_tf.command_line.launch import STAGES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_command_is_installed() -> None:
    names = {f"oaa-{stage.replace('_', '-')}": "oaa_tf.command_line.console:main" for stage in STAGES}
    assert PROJECT["project"]["scripts"] == names


def test_every_package_is_in_the_wheel() -> None:
    folders = {path.parent for path in (ROOT / "oaa_tf").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"oaa_tf.tools"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages


@pytest.mark.parametrize(
    ("program", "module"),
    [("/usr/bin/oaa-train-cls", "oaa_tf.train_cls"), ("oaa-make-pseudo-labels", "oaa_tf.make_pseudo_labels")],
)
def test_a_program_runs_the_module_of_its_name(program: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    monkeypatch.setattr(console.runpy, "run_module", lambda name, **options: ran.append(name))
    console.main()
    assert ran == [module]


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

    # An environment with this one's packages and the wheel.
    python(sys.executable, "-m", "venv", "--without-pip", "installed")
    (site,) = (tmp_path / "installed").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    outer = python(sys.executable, "-c", "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))")
    (site / "outer.pth").write_text(outer)
    program = tmp_path / "installed/bin/oaa-make-demo-data"
    program.write_text(f"#!{site.parents[2]}/bin/python\nfrom oaa_tf.command_line.console import main\nmain()\n")
    output = python(site.parents[2] / "bin/python", str(program), "--output_dir=demo", "--num_train=2", "--num_val=1")
    assert "Traceback" not in output
    assert len(list((tmp_path / "demo/JPEGImages").iterdir())) == 3
    for command in ("oaa-ablation", "oaa-predict"):
        program.with_name(command).write_text(program.read_text())
        assert "required:" in python(site.parents[2] / "bin/python", str(program.with_name(command)), "--help")
