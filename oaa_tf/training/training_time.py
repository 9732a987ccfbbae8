"""How long a training will take on this machine, measured before it begins."""

import dataclasses
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.training.initial_network import prepare_network
from oaa_tf.training.settings import TrainingSettings


def seconds_per_epoch(classes: tuple[str, ...], settings: TrainingSettings, sizes: np.ndarray) -> float:
    """Measures a training stage's time for all images once; it takes some seconds.

    A step's time is that of its forward and backward pass, and of a teacher's forward pass, on random images with
    random weights: decoding images, metrics, logs and checkpoints take little beside them.

    Args:
        classes: Names of the classes.
        settings: The stage's settings.
        sizes: int `[num_images, 2]`, height and width of the images in pixels.

    Raises:
        UserError: The precision can't be used.
    """
    random_weights: dict[str, Any] = {"backbone_weights": "none", "initial_weights": ""}
    if settings.head_weights != "none":
        random_weights["head_weights"] = "none"
    with tempfile.TemporaryDirectory() as scratch:
        network, _ = prepare_network(
            classes, dataclasses.replace(settings, **random_weights), Path(scratch), num_steps=1
        )
    views, num_images = settings.views, settings.batch_size // settings.accumulate_steps
    canvases = choose_canvases(sizes, views.canvas, min_images=settings.batch_size, square=views.square)
    # Time is proportional to the pixels; one shape is enough.
    shapes, counts = np.unique(canvases, axis=0, return_counts=True)
    images = tf.random.stateless_uniform((num_images, *shapes[counts.argmax()], 3), (0, 1))

    @tf.function(autograph=False)
    def gradient_sum() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(images, training=True))
        return tf.add_n([tf.reduce_sum(each) for each in tape.gradient(loss, network.trainable_weights)])

    @tf.function(autograph=False)
    def score_sum() -> tf.Tensor:
        return tf.reduce_sum(network(images, training=False))

    seconds = _least_seconds(gradient_sum)
    if settings.teacher_after < 1:
        seconds += (1 - settings.teacher_after) * _least_seconds(score_sum)
    pixels = np.prod(canvases, axis=1, dtype=np.int64).sum()
    return seconds * pixels / np.prod(images.shape[:3])


def _least_seconds(compute: Callable[[], tf.Tensor]) -> float:
    compute()
    return min(timeit.repeat(lambda: compute().numpy(), number=1, repeat=2))
