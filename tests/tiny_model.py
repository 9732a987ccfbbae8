"""The work_dir of a trained stage, with random weights, for tests of what comes after training."""

from pathlib import Path

import keras
import tensorflow as tf

from oaa_tf.models.networks import NetworkDescription
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER

MODEL_CLASSES = ("cat", "dog", "cow")


def make_trained_stage(folder: Path, task: str, image_size: int = 48, seed: int = 3) -> keras.Model:
    """Writes what a training stage leaves, and returns its network; `task` is "attention" or "segmentation"."""
    folder.mkdir()
    keras.utils.set_random_seed(seed)
    description = NetworkDescription(task, MODEL_CLASSES, image_size, width=2)
    network, _ = description.build()
    description.write(folder)
    # Larger scores than at the start, so that masks have several classes.
    score = network.layers[-1]
    score.set_weights([100 * value for value in score.get_weights()])
    checkpoint = tf.train.Checkpoint(network=[weight.value for weight in network.weights])
    (folder / CHECKPOINT_FOLDER).mkdir()
    checkpoint.write(str(folder / CHECKPOINT_FOLDER / "step-7"))
    return network
