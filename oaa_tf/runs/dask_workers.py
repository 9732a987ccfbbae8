"""Work on the machines of a Dask cluster.

Dask runs whatever a client sends, so who reaches a scheduler can do anything on its machines. TLS lets in only those
who have the certificates, which Dask's own configuration names (`distributed.comm.tls`).
"""

import collections
import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oaa_tf.command_line.boundary import import_tensorflow_quietly
from oaa_tf.command_line.errors import UserError, first_line

_CHUNK = 16
"""Items of a task at most: sending one takes a few milliseconds."""

_AHEAD = 3
"""Tasks per thread of the cluster that are under way."""

_LOCAL = re.compile(r"local:([1-9]\d*)")
_SAFE = re.compile(r"tls://.+|(tcp://)?(127\.\d+\.\d+\.\d+|localhost|\[::1\]):\d+")
_UNSAFE = "insecure:"


@contextlib.contextmanager
def dask_workers(scheduler: str) -> Iterator[Callable[[Callable, Sequence], Iterator[Any]]]:
    """A function like `map` by the workers of a cluster, which see the same files at the same paths.

    If a worker is lost, others do its items again. A function that writes files must therefore write whole ones.

    Args:
        scheduler: The address of a scheduler: `tls://host:port`, or `tcp://` on this machine; `insecure:tcp://...` for
            any other; or `local:N` for N processes on this machine.

    Raises:
        UserError: Dask is not installed, the scheduler can't be reached, is elsewhere without TLS, or its workers fail.
    """
    blamed = {"flag": "scheduler", "value": scheduler}
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError:
        raise UserError("needs Dask: pip install 'oaa-tf[dask]'", **blamed) from None
    local = _LOCAL.fullmatch(scheduler)
    address = scheduler.removeprefix(_UNSAFE)
    if not local and address == scheduler and not _SAFE.fullmatch(scheduler):
        raise UserError(
            "expected local:N, tls://HOST:PORT, or tcp:// on this machine: whoever reaches a scheduler without TLS can"
            f" run anything on its machines; {_UNSAFE}ADDRESS uses it all the same",
            **blamed,
        )
    with contextlib.ExitStack() as stack:
        try:
            if local:
                processes = LocalCluster(
                    n_workers=int(local[1]), threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
                )
                address = stack.enter_context(processes).scheduler_address
            client = stack.enter_context(Client(address, set_as_default=False))
            client.run(import_tensorflow_quietly)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"can't be reached ({first_line(error)}); is it running?", **blamed) from None

        def results(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            # Every worker unpickles it once, also one that comes later.
            sent = client.submit(_itself, work, pure=False)
            max_ahead = _AHEAD * max(sum(client.nthreads().values()), 1)
            chunk = min(_CHUNK, math.ceil(len(items) / max_ahead))
            waiting: collections.deque = collections.deque()
            try:
                for first in range(0, len(items), max(chunk, 1)):
                    some = list(items[first : first + chunk])
                    waiting.append(client.submit(_all_of, sent, some, os.getcwd(), pure=False))
                    if len(waiting) > max_ahead:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            except KilledWorker as error:
                raise UserError(f"its workers die at work ({first_line(error)}): have they enough memory?") from None

        yield results


def _itself(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return work


def _all_of(work: Callable[[Any], Any], items: Sequence[Any], folder: str) -> list[Any]:
    # For relative paths.
    os.chdir(folder)
    return [work(item) for item in items]
