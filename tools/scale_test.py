"""Trains with several workers, and compares with one process.

    python -m tools.scale_test --workers=2 --quick

The workers are processes of this machine. Each training stage runs on demo data twice: in one process, on two devices
that are both the CPU; and with workers of which one is killed, all of them then being started again. Everything that
the two runs leave is compared as in `tools.kill_test`. Exit code 0 means that all is identical, that the workers
without the killed one ended with one line that names it, and that every image was seen once an epoch.

Three replicas or more add up gradients in another order than devices of one process do, so their weights differ by
rounding. More than two workers are compared with workers that nobody kills.
"""

import dataclasses
import json
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from tools.kill_test import STAGES, compare
from tools.stage_process import TINY, StageProcess, demo_records, new_folder

_EPOCHS = 10
_CHECKPOINT_EVERY = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleTestSettings(Settings):
    """How many workers train what."""

    workers: int = setting(2, help="Number of workers.", minimum=2, maximum=8)
    quick: bool = setting(False, help="A narrower network on fewer and smaller images.")
    stages: tuple[str, ...] = setting(STAGES, help="Stages to train.", choices=STAGES)
    work_dir: str = setting("", help="New folder for the runs and their logs; if empty, a temporary one.")


def run(settings: ScaleTestSettings) -> list[str]:
    """Trains, kills, resumes and compares, and prints what it finds.

    Returns:
        What is not as it should be, a line each.

    Raises:
        UserError: The folder is not new, or a stage fails or does not get on.
    """
    with new_folder(settings.work_dir) as folder:
        num_images, image_size = (16, 64) if settings.quick else (48, 96)
        records = demo_records(folder, num_images=num_images, image_size=image_size)
        batch_size = 2 * settings.workers
        num_steps = _EPOCHS * num_images // batch_size
        common = (
            *TINY,
            *(f"--records={records}", f"--width={4 if settings.quick else 8}", f"--image_size={image_size}"),
            *(f"--batch_size={batch_size}", f"--num_steps={num_steps}", f"--checkpoint_every={_CHECKPOINT_EVERY}"),
        )
        own = {
            "train_cls": ("--fusions=max,average", "--gate=none", "--accumulate_from_epoch=0", "--accumulate_steps=2"),
            "train_integral": (f"--maps={folder / 'train_cls/attention/oaa'}",),
            "train_affinity": (f"--maps={folder / 'train_cls/attention/oaa'}", "--labels=masks"),
            "train_seg": ("--labels=masks", f"--frame_size={image_size + 16}"),
        }
        wrong = []
        for stage in settings.stages:
            found = _test_stage(stage, folder, common + own[stage], settings.workers)
            print(f"{stage}: " + ("; ".join(found) or "all as it should be"), flush=True)
            wrong += [f"{stage}: {one}" for one in found]
        return wrong


def _test_stage(stage: str, folder: Path, arguments: tuple[str, ...], num_workers: int) -> list[str]:
    whole, killed = folder / stage, folder / f"{stage}_killed"
    if num_workers == 2:
        StageProcess(stage, whole, arguments, program=("-m", "tools.virtual_devices", "2", stage)).finish()
    else:
        _finish(_workers(stage, whole, arguments, num_workers))

    # Each stage loses another worker; the first is the chief.
    lost = STAGES.index(stage) % num_workers
    wrong = _kill(_workers(stage, killed, arguments, num_workers), lost)
    _finish(_workers(stage, killed, arguments, num_workers))
    wrong += [f"after the kill of worker {lost}: {name}" for name in compare(stage, whole, killed)[1]]
    if stage == "train_cls":
        wrong += _visits(killed)
    return wrong


def _workers(stage: str, work_dir: Path, arguments: tuple[str, ...], number: int) -> list[StageProcess]:
    """Starts workers in the same folder."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    configs = (tf_config(addresses, index) for index in range(number))
    return [
        StageProcess(stage, work_dir, arguments, log=f"worker{index}", environment={"TF_CONFIG": config})
        for index, config in enumerate(configs)
    ]


def tf_config(addresses: Sequence[str], index: int) -> str:
    """The `TF_CONFIG` of one of several workers."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _finish(workers: Sequence[StageProcess]) -> None:
    for worker in workers:
        worker.finish()


def _kill(workers: Sequence[StageProcess], lost: int) -> list[str]:
    """Kills one of the workers behind the first checkpoint, and waits for the end of the others.

    Returns:
        What is wrong with it.
    """
    chief = workers[0]
    chief.wait_until(lambda: chief.newest_step > 0)
    workers[lost].kill()
    others = [worker for worker in workers if worker is not workers[lost]]
    for worker in others:
        worker.wait()
    codes = [worker.process.returncode for worker in others]
    if codes != [2] * len(others):
        return [f"without worker {lost}, the others have exit codes {codes}"]
    endings = [worker.last_line for worker in others]
    wanted = re.compile(rf"error: worker {lost} \(127\.0\.0\.1:\d+\) is lost")
    return [f"without worker {lost}, another says: {line}" for line in endings if not wanted.match(line)]


def _visits(work_dir: Path) -> list[str]:
    """Whether every image was accumulated once an epoch."""
    import tensorflow as tf

    from oaa_tf.runs.checkpoints import checkpoints_in

    reader = tf.train.load_checkpoint(checkpoints_in(work_dir)[-1])
    shapes = reader.get_variable_to_shape_map()
    # The only variable of the table with one number per pair of image and class.
    (updates,) = (name for name, shape in shapes.items() if name.startswith("attention/") and len(shape) == 1)
    counts = np.unique(reader.get_tensor(updates)).tolist()
    return [] if counts == [_EPOCHS] else [f"images were seen {counts} times in {_EPOCHS} epochs"]


def run_and_judge(settings: ScaleTestSettings) -> list[str]:
    """Runs, returns what is wrong, and exits with code 1 and one line unless it is nothing."""
    wrong = run(settings)
    if wrong:
        sys.exit(f"scale_test: {len(wrong)} things are wrong, such as {wrong[0]}")
    print(f"scale_test: {settings.workers} workers: {', '.join(settings.stages)}: all as it should be")
    return wrong


if __name__ == "__main__":
    launch(ScaleTestSettings, run_and_judge, "scale_test")
