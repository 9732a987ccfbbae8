"""Initialisation of convolutions."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="oaa_tf")
class CenteredHeNormal(keras.initializers.Initializer):
    """He initialisation with kernels whose mean is zero for each output channel.

    After a ReLU, no input is negative. A kernel that does not sum to zero turns their mean into an offset of its
    channel, the same for every image. Layer by layer, this offset outgrows the differences between images, and a deep
    plain network learns nothing for hundreds of steps. Without the mean, a ReLU passes on (1 - 1 / pi) / 2 of the
    variance of its input; the scale of the kernels compensates for this.
    """

    def __init__(self, seed: int | None = None) -> None:
        """Makes the initializer; without a seed it draws from the global one, like those of Keras."""
        self.seed = seed
        self._normal = keras.initializers.VarianceScaling(
            2.0 / (1.0 - 1.0 / math.pi), mode="fan_in", distribution="truncated_normal", seed=seed
        )

    def __call__(self, shape, dtype=None):
        """Returns a kernel `[height, width, inputs, outputs]`."""
        kernel = self._normal(shape, dtype)
        return kernel - ops.mean(kernel, axis=tuple(range(len(shape) - 1)), keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


def initializer_for_pixels() -> keras.initializers.Initializer:
    """He initialisation for pixels minus the channel means, whose standard deviation is about 58 instead of 1."""
    return keras.initializers.VarianceScaling(2.0 / 58.0**2)


INITIALIZERS: dict[str, Callable[[], keras.Initializer]] = {
    "gaussian": lambda: keras.initializers.RandomNormal(stddev=0.01),
    "he": keras.initializers.HeNormal,
    "centered_he": CenteredHeNormal,
}
"""Initialisation of new layers by name.

"gaussian" is the paper's. The other two train faster; "centered_he" also trains a network from scratch. Every layer
needs an initializer of its own: a shared one gives all layers of the same shape the same kernel.
"""
