"""Weights from Keras' networks: the backbones', and those of VGG16's fully connected layers for fc6 and fc7."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.models.backbones import BACKBONES

HEAD_LAYERS = ("fc6", "fc7")
"""The layers of DeepLab-LargeFOV that `load_head_weights` fills."""


def load_backbone_weights(backbone: keras.Model, weights: str) -> None:
    """Loads ImageNet weights into a backbone of full width.

    Args:
        backbone: One of `BACKBONES`.
        weights: "imagenet" (downloaded by Keras), "none" (nothing is loaded) or the path of one of Keras' own h5
            files without the top.

    Raises:
        UserError: The file is missing, is no Keras weights file, or has other shapes.
    """
    if weights == "none":
        return
    flag = f"--backbone_weights={weights}"
    values = _reference_network(flag, backbone.name, weights, include_top=False).get_weights()
    if [value.shape for value in values] != [weight.shape for weight in backbone.weights]:
        raise UserError(f"{flag} needs --width=64, the width of {BACKBONES[backbone.name].title}")
    backbone.set_weights(values)


def load_head_weights(network: keras.Model, weights: str) -> None:
    """Starts fc6 and fc7 from VGG16's fully connected layers, as DeepLab-LargeFOV did.

    Args:
        network: From `oaa_tf.models.largefov`, on VGG16 of full width.
        weights: "imagenet" (downloaded by Keras), "none" (nothing is loaded) or the path of one of Keras' own h5
            files of VGG16 with the top.

    Raises:
        UserError: The file is missing or has no such weights.
    """
    if weights == "none":
        return
    reference = _reference_network(f"--head_weights={weights}", "vgg16", weights, include_top=True)
    dense = [reference.get_layer(name).get_weights() for name in ("fc1", "fc2")]
    for name, values in zip(HEAD_LAYERS, subsampled_head(*dense), strict=True):
        network.get_layer(name).set_weights(values)


def subsampled_head(
    fc1: list[np.ndarray], fc2: list[np.ndarray], *, size: int = 7, spatial_step: int = 3, channel_step: int = 4
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Makes convolutions of two fully connected layers, keeping some of their inputs and outputs.

        fc6, fc7 = subsampled_head(fc1, fc2)  # 7x7x512x4096 -> 3x3x512x1024; 4096x4096 -> 1x1x1024x1024

    Args:
        fc1: Kernel `[size * size * channels, units]` and bias `[units]`, on the flattened features
            `[size, size, channels]` of an image.
        fc2: Kernel `[units, units]` and bias `[units]`, on the output of fc1.
        size: Rows and columns of the features.
        spatial_step: Of rows and columns, this one is kept, counted from the first.
        channel_step: Of units, this one is kept, counted from the first.

    Returns:
        Kernel `[height, width, inputs, outputs]` and bias `[outputs]` of fc6 and of fc7.
    """
    units = slice(None, None, channel_step)
    cells = slice(None, None, spatial_step)
    # Keras flattens rows first, then columns, then channels.
    kernel = fc1[0].reshape(size, size, -1, fc1[0].shape[-1])
    fc6 = [kernel[cells, cells, :, units], fc1[1][units]]
    fc7 = [fc2[0][np.newaxis, np.newaxis, units, units], fc2[1][units]]
    return fc6, fc7


@contextlib.contextmanager
def named_as_keras_expects(weights: str) -> Iterator[str]:
    """The path of a weights file under a name that tells Keras its format, which is not always that of the file.

    Keras 3 writes `.weights.h5` and reads it under no other name; its predecessors' `.h5` has the names of the layers
    in an attribute.
    """
    if weights == "imagenet" or not h5py.is_hdf5(weights):
        yield weights
        return
    with h5py.File(weights) as file:
        suffix = ".h5" if "layer_names" in file.attrs or "model_weights" in file else ".weights.h5"
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"weights-of-keras{suffix}"
        link.symlink_to(Path(weights).resolve())
        yield str(link)


def _reference_network(flag: str, name: str, weights: str, *, include_top: bool) -> keras.Model:
    """Keras' own network with its weights; it knows every layout of the files that Keras has published."""
    if weights != "imagenet" and not os.path.isfile(weights):
        raise UserError(f"{flag}: no such file; expected imagenet, none or the path of an h5 file")
    try:
        with warnings.catch_warnings(), named_as_keras_expects(weights) as path:
            warnings.simplefilter("ignore")
            return BACKBONES[name].reference(weights=path, include_top=include_top)
    except Exception as error:  # Keras raises a different type for every way in which a file can be wrong.
        top = "with" if include_top else "without"
        raise UserError(
            f"{flag}: cannot be read as {BACKBONES[name].title} weights {top} top in Keras' h5 format"
            f" ({first_line(error)})"
        ) from None
