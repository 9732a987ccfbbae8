"""Attention accumulation with a backbone from keras.applications, on arrays of images and tags.

    PYTHONPATH=. python examples/other_backbone.py attention.png

Draws demo images, trains MobileNetV2 on their tags from random weights, and writes a picture of the accumulated
attention. For your own images, pass `weights="imagenet"`: from random weights, training takes thousands of steps.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import oaa_tf
from oaa_tf.demo.objects import CLASSES
from oaa_tf.demo.photos import draw_demo_image
from oaa_tf.report.visualization import grid, overlay_attention, write_png


def accumulate(
    images: np.ndarray, labels: np.ndarray, *, epochs: int, weights: str | None = None, alpha: float = 1.0
) -> oaa_tf.AttentionClassifier:
    """Trains a classifier that accumulates its attention on every image.

    Args:
        images: uint8 or float32 `[num_images, side, side, 3]`, RGB in [0, 255]; the side is a multiple of 16.
        labels: Multi-hot, float32 `[num_images, classes]`.
        epochs: Passes over the images. Nothing accumulates in the first one.
        weights: Of the backbone, as in `keras.applications.MobileNetV2`.
        alpha: Width of the backbone, as there.
    """
    side = images.shape[1]
    backbone = keras.applications.MobileNetV2((side, side, 3), alpha=alpha, include_top=False, weights=weights)
    features = backbone.get_layer("block_13_expand_relu").output  # stride 16
    score_maps = keras.layers.Conv2D(labels.shape[1], 1, name="score_maps")(features)
    network = keras.Sequential(
        [keras.layers.Rescaling(1 / 127.5, offset=-1), keras.Model(backbone.input, score_maps)], name="network"
    )
    network.build((None, side, side, 3))

    table = oaa_tf.CumulativeAttention.for_labels(labels, grid=side // 16)
    model = oaa_tf.AttentionClassifier(network, table)
    model.compile(keras.optimizers.Adam(1e-3))
    examples = {"image": images, "labels": labels, "position": np.arange(len(images))}
    batches = tf.data.Dataset.from_tensor_slices(examples).shuffle(len(images)).batch(8)
    model.fit(batches, epochs=epochs)
    return model


def demo_arrays(num_images: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Demo images, uint8 `[num_images, side, side, 3]`, and their tags, float32 `[num_images, classes]`."""
    drawn = [draw_demo_image(0, "train", index, side) for index in range(num_images)]
    images = np.stack([tf.image.resize(one.image, (side, side), antialias=True) for one in drawn])
    labels = np.zeros((num_images, len(CLASSES)), np.float32)
    for row, one in zip(labels, drawn, strict=True):
        row[list(one.labels)] = 1
    return np.rint(images).clip(0, 255).astype(np.uint8), labels


def picture_of(model: oaa_tf.AttentionClassifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every image beside the cumulative attention of its tags, uint8 RGB."""
    table, side = model.cumulative_attention, images.shape[1]
    rows = []
    for position, image in enumerate(images):
        maps = table.read("max", table.slots_of(position))[..., np.newaxis]
        rows.append(
            [image, *(overlay_attention(image, m[..., 0]) for m in tf.image.resize(maps, (side, side)).numpy())]
        )
    names = [", ".join(CLASSES[c] for c in np.flatnonzero(row)) for row in labels]
    return grid(rows, ["image", "attention"], names)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: PYTHONPATH=. python examples/other_backbone.py PICTURE.png")
    demo_images, demo_labels = demo_arrays(64, side=128)
    classifier = accumulate(demo_images, demo_labels, epochs=10)
    write_png(sys.argv[1], picture_of(classifier, demo_images[:6], demo_labels[:6]))
