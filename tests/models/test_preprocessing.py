import keras
import numpy as np

from oaa_tf.data.views.view import MEAN_RGB
from oaa_tf.models.preprocessing import CaffePreprocessing


def test_rgb_becomes_bgr_without_the_means() -> None:
    images = np.array([[[[10.0, 20.0, 30.0], list(MEAN_RGB)]]], np.float32)
    expected = [[[[30 - 103.939, 20 - 116.779, 10 - 123.68], [0, 0, 0]]]]
    np.testing.assert_allclose(CaffePreprocessing()(images), expected, rtol=1e-6, atol=1e-5)


def test_equals_what_keras_weights_expect() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    expected = keras.applications.vgg16.preprocess_input(images.copy())
    np.testing.assert_allclose(CaffePreprocessing()(images), expected, atol=1e-4)


def test_configuration_round_trip() -> None:
    layer = CaffePreprocessing(name="prepare")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert isinstance(again, CaffePreprocessing) and again.name == "prepare"
    assert again.compute_output_shape((None, 8, 8, 3)) == (None, 8, 8, 3)
