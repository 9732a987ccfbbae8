"""The names that notebooks use."""

import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import oaa_tf


def test_every_name_is_there_and_documented() -> None:
    assert oaa_tf.__all__ == sorted(oaa_tf.__all__)
    for name in oaa_tf.__all__:
        value = getattr(oaa_tf, name)
        assert value.__name__ == name and value.__doc__
    assert set(oaa_tf.__all__) < set(dir(oaa_tf))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'oaa_tf' has no attribute 'Attention'"):
        _ = oaa_tf.Attention
    with pytest.raises(ImportError):
        exec("from oaa_tf import Attention")


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = """
        import sys
        import oaa_tf
        heavy = {"tensorflow", "keras", "numpy", "cv2"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[1], check=True)


@pytest.mark.parametrize("name", ["AttentionClassifier", "DeepLabLargeFOV", "HybridLoss", "IntegralAttentionModel"])
def test_classes_are_registered_with_keras(name: str) -> None:
    assert keras.saving.get_registered_object(f"oaa_tf>{name}") is getattr(oaa_tf, name)


@pytest.mark.parametrize("name", ["DeepLabLargeFOV", "IntegralAttentionModel"])
def test_models_are_made_again_from_their_config(name: str) -> None:
    options = {"attention_loss": "mce"} if name == "IntegralAttentionModel" else {}
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)])
    model = getattr(oaa_tf, name)(network, accumulate_steps=3, **options)
    config = keras.saving.serialize_keras_object(model)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(model) and again.accumulate_steps == 3
    assert all(getattr(again, key) == value for key, value in options.items())
    images = np.ones((1, 8, 8, 3), np.float32)
    again.network.set_weights(network.get_weights())
    np.testing.assert_array_equal(again(images), model(images))
