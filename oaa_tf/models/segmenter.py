"""A segmentation SavedModel as a function."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from oaa_tf.errors import UserError, first_line

CLASSES_FILE = Path("assets.extra") / "classes.json"
"""Where an exported SavedModel has its class names, a JSON list."""


class Segmenter:
    """A SavedModel with the signature `segment`.

    Attributes:
        classes: Names of the foreground classes.
    """

    def __init__(self, folder: str | Path) -> None:
        """Loads the model.

        Raises:
            UserError: It is no SavedModel of `oaa_tf.export`, or has another signature.
        """
        folder = Path(folder)
        try:
            self.classes = tuple(json.loads((folder / CLASSES_FILE).read_text()))
            self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises many types for the ways in which a file can be wrong.
            raise UserError(f"--model={folder}: no SavedModel of oaa_tf.export ({first_line(error)})") from None
        if "segment" not in self._model.signatures:
            found = ", ".join(self._model.signatures) or "none"
            raise UserError(f"--model={folder}: expected the signature segment (a model of train_seg), found {found}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segments one image.

        Args:
            image: uint8 RGB `[height, width, 3]`.

        Returns:
            uint8 `[height, width]`: 0 background, c + 1 class c.
        """
        return self._model.signatures["segment"](images=tf.constant(image[np.newaxis]))["mask"][0].numpy()
