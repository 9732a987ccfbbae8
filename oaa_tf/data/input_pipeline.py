"""tf.data pipelines over a record set.

Sample number `n` of a run is a pure function of (records, seed, n): epoch `n // N` visits the images in a permutation
of its own, and the view's random numbers are drawn from (seed, n). A run that resumes at step `s` therefore starts at
sample `s * batch_size`, whatever the parallelism, and batches run on across the ends of epochs.
"""

from collections.abc import Callable

import tensorflow as tf

from oaa_tf.data import keys
from oaa_tf.data.image_files import decode_image
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import (
    IDENTITY_VIEW,
    MEAN_RGB,
    ViewOptions,
    frame_content,
    frame_valid_cells,
    random_view,
    render,
    view_valid_cells,
)

Targets = Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]]
"""Makes further features of a stage from an example and the int32 `[2]` size to which its image was resized."""


def training_batches(
    records: RecordSet,
    options: ViewOptions,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    num_steps: int,
    targets: Targets | None = None,
) -> tf.data.Dataset:
    """Batches of augmented views for steps `first_step` to `num_steps - 1`.

    Args:
        records: The record set.
        options: What views look like.
        batch_size: Images per batch.
        seed: Seed of order and augmentation.
        first_step: The first step to deliver, the number of steps already done.
        num_steps: Steps of the whole run.
        targets: Adds a stage's own features.

    Returns:
        A dataset of dictionaries, see `oaa_tf.data.keys`: image float32 `[B, canvas, canvas, 3]` RGB in [0, 255];
        labels float32 `[B, C]`; position, epoch int64 `[B]`; content int32 `[B, 2]`; view float32 `[B, 5]`; valid and
        frame_valid bool `[B, grid, grid]`; and what `targets` adds.
    """
    num_images = len(records)

    def place(sample: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epoch = sample // num_images
        position = tf.random.experimental.index_shuffle(
            sample % num_images,
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
            max_index=tf.constant(num_images - 1, tf.int64),
        )
        view_seed = tf.stack([tf.constant(seed, tf.int64), sample])
        return position, epoch, view_seed

    def view_example(sample: tf.Tensor) -> dict[str, tf.Tensor]:
        position, epoch, view_seed = place(sample)
        drawn = _example(records, position, epoch, options, lambda content: random_view(view_seed, content, options))
        return _with_targets(drawn, targets)

    samples = tf.data.Dataset.range(first_step * batch_size, num_steps * batch_size)
    return _batched(samples, view_example, batch_size, options.grid)


def frame_batches(records: RecordSet, canvas: int, *, batch_size: int) -> tf.data.Dataset:
    """Every image once, in the order of positions, as its canonical frame; features as in `training_batches`."""
    options = ViewOptions(canvas, flip=False)

    def frame_example(position: tf.Tensor) -> dict[str, tf.Tensor]:
        epoch = tf.constant(0, tf.int64)
        identity = tf.constant(IDENTITY_VIEW)
        return _with_targets(_example(records, position, epoch, options, lambda content: (identity, content)), None)

    return _batched(tf.data.Dataset.range(len(records)), frame_example, batch_size, options.grid)


def _example(
    records: RecordSet,
    position: tf.Tensor,
    epoch: tf.Tensor,
    options: ViewOptions,
    choose_view: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """An example, and the size to which its image was resized."""
    serialized = tf.ensure_shape(tf.numpy_function(records.read, [position], tf.string), [])
    features = tf.io.parse_single_example(
        serialized,
        {
            keys.IMAGE: tf.io.FixedLenFeature([], tf.string),
            keys.MASK: tf.io.FixedLenFeature([], tf.string, ""),
            keys.LABELS: tf.io.VarLenFeature(tf.int64),
        },
    )
    image = decode_image(features[keys.IMAGE])
    height, width = tf.unstack(tf.shape(image)[:2])
    content = frame_content(height, width, options.frame_size or options.canvas)
    view, size = choose_view(content)
    labels = tf.reduce_max(tf.one_hot(tf.sparse.to_dense(features[keys.LABELS]), len(records.classes)), axis=0)
    example = {
        keys.IMAGE: render(image, view, size, options.canvas, method="bilinear", padding=MEAN_RGB),
        keys.MASK: features[keys.MASK],
        keys.LABELS: labels,
        keys.POSITION: position,
        keys.EPOCH: epoch,
        keys.CONTENT: content,
        keys.VIEW: view,
    }
    return example, size


def _with_targets(example_and_size: tuple[dict[str, tf.Tensor], tf.Tensor], targets: Targets | None) -> dict:
    example, size = example_and_size
    added = targets(example, size) if targets else {}
    del example[keys.MASK]
    return example | added


def _batched(
    numbers: tf.data.Dataset, example: Callable[[tf.Tensor], dict], batch_size: int, grid: int
) -> tf.data.Dataset:
    def with_cells(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch[keys.VALID] = view_valid_cells(batch[keys.CONTENT], batch[keys.VIEW], grid)
        batch[keys.FRAME_VALID] = frame_valid_cells(batch[keys.CONTENT], grid)
        return batch

    return (
        numbers.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size)
        .map(with_cells)
        .prefetch(tf.data.AUTOTUNE)
    )
