import keras
import numpy as np
import pytest

from oaa_tf.models.initializers import CenteredHeNormal


def test_kernels_sum_to_zero_over_the_inputs_of_each_output() -> None:
    kernel = np.asarray(CenteredHeNormal(seed=0)((3, 3, 16, 5), "float32"))
    np.testing.assert_allclose(kernel.sum(axis=(0, 1, 2)), 0, atol=1e-5)
    assert np.all(kernel.std(axis=(0, 1, 2)) > 0.05)


@pytest.mark.parametrize("shape", [(3, 3, 32, 400), (1, 1, 256, 400)])
def test_layers_behind_a_relu_keep_the_variance(shape: tuple[int, ...]) -> None:
    num_inputs = int(np.prod(shape[:-1]))
    kernel = np.asarray(CenteredHeNormal(seed=0)(shape, "float32")).reshape(num_inputs, -1)
    inputs = np.maximum(np.random.default_rng(0).normal(0, 1, (500, num_inputs)), 0)
    outputs = inputs @ kernel
    assert outputs.std() == pytest.approx(1, rel=0.05)
    # What all images have in common stays small beside their differences; it would be about 0.7 without the centering.
    assert np.abs(outputs.mean(axis=0)).mean() < 0.1


def test_seeds_and_configuration() -> None:
    one, again, other = (np.asarray(CenteredHeNormal(seed)((3, 3, 4, 2))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    copy = keras.initializers.deserialize(keras.initializers.serialize(CenteredHeNormal(seed=7)))
    assert isinstance(copy, CenteredHeNormal) and copy.seed == 7
    keras.utils.set_random_seed(3)
    first = np.asarray(CenteredHeNormal()((3, 3, 4, 2)))
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(np.asarray(CenteredHeNormal()((3, 3, 4, 2))), first)
