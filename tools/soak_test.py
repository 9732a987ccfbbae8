"""Trains a tiny network for long and watches memory, time and disk.

    python -m tools.soak_test --work_dir=runs/soak

Runs `oaa_tf.train_cls` on demo data in a process of its own, with checkpoints and TensorBoard logs, and reports, at the
end and in `soak_test.json`: the resident memory after a tenth of the steps and at the end, the time per step in the
first and the last tenth, the most space that checkpoints ever took on disk, and the size of the logs. Linux only.
"""

import contextlib
import dataclasses
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import versions
from tools.stage_process import TINY, StageProcess, demo_records, new_folder

_REPORT_FILE = "soak_test.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoakTestSettings(Settings):
    """How long, and how often checkpoints are written."""

    work_dir: str = setting(help="New folder for the run and its report.")
    num_steps: int = setting(10_000, help="Steps of training.", minimum=20)
    checkpoint_every: int = setting(100, help="Steps between checkpoints.", minimum=1)

    def __post_init__(self) -> None:
        """Checks the combination."""
        super().__post_init__()
        if self.num_steps % (20 * self.checkpoint_every):
            raise UserError(
                f"expected a multiple of 20 * --checkpoint_every={self.checkpoint_every}",
                flag="num_steps",
                value=self.num_steps,
            )


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was seen when a checkpoint had just been written.

    Attributes:
        step: The checkpoint's step.
        seconds: A monotonic clock.
        memory_bytes: Resident memory of the training process.
    """

    step: int
    seconds: float
    memory_bytes: int


def run(settings: SoakTestSettings) -> dict[str, Any]:
    """Trains and writes `soak_test.json`.

    Returns:
        Its content: "memory_bytes", "seconds_per_step" (each "first_tenth", "last_tenth" and their "ratio"),
        "most_checkpoint_bytes", "final_checkpoint_bytes", "log_bytes", "num_steps", "num_samples".

    Raises:
        UserError: The system is not Linux, the folder is not new, or the training fails.
    """
    if not Path("/proc/self/statm").exists():
        raise UserError("soak_test: memory is read from /proc, which this system does not have; run it on Linux")
    with new_folder(settings.work_dir) as folder:
        arguments = (
            *(f"--records={demo_records(folder, num_images=16, image_size=64)}", *TINY, "--width=2"),
            *("--image_size=32", "--batch_size=2", "--gate=none", "--num_measured=8"),
            *(f"--num_steps={settings.num_steps}", f"--checkpoint_every={settings.checkpoint_every}"),
        )
        stage = StageProcess("train_cls", folder / "train_cls", arguments)
        samples: list[Sample] = []
        most_bytes = 0

        def sample() -> bool:
            nonlocal most_bytes
            most_bytes = max(most_bytes, _bytes_below(stage.work_dir / CHECKPOINT_FOLDER))
            step = stage.newest_step
            if step > (samples[-1].step if samples else 0):
                samples.append(Sample(step, time.monotonic(), _memory_of(stage.process.pid)))
            return step == settings.num_steps

        stage.wait_until(sample)
        stage.finish()
        report = report_of(samples, settings.num_steps) | {
            "most_checkpoint_bytes": most_bytes,
            "final_checkpoint_bytes": _bytes_below(stage.work_dir / CHECKPOINT_FOLDER),
            "log_bytes": _bytes_below(stage.work_dir / "tensorboard"),
            "versions": versions(),
            "settings": settings.as_dict(),
        }
        write_json(folder / _REPORT_FILE, report)
    print(json.dumps({name: value for name, value in report.items() if name not in ("versions", "settings")}, indent=1))
    return report


def report_of(samples: list[Sample], num_steps: int) -> dict[str, Any]:
    """What the samples of a run say about memory and time per step; see `run`.

    Raises:
        UserError: There are too few.
    """
    tenth = num_steps // 10
    first = [sample for sample in samples if sample.step <= tenth]
    last = [sample for sample in samples if sample.step >= num_steps - tenth]
    if min(len(first), len(last)) < 2:
        raise UserError("checkpoints came too fast to be seen: raise --checkpoint_every")
    report: dict[str, Any] = {"num_steps": num_steps, "num_samples": len(samples)}
    for name, before, after in (
        ("memory_bytes", first[-1].memory_bytes, last[-1].memory_bytes),
        ("seconds_per_step", _seconds_per_step(first), _seconds_per_step(last)),
    ):
        report[name] = {"first_tenth": before, "last_tenth": after, "ratio": after / before}
    return report


def _seconds_per_step(samples: list[Sample]) -> float:
    return (samples[-1].seconds - samples[0].seconds) / (samples[-1].step - samples[0].step)


def _memory_of(process_id: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize()


def _bytes_below(folder: Path) -> int:
    """Size of all files in a folder and below, some of which may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


if __name__ == "__main__":
    launch(SoakTestSettings, run, "soak_test")
