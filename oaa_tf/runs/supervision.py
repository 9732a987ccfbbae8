"""What is known about the images that something is trained with, or made from."""

SUPERVISIONS = ("image labels", "image labels + saliency", "pixel masks")
"""What is known about images in a training, from least to most; every figure names one of them."""


def supervision_of_labels(source: str, *, use_saliency: bool) -> str:
    """The supervision of pseudo labels, from that of the maps or the network that they are made of.

    Args:
        source: One of `SUPERVISIONS`.
        use_saliency: Whether saliency maps have a say, too. Masks stay the stronger supervision.
    """
    return strongest_supervision(source, "image labels + saliency") if use_saliency else source


def strongest_supervision(*supervisions: str) -> str:
    """That of `SUPERVISIONS`, of those given, which knows most about images."""
    return max(supervisions, key=SUPERVISIONS.index)
