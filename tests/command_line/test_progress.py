import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from oaa_tf.command_line import progress
from oaa_tf.command_line.progress import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def test_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    with Progress(100, "training") as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.advance(note="loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "training: 40/100 images (40 %), 4 images/s, 0:15 left, loss 0.5",
        "training: 80/100 images (80 %), 4 images/s, 0:05 left, loss 0.5",
        "training: 100/100 images (100 %), 4 images/s, in 0:25, loss 0.5",
    ]


def test_terminal_gets_one_line_that_is_written_over(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(4, "records") as bar:
        for _ in range(4):
            clock.now += 2000
            bar.advance()
    written = capsys.readouterr().err
    assert written.count("\n") == 1 and written.endswith("\n")
    lines = written.rstrip("\n").split("\r")[1:]
    assert lines[0] == "records: 1/4 images (25 %), 0.0005 images/s, 1:40:00 left"
    assert lines[-1].rstrip() == "records: 4/4 images (100 %), 0.0005 images/s, in 2:13:20"
    assert all(len(after) >= len(before.rstrip()) for before, after in itertools.pairwise(lines))


def test_units_done_before_do_not_count_for_the_rate(clock, capsys):
    with Progress(100, "resumed", done=80) as bar:
        clock.now += 10
        bar.advance(10)
        assert bar.rate == 1
    assert capsys.readouterr().err.splitlines()[0] == "resumed: 90/100 images (90 %), 1 images/s, 0:10 left"


def test_failure_writes_no_final_line(clock, capsys):
    with pytest.raises(ValueError), Progress(10, "broken") as bar:
        bar.advance()
        raise ValueError
    assert capsys.readouterr().err == ""


def test_threads_lose_no_count(capsys):
    with Progress(4000, "threads") as bar, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bar.advance(), range(4000)))
    assert "threads: 4000/4000 images (100 %)" in capsys.readouterr().err
