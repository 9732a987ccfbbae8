"""Fixtures that several test files share."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator

# Before any test imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dataclasses import dataclass
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
from tiny_voc import make_tiny_records

from oaa_tf.data.records.record_set import RecordSet

# Background jobs of a script begin with SIGINT ignored, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: a failure is there for everybody, or for nobody.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

TINY_CLASSES = ("circle", "square", "cross")
_COLORS = ((220, 60, 40), (60, 200, 80), (50, 80, 230))
# Size and class indices of each image.
_TINY_IMAGES = (
    (40, 56, (0,)),
    (56, 40, (1,)),
    (48, 48, (2,)),
    (33, 61, (0, 1)),
    (61, 47, (1, 2)),
    (50, 50, (0, 1, 2)),
)


@dataclass(frozen=True)
class TinyImage:
    """One image of `tiny_voc` as it was drawn; the JPEG on disk differs by its compression."""

    image_id: str
    image: np.ndarray
    mask: np.ndarray
    saliency: np.ndarray
    labels: tuple[int, ...]


@pytest.fixture(scope="session")
def tiny_images() -> list[TinyImage]:
    """The six images of `tiny_voc`: colored rectangles on noise, with border pixels 255 in the masks."""
    generator = np.random.default_rng(7)
    images = []
    for index, (height, width, labels) in enumerate(_TINY_IMAGES):
        image = generator.integers(90, 150, (height, width, 3), np.uint8)
        mask = np.zeros((height, width), np.uint8)
        for rank, label in enumerate(labels):
            rows = slice(4, height - 4)
            columns = slice(3 + rank * width // len(labels), (rank + 1) * width // len(labels) - 3)
            mask[rows, columns] = 255
            rows, columns = slice(rows.start + 1, rows.stop - 1), slice(columns.start + 1, columns.stop - 1)
            mask[rows, columns] = label + 1
            image[rows, columns] = _COLORS[label]
        saliency = np.where(mask > 0, 200, 10).astype(np.uint8) + generator.integers(0, 40, mask.shape, np.uint8)
        images.append(TinyImage(f"tiny_{index:03d}", image, mask, saliency, labels))
    return images


@pytest.fixture
def tiny_voc(tmp_path: Path, tiny_images: list[TinyImage]) -> Path:
    """A folder in VOC layout with the splits `train` (all six images) and `val` (the last three).

    It has classes.txt, lists of ids and labels, annotations, grey masks, and saliency maps in `saliency/`.
    """
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "saliency", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(TINY_CLASSES) + "\n")
    for tiny in tiny_images:
        bgr = cv2.cvtColor(tiny.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / "JPEGImages" / f"{tiny.image_id}.jpg"), bgr)
        cv2.imwrite(str(root / "SegmentationClass" / f"{tiny.image_id}.png"), tiny.mask)
        cv2.imwrite(str(root / "saliency" / f"{tiny.image_id}.png"), tiny.saliency)
        objects = "".join(
            f"<object><name>{TINY_CLASSES[label]}</name><difficult>0</difficult></object>" for label in tiny.labels
        )
        (root / "Annotations" / f"{tiny.image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    for split, chosen in (("train", tiny_images), ("val", tiny_images[3:])):
        lists = root / "ImageSets" / "Segmentation"
        (lists / f"{split}.txt").write_text("".join(f"{tiny.image_id}\n" for tiny in chosen))
        (lists / f"{split}_cls.txt").write_text(
            "".join(f"{tiny.image_id} {' '.join(map(str, tiny.labels))}\n" for tiny in chosen)
        )
    return root


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    """Four images with three classes, one image with two of them."""
    return make_tiny_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder with real data: `voc12_animals/` (images in VOC layout) and `weights/` (VGG16)."""
    folder = os.environ.get("OAA_TF_TEST_DATA", "")
    if not folder:
        pytest.skip("OAA_TF_TEST_DATA is not set: no real data to test on")
    if not (Path(folder) / "voc12_animals").is_dir():
        pytest.skip(f"OAA_TF_TEST_DATA={folder} has no folder voc12_animals")
    return Path(folder)


@pytest.fixture
def small_files() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """`with small_files(100):` lets no file of this process grow beyond 100 bytes, as a full disk or a quota would."""

    @contextlib.contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
