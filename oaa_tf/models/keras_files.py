"""Keras files that hold layers, models and losses of this package."""

import os

import keras

# Importing these registers their classes, and those of what they are made from, with Keras.
from oaa_tf.losses import HybridLoss
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.preprocessing import CaffePreprocessing

REGISTERED = (AttentionClassifier, CaffePreprocessing, DeepLabLargeFOV, HybridLoss, IntegralAttentionModel)


def load_model(path: str | os.PathLike) -> keras.Model:
    """As `keras.saving.load_model`, which does not know this package's classes before they are imported."""
    return keras.saving.load_model(path)
