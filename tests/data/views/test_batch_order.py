"""The order of a run."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.data.views.batch_order import BatchOrder, permutation

SHAPES = np.array([(6, 8), (8, 6), (8, 8)], np.int32) * 8

runs = st.fixed_dictionaries(
    {
        "canvases": st.lists(st.integers(0, 2), min_size=1, max_size=30).map(lambda shapes: SHAPES[shapes]),
        "batch_size": st.integers(1, 8),
        "seed": st.integers(0, 2**32 - 1),
        "num_steps": st.integers(0, 60),
    }
)


def reference(canvases: np.ndarray, batch_size: int, seed: int, num_steps: int) -> list[list[tuple[int, int]]]:
    """The definition: samples wait in a queue for each canvas until they are a batch."""
    batches, queues, epoch = [], {}, 0
    while len(batches) < num_steps:
        for rank, position in enumerate(permutation(len(canvases), seed, epoch)):
            queue = queues.setdefault(tuple(canvases[position]), [])
            queue.append((epoch * len(canvases) + rank, int(position)))
            if len(queue) == batch_size:
                batches.append(queue.copy())
                queue.clear()
        epoch += 1
    return batches[:num_steps]


@given(run=runs)
def test_equals_queues(run: dict) -> None:
    order = BatchOrder.make(run["canvases"], **{name: run[name] for name in ("batch_size", "seed", "num_steps")})
    expected = np.array(reference(**run), np.int64).reshape(run["num_steps"], run["batch_size"], 2)
    np.testing.assert_array_equal(order.samples, expected[..., 0])
    np.testing.assert_array_equal(order.positions, expected[..., 1])
    for batch in order.positions:
        assert np.all(run["canvases"][batch] == run["canvases"][batch[0]])


@given(run=runs, more=st.integers(0, 20))
def test_a_longer_run_begins_alike(run: dict, more: int) -> None:
    options = {name: run[name] for name in ("batch_size", "seed")}
    order = BatchOrder.make(run["canvases"], num_steps=run["num_steps"], **options)
    longer = BatchOrder.make(run["canvases"], num_steps=run["num_steps"] + more, **options)
    np.testing.assert_array_equal(longer.samples[: run["num_steps"]], order.samples)


def test_every_image_is_seen_about_once_an_epoch() -> None:
    canvases = SHAPES[np.arange(50) % 3]
    order = BatchOrder.make(canvases, batch_size=4, seed=1, num_steps=125)
    counts = np.bincount(order.positions.ravel(), minlength=50)
    # 500 samples of 50 images; at most three of a shape wait.
    assert counts.min() >= 9 and counts.max() <= 11
    assert len(np.unique(order.samples)) == order.samples.size


def test_permutations() -> None:
    orders = [permutation(20, seed=3, epoch=epoch) for epoch in range(30)]
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 30
    np.testing.assert_array_equal(permutation(20, seed=3, epoch=7), orders[7])
    assert not np.array_equal(permutation(20, seed=4, epoch=0), orders[0])
    # Fixed for good: a run resumed with another version of numpy goes on with the same order.
    assert permutation(8, seed=0, epoch=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
