"""The cumulative attention table against a dictionary of numpy arrays."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.attention.table import CumulativeAttention

NUM_CLASSES = 4
# Class indices by position.
LABELS = ((1,), (0, 3), (2,), (0, 1, 3))
FIRST_SLOTS = np.array([0, 1, 3, 4, 7])
SLOTS = {
    (position, c): FIRST_SLOTS[position] + rank for position, row in enumerate(LABELS) for rank, c in enumerate(row)
}
GRID = 3


def multi_hot(positions) -> np.ndarray:
    matrix = np.zeros((len(positions), NUM_CLASSES), np.float32)
    for row, position in zip(matrix, positions, strict=True):
        row[list(LABELS[position])] = 1
    return matrix


def random_stream(seed: int, length: int) -> list[dict]:
    """Images as a training run shows them: position, gate, attention of all classes and seen cells."""
    generator = np.random.default_rng(seed)
    stream = []
    for _ in range(length):
        position = generator.integers(len(LABELS))
        gate = np.zeros(NUM_CLASSES, bool)
        gate[list(LABELS[position])] = generator.uniform(size=len(LABELS[position])) < 0.7
        stream.append(
            {
                "position": position,
                "gate": gate,
                "attention": generator.uniform(0, 1, (GRID, GRID, NUM_CLASSES)).astype(np.float32),
                "seen": generator.uniform(size=(GRID, GRID)) < 0.8,
            }
        )
    return stream


def feed(table: CumulativeAttention, stream: list[dict], batch_sizes: list[int], update=None) -> CumulativeAttention:
    """Updates the table with the stream cut into batches; the last size repeats."""
    sizes, start = list(batch_sizes), 0
    while start < len(stream):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        batch = stream[start : start + size]
        positions = np.array([image["position"] for image in batch], np.int64)
        (update or table.update)(
            tf.constant(positions),
            tf.constant(multi_hot(positions)),
            *(tf.constant(np.stack([image[name] for image in batch])) for name in ("gate", "attention", "seen")),
        )
        start += size
    return table


def observations(stream: list[dict]):
    """Slot, row, column and attention of everything that is to be accumulated."""
    for image in stream:
        for c in np.flatnonzero(image["gate"]):
            for i, j in np.argwhere(image["seen"]):
                yield SLOTS[image["position"], c], i, j, image["attention"][i, j, c]


def reference_maximum(stream: list[dict], dtype: str) -> np.ndarray:
    table = np.zeros((len(SLOTS), GRID, GRID), dtype)
    for slot, i, j, value in observations(stream):
        value = np.rint(value * np.float32(255)).astype(np.uint8) if dtype == "uint8" else value
        table[slot, i, j] = max(table[slot, i, j], value)
    return table


def reference_average(stream: list[dict]) -> np.ndarray:
    seen = {}
    for *place, value in observations(stream):
        seen.setdefault(tuple(place), []).append(float(value))
    table = np.zeros((len(SLOTS), GRID, GRID))
    for place, values in seen.items():
        table[place] = np.mean(values)
    return table


def stored(table: CumulativeAttention) -> np.ndarray:
    return table.maximum.numpy().reshape(-1, GRID, GRID)


def all_slots(table: CumulativeAttention) -> range:
    return range(table.num_slots)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    length=st.integers(1, 12),
    batch_sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_order_and_batches_do_not_change_the_maximum(
    dtype: str, seed: int, length: int, batch_sizes: list[int], order
) -> None:
    stream = random_stream(seed, length)
    expected = reference_maximum(stream, dtype)
    shuffled = stream.copy()
    order.shuffle(shuffled)
    table = feed(CumulativeAttention(FIRST_SLOTS, GRID, dtype=dtype), shuffled, batch_sizes)
    np.testing.assert_array_equal(stored(table), expected)
    if dtype == "uint8":
        np.testing.assert_array_equal(table.read("max", all_slots(table)), expected / np.float32(255))
    else:
        np.testing.assert_array_equal(table.read("max", all_slots(table)), expected)
    gated = [SLOTS[image["position"], c] for image in stream for c in np.flatnonzero(image["gate"])]
    np.testing.assert_array_equal(table.num_updates, np.bincount(gated, minlength=len(SLOTS)))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), batch_size=st.integers(1, 9))
def test_average_and_harmonic_count_every_cell_by_itself(seed: int, batch_size: int) -> None:
    stream = random_stream(seed, 9)
    table = CumulativeAttention(FIRST_SLOTS, GRID, fusions=("max", "average", "harmonic"), dtype="float32")
    feed(table, stream, [batch_size])
    average, maximum = reference_average(stream), reference_maximum(stream, "float32").astype(np.float64)
    np.testing.assert_allclose(table.read("average", all_slots(table)), average, atol=1e-6)
    with np.errstate(divide="ignore"):
        harmonic = 3 / (1 / average + 2 / maximum)
    np.testing.assert_allclose(table.read("harmonic", all_slots(table)), harmonic, atol=1e-6)


def test_by_hand() -> None:
    # Image 1 has the classes 0 and 3, in slots 1 and 2; its class 3 is seen twice, the cell (0, 1) only the first time.
    table = CumulativeAttention(np.array([0, 1, 3]), 2, fusions=("average", "max"), dtype="float32")
    labels = np.array([[0, 1, 0, 0], [1, 0, 0, 1]], np.float32)[[1, 1]]
    gate = np.array([[False, False, False, True]] * 2)
    attention = np.zeros((2, 2, 2, 4), np.float32)
    attention[0, :, :, 3] = [[0.25, 0.5], [1.0, 0.0]]
    attention[1, :, :, 3] = [[0.75, 0.9], [0.5, 0.0]]
    attention[:, :, :, :3] = 0.6
    seen = np.array([[[True, True], [True, True]], [[True, False], [True, True]]])
    table.update(tf.constant([1, 1], tf.int64), labels, gate, attention, seen)
    np.testing.assert_array_equal(table.read("max", [2]), [[[0.75, 0.5], [1.0, 0.0]]])
    np.testing.assert_array_equal(table.read("average", [2]), [[[0.5, 0.5], [0.75, 0.0]]])
    assert np.all(table.read("max", [0, 1]) == 0)
    np.testing.assert_array_equal(table.num_updates, [0, 0, 2])
    # All maps: the pairs that were never accumulated are empty, or those of the fallback.
    np.testing.assert_array_equal(table.maps(), table.read("max", all_slots(table)))
    fallback = np.float32([0.1, 0.2, 0.3])[:, np.newaxis, np.newaxis] * np.ones((3, 2, 2), np.float32)
    expected = np.concatenate([fallback[:2], table.read("average", [2])])
    np.testing.assert_array_equal(table.maps("average", fallback=fallback), expected)


def test_cells_that_a_view_does_not_show_are_left_alone() -> None:
    stream = random_stream(0, 6)
    table = feed(CumulativeAttention(FIRST_SLOTS, GRID, fusions=("max", "average")), stream, [6])
    before = {fusion: table.read(fusion, all_slots(table)) for fusion in table.fusions}
    unseen = [
        image | {"attention": np.ones_like(image["attention"]), "seen": np.zeros((GRID, GRID), bool)}
        for image in stream
    ]
    feed(table, unseen, [6])
    for fusion, maps in before.items():
        np.testing.assert_array_equal(table.read(fusion, all_slots(table)), maps)


def test_rounding_once_is_rounding_always() -> None:
    stream = random_stream(1, 30)
    rounded = feed(CumulativeAttention(FIRST_SLOTS, GRID, dtype="uint8"), stream, [4])
    exact = feed(CumulativeAttention(FIRST_SLOTS, GRID, dtype="float32"), stream, [4])
    np.testing.assert_array_equal(stored(rounded), np.rint(stored(exact) * np.float32(255)))


def test_inside_a_function_as_eagerly() -> None:
    stream = random_stream(2, 10)
    eager = feed(CumulativeAttention(FIRST_SLOTS, GRID, fusions=("max", "average")), stream, [3])
    compiled = CumulativeAttention(FIRST_SLOTS, GRID, fusions=("max", "average"))
    feed(compiled, stream, [3], tf.function(compiled.update, reduce_retracing=True))
    for variable, expected in zip(compiled.variables, eager.variables, strict=True):
        np.testing.assert_array_equal(variable, expected)


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize(
    ("position", "label", "gate"),
    [
        pytest.param(4, (1,), (1,), id="position too high"),
        pytest.param(-1, (1,), (1,), id="negative position"),
        pytest.param(0, (1, 2), (1,), id="too many labels"),
        pytest.param(1, (3,), (3,), id="too few labels"),
        pytest.param(0, (1,), (2,), id="gate without label"),
    ],
)
def test_what_does_not_fit_the_slots_raises(position: int, label, gate, in_function: bool) -> None:
    table = CumulativeAttention(FIRST_SLOTS, GRID)
    labels, gates = np.zeros((1, NUM_CLASSES), np.float32), np.zeros((1, NUM_CLASSES), bool)
    labels[0, list(label)] = 1
    gates[0, list(gate)] = True
    update = tf.function(table.update) if in_function else table.update
    attention = np.full((1, GRID, GRID, NUM_CLASSES), 0.7, np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError):
        update(tf.constant([position], tf.int64), labels, gates, attention, np.full((1, GRID, GRID), True))
    assert not any(variable.numpy().any() for variable in table.variables)


def test_a_batch_without_any_open_gate_changes_nothing() -> None:
    table = feed(CumulativeAttention(FIRST_SLOTS, GRID), random_stream(4, 5), [5])
    before = [variable.numpy() for variable in table.variables]
    feed(table, [image | {"gate": np.zeros(NUM_CLASSES, bool)} for image in random_stream(5, 5)], [5])
    for variable, expected in zip(table.variables, before, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_reading_some_slots_in_any_order() -> None:
    table = feed(CumulativeAttention(FIRST_SLOTS, GRID), random_stream(6, 8), [8])
    everything = table.read("max", all_slots(table))
    np.testing.assert_array_equal(table.read("max", [5, 0, 5]), everything[[5, 0, 5]])
    assert table.read("max", []).shape == (0, GRID, GRID)


def test_reading_a_table_that_is_longer_than_one_piece() -> None:
    num_images = 2500
    table = CumulativeAttention(np.arange(num_images + 1), 1)
    values = (np.arange(num_images) % 256).astype(np.uint8)
    table.maximum.assign(values[:, np.newaxis])
    np.testing.assert_array_equal(table.read("max", range(num_images))[:, 0, 0], values / np.float32(255))
    assert table.coverage(100.5 / 255) == pytest.approx(np.mean(values > 100))


@pytest.mark.parametrize("fusions", [("max",), ("average",), ("harmonic", "average")])
def test_coverage_is_about_the_maximum_whatever_is_fused(fusions: tuple[str, ...]) -> None:
    stream = random_stream(7, 10)
    table = feed(CumulativeAttention(FIRST_SLOTS, GRID, fusions=fusions, dtype="float32"), stream, [5])
    assert table.coverage(0.5) == pytest.approx(np.mean(reference_maximum(stream, "float32") > 0.5))
    assert table.coverage(1.0) == 0


def test_size_for_voc12_train_aug() -> None:
    # 10,582 images and about 15,600 pairs on a grid of 38 x 38: the size that the design allows is 25 MB.
    labels_per_image = np.ones(10_582, np.int64)
    labels_per_image[: 15_600 - 10_582] += 1
    table = CumulativeAttention(np.concatenate([[0], np.cumsum(labels_per_image)]), 38)
    assert table.num_slots == 15_600
    assert 15_600 * 38 * 38 <= table.num_bytes < 25e6


def test_state_is_complete_in_its_variables() -> None:
    stream = random_stream(8, 10)
    fusions = ("max", "average", "harmonic")
    whole = feed(CumulativeAttention(FIRST_SLOTS, GRID, fusions=fusions), stream, [2])
    first = feed(CumulativeAttention(FIRST_SLOTS, GRID, fusions=fusions), stream[:6], [2])
    second = CumulativeAttention(FIRST_SLOTS, GRID, fusions=fusions)
    for variable, value in zip(second.variables, first.variables, strict=True):
        variable.assign(value)
    feed(second, stream[6:], [2])
    for fusion in fusions:
        np.testing.assert_array_equal(second.read(fusion, all_slots(second)), whole.read(fusion, all_slots(whole)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusions": ("max", "median")}, "median.*expected some of max, average, harmonic"),
        ({"fusions": ()}, "expected some of max, average, harmonic"),
        ({"dtype": "float16"}, "dtype='float16': expected uint8 or float32"),
    ],
)
def test_unknown_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CumulativeAttention(FIRST_SLOTS, GRID, **options)


def test_a_fusion_that_is_not_kept_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="fusion='average': this table keeps max"):
        CumulativeAttention(FIRST_SLOTS, GRID).read("average", [0])


def test_two_replicas_fill_the_same_table_as_one() -> None:
    # In a process of its own: the number of devices is fixed once TensorFlow has started.
    script = """
        import sys
        import numpy as np
        import tensorflow as tf

        sys.path.insert(0, sys.argv[1])
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        from test_table import FIRST_SLOTS, GRID, CumulativeAttention, feed, multi_hot, random_stream

        stream = random_stream(9, 24)
        names = ("gate", "attention", "seen")
        alone, shared = (CumulativeAttention(FIRST_SLOTS, GRID, fusions=("max", "average")) for _ in range(2))
        feed(alone, stream, [4])

        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        positions = np.array([image["position"] for image in stream], np.int64)
        columns = (positions, multi_hot(positions), *(np.stack([image[name] for image in stream]) for name in names))
        dataset = tf.data.Dataset.from_tensor_slices(columns).batch(4)

        @tf.function
        def step(batch):
            strategy.run(shared.update, args=batch)

        with strategy.scope():
            for batch in strategy.experimental_distribute_dataset(dataset):
                step(batch)
        np.testing.assert_array_equal(shared.maximum, alone.maximum)
        np.testing.assert_array_equal(shared.num_updates, alone.num_updates)
        np.testing.assert_array_equal(shared.count, alone.count)
        np.testing.assert_allclose(shared.total, alone.total, rtol=1e-6)
        assert shared.maximum.numpy().any()
    """
    folder = __file__.rpartition("/")[0]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), folder], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_table_for_labels_knows_the_slots_of_images() -> None:
    table = CumulativeAttention.for_labels(multi_hot(range(len(LABELS))), GRID, fusions=("average",), dtype="float32")
    assert [list(table.slots_of(position)) for position in range(4)] == [[0], [1, 2], [3], [4, 5, 6]]
    for position in (-1, 4):
        with pytest.raises(IndexError, match=f"position {position}: expected 0 to 3"):
            table.slots_of(position)
    again = CumulativeAttention.from_config(table.get_config())
    assert again.get_config() == table.get_config()
    assert [v.shape for v in again.variables] == [v.shape for v in table.variables]
    assert again.fusions == ("average",) and again.maximum.dtype == tf.float32
