"""tf.data pipelines over a record set.

Sample number `n` of a run is a pure function of (records, seed, n): `oaa_tf.data.views.batch_order` chooses its image,
and the view's random numbers are drawn from (seed, n). A resumed run therefore continues with the same batches,
whatever the parallelism.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.decoding import decode_image
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.batch_order import BatchOrder
from oaa_tf.data.views.canvases import choose_canvases, whole_cells
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.targets import Targets
from oaa_tf.data.views.view import (
    MEAN_RGB,
    frame_content,
    frame_valid_cells,
    random_view,
    render,
    view_valid_cells,
    whole_view,
)
from oaa_tf.data.views.view_options import ViewOptions


@contextlib.contextmanager
def reading_errors(records: RecordSet) -> Iterator[None]:
    """Raises a `UserError` of `records.read` again if it stops a pipeline inside this block.

    TensorFlow turns every error of a reader into one of its own.
    """
    records.read_error = None
    try:
        yield
    except tf.errors.OpError:
        if records.read_error is None:
            raise
        raise records.read_error from None


def training_batches(
    records: RecordSet,
    options: ViewOptions,
    *,
    batch_size: int,
    seed: int,
    num_steps: int,
    first_step: int = 0,
    chosen: np.ndarray | None = None,
    targets: Targets | None = None,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of augmented views for steps `first_step` to `num_steps - 1`.

    Args:
        records: The record set.
        options: What views look like.
        batch_size: Images per batch.
        seed: Seed of order and augmentation.
        num_steps: Steps of the whole run.
        first_step: The first step to deliver, the number of steps already done.
        chosen: int `[n]`, the positions of the images to train on; all if None.
        targets: Adds features of the training stage.
        context: The replicas that train together, of which the dataset is for some: replica r of N takes images
            `r * batch_size // N` to `(r + 1) * batch_size // N - 1` of every batch. With several in this process, each
            takes one element per step.

    Returns:
        A dataset of dictionaries, see `oaa_tf.data.records.keys`: image float32 `[B, height, width, 3]` RGB in
        [0, 255], on the batch's canvas; labels float32 `[B, C]`; position, epoch int64 `[B]`; content int32 `[B, 2]`;
        view float32 `[B, 5]`; valid bool `[B, height / 8, width / 8]`; frame_valid bool `[B, grid, grid]`; and what
        `targets` adds.
    """
    canvases = choose_canvases(records.sizes, options.canvas, min_images=batch_size, square=options.square)
    chosen = np.arange(len(records)) if chosen is None else np.asarray(chosen, np.int64)
    order = BatchOrder.make(canvases[chosen], batch_size=batch_size, seed=seed, num_steps=num_steps)
    context = context or tf.distribute.InputContext()
    num_replicas = context.num_replicas_in_sync // context.num_input_pipelines
    first_replica = context.input_pipeline_id * num_replicas
    ends = np.arange(first_replica, first_replica + num_replicas + 1) * batch_size // context.num_replicas_in_sync
    own = slice(ends[0], ends[-1])
    # Made here, since constants made inside `view_example` would be copied into the dataset's graph.
    samples = tf.constant(order.samples[:, own].ravel())
    positions = tf.constant(chosen[order.positions[:, own].ravel()])
    all_canvases = tf.constant(canvases)

    def view_example(index: tf.Tensor) -> dict[str, tf.Tensor]:
        sample, position = samples[index], positions[index]
        view_seed, canvas = tf.stack([tf.constant(seed, tf.int64), sample]), all_canvases[position]

        def choose_view(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return random_view(view_seed, content, canvas, options)

        return _example(records, position, sample // order.num_images, options, canvas, choose_view, targets)

    num_own = int(ends[-1] - ends[0])
    indices = tf.data.Dataset.range(first_step * num_own, num_steps * num_own)
    return _batched(indices, view_example, np.diff(ends), options.grid)


def frame_batches(
    records: RecordSet,
    canvas: int,
    *,
    batch_size: int,
    scale: float = 1.0,
    mirrored: bool = False,
    chosen: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Every image once, in its canonical frame or in one view of the whole image; features as in `training_batches`.

    Images are ordered by canvas, then by position. The last batch of each canvas may be smaller.

    Args:
        records: The record set.
        canvas: Long side of the frame in pixels, a multiple of `STRIDE`.
        batch_size: Images per batch.
        scale: Size of the image in the view over its size in the frame.
        mirrored: Whether the view is mirrored.
        chosen: Positions of the images, in any order; all if None. An image's canvas does not depend on it.
    """
    options = ViewOptions(canvas)
    positions = np.arange(len(records)) if chosen is None else np.unique(chosen)
    canvases = choose_canvases(records.sizes[positions], whole_cells(round(canvas * scale)))

    def frame_example(position: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        epoch = tf.constant(0, tf.int64)
        return _example(records, position, epoch, options, canvas, lambda content: whole_view(content, scale, mirrored))

    _, of_images, counts = np.unique(canvases, axis=0, return_inverse=True, return_counts=True)
    by_canvas = np.argsort(of_images.ravel(), kind="stable")
    images = tf.data.Dataset.from_tensor_slices((positions[by_canvas].astype(np.int64), canvases[by_canvas]))
    batch_sizes = np.concatenate([np.diff([*range(0, count, batch_size), count]) for count in counts])
    return _batched(images, frame_example, batch_sizes, options.grid)


def _read(records: RecordSet, position: tf.Tensor) -> tf.Tensor:
    """The serialized record of an image, a scalar string; stores an error for `reading_errors`."""

    def read(number: np.ndarray) -> bytes:
        try:
            return records.read(int(number))
        except UserError as error:
            records.read_error = error
            raise

    return tf.ensure_shape(tf.numpy_function(read, [position], tf.string), [])


def _example(
    records: RecordSet,
    position: tf.Tensor,
    epoch: tf.Tensor,
    options: ViewOptions,
    canvas: tf.Tensor,
    choose_view: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    targets: Targets | None = None,
) -> dict[str, tf.Tensor]:
    features = tf.io.parse_single_example(
        _read(records, position),
        {
            keys.IMAGE: tf.io.FixedLenFeature([], tf.string),
            keys.MASK: tf.io.FixedLenFeature([], tf.string, ""),
            keys.SALIENCY: tf.io.FixedLenFeature([], tf.string, ""),
            keys.LABELS: tf.io.VarLenFeature(tf.int64),
        },
    )
    image = decode_image(features[keys.IMAGE])
    height, width = tf.unstack(tf.shape(image)[:2])
    content = frame_content(height, width, options.frame_size or options.canvas)
    view, size = choose_view(content)
    # The maximum over no label would be minus infinity.
    labels = tf.reduce_sum(tf.one_hot(tf.sparse.to_dense(features[keys.LABELS]), len(records.classes)), axis=0)
    example = {
        keys.IMAGE: render(image, view, size, canvas, method="bilinear", padding=MEAN_RGB),
        keys.LABELS: labels,
        keys.POSITION: position,
        keys.EPOCH: epoch,
        keys.CONTENT: content,
        keys.VIEW: view,
    }
    encoded = {key: features[key] for key in (keys.MASK, keys.SALIENCY)}
    added = targets(example | encoded, size, canvas) if targets else {}
    return example | added


def _batched(
    images: tf.data.Dataset, example: Callable[..., dict], batch_sizes: np.ndarray, grid: int
) -> tf.data.Dataset:
    """Batches of these sizes, again and again; every image of a batch has the same canvas."""

    def with_cells(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        cells = tf.shape(batch[keys.IMAGE])[1:3] // STRIDE
        batch[keys.VALID] = view_valid_cells(batch[keys.CONTENT], batch[keys.VIEW], cells)
        batch[keys.FRAME_VALID] = frame_valid_cells(batch[keys.CONTENT], grid)
        return batch

    # TensorFlow would rewrite these functions, which takes seconds and changes nothing.
    plain = tf.autograph.experimental.do_not_convert
    return (
        images.map(plain(example), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(1)
        .rebatch(batch_sizes)
        .map(plain(with_cells))
        .prefetch(tf.data.AUTOTUNE)
    )
