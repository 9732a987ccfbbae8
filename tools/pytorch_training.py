"""Trains a classifier in PyTorch as the authors' code does, for `tools.time_to_maps`; imports no TensorFlow.

    python -m tools.pytorch_training photos.json vgg16.npz maps 15

Float32 and the paper's optimizer, batches of 5; crops of 224 pixels from photos whose short side is 256, mirrored half
of the time, decoded in two worker processes. From the second epoch on, every step reads, merges and writes a PNG for
each pair of photo and class. At the end, each photo's class activation maps become PNG files, too.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from oaa_tf.data.images.palette_png import encode_grey
from tools.benchmark_pytorch import attention_network

_SHORT_SIDE, _CROP, _BATCH = 256, 224, 5


def main(photos_file: str, weights_file: str, folder: str, num_epochs: str) -> None:
    """Trains, and writes `<id>_<class>.png` files of maps and, in `accumulated/`, of cumulative attention."""
    torch.manual_seed(0)
    content = json.loads(Path(photos_file).read_text())
    photos, maps, accumulated = content["photos"], Path(folder), Path(folder) / "accumulated"
    accumulated.mkdir(parents=True)
    network = _pretrained(weights_file, content["num_classes"])
    optimizer = torch.optim.SGD(_groups(network), momentum=0.9)
    epochs = int(num_epochs)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(round(epochs * 2 / 3), 1))
    mean = np.float32(content["mean_rgb"][::-1])
    crops = DataLoader(_Crops(photos, content["num_classes"], mean), _BATCH, shuffle=True, num_workers=2)
    for epoch in range(epochs):
        losses = []
        for images, labels, positions in crops:
            scores = network(images)
            loss = nn.functional.multilabel_soft_margin_loss(scores.mean((2, 3)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if epoch:
                for of_image, position in zip(scores.detach().numpy(), positions.tolist(), strict=True):
                    _write(accumulated, photos[position], of_image, merge=True)
        schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}", flush=True)
    with torch.no_grad():
        for photo in photos:
            image = _resized(_read(photo[0]), _CROP)
            _write(maps, photo, network(_input(image, mean)[None])[0].numpy(), merge=False)


class _Crops(Dataset):
    """Random crops with multi-hot labels and the photo's position."""

    def __init__(self, photos: list[Any], num_classes: int, mean: Any) -> None:
        self._photos, self._num_classes, self._mean = photos, num_classes, mean

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        path, labels = self._photos[position]
        image = _resized(_read(path), _SHORT_SIDE)
        top, left = (random.randint(0, side - _CROP) for side in image.shape[:2])
        crop = image[top : top + _CROP, left : left + _CROP, :]
        target = torch.zeros(self._num_classes)
        target[labels] = 1
        return _input(crop[:, ::-1] if random.random() < 0.5 else crop, self._mean), target, position


def _read(path: str) -> Any:
    # OpenCV's own types leave out too much.
    return cv2.imread(path)


def _resized(image: Any, short_side: int) -> Any:
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    return cv2.resize(image, (max(short_side, round(width * scale)), max(short_side, round(height * scale))))


def _input(image: Any, mean: Any) -> torch.Tensor:
    """What VGG16 of Keras expects: BGR, from which the means are subtracted."""
    return torch.from_numpy((image.astype(np.float32) - mean).transpose(2, 0, 1).copy())


def _write(folder: Path, photo: list[Any], scores: Any, *, merge: bool) -> None:
    """Writes the attention of a photo's classes at its size, or its maximum with what is there."""
    path, labels = photo
    height, width = _read(path).shape[:2]
    for label in labels:
        attention = np.maximum(scores[label], 0)
        attention = cv2.resize(attention / (attention.max() + 1e-8), (width, height))
        grey = np.rint(attention * 255).astype(np.uint8)
        file = folder / f"{Path(path).stem}_{label}.png"
        if merge and file.exists():
            grey = np.maximum(grey, _read(str(file))[..., 0])
        file.write_bytes(encode_grey(grey))


def _pretrained(weights_file: str, num_classes: int) -> Any:
    network = attention_network(64, num_classes)
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    with np.load(weights_file) as weights:
        arrays = list(weights.values())
    for layer, kernel, bias in zip(convolutions, arrays[::2], arrays[1::2], strict=False):
        layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(bias)
    for layer in convolutions[len(arrays) // 2 :]:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return network


def _groups(network: Any) -> list[dict[str, Any]]:
    """New layers learn ten times as fast, biases twice as fast and without decay."""
    groups = []
    for number, layer in enumerate(layer for layer in network if isinstance(layer, nn.Conv2d)):
        rate = 1e-3 if number < 13 else 1e-2
        groups += [
            {"params": [layer.weight], "lr": rate, "weight_decay": 2e-4},
            {"params": [layer.bias], "lr": 2 * rate, "weight_decay": 0.0},
        ]
    return groups


if __name__ == "__main__":
    main(*sys.argv[1:])
