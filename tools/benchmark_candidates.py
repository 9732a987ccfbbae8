"""What the benchmark compares: data of VOC's sizes, and steps and parts of steps as functions without arguments."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from oaa_tf import make_records
from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.images.palette_png import write_indexed
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.demo.objects import CLASSES
from oaa_tf.demo.photos import draw_demo_image
from oaa_tf.losses import classification_loss
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.optimizer import paper_optimizer
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.training.loop import step_function

# Short side over long side of 1,473 images of PASCAL VOC 2012, a twentieth of them each.
_ASPECTS = (0.58, 0.65, 0.66, 0.67, 0.67, 0.67, 0.68, 0.7, 0.72, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.76,
            0.81, 0.93)  # fmt: skip
_UPRIGHT_SHARE = 0.24

TURNS = 20
"""How often `accumulation` does its work in one call."""

MERGES = 200
"""How often `merge` does. A merge takes microseconds, and calling a graph from Python, which a step does once, 200."""


def benchmark_records(voc_dir: str, folder: Path) -> RecordSet:
    """Records of the user's images, or of synthetic ones with the sizes of VOC's."""
    if not voc_dir:
        voc_dir = str(folder / "voc")
        _write_images_of_voc_sizes(Path(voc_dir), num_images=300)
    make_records.run(
        make_records.MakeRecordsSettings(voc_dir=voc_dir, split="train", output_dir=str(folder / "records"))
    )
    return RecordSet.open(folder / "records/train.json")


def _write_images_of_voc_sizes(root: Path, num_images: int) -> None:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    labels = []
    for index in range(num_images):
        demo = draw_demo_image(0, "train", index, 128)
        short = round(500 * _ASPECTS[index % len(_ASPECTS)])
        upright = index * _UPRIGHT_SHARE % 1 < _UPRIGHT_SHARE
        size = (short, 500) if upright else (500, short)
        image = cv2.cvtColor(cv2.resize(demo.image, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / "JPEGImages" / f"{index}.jpg"), image)
        mask = cv2.resize(demo.mask, size, interpolation=cv2.INTER_NEAREST)
        write_indexed(root / "SegmentationClass" / f"{index}.png", mask)
        labels.append(" ".join(map(str, (index, *demo.labels))))
    lists = root / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("".join(f"{index}\n" for index in range(num_images)))
    (lists / "train_cls.txt").write_text("\n".join(labels) + "\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def commonest_batch(records: RecordSet, views: ViewOptions, batch_size: int, targets=None) -> dict[str, tf.Tensor]:
    """The first batch whose canvas is the commonest."""
    canvases = choose_canvases(records.sizes, views.canvas, min_images=batch_size, square=views.square)
    shapes, counts = np.unique(canvases, axis=0, return_counts=True)
    commonest = tuple(shapes[counts.argmax()])
    batches: Iterable[dict[str, tf.Tensor]] = training_batches(
        records, views, batch_size=batch_size, seed=0, first_step=0, num_steps=100, targets=targets
    )
    return next(dict(batch) for batch in batches if tuple(batch[keys.IMAGE].shape[1:3]) == commonest)


def num_multiplications(network: keras.Model, shape: tf.TensorShape) -> int:
    """Multiplications of a forward pass on images of this shape: cells times kernel, convolution by convolution."""
    batch, height, width, _ = shape
    backbone = network.get_layer("vgg16")
    total = 0
    for layer in [*backbone.layers, *network.layers]:
        if isinstance(layer, keras.layers.Conv2D):
            # Blocks 1 to 3 each end in pooling; everything behind them has the stride of the output.
            stride = 2 ** (int(layer.name[5]) - 1) if layer.name.startswith(("block1", "block2", "block3")) else STRIDE
            total += batch * (height // stride) * (width // stride) * int(np.prod(layer.kernel.shape))
    return total


def build_network(task: str, classes: tuple[str, ...], width: int, **options) -> tuple[keras.Model, keras.Model]:
    """A network and its backbone, always with the same weights; options as in `NetworkDescription.build`."""
    keras.utils.set_random_seed(0)
    return NetworkDescription(task, tuple(classes), 0, width).build(initializer="centered_he", **options)


def compiled(model: TrainedNetwork, backbone: keras.Model) -> TrainedNetwork:
    """The model, compiled with the optimizer of the stages."""
    optimizer = paper_optimizer(
        model.network, backbone, 1e-4, momentum=0.9, weight_decay=5e-4, new_layer_multiplier=1.0, clip_norm=10.0
    )
    model.compile(optimizer, jit_compile=False)
    optimizer.build(model.network.trainable_variables)
    return model


def training_step(model, batch: dict[str, tf.Tensor]) -> Callable[[], Any]:
    """A training step as the loop takes it."""
    take_step = step_function(model, _any_canvas(batch))
    return lambda: take_step(batch, False)


def _any_canvas(batch: dict[str, tf.Tensor]) -> dict[str, tf.TensorSpec]:
    """The spec of batches of any size, as the input pipeline has it."""
    shapes = {name: [None, *value.shape[1:]] for name, value in batch.items()}
    shapes[keys.IMAGE][1:3] = shapes[keys.VALID][1:3] = [None, None]
    if keys.SEGMENTATION in shapes:
        shapes[keys.SEGMENTATION][1:3] = [None, None]
    return {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in batch.items()}


def bare_pass(model, batch: dict[str, tf.Tensor], xla: bool = False) -> Callable[[], Any]:
    """Forward and backward pass of the model's network and loss, and nothing else; with `xla` compiled by XLA."""
    variables = model.network.trainable_variables
    has_table = isinstance(model, AttentionClassifier)

    @tf.function(input_signature=[_any_canvas(batch)], jit_compile=xla)
    def forward_and_backward(batch):
        with tf.GradientTape() as tape:
            if has_table:
                scores = class_scores(model.network(batch[keys.IMAGE], training=True), batch[keys.VALID])
                loss = classification_loss(scores, batch[keys.LABELS])
            else:
                loss, _, _ = model.compute_loss_of(batch)
        # One number of each: handing out all of them would cost as much memory as the weights have, and what is not
        # used is not computed.
        gradients = tape.gradient(loss, variables)
        return tf.add_n([tf.reshape(gradient, [-1])[0] for gradient in gradients])

    return lambda: float(forward_and_backward(batch))


