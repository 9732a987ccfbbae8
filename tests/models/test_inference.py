"""From uint8 images of any size to maps of the same size."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.data.views.frame import Frame
from oaa_tf.data.views.view import MEAN_RGB
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.inference import attention_functions, segmentation_functions, to_image, under_class_prior
from oaa_tf.models.largefov import largefov_network
from oaa_tf.models.vgg import vgg16_backbone

SIZE = 48


@pytest.fixture(scope="module")
def attention_network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return class_aware_network(vgg16_backbone(4), num_classes=3, initializer="he")


@pytest.fixture(scope="module")
def segmentation_network() -> keras.Model:
    keras.utils.set_random_seed(2)
    return largefov_network(vgg16_backbone(4), num_classes=3, channels=16, initializer="he")


@pytest.fixture(scope="module")
def attention(attention_network: keras.Model):
    return attention_functions(attention_network, SIZE)["attention"]


@pytest.fixture(scope="module")
def segment(segmentation_network: keras.Model):
    functions = segmentation_functions(segmentation_network, SIZE)
    return lambda images: functions["segment"](images) | functions["probabilities"](images)


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def scores_of_padded(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """The network's scores of images that need no resizing, padded up to the stride."""
    height, width = images.shape[1:3]
    padded = np.empty((len(images), -(-height // 8) * 8, -(-width // 8) * 8, 3), np.float32)
    padded[:] = MEAN_RGB
    padded[:, :height, :width] = images
    return np.asarray(network(padded))


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 130), width=st.integers(1, 130), cells=st.integers(2, 8), seed=st.integers(0, 1000))
def test_to_image_equals_that_of_frame(height: int, width: int, cells: int, seed: int) -> None:
    frame = Frame(height, width, cells * 8)
    maps = np.random.default_rng(seed).uniform(0, 1, (2, 3, cells, cells)).astype(np.float32)
    # What is in padding must not be seen.
    maps[..., frame.valid_cells[0] :, :] = 100
    maps[..., :, frame.valid_cells[1] :] = 100
    result = to_image(np.moveaxis(maps, 1, -1), tf.constant(frame.content), tf.constant([height, width]))
    np.testing.assert_allclose(np.moveaxis(result.numpy(), -1, 1), frame.to_image(maps), atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (48, 30), (13, 48), (48, 4)])
def test_attention_of_images_of_the_right_size(attention, attention_network, height: int, width: int) -> None:
    images = random_images(2, height, width)
    result = attention(tf.constant(images))
    scores = scores_of_padded(attention_network, images)
    frame = Frame(height, width, SIZE)
    rows, columns = frame.valid_cells
    valid = scores[:, :rows, :columns]
    np.testing.assert_allclose(result["scores"], 1 / (1 + np.exp(-valid.mean(axis=(1, 2)))), atol=1e-4)
    maps = np.zeros((2, 3, 6, 6), np.float32)
    positive = np.maximum(valid, 0)
    maps[:, :, :rows, :columns] = np.moveaxis(positive / (positive.max(axis=(1, 2), keepdims=True) + 1e-8), -1, 1)
    assert result["attention"].shape == (2, height, width, 3)
    np.testing.assert_allclose(np.moveaxis(result["attention"].numpy(), -1, 1), frame.to_image(maps), atol=2e-3)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (31, 48)])
def test_masks_of_images_of_the_right_size(segment, segmentation_network, height: int, width: int) -> None:
    images = random_images(2, height, width)
    result = segment(tf.constant(images))
    scores = scores_of_padded(segmentation_network, images)
    grid = np.zeros((2, 4, 6, 6), np.float32)
    grid[:, :, : scores.shape[1], : scores.shape[2]] = np.moveaxis(scores, -1, 1)
    logits = np.moveaxis(Frame(height, width, SIZE).to_image(grid), 1, -1).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-4)
    clear = np.ptp(np.sort(expected, axis=-1)[..., -2:], axis=-1) > 1e-3
    assert clear.any() and result["mask"].dtype == tf.uint8
    np.testing.assert_array_equal(result["mask"].numpy()[clear], expected.argmax(axis=-1)[clear])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (90, 2), (37, 101), (200, 160)])
