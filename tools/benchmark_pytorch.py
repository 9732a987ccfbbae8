"""The training step of stage 1's network in PyTorch, for `tools.benchmark --beside_pytorch`.

It takes its steps in a process of its own, since PyTorch and TensorFlow crash in one. So nothing imports PyTorch here
before `pytorch_process` calls it there.
"""

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

PRECISIONS = ("float32", "bfloat16")
_VARIANTS = ("", "_channels_last", "_compiled")
_steps: dict[str, Callable[[], float]] = {}
"""In the process of its own: the steps by name."""


@contextlib.contextmanager
def pytorch_process(images: np.ndarray, labels: np.ndarray, width: int) -> Iterator[dict[str, Callable[[], float]]]:
    """Training steps of the network that the authors' code builds, without accumulation.

    Args:
        images: float32 `[batch, height, width, 3]`.
        labels: Multi-hot, float32 `[batch, C]`.
        width: Channels of the first block.

    Yields:
        By name, such as "float32", "bfloat16_channels_last" and "bfloat16_compiled", functions that take one step.
    """
    process = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(images, labels, width)
    )
    with process:
        names = [precision + variant for precision in PRECISIONS for variant in _VARIANTS]
        yield {name: functools.partial(_result, process, name) for name in names}


def _result(process: ProcessPoolExecutor, name: str) -> float:
    return process.submit(_take_step, name).result()


def _take_step(name: str) -> float:
    return _steps[name]()


def _prepare(images: np.ndarray, labels: np.ndarray, width: int) -> None:
    import torch

    for precision in PRECISIONS:
        for variant in _VARIANTS:
            network: Any = attention_network(width, labels.shape[1])
            inputs = torch.from_numpy(np.moveaxis(images, 3, 1).copy())
            if variant:
                network = network.to(memory_format=torch.channels_last)
                inputs = inputs.to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
            if variant == "_compiled":
                network = torch.compile(network)
            _steps[precision + variant] = _step(network, optimizer, inputs, torch.from_numpy(labels), precision)


def attention_network(width: int, num_classes: int) -> Any:
    """VGG16 of stage 1, from images to score maps, as a sequence of PyTorch layers."""
    from torch import nn

    halve, keep = nn.MaxPool2d(2), nn.MaxPool2d(3, stride=1, padding=1)
    blocks = [(1, 2, 1, [halve]), (2, 2, 1, [halve]), (4, 3, 1, [halve]), (8, 3, 1, [keep]), (8, 3, 2, [])]
    layers: list[Any] = []
    channels = 3
    for factor, count, dilation, pooling in [*blocks, (8, 3, 1, [])]:
        for _ in range(count):
            outputs = factor * width
            layers += [nn.Conv2d(channels, outputs, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
            channels = outputs
        layers += pooling
    return nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1))


def _step(network: Any, optimizer: Any, images: Any, labels: Any, precision: str) -> Callable[[], float]:
    import torch

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            scores = network(images).mean((2, 3))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
