"""A segmentation SavedModel as a function."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from oaa_tf.errors import UserError, first_line
from oaa_tf.refinement.dense_crf import dense_crf

CLASSES_FILE = Path("assets.extra") / "classes.json"
"""Where an exported SavedModel has its class names, a JSON list."""


class Segmenter:
    """A SavedModel with the signature `segment`, or `probabilities` for masks that a CRF has refined.

    Attributes:
        classes: Names of the foreground classes.
    """

    def __init__(self, folder: str | Path, *, crf: bool = False) -> None:
        """Loads the model.

        Args:
            folder: The SavedModel.
            crf: Whether masks come from the model's probabilities through `dense_crf`.

        Raises:
            UserError: It is no SavedModel of `oaa_tf.export`, or has another signature.
        """
        folder = Path(folder)
        self._folder = folder
        try:
            self.classes = tuple(json.loads((folder / CLASSES_FILE).read_text()))
            self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises many types for the ways in which a file can be wrong.
            raise UserError(f"--model={folder}: no SavedModel of oaa_tf.export ({first_line(error)})") from None
        if "segment" not in self._model.signatures:
            found = ", ".join(self._model.signatures) or "none"
            raise UserError(f"--model={folder}: expected the signature segment (a model of train_seg), found {found}")
        if crf and "probabilities" not in self._model.signatures:
            raise UserError(f"--crf: --model={folder} has no signature probabilities; export it again, or use --nocrf")
        self._crf = crf

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segments one image.

        Args:
            image: uint8 RGB `[height, width, 3]`.

        Returns:
            uint8 `[height, width]`: 0 background, c + 1 class c.
        """
        images = tf.constant(image[np.newaxis])
        if not self._crf:
            return self._model.signatures["segment"](images=images)["mask"][0].numpy()
        probabilities = self._model.signatures["probabilities"](images=images)["probabilities"][0]
        expected = (*image.shape[:2], len(self.classes) + 1)
        if probabilities.shape != expected:
            raise UserError(
                f"--model={self._folder}: probabilities {probabilities.shape.as_list()}, expected {list(expected)}"
            )
        return _refined_mask(probabilities, images[0]).numpy()


# Images of all sizes share one graph.
@tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([None, None, 3], tf.uint8)])
def _refined_mask(probabilities: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.argmax(dense_crf(probabilities, image), axis=-1), tf.uint8)