def test_any_size_and_batch(attention, segment, height: int, width: int) -> None:
    for batch in (1, 3):
        images = tf.constant(random_images(batch, height, width))
        found = attention(images)
        assert found["attention"].shape == (batch, height, width, 3) and found["scores"].shape == (batch, 3)
        values = found["attention"].numpy()
        assert np.all(np.isfinite(values)) and values.min() >= 0 and values.max() <= 1 + 1e-6
        masks = segment(images)
        assert masks["mask"].shape == (batch, height, width)
        assert set(np.unique(masks["mask"])) <= {0, 1, 2, 3}
        np.testing.assert_allclose(tf.reduce_sum(masks["probabilities"], axis=-1), 1, atol=1e-5)


def test_images_of_many_sizes_leave_the_memory_whole(attention, segment) -> None:
    """Products of matrices that broadcast over axes of length 1 corrupt it, in TensorFlow 2.21 on some processors."""
    generator = np.random.default_rng(0)
    for size in generator.integers(1, 130, (60, 2)):
        for batch in (1, 3):
            images = tf.constant(random_images(batch, *size))
            assert np.all(np.isfinite(attention(images)["attention"]))
            assert np.all(np.isfinite(segment(images)["probabilities"]))


def test_images_of_a_batch_do_not_mix(attention, segment) -> None:
    images = random_images(2, 40, 75, seed=3)
    for function in (attention, segment):
        together = function(tf.constant(images))
        apart = [function(tf.constant(images[index : index + 1])) for index in range(2)]
        for name, values in together.items():
            alone = np.concatenate([result[name] for result in apart])
            if name == "mask":
                assert np.mean(alone == values.numpy()) > 0.999
            else:
                np.testing.assert_allclose(values, alone, atol=1e-3)
        assert not np.allclose(*(next(iter(result.values())) for result in apart))


def test_an_enlarged_image_has_an_enlarged_mask(segment) -> None:
    # Smooth pictures look the same in every size that is larger than the network's.
    y, x = np.meshgrid(np.arange(96), np.arange(64), indexing="ij")
    image = np.stack([128 + 100 * np.sin(y / 15), 128 + 100 * np.cos(x / 11), 60 + y + x / 2], axis=-1)
    large = image.astype(np.uint8)
    larger = large.repeat(2, axis=0).repeat(2, axis=1)
    one, other = (segment(tf.constant(picture[np.newaxis]))["probabilities"].numpy()[0] for picture in (large, larger))
    np.testing.assert_allclose(other.reshape(96, 2, 64, 2, 4).mean(axis=(1, 3)), one, atol=0.01)


def test_images_must_be_uint8(attention) -> None:
    with pytest.raises((TypeError, ValueError)):
        attention(tf.constant(random_images(1, 20, 20).astype(np.float32)))


VIEWS = [(0.5, False), (0.5, True), (1.5, False), (1.5, True)]


def mean_over_views(make, images: np.ndarray, name: str) -> np.ndarray:
    """The mean of what functions of single views give, mirrored images being turned back."""
    results = []
    of_size = functools.cache(make)
    for scale, mirrored in VIEWS:
        function = of_size(round(scale * SIZE))
        shown = images[:, :, ::-1] if mirrored else images
        result = function(tf.constant(shown))[name].numpy()
        results.append(result[:, :, ::-1] if mirrored and result.ndim == 4 else result)
    return np.mean(results, axis=0)