def forward_and_backward_of(layer: keras.layers.Layer, inputs: tf.Tensor) -> Callable[[], float]:
    """Forward and backward pass of one layer on inputs whose size the graph does not know."""
    layer.build(inputs.shape)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, inputs.shape[-1]])])
    def forward_and_backward(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(layer(inputs) ** 2)
        gradients = tape.gradient(total, [inputs, layer.kernel.value])
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    return lambda: float(forward_and_backward(inputs))


def accumulation(table: CumulativeAttention, batch: dict[str, tf.Tensor], score_maps: tf.Tensor) -> Callable[[], Any]:
    """All that a step does for accumulation, from score maps on; `TURNS` times, one after the other."""
    valid, labels = batch[keys.VALID], batch[keys.LABELS]
    # Other maps in each turn: TensorFlow would compute equal ones once.
    inputs = tf.stack([score_maps + number for number in range(TURNS)])

    @tf.function
    def accumulate(inputs: tf.Tensor) -> None:
        for number in range(TURNS):
            # A read comes after the writes before it, and the rest after the read.
            with tf.control_dependencies([tf.gather(table.maximum, [0])]):
                score_maps = inputs[number]
            gate = open_gate("none", class_scores(score_maps, valid), labels)
            attention = class_activation_maps(score_maps, valid)
            attention, seen = attention_to_frame(attention, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
            table.update(batch[keys.POSITION], labels, gate, attention, seen)

    return lambda: accumulate(inputs)


def merge(table: CumulativeAttention, pairs: np.ndarray, maps: np.ndarray) -> Callable[[], Any]:
    """The table's update with maps that are ready, `MERGES` times; without a loop, since a step has none."""
    rows = np.zeros((len(pairs), table.grid, table.grid), np.uint8)
    for row, (image, label) in zip(rows, pairs, strict=True):
        row[: maps.shape[1], : maps.shape[2]] = np.rint(maps[image, :, :, label] * 255)
    updates = tf.IndexedSlices(tf.constant(rows.reshape(len(pairs), -1)), tf.range(len(pairs), dtype=tf.int64))

    @tf.function
    def merge_rows() -> None:
        for _ in range(MERGES):
            table.maximum.scatter_max(updates)

    return merge_rows
