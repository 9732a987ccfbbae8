"""The training step of stage 1's network in PyTorch, for `tools.benchmark --beside_pytorch`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


def pytorch_steps(images: np.ndarray, labels: np.ndarray, width: int) -> dict[str, Callable[[], Any]]:
    """Training steps of the network that the authors' code builds, without accumulation.

    Args:
        images: float32 `[batch, height, width, 3]`.
        labels: Multi-hot, float32 `[batch, C]`.
        width: Channels of the first block.

    Returns:
        By name, such as "bfloat16_channels_last" or "bfloat16_compiled", functions that take one step.
    """
    steps = {}
    for precision in ("float32", "bfloat16"):
        for variant in ("", "_channels_last", "_compiled"):
            network: Any = _network(width, labels.shape[1])
            inputs = torch.from_numpy(np.moveaxis(images, 3, 1).copy())
            if variant:
                network = network.to(memory_format=torch.channels_last)
                inputs = inputs.to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
            if variant == "_compiled":
                network = torch.compile(network)
            steps[f"{precision}{variant}"] = _step(network, optimizer, inputs, torch.from_numpy(labels), precision)
    return steps


def _network(width: int, num_classes: int) -> nn.Sequential:
    halve, keep = nn.MaxPool2d(2), nn.MaxPool2d(3, stride=1, padding=1)
    blocks = [(1, 2, 1, [halve]), (2, 2, 1, [halve]), (4, 3, 1, [halve]), (8, 3, 1, [keep]), (8, 3, 2, [])]
    layers: list[nn.Module] = []
    channels = 3
    for factor, count, dilation, pooling in [*blocks, (8, 3, 1, [])]:
        for _ in range(count):
            outputs = factor * width
            layers += [nn.Conv2d(channels, outputs, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
            channels = outputs
        layers += pooling
    return nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1))


def _step(
    network: Any, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> Callable[[], Any]:
    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            scores = network(images).mean((2, 3))
        loss = nn.functional.binary_cross_entropy_with_logits(scores.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
