"""Where the time of a training step goes, by kind of operation."""

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

_KINDS = {
    "convolutions, forward": ("Conv2D", "FusedConv2D"),
    "convolutions, gradients of inputs": ("Conv2DBackpropInput",),
    "convolutions, gradients of kernels": ("Conv2DBackpropFilter", "Conv2DBackpropFilterWithBias"),
    "biases, ReLU, pooling and their gradients": (
        *("BiasAdd", "BiasAddGrad", "Relu", "ReluGrad", "MaxPool", "MaxPoolGrad"),
        *("SpaceToBatchND", "BatchToSpaceND"),
    ),
    "gradient clipping": ("L2Loss", "GlobalNorm"),
    "weight update": ("ResourceApplyKerasMomentum", "ResourceApplyGradientDescent"),
    "table of cumulative attention": ("ResourceScatterMax", "ResourceScatterAdd", "ResourceGather"),
}
_OTHER = "everything else"
_OPERATION = re.compile(r"[^:\s]+:(\w+)")


def step_profile(take_step: Callable[[], Any], num_steps: int = 3) -> dict[str, float]:
    """Runs steps under TensorFlow's profiler.

    Args:
        take_step: A training step; it has run before.
        num_steps: How many are measured.

    Returns:
        Share of the time in operations, by kind; the shares sum to 1. Operations that run at the same time count twice.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(num_steps):
                take_step()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    kind_of = {operation: kind for kind, operations in _KINDS.items() for operation in operations}
    durations: collections.Counter[str] = collections.Counter({kind: 0 for kind in (*_KINDS, _OTHER)})
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # Operations are "<name>:<type>", other events have spaces or "::"; oneDNN's types have a prefix.
                match = _OPERATION.fullmatch(plane.event_metadata[event.metadata_id].name)
                if match:
                    operation = match[1].removeprefix("_Mkl").removeprefix("Native").removeprefix("_")
                    durations[kind_of.get(operation, _OTHER)] += event.duration_ps
    total = sum(durations.values())
    return {kind: duration / total for kind, duration in durations.items()}
