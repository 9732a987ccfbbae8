"""The tutorial notebook: what is committed was executed, and its code runs."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "tutorial.ipynb"

_MAX_BYTES = 1_500_000
# Where it was executed is nobody's business, and no other reader's path.
_LOCAL_PATH = re.compile(r"/(tmp|home|root|Users|usr|work|opt|var)/\w|\\\\Users\\\\")

# In place of the notebook's own: a few steps of a tiny network on a few images.
_SMALL = {
    "num_train": 16,
    "num_val": 3,
    "width": 2,
    "epochs": {"classifier": 8, "integral": 1, "segmentation": 1, "mobilenet": 2},
    "first_epoch": 1,
    "steps_per_epoch": 2,
}


def cells(kind: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def is_parameters(cell: dict) -> bool:
    return "parameters" in cell["metadata"].get("tags", ())


def test_every_code_cell_was_executed_in_order_and_without_errors() -> None:
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output["name"] == "stdout" for output in outputs if output["output_type"] == "stream")
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def test_it_is_small_and_says_nothing_of_the_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < _MAX_BYTES
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not _LOCAL_PATH.search(without_pictures), _LOCAL_PATH.search(without_pictures)
    assert json.loads(text)["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert {key for cell in json.loads(text)["cells"] for key in cell["metadata"]} <= {"tags"}


def test_its_parameters_are_those_that_the_test_makes_smaller() -> None:
    (parameters,) = filter(is_parameters, cells("code"))
    names = {}
    exec("".join(parameters["source"]), names)
    assert set(_SMALL) <= set(names)
    assert _SMALL["epochs"].keys() == names["epochs"].keys()


@pytest.mark.slow
def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, cell in enumerate(cells("code"), start=1):
        exec(compile("".join(cell["source"]), f"<code cell {number}>", "exec"), names)
        if is_parameters(cell):
            names.update(_SMALL)
    assert {*names["scores"]} == {"CAM", "OAA max", "OAA average", "OAA+", "pseudo labels", "segmentation"}
    # So small a network may leave every pixel without a pseudo label.
    assert all(0 <= score <= 100 for name, score in names["scores"].items() if name != "pseudo labels")
    assert len(names["plt"].get_fignums()) == sum(
        "image/png" in output.get("data", {}) for cell in cells("code") for output in cell["outputs"]
    )
    assert "mIoU on val" in capsys.readouterr().out
