"""Keras files that hold layers, models, losses and optimizers of this package."""

import os

import keras

from oaa_tf.attention import table

# Keras finds a class by its name only once its module has been imported.
from oaa_tf.models import (
    attention_drop,
    classifier,
    convolution,
    initializers,
    integral,
    largefov,
    losses,
    preprocessing,
    vgg,
)
from oaa_tf.training import optimizer

MODULES = (
    *(losses, table, optimizer),
    *(attention_drop, classifier, convolution, initializers, integral, largefov, preprocessing, vgg),
)
"""Where the classes are that a Keras file may name."""


def load_model(path: str | os.PathLike) -> keras.Model:
    """As `keras.saving.load_model`, which does not know this package's classes before they are imported."""
    return keras.saving.load_model(path)
