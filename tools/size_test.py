"""Measures every stage's memory and time on a large number of images.

    python -m tools.size_test --num_images=82783 --num_classes=80 --num_labels=240000 --image_size=304   # MS COCO

The images are synthetic and small, and the networks have one channel and train for two steps: what grows with the
number of images stays as it is, be it the table of cumulative attention, the maps, the labels or the lists. Every
command runs twice, on a thousand images and on all of them, in a process of its own. Exit code 0 means that no command
needed more than 4 GiB above what it needs for a thousand.
"""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.progress import Progress
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.source import MASK_DIR
from oaa_tf.data.records.keys import MAX_MASK_CLASSES
from tools.stage_process import new_folder

_FEW = 1000
_MOST_BYTES = 4 * 2**30
_HEIGHT, _WIDTH = 24, 32
_ROOT = Path(__file__).parents[1]
_MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small program around a command: a process inherits the peak memory of the one that starts it."""

_ATTENTION = ("make_records", "train_cls", "train_integral", "make_maps")
_MASKS = ("make_pseudo_labels", "train_affinity", "train_seg", "export", "relabel", "evaluate", "predict")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeTestSettings(Settings):
    """The data set."""

    num_images: int = setting(82_783, help="Number of images.", minimum=_FEW)
    num_classes: int = setting(80, help="Number of classes; above 254 there are no masks.", minimum=2)
    num_labels: int = setting(240_000, help="Labels of all images together.", minimum=1)
    image_size: int = setting(304, help="The networks' image size, which sets that of the maps.", minimum=32)
    commands: tuple[str, ...] = setting(
        (),
        help="Commands to run, all if empty; each needs those whose results it reads.",
        choices=(*_ATTENTION, *_MASKS),
    )
    work_dir: str = setting("", help="New folder for the runs; if empty, a temporary one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.num_images <= self.num_labels <= self.num_images * self.num_classes:
            raise UserError(
                f"expected {self.num_images} to {self.num_images * self.num_classes}, one label for each image or more",
                flag="num_labels",
                value=self.num_labels,
            )


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        num_bytes: The most memory that it had.
    """

    seconds: float
    num_bytes: int


def run(settings: SizeTestSettings) -> dict[str, tuple[Cost, Cost]]:
    """Runs the commands and prints a table.

    Returns:
        By command, what it took for a thousand images and for all.

    Raises:
        UserError: The folder is not new, or a command fails.
    """
    with new_folder(settings.work_dir) as folder:
        few = _costs(settings, _FEW, folder / "few")
        many = _costs(settings, settings.num_images, folder / "many")
        found = {}
        print(f"{'':<20} {'1,000 images':>18} {f'{settings.num_images:,} images':>22} {'more memory':>14}")
        for (command, cost_of_few), (_, cost) in zip(few, many, strict=True):
            found[command] = cost_of_few, cost
            print(
                f"{command:<20} {_text(cost_of_few):>18} {_text(cost):>22}"
                f" {(cost.num_bytes - cost_of_few.num_bytes) / 2**20:>11,.0f} MB",
                flush=True,
            )
        return found


def run_and_judge(settings: SizeTestSettings) -> dict[str, Any]:
    """Runs the commands; exits with code 1 if one needs too much memory."""
    found = run(settings)
    if any(many.num_bytes > few.num_bytes + _MOST_BYTES for few, many in found.values()):
        sys.exit(1)
    return {name: [dataclasses.asdict(cost) for cost in costs] for name, costs in found.items()}


def _text(cost: Cost) -> str:
    return f"{cost.seconds:,.0f} s {cost.num_bytes / 2**20:,.0f} MB"


def _costs(settings: SizeTestSettings, num_images: int, folder: Path) -> Iterator[tuple[str, Cost]]:
    """Makes a data set and runs all commands on it: name and cost of each."""
    has_masks = settings.num_classes <= MAX_MASK_CLASSES
    _write_photos(settings, num_images, folder / "photos", has_masks=has_masks)
    arguments = arguments_of(folder, settings.image_size)
    for command in settings.commands or (_ATTENTION + _MASKS if has_masks else _ATTENTION):
        begin = time.monotonic()
        with (folder / f"{command}.log").open("wb") as log:
            line = [sys.executable, "-m", f"oaa_tf.{command}", *arguments[command]]
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *line], cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, check=False
            )
        if done.returncode:
            raise UserError(f"{command} failed; see {log.name}")
        cost = Cost(time.monotonic() - begin, int(done.stdout) * 1024)
        print(f"{command}, {num_images:,} images: {_text(cost)}", flush=True)
        yield command, cost


def arguments_of(folder: Path, image_size: int) -> dict[str, list[str]]:
    """The arguments of every command, for the photos in a folder, below which the results go as well."""
    records, network = f"--records={folder}/records/train.json", ("--width=1", f"--image_size={image_size}")
    training = (records, *network, "--backbone_weights=none", "--batch_size=8", "--num_steps=2", "--num_measured=0")
    maps, model = f"--maps={folder}/train_cls/attention/oaa", f"--model={folder}/export"
    labels = f"--labels={folder}/make_pseudo_labels"
    inputs: dict[str, tuple[str, ...]] = {
        "make_records": (f"--image_dir={folder}/photos", f"--tags={folder}/photos/tags.csv", "--val_share=0"),
        "train_cls": training,
        "train_integral": (*training, maps),
        "make_maps": (records, f"--stage_dir={folder}/train_cls"),
        "make_pseudo_labels": (records, maps),
        "train_affinity": (*training, maps, labels, "--num_epochs=0"),
        "train_seg": (*training, labels, f"--frame_size={image_size}"),
        "export": (f"--stage_dir={folder}/train_seg",),
        "relabel": (records, model),
        "evaluate": (records, model),
        "predict": (model, f"--images={folder}/photos"),
    }
    outputs = dict.fromkeys(("make_records", "export", "predict"), "output_dir")
    places = {"make_records": "records"}
    return {
        command: [*given, f"--{outputs.get(command, 'work_dir')}={folder}/{places.get(command, command)}"]
        for command, given in inputs.items()
    }


def _write_photos(settings: SizeTestSettings, num_images: int, folder: Path, *, has_masks: bool) -> None:
    """Writes photos, all alike, with tags and, if there are any, masks of as many stripes."""
    (folder / MASK_DIR).mkdir(parents=True)
    generator = np.random.default_rng(0)
    photo = cv2.imencode(".jpg", generator.integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8))[1].tobytes()
    num_labels = round(settings.num_labels / settings.num_images * num_images)
    with (folder / "tags.csv").open("w") as tags, Progress(num_images, "write photos") as progress:
        tags.write("file,tags\n")
        for number in range(num_images):
            # The labels are shared out as evenly as possible, and every class comes as often as the others.
            first, end = (num_labels * position // num_images for position in (number, number + 1))
            labels = sorted({label % settings.num_classes for label in range(first, end)})
            (folder / f"{number:08d}.jpg").write_bytes(photo)
            tags.write(f"{number:08d}.jpg,{'|'.join(f'class {label:04d}' for label in labels)}\n")
            if has_masks:
                values = np.array([0, *(label + 1 for label in labels)], np.uint8)
                stripes = values[np.arange(_WIDTH) * len(values) // _WIDTH]
                cv2.imwrite(str(folder / MASK_DIR / f"{number:08d}.png"), np.tile(stripes, (_HEIGHT, 1)))
            progress.advance()


if __name__ == "__main__":
    launch(SizeTestSettings, run_and_judge, "size_test")
