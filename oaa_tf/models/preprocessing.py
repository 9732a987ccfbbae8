"""Preprocessing inside the networks, so that a saved model needs nothing else."""

from typing import Any

import keras

from oaa_tf.data.views.view import MEAN_RGB


@keras.saving.register_keras_serializable(package="oaa_tf")
class CaffePreprocessing(keras.layers.Layer):
    """RGB in [0, 255] to BGR minus the ImageNet means, as the Keras VGG16 and ResNet weights expect.

    Input and output are float32 `[batch, height, width, 3]`.
    """

    def call(self, images):
        """Returns the preprocessed images."""
        mean = keras.ops.cast(keras.ops.convert_to_tensor(MEAN_RGB), images.dtype)
        return keras.ops.flip(images - mean, axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape


def caffe_preprocessing(images: Any) -> Any:
    """The preprocessing of VGG16 and ResNet-101 as a layer of a functional network."""
    return CaffePreprocessing(dtype="float32", name="preprocessing")(images)
