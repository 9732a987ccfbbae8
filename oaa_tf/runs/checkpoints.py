"""The checkpoint files in a training stage's work_dir, and how far the stage has come."""

from pathlib import Path

from oaa_tf.command_line.dry_run import TO_DO
from oaa_tf.runs.work_dir import WorkDir, files_checksum

CHECKPOINT_FOLDER = "checkpoints"


def checkpoints_in(work_dir: Path) -> list[str]:
    """Paths of the complete checkpoints in a stage's work_dir, `checkpoints/step-<number>` without suffix, newest last.

    They are found by their index files, which TensorFlow writes last, and not by its list, the file `checkpoint`: if
    that were damaged or lost, all progress would be lost with it.
    """
    numbers = [path.stem.removeprefix("step-") for path in (work_dir / CHECKPOINT_FOLDER).glob("step-*.index")]
    return [str(work_dir / CHECKPOINT_FOLDER / f"step-{n}") for n in sorted(int(n) for n in numbers if n.isdigit())]


def step_of(checkpoint: str) -> int:
    """The step in the path of a checkpoint."""
    return int(checkpoint.rpartition("-")[2])


def newest_step(work_dir: Path) -> int:
    """The step of the newest checkpoint; 0 without."""
    checkpoints = checkpoints_in(work_dir)
    return step_of(checkpoints[-1]) if checkpoints else 0


def checkpoint_checksum(work_dir: Path) -> str | None:
    """SHA-256 (hex) of the newest checkpoint in a stage's work_dir; None without one."""
    checkpoints = checkpoints_in(work_dir)
    if not checkpoints:
        return None
    newest = Path(checkpoints[-1])
    return files_checksum(sorted(newest.parent.glob(f"{newest.name}.*")))


def stage_state(work_dir: Path) -> str:
    """How far a stage has come: `DONE`, `TO_DO`, or the step from which it continues.

    Raises:
        UserError: Its `metrics.json` is damaged.
    """
    state, step = WorkDir(work_dir).state, newest_step(work_dir)
    return f"goes on from step {step}" if state == TO_DO and step else state
