"""Weights from the networks of Keras: for backbones, and for fc6 and fc7 from VGG16's fully connected layers."""

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
from oaa_tf.models.backbones import BACKBONES, FILE_SUFFIX, backbone_in_file, find_backbone
from oaa_tf.models.output_stride import copy_weights

HEAD_LAYERS = ("fc6", "fc7")
"""The layers of DeepLab-LargeFOV that `load_head_weights` fills."""


def load_backbone_weights(backbone: keras.Model, weights: str, *, source: str | None = None) -> None:
    """Loads pretrained weights into a backbone of full width.

    Args:
        backbone: The backbone.
        weights: "imagenet" (downloaded by Keras), "none" (nothing is loaded) or the path of an h5 file of Keras without
            the top. A network in a file has its weights there: "imagenet" are those.
        source: The backbone's name, or the path of its file; by default the model's name.

    Raises:
        UserError: The file is missing, is not a Keras weights file, or has other shapes.
    """
    if weights == "none":
        return
    flag, source = f"--backbone_weights={weights}", source or backbone.name
    if source.endswith(FILE_SUFFIX):
        copy_weights(backbone_in_file(source), backbone)
        return
    reference = _reference_network(flag, source, weights, include_top=False)
    if source not in BACKBONES:
        copy_weights(reference, backbone)
        return
    try:
        backbone.set_weights(reference.get_weights())
    except ValueError:
        raise UserError(f"{flag} needs --width=64, the width of {BACKBONES[source].title}") from None


def load_head_weights(network: keras.Model, weights: str) -> None:
    """Initialises fc6 and fc7 from VGG16's fully connected layers, as in DeepLab-LargeFOV.

    Args:
        network: From `oaa_tf.models.largefov`, on VGG16 of full width.
        weights: "imagenet" (downloaded by Keras), "none" (nothing is loaded) or the path of an h5 file of Keras for
            VGG16 with the top.

    Raises:
        UserError: The file is missing or has no such weights.
    """
    if weights == "none":
        return
    reference = _reference_network(f"--head_weights={weights}", "vgg16", weights, include_top=True)
    dense = [reference.get_layer(name).get_weights() for name in ("fc1", "fc2")]
    for name, values in zip(HEAD_LAYERS, subsampled_head(*dense), strict=True):
        network.get_layer(name).set_weights(values)


def subsampled_head(fc1: list[np.ndarray], fc2: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Makes convolutions of VGG16's fully connected layers: every third row and column, and every fourth unit.

        fc6, fc7 = subsampled_head(fc1, fc2)  # 7x7x512x4096 -> 3x3x512x1024; 4096x4096 -> 1x1x1024x1024

    Args:
        fc1: Kernel `[7 * 7 * channels, units]` and bias `[units]`, on the flattened features `[7, 7, channels]`.
        fc2: Kernel `[units, units]` and bias `[units]`, on the output of fc1.

    Returns:
        Kernel `[3, 3, channels, units / 4]` and bias of fc6, and kernel `[1, 1, units / 4, units / 4]` and bias of fc7.
    """
    # Keras flattens rows first, then columns, then channels.
    kernel = fc1[0].reshape(7, 7, -1, fc1[0].shape[-1])
    fc6 = [kernel[::3, ::3, :, ::4], fc1[1][::4]]
    fc7 = [fc2[0][np.newaxis, np.newaxis, ::4, ::4], fc2[1][::4]]
    return fc6, fc7


@contextlib.contextmanager
def named_as_keras_expects(weights: str) -> Iterator[str]:
    """A path to a weights file with the suffix from which Keras learns its format; the user may have renamed the file.

    Keras 3 writes `.weights.h5`, and reads this format under no other suffix. Files of earlier versions end in `.h5`,
    and have the names of the layers in an attribute.
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
    """The network of Keras with its weights; Keras can read all layouts of its published files."""
    if weights != "imagenet" and not os.path.isfile(weights):
        raise UserError(f"{flag}: no such file; expected imagenet, none or the path of an h5 file")
    kind = find_backbone(name)
    assert kind.reference is not None, "the weights of a network in a file are in that file"
    try:
        with warnings.catch_warnings(), named_as_keras_expects(weights) as path:
            warnings.simplefilter("ignore")
            return kind.reference(weights=path, include_top=include_top)
    except UserError:
        raise
    except Exception as error:  # Keras raises many types of errors for a damaged file.
        top = "with" if include_top else "without"
        raise UserError(
            f"{flag}: cannot be read as {kind.title} weights {top} top in Keras' h5 format ({first_line(error)})"
        ) from None
