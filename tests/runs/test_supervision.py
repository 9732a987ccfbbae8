"""Supervision, with and without the network of the saliency maps."""

import pytest

from oaa_tf.runs.supervision import SUPERVISIONS, is_supervision, strongest_supervision, supervision_of_labels

WITH_NETWORK = "image labels + saliency (u2netp 309c8469)"


def test_labels_with_saliency_name_its_network() -> None:
    assert supervision_of_labels("image labels", use_saliency=True) == "image labels + saliency"
    assert supervision_of_labels("image labels", use_saliency=False, saliency_network="u2netp 3") == "image labels"
    known = supervision_of_labels("image labels", use_saliency=True, saliency_network="u2netp 309c8469")
    assert known == WITH_NETWORK
    assert supervision_of_labels("pixel masks", use_saliency=True, saliency_network="u2netp 3") == "pixel masks"
    assert strongest_supervision("image labels", WITH_NETWORK, "image labels") == WITH_NETWORK


@pytest.mark.parametrize("text", [*SUPERVISIONS, WITH_NETWORK])
def test_known_supervisions(text: str) -> None:
    assert is_supervision(text)


@pytest.mark.parametrize("text", ["", "masks", "pixel masks (u2netp 3)", "image labels (u2netp 3)", None, 3])
def test_other_texts_are_no_supervision(text: object) -> None:
    assert not is_supervision(text)
