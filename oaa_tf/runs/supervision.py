"""Supervision: how much is known about the images that a network is trained on, or that labels are made from."""

SUPERVISIONS = ("image labels", "image labels + saliency", "pixel masks")
"""From weakest to strongest; every `metrics.json` names one."""


def supervision_of_labels(supervision: str, *, use_saliency: bool) -> str:
    """The supervision of pseudo labels.

    Args:
        supervision: That of the maps or the network that they are made from, one of `SUPERVISIONS`.
        use_saliency: Whether they are made from saliency maps too. Pixel masks stay the stronger supervision.
    """
    return strongest_supervision(supervision, "image labels + saliency") if use_saliency else supervision


def strongest_supervision(*supervisions: str) -> str:
    """The strongest of some `SUPERVISIONS`."""
    return max(supervisions, key=SUPERVISIONS.index)
