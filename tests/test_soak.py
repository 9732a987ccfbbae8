"""The soak test sees what grows."""

from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from tools import soak_test
from tools.soak_test import Sample, SoakTestSettings, report_of


def test_report() -> None:
    # Steps take twice as long and memory has doubled at the end.
    first = [Sample(step, 0.1 * step, 1000 + step) for step in range(10, 101, 10)]
    last = [Sample(step, 0.2 * step, 2000 + step) for step in range(110, 1001, 10)]
    report = report_of(first + last, 1000)
    assert report["seconds_per_step"] == {
        "first_tenth": pytest.approx(0.1),
        "last_tenth": pytest.approx(0.2),
        "ratio": pytest.approx(2),
    }
    assert report["memory_bytes"] == {"first_tenth": 1100, "last_tenth": 3000, "ratio": pytest.approx(3000 / 1100)}
    assert (report["num_steps"], report["num_samples"]) == (1000, 100)


def test_checkpoints_that_nobody_saw_are_no_figures() -> None:
    samples = [Sample(100, 1.0, 1), Sample(950, 9.0, 1), Sample(1000, 10.0, 1)]
    with pytest.raises(UserError, match="too fast to be seen: raise --checkpoint_every"):
        report_of(samples, 1000)


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match="--num_steps=100: expected a multiple of 20 \\* --checkpoint_every=10"):
        SoakTestSettings(work_dir="x", num_steps=100, checkpoint_every=10)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_a_short_run_grows_in_nothing(tmp_path: Path) -> None:
    report = soak_test.run(SoakTestSettings(work_dir=str(tmp_path / "soak"), num_steps=400, checkpoint_every=10))
    assert report["num_samples"] > 20
    assert report["memory_bytes"]["ratio"] < 1.1
    # Two are kept, a third one may be under way.
    assert report["final_checkpoint_bytes"] <= report["most_checkpoint_bytes"] < 1.6 * report["final_checkpoint_bytes"]
    # Pictures of the first and the last step, most of it.
    assert 0 < report["log_bytes"] < 1_000_000
    assert (tmp_path / "soak/soak_test.json").exists()
