"""Work in threads, with results in order."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from oaa_tf.command_line.progress import Progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    work: Callable[[_Item], _Result], items: Sequence[_Item], label: str, *, num_workers: int = 0
) -> Iterator[_Result]:
    """Results of `work` in the order of the items, computed in threads, with a progress line.

    Args:
        work: Called once for every item.
        items: The items; the progress line counts them as images.
        label: The beginning of the progress line.
        num_workers: Threads; 0 for one per core.
    """
    num_workers = num_workers or num_cores()
    pool = ThreadPoolExecutor(num_workers)
    try:
        with Progress(len(items), label) as progress:
            for result in results_in_order(pool, work, items, max_ahead=4 * num_workers):
                progress.advance()
                yield result
    finally:
        # Otherwise Ctrl-C would wait for all items that have been handed in.
        pool.shutdown(cancel_futures=True)


def results_in_order(
    workers: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item], *, max_ahead: int
) -> Iterator[_Result]:
    """Like `workers.map`, but takes items one by one, and stays at most `max_ahead` results ahead of the caller."""
    waiting: collections.deque[Future[_Result]] = collections.deque()
    for item in items:
        waiting.append(workers.submit(work, item))
        if len(waiting) > max_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def num_cores() -> int:
    """Cores that this process may use, or all cores of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
