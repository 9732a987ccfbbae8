"""Supervision: how much is known about the images that a network is trained on, or that labels are made from."""

SUPERVISIONS = ("image labels", "image labels + saliency", "pixel masks")
"""From weakest to strongest. Every `metrics.json` names one; saliency can have its network behind it, in brackets."""

_SALIENCY = SUPERVISIONS[1]


def is_supervision(text: object) -> bool:
    """Whether this is one of `SUPERVISIONS`, with or without a network of the saliency maps."""
    return isinstance(text, str) and _kind(text) in SUPERVISIONS and (_kind(text) in (text, _SALIENCY))


def supervision_of_labels(supervision: str, *, use_saliency: bool, saliency_network: str = "") -> str:
    """The supervision of pseudo labels.

    Args:
        supervision: That of the maps or the network that they are made from.
        use_saliency: Whether they are made from saliency maps too. Pixel masks stay the stronger supervision.
        saliency_network: The network of the saliency maps, such as "u2netp 309c8469"; "" if it is not known.
    """
    with_saliency = f"{_SALIENCY} ({saliency_network})" if saliency_network else _SALIENCY
    return strongest_supervision(supervision, with_saliency) if use_saliency else supervision


def is_from_saliency(supervision: str) -> bool:
    """Whether saliency maps are a part of this supervision."""
    return _kind(supervision) == _SALIENCY


def strongest_supervision(*supervisions: str) -> str:
    """The strongest of some supervisions."""
    return max(supervisions, key=lambda each: SUPERVISIONS.index(_kind(each)))


def _kind(supervision: str) -> str:
    return supervision.partition(" (")[0]
