import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.attention.gates import GATES, open_gate

NAN, INF = float("nan"), float("inf")


def opened(gate: str, scores: list[float], labels: list[int]) -> list[bool]:
    result = open_gate(gate, tf.constant([scores], tf.float32), tf.constant([labels], tf.float32))
    assert result.dtype == tf.bool
    return result.numpy()[0].tolist()


@pytest.mark.parametrize(
    ("scores", "labels", "paper", "topk"),
    [
        # The label with 2 is above all absent classes, the one with 0.5 is not; of the two highest, one is a label.
        ([2.0, 1.0, 0.5], [1, 0, 1], [True, False, False], [True, False, False]),
        # Both labels are above the absent class.
        ([2.0, -1.0, 0.5], [1, 0, 1], [True, False, True], [True, False, True]),
        # No label is above the absent class; the second highest of two is a label all the same.
        ([1.0, 3.0, 0.0], [1, 0, 1], [False, False, False], [True, False, False]),
        # Negative scores count like others: only the order matters.
        ([-5.0, -7.0, -9.0], [0, 1, 0], [False, False, False], [False, False, False]),
        ([-8.0, -7.0, -9.0], [0, 1, 0], [False, True, False], [False, True, False]),
        # All classes present: nothing to lose against.
        ([-5.0, 3.0, 0.0], [1, 1, 1], [True, True, True], [True, True, True]),
        # A tie with an absent class is not higher than it, but as high as the highest.
        ([1.0, 1.0, 0.0], [1, 0, 0], [False, False, False], [True, False, False]),
        # No label at all: nothing to accumulate.
        ([1.0, 2.0, 3.0], [0, 0, 0], [False, False, False], [False, False, False]),
    ],
)
def test_by_hand(scores: list[float], labels: list[int], paper: list[bool], topk: list[bool]) -> None:
    assert opened("paper", scores, labels) == paper
    assert opened("topk", scores, labels) == topk
    assert opened("none", scores, labels) == [label == 1 for label in labels]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_scores_that_are_not_finite_never_pass(gate: str, bad: float) -> None:
    assert opened(gate, [bad, -1.0, 2.0], [1, 0, 1])[0] is False
    assert opened(gate, [bad, bad, bad], [1, 1, 1]) == [False, False, False]


@pytest.mark.parametrize("bad", [NAN, INF])
def test_paper_gate_is_shut_beside_an_absent_class_of_unknown_score(bad: float) -> None:
    assert opened("paper", [5.0, bad, 2.0], [1, 0, 1]) == [False, False, False]


@settings(deadline=None, max_examples=50)
@given(
    scores=st.lists(
        st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 2.5]), min_size=4, max_size=4), min_size=1, max_size=3
    ),
    data=st.data(),
)
def test_against_the_definition(scores: list[list[float]], data: st.DataObject) -> None:
    row = st.lists(st.sampled_from([0, 1]), min_size=4, max_size=4)
    labels = data.draw(st.lists(row, min_size=len(scores), max_size=len(scores)))
    paper = open_gate("paper", tf.constant(scores), tf.constant(labels, tf.float32)).numpy()
    topk = open_gate("topk", tf.constant(scores), tf.constant(labels, tf.float32)).numpy()
    for image, present in enumerate(labels):
        absent = [score for score, label in zip(scores[image], present, strict=True) if not label]
        num_labels = sum(present)
        for c, label in enumerate(present):
            score = scores[image][c]
            assert paper[image, c] == (bool(label) and all(score > other for other in absent))
            rank = sum(other > score for other in scores[image])
            assert topk[image, c] == (bool(label) and rank < num_labels)
    # The paper's gate is the stricter one: who beats all absent classes is among the K highest.
    assert np.all(topk | ~paper)


def test_probabilities_open_the_same_gates_as_logits() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (20, 5)).astype(np.float32)
    labels = (generator.uniform(size=scores.shape) < 0.4).astype(np.float32)
    for gate in GATES:
        np.testing.assert_array_equal(
            open_gate(gate, tf.constant(scores), labels), open_gate(gate, tf.sigmoid(scores), labels)
        )


def test_unknown_gate_is_named() -> None:
    with pytest.raises(ValueError, match="gate='best': expected one of paper, topk, none"):
        opened("best", [1.0, 2.0], [1, 0])