@pytest.mark.parametrize("portable", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("height", "width"), [pytest.param(48, 48, marks=pytest.mark.slow), (61, 37)])
def test_views_have_the_mean_of_their_probabilities(
    segmentation_network, height: int, width: int, portable: bool
) -> None:
    images = random_images(2, height, width)
    views = segmentation_functions(segmentation_network, SIZE, scales=(0.5, 1.5), flip=True, portable=portable)
    expected = mean_over_views(
        lambda size: segmentation_functions(segmentation_network, size)["probabilities"], images, "probabilities"
    )
    np.testing.assert_allclose(views["probabilities"](tf.constant(images))["probabilities"], expected, atol=1e-4)
    mask = views["segment"](tf.constant(images))["mask"]
    clear = np.ptp(np.sort(expected, axis=-1)[..., -2:], axis=-1) > 1e-3
    assert clear.any() and mask.dtype == tf.uint8
    np.testing.assert_array_equal(mask.numpy()[clear], expected.argmax(axis=-1)[clear])


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(2, 5)),
    sharpness=st.floats(0.1, 30),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=50)
def test_class_prior_equals_a_step_of_expectation_maximization(shape: tuple, sharpness: float, seed: int) -> None:
    probabilities = np.exp(np.random.default_rng(seed).normal(0, sharpness, shape)).astype(np.float64)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    expected = probabilities.copy()
    for image in expected:
        prior = image[..., 1:].mean(axis=(0, 1))
        for pixel in image.reshape(-1, shape[-1]):
            of_classes = pixel[1:] * prior
            if of_classes.sum() > 1e-30:
                pixel[1:] = of_classes / of_classes.sum() * pixel[1:].sum()
    found = under_class_prior(tf.constant(probabilities, tf.float32)).numpy()
    seen = expected[..., 1:].sum(axis=-1) > 1e-6
    np.testing.assert_array_equal(found[..., 0], probabilities[..., 0].astype(np.float32))
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-4)


def test_class_prior_lets_what_is_frequent_win() -> None:
    # A cat with a patch that is a little more like a dog, before background; in the second image it is the dog's.
    cat, patch, background = [0.1, 0.8, 0.1], [0.1, 0.4, 0.5], [0.9, 0.05, 0.05]
    pixels = np.array([[cat] * 6 + [patch] * 2 + [background] * 4, [patch] * 6 + [background] * 6], np.float32)
    masks = under_class_prior(tf.constant(pixels[:, np.newaxis])).numpy().argmax(axis=-1)[:, 0]
    np.testing.assert_array_equal(masks, [[1] * 8 + [0] * 4, [2] * 6 + [0] * 6])


@pytest.mark.parametrize("views", [{}, {"scales": (0.5, 1.5)}], ids=["one view", "views"])
def test_class_prior_is_applied_to_the_mean_of_the_views(segmentation_network, views: dict) -> None:
    images = tf.constant(random_images(2, 61, 37))
    plain, weighed = (
        segmentation_functions(segmentation_network, SIZE, class_prior=prior, **views) for prior in (False, True)
    )
    expected = under_class_prior(plain["probabilities"](images)["probabilities"]).numpy()
    np.testing.assert_allclose(weighed["probabilities"](images)["probabilities"], expected, atol=1e-5)
    clear = np.ptp(np.sort(expected, axis=-1)[..., -2:], axis=-1) > 1e-3
    mask = weighed["segment"](images)["mask"].numpy()
    assert clear.any() and mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[clear], expected.argmax(axis=-1)[clear])


def test_views_have_the_mean_of_their_maps_normalised_again(attention_network) -> None:
    images = random_images(2, 61, 37)
    views = attention_functions(attention_network, SIZE, scales=(0.5, 1.5), flip=True)["attention"](tf.constant(images))

    def single(size: int):
        return attention_functions(attention_network, size)["attention"]

    mean = mean_over_views(single, images, "attention")
    expected = mean / np.maximum(mean.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(views["attention"], expected, atol=2e-3)
    np.testing.assert_allclose(views["scores"], mean_over_views(single, images, "scores"), atol=1e-4)
