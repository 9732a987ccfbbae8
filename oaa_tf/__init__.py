"""OAA-TF: weakly-supervised segmentation by online attention accumulation, in TensorFlow and Keras."""

import os
import sys


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up messages.

    TF_CPP_MIN_LOG_LEVEL alone does not silence them: some are written before logging is set up.
    """
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


# Only for commands (`python -m oaa_tf.x` and `python -m tools.x`), and only unless the user asks for the messages.
if sys.argv[:1] == ["-m"] and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    _import_tensorflow_quietly()
