"""Initialisation of convolutions."""

import math
from collections.abc import Callable

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="oaa_tf")
class CenteredHeNormal(keras.initializers.Initializer):
    """He initialisation with kernels whose mean over the inputs of each output channel is zero.

    Behind a ReLU all inputs are positive. A kernel that does not sum to zero turns their common mean into an offset of
    its channel, the same for every image; layer by layer this offset outgrows the differences between images, and a
    deep plain network learns nothing for hundreds of steps. Without it, the variance that a ReLU passes on is
    (1 - 1 / pi) / 2 of its input's, for which the kernels make up.
    """

    def __init__(self, seed: int | None = None) -> None:
        """Makes the initializer; like Keras' own, it draws from the global seed if it has none."""
        self.seed = seed
        self._normal = keras.initializers.VarianceScaling(
            2.0 / (1.0 - 1.0 / math.pi), mode="fan_in", distribution="truncated_normal", seed=seed
        )

    def __call__(self, shape, dtype=None):
        """Returns a kernel `[height, width, inputs, outputs]`."""
        kernel = self._normal(shape, dtype)
        return kernel - ops.mean(kernel, axis=tuple(range(len(shape) - 1)), keepdims=True)

    def get_config(self):
        """Returns the configuration."""
        return {"seed": self.seed}


def initializer_for_pixels() -> keras.initializers.Initializer:
    """He initialisation for inputs whose standard deviation is not 1 but about 58, that of pixels minus the means."""
    return keras.initializers.VarianceScaling(2.0 / 58.0**2)


INITIALIZERS: dict[str, Callable[[], keras.Initializer]] = {
    "gaussian": lambda: keras.initializers.RandomNormal(stddev=0.01),
    "he": keras.initializers.HeNormal,
    "centered_he": CenteredHeNormal,
}
"""Initialisation of new layers by name: the paper's, and two that train faster, the last one also from scratch.

Make one for each layer: one that is shared gives every layer of the same shape the same kernel.
"""
