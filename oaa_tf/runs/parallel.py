"""Work on many items, in threads or by the workers of a Dask cluster, with results in order."""

import collections
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from oaa_tf.command_line.progress import Progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD = 4
"""Items that each thread may be ahead of the caller."""


def in_parallel(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    label: str,
    *,
    num_workers: int = 0,
    scheduler: str = "",
    size: Callable[[_Item], int] = lambda item: 1,
) -> Iterator[_Result]:
    """Results of `work` in the order of the items, with a progress line.

    Args:
        work: Called once for every item; for a scheduler, it must be possible to pickle it.
        items: The items.
        label: The beginning of the progress line.
        num_workers: Threads; 0 for one per core.
        scheduler: Address of a Dask scheduler whose workers do the work in place of threads, see `dask_workers`.
        size: Images of an item, for the progress line.
    """
    pool = workers(num_workers=num_workers, scheduler=scheduler)
    with pool as results, Progress(sum(map(size, items)), label) as progress:
        for item, result in zip(items, results(work, items), strict=True):
            progress.advance(size(item))
            yield result


@contextlib.contextmanager
def workers(*, num_workers: int = 0, scheduler: str = "") -> Iterator[Callable[[Callable, Sequence], Iterator[Any]]]:
    """A function like `map`, with threads or the workers of a cluster; arguments as for `in_parallel`."""
    if scheduler:
        from oaa_tf.runs.dask_workers import dask_workers

        with dask_workers(scheduler) as results:
            yield results
        return
    num_workers = num_workers or num_cores()
    pool = ThreadPoolExecutor(num_workers)
    try:
        yield functools.partial(results_in_order, pool, max_ahead=_AHEAD * num_workers)
    finally:
        # Otherwise Ctrl-C would wait for all items that have been handed in.
        pool.shutdown(cancel_futures=True)


def results_in_order(
    pool: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item], *, max_ahead: int
) -> Iterator[_Result]:
    """Like `pool.map`, but takes items one by one, and stays at most `max_ahead` results ahead of the caller."""
    waiting: collections.deque[Future[_Result]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > max_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def num_cores() -> int:
    """Cores that this process may use, or all cores of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
