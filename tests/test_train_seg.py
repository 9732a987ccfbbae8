"""What the segmentation stage has of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.train_seg import chosen_positions


@given(num_images=st.integers(1, 200), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_a_share_of_the_images(num_images: int, share: float, seed: int) -> None:
    chosen = chosen_positions(num_images, share, seed)
    assert len(chosen) == max(round(share * num_images), 1)
    assert np.all(np.diff(chosen) > 0) and chosen[0] >= 0 and chosen[-1] < num_images


def test_all_images_are_all_images() -> None:
    np.testing.assert_array_equal(chosen_positions(7, 1.0, seed=3), np.arange(7))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_smaller_share_is_part_of_a_larger_one(seed: int) -> None:
    shares = [set(chosen_positions(1000, share, seed)) for share in (0.2, 0.5, 0.8, 1.0)]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[0] != set(chosen_positions(1000, 0.2, seed + 1)) and shares[0] != set(range(200))
