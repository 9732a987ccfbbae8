"""Command-line tools around `oaa_tf`."""

import oaa_tf  # noqa: F401 - silences TensorFlow's start-up messages before a tool imports it
