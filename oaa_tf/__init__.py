"""OAA-TF: weakly-supervised segmentation by online attention accumulation, in TensorFlow and Keras."""

import os

# TensorFlow's start-up messages, unless the user asks for them. It must be set before the first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
