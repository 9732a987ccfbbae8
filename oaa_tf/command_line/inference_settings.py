"""Settings for running a trained network, which several commands share."""

import dataclasses
from typing import Any

from oaa_tf.command_line.settings import Settings, setting

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Dtype policies of Keras by the precision in which layers compute."""


AUTO = "auto"
"""The precision of a training that takes the fastest one of its machine."""

AS_TRAINED = "as_trained"
"""The precision of a network that computes as in its training."""


def precision_setting(*more_choices: str) -> Any:
    """The setting `precision`, one of `PRECISIONS` or of some more, for every stage that has it."""
    return setting(
        "float32",
        help="Number format in which layers compute; bfloat16 is faster on hardware with it, float16 on other GPUs.",
        choices=(*PRECISIONS, *more_choices),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings(Settings, group="inference"):
    """How to run a trained network."""

    image_size: int = setting(0, help="Long side in pixels to which images are resized; 0: as in training.", minimum=0)
    scales: tuple[float, ...] = setting(
        (1.0,),
        help="Sizes, relative to image_size, at which the network sees an image; the results are averaged.",
        minimum=0.1,
        maximum=4.0,
    )
    flip: bool = setting(False, help="The network also sees every image mirrored.")
    precision: str = precision_setting(AS_TRAINED)
