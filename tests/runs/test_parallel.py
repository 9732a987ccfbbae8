"""Results in order, a bounded number of which are waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from oaa_tf.runs.parallel import in_parallel, num_cores, results_in_order


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_come_in_order_with_progress(num_workers: int, capsys) -> None:
    assert list(in_parallel(lambda value: value**2, range(50), "squares", num_workers=num_workers)) == [
        value**2 for value in range(50)
    ]
    assert "squares: 50/50 images (100 %)" in capsys.readouterr().err


def test_it_is_a_few_results_ahead_and_no_more() -> None:
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        for number, result in enumerate(results_in_order(pool, str, items(), max_ahead=3)):
            assert result == str(number)
            assert len(taken) <= number + 4
    assert len(taken) == 20


def test_an_error_ends_the_work() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(in_parallel(work, range(1000), "work", num_workers=1))
    assert len(begun) < 20


def test_what_is_not_wanted_any_more_is_not_begun() -> None:
    begun, may_go_on = [], threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            may_go_on.wait(10)
        return item

    results = in_parallel(work, range(100), "work", num_workers=1)
    assert next(results) == 0
    threading.Timer(0.05, may_go_on.set).start()
    results.close()
    assert len(begun) < 4


def test_there_is_a_core() -> None:
    assert num_cores() >= 1
