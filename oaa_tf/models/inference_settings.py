"""How a trained network looks at images: settings that several commands share."""

import dataclasses
from typing import Any

from oaa_tf.command_line.settings import Settings, setting

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Keras' dtype policies by the precision in which layers compute."""


def precision_setting() -> Any:
    """The setting of every stage that chooses one of `PRECISIONS`."""
    return setting(
        "float32",
        help="In which layers compute; bfloat16 is faster, for hardware that has it.",
        choices=tuple(PRECISIONS),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings(Settings, group="inference"):
    """How a trained network looks at images."""

    image_size: int = setting(0, help="Long side in pixels to which images are resized; 0: as in training.", minimum=0)
    scales: tuple[float, ...] = setting(
        (1.0,),
        help="Sizes relative to image_size at which the network sees an image; their mean counts.",
        minimum=0.1,
        maximum=4.0,
    )
    flip: bool = setting(False, help="The network also sees every image mirrored.")
    precision: str = precision_setting()
