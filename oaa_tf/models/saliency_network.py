"""Networks that find what stands out in a photo: ONNX files, published ones or others, run by onnxruntime."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import importlib.util
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from oaa_tf.command_line.buckets import cache_folder
from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.command_line.progress import Progress
from oaa_tf.runs.atomic import atomic_write

if TYPE_CHECKING:
    import onnxruntime

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

_MEGABYTE = 10**6
_SECONDS_WITHOUT_AN_ANSWER = 30
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network: resized, divided by its largest value, normalised.

    Attributes:
        size: Side of the square input in pixels; 0 for the one size that the network takes.
        mean: What is subtracted from red, green and blue, of [0, 1].
        deviation: What they are divided by then.
        logits: Whether the network ends without a sigmoid.
    """

    size: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION
    logits: bool = False


@dataclasses.dataclass(frozen=True)
class PublishedNetwork:
    """A network that can be downloaded.

    Attributes:
        url: Where.
        sha256: Of the file.
        megabytes: Its size, rounded up.
        preprocessing: What the network was trained with.
    """

    url: str
    sha256: str
    megabytes: int
    preprocessing: Preprocessing


_RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"

PUBLISHED = {
    "u2netp": PublishedNetwork(
        f"{_RELEASE}/u2netp.onnx",
        "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        5,
        Preprocessing(320),
    ),
    "u2net": PublishedNetwork(
        f"{_RELEASE}/u2net.onnx",
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        176,
        Preprocessing(320),
    ),
    "isnet": PublishedNetwork(
        f"{_RELEASE}/isnet-general-use.onnx",
        "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        179,
        Preprocessing(1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    ),
}
"""U²-Net (Qin et al., 2020), its small variant, and IS-Net (Qin et al., 2022), as the project rembg publishes them."""


class SaliencyNetwork:
    """A network from RGB images to maps of what stands out.

        network = SaliencyNetwork("u2netp")
        saliency = network(image)  # uint8 [height, width]

    The parts of a call, `prepare`, `find` and `enlarge`, are thread-safe.

    Args:
        model: A name of `PUBLISHED`, or the path of an ONNX file. The first input is float32 `[1, 3, height, width]`,
            and the only one; the first output is the map, of any size.
        preprocessing: Of a file; a published network, also as a file, has its own.

    Attributes:
        name: The name of a published network, else that of the file, without suffix.
        description: The name as "network", "sha256" of the file, and the preprocessing; ready for JSON.

    Raises:
        UserError: The file is missing, cannot be downloaded, is no such network, or has another preprocessing; or
            onnxruntime is not installed.
    """

    def __init__(self, model: str, preprocessing: Preprocessing = Preprocessing()) -> None:
        if model in PUBLISHED:
            published_preprocessing(model, preprocessing)
        if not importlib.util.find_spec("onnxruntime"):
            raise UserError("saliency maps need onnxruntime: pip install onnxruntime")
        # Perhaps a long download, so it comes after these.
        self._path = network_file(model)
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        known = next((name for name, published in PUBLISHED.items() if published.sha256 == sha256), None)
        if model in PUBLISHED and known != model:
            raise UserError(f"{self._path}: damaged, or another network than {model}; delete it")
        self.name = known or self._path.stem
        self._preprocessing = published_preprocessing(known, preprocessing) if known else preprocessing
        self._session = self._open()
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._height, self._width = self._input_size()
        # Whatever is wrong with the network is wrong with a black image too.
        self.find(self.prepare(np.zeros((self._height, self._width, 3), np.uint8)))
        self.description: dict[str, Any] = {
            "network": self.name,
            "sha256": sha256,
            "size": [self._height, self._width],
            "mean": list(self._preprocessing.mean),
            "deviation": list(self._preprocessing.deviation),
            "logits": self._preprocessing.logits,
        }

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The saliency map of an image.

        Args:
            image: uint8 `[height, width, 3]`, RGB, upright.

        Returns:
            uint8 `[height, width]`, 255 the most salient; 0 everywhere if nothing stands out.

        Raises:
            UserError: The network fails on this image.
        """
        height, width, _ = image.shape
        return enlarge(self.find(self.prepare(image)), height, width)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The input of the network for an image, float32 `[1, 3, input height, input width]`."""
        small = Image.fromarray(image).resize((self._width, self._height), Image.Resampling.BILINEAR)
        values = np.asarray(small, np.float32)
        values = values / max(float(values.max()), 1.0)
        values -= np.array(self._preprocessing.mean, np.float32)
        values /= np.array(self._preprocessing.deviation, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])

    def find(self, prepared: np.ndarray) -> np.ndarray:
        """The map of a prepared image in the size of the network's output, uint8, from 0 to 255; raises like a call."""
        try:
            (found,) = self._session.run([self._output], {self._input: prepared})
        except Exception as error:  # onnxruntime has an error for each of its states.
            size = f"{self._width}x{self._height}"
            raise self._error(f"fails on {size} pixels ({first_line(error)}); check --size") from None
        shape = [side for side in found.shape if side > 1]
        if len(shape) != 2 or found.dtype.kind != "f":
            raise self._error(f"expected a map as the first output, found {found.dtype} {list(found.shape)}")
        values = found.reshape(shape).astype(np.float32)
        if self._preprocessing.logits:
            values = np.tanh(values / 2) / 2 + 0.5
        low, high = float(values.min()), float(values.max())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise self._error(
                f"gives values from {low:.3g} to {high:.3g}, expected 0 to 1; add --logits if it ends without a sigmoid"
            )
        if high == low:
            return np.zeros(shape, np.uint8)
        return np.rint((values - low) * (255 / (high - low))).astype(np.uint8)

    def _open(self) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # What is wrong comes as an exception, too.
        try:
            return onnxruntime.InferenceSession(os.fspath(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # As above.
            raise self._error(f"cannot be read as ONNX ({first_line(error)})") from None

    def _input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        inputs, size = self._session.get_inputs(), self._preprocessing.size
        shape = inputs[0].shape
        # What is not fixed has a name, or none, in place of a number.
        fixed = [side if isinstance(side, int) else None for side in shape]
        is_image = len(shape) == 4 and fixed[0] in (1, None) and fixed[1] in (3, None)
        if len(inputs) > 1 or inputs[0].type != "tensor(float)" or not is_image:
            found = ", ".join(f"{each.type} {each.shape}" for each in inputs)
            raise self._error(f"expected one input, float [1, 3, height, width], found {found}")
        height, width = (side or size for side in fixed[2:])
        if not height or not width:
            raise self._error("takes images of any size; choose one with --size, best that of its training")
        if size not in (0, height) or size not in (0, width):
            raise UserError(f"the network takes {width}x{height} pixels; leave --size out", flag="size", value=size)
        return height, width

    def _error(self, message: str) -> UserError:
        return UserError(message, flag="model", value=self._path)


def enlarge(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a uint8 map to a height and width, bilinearly."""
    return np.asarray(Image.fromarray(saliency).resize((width, height), Image.Resampling.BILINEAR))


def published_preprocessing(name: str, given: Preprocessing) -> Preprocessing:
    """The preprocessing of a published network.

    Raises:
        UserError: Another one was given.
    """
    own = PUBLISHED[name].preprocessing
    if given not in (Preprocessing(), own):
        raise UserError(f"{name} has its own preprocessing; leave out --size, --mean, --deviation and --logits")
    return own


def missing_download(model: str) -> str | None:
    """The address that `network_file` would download; None if the file is there, or no network has this name."""
    return PUBLISHED[model].url if model in PUBLISHED and not _cached(model).exists() else None


def network_file(model: str) -> Path:
    """The ONNX file of a name of `PUBLISHED`, downloaded if it is not in the cache; or the path as it is.

    Raises:
        UserError: There is no such file, or it cannot be downloaded.
    """
    if model not in PUBLISHED:
        if not Path(model).is_file():
            expected = f"{', '.join(PUBLISHED)} or the path of an ONNX file"
            raise UserError(f"no such file; expected {expected}", flag="model", value=model)
        return Path(model)
    if missing_download(model):
        _download(model, PUBLISHED[model], _cached(model))
    return _cached(model)


def _cached(name: str) -> Path:
    return cache_folder() / f"{name}.onnx"


def _download(name: str, published: PublishedNetwork, path: Path) -> None:
    advice = f"save it from there as {path}, or give your copy as --model=FILE.onnx"
    print(f"downloading {published.url} to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(published.url, timeout=_SECONDS_WITHOUT_AN_ANSWER) as response,
            atomic_write(path) as file,
            Progress(published.megabytes, f"download {name}", unit="MB") as progress,
        ):
            while block := response.read(_MEGABYTE):
                digest.update(block)
                file.write(block)
                progress.advance()
            if digest.hexdigest() != published.sha256:
                raise UserError(
                    f"{published.url} has sent another file, with the SHA-256 {digest.hexdigest()}; try again",
                    flag="model",
                    value=name,
                )
    except (OSError, http.client.HTTPException) as error:
        reason = first_line(getattr(error, "reason", None) or error)
        raise UserError(f"cannot download {published.url} ({reason}); {advice}", flag="model", value=name) from None
