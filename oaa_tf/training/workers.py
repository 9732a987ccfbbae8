"""Several machines that train one network, each with its part of every batch.

`TF_CONFIG` in the environment names them, as everywhere in TensorFlow, whose `MultiWorkerMirroredStrategy` connects
them. All of them do the same, since it takes all of them to read what they have summed up. But only one, the chief,
writes into the work_dir; the others write into temporary folders.
"""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterator

import tensorflow as tf

from oaa_tf.command_line.errors import UserError, first_line

_EXAMPLE = '{"cluster": {"worker": ["first:12345", "second:12345"]}, "task": {"type": "worker", "index": 0}}'


def addresses_and_index() -> tuple[list[str], int]:
    """The addresses of all workers, the chief's first, and the number of this one; ([], 0) without `TF_CONFIG`.

    Raises:
        UserError: `TF_CONFIG` does not say that.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return [], 0
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs = cluster.get("chief", [])
        first = {"chief": 0, "worker": len(chiefs)}[task["type"]]
        addresses, index = [*chiefs, *cluster.get("worker", [])], first + int(task["index"])
        if set(cluster) - {"chief", "worker"} or not all(isinstance(one, str) for one in addresses):
            raise ValueError(cluster)
        addresses[index]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise UserError(f"TF_CONFIG={text[:200]}: expected workers and one of them, such as {_EXAMPLE}") from None
    return addresses, index


def strategy_of_workers() -> tf.distribute.Strategy | None:
    """The strategy of all workers; the first call waits for them. None if there is only one.

    Call it before TensorFlow computes anything.

    Raises:
        UserError: `TF_CONFIG` is wrong, or the workers can't be connected.
    """
    addresses, _ = addresses_and_index()
    return _connected(tuple(addresses)) if len(addresses) > 1 else None


@functools.cache
def _connected(addresses: tuple[str, ...]) -> tf.distribute.Strategy:
    print(f"waiting for all {len(addresses)} workers: {', '.join(addresses)}", flush=True)
    try:
        # Without a timeout, for which every collective operation would keep a thread until it has passed. A worker
        # that is gone or stopped is noticed by its heartbeats.
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(f"the workers of TF_CONFIG can't be connected ({first_line(error)})") from None
    print(f"{len(addresses)} workers are connected")
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes results; a process alone is."""
    return num_workers(strategy) == 1 or addresses_and_index()[1] == 0


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """The number of processes that train together."""
    is_cluster = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return len(addresses_and_index()[0]) if is_cluster else 1


def agree(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Whether all workers give the same number; waits for them as long as it takes."""
    return _sum_over_workers(strategy, number) == num_workers(strategy) * number


def of_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """The number that the chief gives; waits for all workers as long as it takes."""
    return _sum_over_workers(strategy, number if is_chief(strategy) else 0)


def _sum_over_workers(strategy: tf.distribute.Strategy, number: int) -> int:
    if num_workers(strategy) == 1:
        return number
    num_local = strategy.num_replicas_in_sync // num_workers(strategy)

    def of_replica(context: tf.distribute.ReplicaContext) -> tf.Tensor:
        return tf.constant(0 if context.replica_id_in_sync_group % num_local else number, tf.int64)

    given = strategy.experimental_distribute_values_from_function(of_replica)
    return int(strategy.reduce(tf.distribute.ReduceOp.SUM, given, axis=None))


@contextlib.contextmanager
def worker_errors(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Inside the block, a worker that is lost is a `UserError`."""
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1:
            raise
        addresses, index = addresses_and_index()
        lost = {int(number) for number in re.findall(r"task:(\d+)", error.message)} - {index}
        names = ", ".join(f"{number} ({addresses[number]})" for number in sorted(lost) if number < len(addresses))
        raise UserError(
            f"worker {names or 'unknown'} is lost ({first_line(error)}); start the same command on all"
            " workers again to go on from the last checkpoint"
        ) from None
