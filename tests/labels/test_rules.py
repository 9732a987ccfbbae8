"""The pseudo label rule against a slow per-pixel reference, and one pixel at a time by hand."""

import dataclasses

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.command_line.errors import UserError
from oaa_tf.labels.rules import PseudoLabelOptions, min_max_normalized, pseudo_label

OPTIONS = PseudoLabelOptions()
SQUARE = dataclasses.replace(OPTIONS, background_power=2.0)
KEEP_SMALL = dataclasses.replace(OPTIONS, min_foreground=0.0)


def reference(attention, classes, saliency, options):
    """The rule in the words of the design, pixel by pixel."""
    num_maps, height, width = attention.shape
    lowest = [min(attention[k].ravel()) for k in range(num_maps)]
    highest = [max(attention[k].ravel()) for k in range(num_maps)]
    labels = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            scores = [
                (attention[k, row, column] - lowest[k]) / (highest[k] - lowest[k] + np.float32(1e-8))
                for k in range(num_maps)
            ]
            if saliency is not None:
                background = 1 - np.float32(saliency[row, column]) / np.float32(255)
            elif options.background_score > 0:
                background = np.float32(options.background_score)
            else:
                background = (1 - max(scores)) ** np.float32(options.background_power)
            candidates = [score if score >= options.drop_below else 0 for score in [background, *scores]]
            winner = candidates.index(max(candidates))
            label = 0 if winner == 0 else classes[winner - 1] + 1
            if label == 0:
                salient = saliency is not None and saliency[row, column] > 255 * options.salient_above
                if salient or any(score > options.attended_above for score in scores):
                    label = 255
            in_conflict = [background, *scores] if saliency is not None else scores
            if sum(score > options.conflict_above for score in in_conflict) > 1:
                label = 255
            labels[row, column] = label
    share = np.sum((labels > 0) & (labels < 255)) / labels.size
    if share == 0 or share < options.min_foreground:
        labels[:] = 255
    return labels


@st.composite
def images(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    classes = sorted(draw(st.sets(st.integers(0, 19), min_size=shape[0], max_size=shape[0])))
    values = st.integers(0, 255).map(lambda value: np.float32(value) / np.float32(255))
    attention = draw(hnp.arrays(np.float32, shape, elements=values, fill=st.nothing()))
    saliency = draw(st.none() | hnp.arrays(np.uint8, shape[1:], fill=st.nothing()))
    share = st.sampled_from([0.0, 0.01, 0.125, 0.3, 0.5, 0.8, 0.9, 1.0])
    options = PseudoLabelOptions(
        drop_below=draw(share),
        conflict_above=draw(share),
        attended_above=draw(share),
        salient_above=draw(share),
        min_foreground=draw(share),
        background_score=draw(share),
        # 1 and 2 are exact, so that numpy's scalar and array powers agree in the last bit.
        background_power=draw(st.sampled_from([1.0, 2.0])),
    )
    return attention, classes, saliency, draw(st.sampled_from([SQUARE, options]))


@given(images())
@settings(max_examples=150, deadline=None)
def test_equals_the_slow_reference(image):
    attention, classes, saliency, options = image
    labels = pseudo_label(attention, classes, saliency, options)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, reference(attention, classes, saliency, options))


def one_pixel(scores, saliency, options=KEEP_SMALL, classes=(4, 7)):
    """Label of a pixel with the given scores: two further pixels stretch every map to [0, 1]."""
    attention = np.float32([[[score, 0.0, 1.0]] for score in scores])
    return pseudo_label(attention, classes[: len(scores)], saliency and np.uint8([[saliency, 0, 255]]), options)[0, 0]


@pytest.mark.parametrize(
    "scores, saliency, expected",
    [
        ([0.7], 200, 5),  # attended and salient
        ([0.7, 0.75], 200, 8),  # the more attended class
        ([0.7, 0.7], 200, 5),  # a tie goes to the first
        ([0.1], 10, 0),  # background: neither
        ([0.1], 31, 0),  # just not salient
        ([0.1], 32, 255),  # salient, but of no class
        ([0.29], 240, 255),  # the same: 0.29 is dropped
        ([0.31], 240, 5),  # not dropped, and above the background's dropped 0.06
        ([0.85], 10, 255),  # background by score, but strongly attended
        ([0.95], 10, 255),  # background and class both above 0.9
        ([0.95, 0.92], 255, 255),  # two classes above 0.9
        ([0.95, 0.89], 255, 5),
    ],
)
def test_paper_rule_by_hand(scores, saliency, expected):
    assert one_pixel(scores, saliency) == expected


@pytest.mark.parametrize(
    "scores, changes, expected",
    [
        ([0.31], {}, 0),  # 0.69 ** 3 = 0.329 is more
        ([0.33], {}, 5),  # 0.67 ** 3 = 0.301 is less
        ([0.95, 0.92], {}, 255),  # classes in conflict
        ([0.95], {"background_score": 0.92}, 5),  # a constant is no rival
        ([0.85], {"background_score": 0.9}, 255),  # strongly attended background
        ([0.25], {"background_score": 0.2}, 0),  # all dropped
        ([0.45], {"background_score": 0.4}, 5),
        ([0.4], {"background_power": 1.0}, 0),
        ([0.6], {"background_power": 1.0}, 5),
    ],
)
def test_without_saliency_by_hand(scores, changes, expected):
    assert one_pixel(scores, None, dataclasses.replace(KEEP_SMALL, **changes)) == expected


def test_image_with_little_foreground_is_ignored_whole():
    attention = np.zeros((1, 10, 20), np.float32)
    attention[0, 0, 0] = 1
    saliency = np.uint8(attention[0] * 255)
    assert (pseudo_label(attention, [0], saliency, OPTIONS) == 255).all()
    attention[0, 0, 1] = 0.9
    saliency = np.uint8(attention[0] * 255)
    labels = pseudo_label(attention, [0], saliency, OPTIONS)  # exactly 1 %
    assert np.sum(labels == 1) == 2 and np.sum(labels == 0) == 198


def test_an_image_without_foreground_is_ignored_whole():
    attention = np.full((1, 4, 4), 0.6, np.float32)
    np.testing.assert_array_equal(min_max_normalized(attention), 0)
    assert (pseudo_label(attention, [0], None, KEEP_SMALL) == 255).all()


def test_options_are_checked():
    with pytest.raises(UserError, match=r"--drop_below=1.5: expected at most 1"):
        PseudoLabelOptions(drop_below=1.5)
    with pytest.raises(UserError, match=r"--background_power=0: expected more than 0"):
        PseudoLabelOptions(background_power=0.0)
    with pytest.raises(UserError, match=r"--min_foreground=nan"):
        PseudoLabelOptions(min_foreground=float("nan"))
