"""Kills training stages and compares the resumed runs, bit for bit.

    python -m tools.kill_test --kills=3 --quick

Each training stage runs on demo data twice: once from beginning to end, and once killed with SIGKILL again and again
and resumed each time. Then everything that the two runs have left is compared: the weights, the optimizer's state,
metrics and random states and the table of cumulative attention in the last checkpoint, the attention maps, and
`metrics.json`. The moments are drawn from a seed: between two checkpoints, inside the write of a checkpoint, and while
attention maps are written. Exit code 0 means that all is identical.
"""

import collections
import dataclasses
import json
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.runs.checkpoints import checkpoints_in
from oaa_tf.runs.work_dir import METRICS_FILE
from tools.stage_process import TINY, StageProcess, demo_records, new_folder

STAGES = ("train_cls", "train_integral", "train_affinity", "train_seg")

_CHECKPOINT_EVERY = 3
_WRITE_SECONDS = 0.01
"""About how long the write of a checkpoint takes."""

_BETWEEN, _WRITE, _MAPS = "between two checkpoints", "inside the write of a checkpoint", "while maps were written"

_WEIGHTS, _OPTIMIZER, _REST = "weights", "optimizer state", "metrics and random states"
_TABLE, _MAP_FILES, _METRICS_FILE = "table of cumulative attention", "files of attention maps", METRICS_FILE
_GROUPS = {"network": _WEIGHTS, "optimizer": _OPTIMIZER, "rest": _REST, "attention": _TABLE}
"""What the parts of a checkpoint are, by the first part of their names."""

_EVERY_STAGE = {_WEIGHTS, _OPTIMIZER, _REST, _METRICS_FILE}
_LEAVES = {
    "train_cls": _EVERY_STAGE | {_TABLE, _MAP_FILES},
    "train_integral": _EVERY_STAGE | {_MAP_FILES},
    "train_affinity": _EVERY_STAGE | {_MAP_FILES},
    "train_seg": _EVERY_STAGE,
}
"""What each stage leaves; nothing of it may be missing from the comparison."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KillTestSettings(Settings):
    """How often to kill what."""

    kills: int = setting(20, help="How often each training stage is killed.", minimum=1)
    quick: bool = setting(False, help="A narrower network on fewer and smaller images.")
    stages: tuple[str, ...] = setting(STAGES, help="Stages to kill.", choices=STAGES)
    seed: int = setting(0, help="Seed of the moments.", minimum=0)
    work_dir: str = setting("", help="New folder for the runs and their logs; if empty, a temporary one.")


@dataclasses.dataclass(frozen=True)
class StageReport:
    """What became of one stage.

    Attributes:
        stage: Its name.
        kills: Number of kills by moment.
        compared: Number of things compared, by kind.
        differences: Names of those that are not identical, and of the kinds that are missing.
    """

    stage: str
    kills: dict[str, int]
    compared: dict[str, int]
    differences: list[str]


def run(settings: KillTestSettings) -> list[StageReport]:
    """Runs, kills, resumes and compares, and prints what it finds.

    Returns:
        A report for each stage.

    Raises:
        UserError: The folder is not new, or a stage fails or does not get on.
    """
    with new_folder(settings.work_dir) as folder:
        size = {"num_images": 16, "image_size": 64} if settings.quick else {"num_images": 48, "image_size": 96}
        records = demo_records(folder, **size)
        common = (
            *TINY,
            *(f"--records={records}", f"--width={4 if settings.quick else 8}", f"--image_size={size['image_size']}"),
            *("--batch_size=4", f"--num_steps={_num_steps(settings.kills)}", f"--checkpoint_every={_CHECKPOINT_EVERY}"),
        )
        own = {
            "train_cls": ("--fusions=max,average", "--gate=none", "--min_scale=0.8", "--max_scale=1.4"),
            "train_integral": (f"--maps={folder / 'train_cls/attention/oaa'}",),
            "train_affinity": (f"--maps={folder / 'train_cls/attention/oaa'}", "--labels=masks"),
            "train_seg": ("--labels=masks", f"--frame_size={size['image_size'] + 16}"),
        }
        if "train_cls" not in settings.stages and {"train_integral", "train_affinity"} & set(settings.stages):
            StageProcess("train_cls", folder / "train_cls", common + own["train_cls"]).finish()
        reports = []
        for stage in settings.stages:
            print(f"{stage}:", flush=True)
            reports.append(_test_stage(stage, folder, common + own[stage], settings))
            _print_report(reports[-1])
        return reports


def _num_steps(kills: int) -> int:
    """Steps enough for every kill to cost the steps since the last checkpoint, and some more."""
    return _CHECKPOINT_EVERY * (2 * kills + 6)


def _test_stage(stage: str, folder: Path, arguments: tuple[str, ...], settings: KillTestSettings) -> StageReport:
    straight = StageProcess(stage, folder / stage, arguments)
    straight.wait_until(lambda: straight.newest_step > 0)
    began = time.monotonic()
    num_steps = _num_steps(settings.kills)
    straight.wait_until(lambda: straight.newest_step == num_steps)
    seconds = (time.monotonic() - began) * _CHECKPOINT_EVERY / (num_steps - _CHECKPOINT_EVERY)
    straight.finish()
    print(f"  uninterrupted: {num_steps} steps, {seconds:.2f} s from checkpoint to checkpoint", flush=True)

    killed_dir = folder / f"{stage}_killed"
    kills: collections.Counter[str] = collections.Counter()
    for moment, step in kill_moments(stage, settings.kills, random.Random(f"{settings.seed} {stage}")):
        rng = random.Random(f"{settings.seed} {stage} {step}")
        # A write can be over before the kill arrives: then the process was killed just behind it, and the next try is
        # at the next write.
        while True:
            found = _start_and_kill(StageProcess(stage, killed_dir, arguments), moment, step, seconds, rng)
            if found is not None:
                kills[found] += 1
            if moment in (_BETWEEN, found):
                break
    StageProcess(stage, killed_dir, arguments).finish()
    compared, differences = compare(stage, folder / stage, killed_dir)
    return StageReport(stage, dict(kills), compared, differences)


def kill_moments(stage: str, kills: int, rng: random.Random) -> list[tuple[str, int]]:
    """The moments at which a stage is killed.

    Args:
        stage: The stage.
        kills: How many.
        rng: Draws them.

    Returns:
        Kinds of moment, each with the step whose checkpoint must be there before, in ascending order. Every second one
        is inside a write; from three kills on, the last one of a stage that writes maps is then.
    """
    has_maps = _MAP_FILES in _LEAVES[stage] and kills > 2
    steps = sorted(_CHECKPOINT_EVERY * n for n in rng.sample(range(2 * kills), kills - has_maps))
    moments = [(_BETWEEN if number % 2 else _WRITE, step) for number, step in enumerate(steps)]
    return [*moments, (_MAPS, _num_steps(kills))] if has_maps else moments


def _start_and_kill(stage: StageProcess, moment: str, step: int, seconds: float, rng: random.Random) -> str | None:
    """Lets a stage run until a moment, kills it and returns which kind of moment it was; None if it was finished.

    Args:
        stage: The process.
        moment: The kind of moment to wait for.
        step: The step whose checkpoint must be there before.
        seconds: From one checkpoint to the next.
        rng: Draws the time within the moment.
    """
    if step == 0:
        stage.wait_until(lambda: any(stage.work_dir.glob("tensorboard/*")))
    elif moment == _MAPS:
        stage.wait_until(lambda: stage.newest_step == step)
    else:
        # This process's own checkpoint, not one that was there: it has got as far as training.
        stage.wait_until(lambda: stage.newest_step >= step and stage.newest_step > stage.first_step)
    if moment == _BETWEEN:
        time.sleep(rng.uniform(0, seconds))
    elif moment == _WRITE:
        stage.wait_until(lambda: stage.is_writing_a_checkpoint, pause=0.0005)
        time.sleep(rng.uniform(0, _WRITE_SECONDS))
    else:
        stage.wait_until(lambda: any(stage.work_dir.glob("attention/*")), pause=0.0005)
    stage.kill()
    if moment == _MAPS and (stage.work_dir / METRICS_FILE).exists():
        # Back to the moment before, for another try.
        (stage.work_dir / METRICS_FILE).unlink()
        shutil.rmtree(stage.work_dir / "attention")
        return None
    if (stage.work_dir / METRICS_FILE).exists():
        raise UserError(f"{stage.work_dir} was finished before it could be killed {moment}; try another --seed")
    found = _MAPS if moment == _MAPS else _WRITE if stage.is_writing_a_checkpoint else _BETWEEN
    newest = f"newest checkpoint: step {stage.newest_step}" if stage.newest_step else "no checkpoint yet"
    print(f"  killed {found}; {newest}", flush=True)
    return found


def compare(stage: str, straight: Path, killed: Path) -> tuple[dict[str, int], list[str]]:
    """Compares what two runs of a stage have left.

    Returns:
        How many things of each kind were compared, and the names of those that are not identical or missing.
    """
    one, other = _contents(straight), _contents(killed)
    compared = collections.Counter(kind for kind, _ in one)
    differences = [": ".join(key) for key in sorted(one | other) if one.get(key) != other.get(key)]
    differences += [f"{kind}: nothing there to compare" for kind in sorted(_LEAVES[stage] - compared.keys())]
    return dict(compared), differences


def _contents(work_dir: Path) -> dict[tuple[str, str], Any]:
    """Everything that a run leaves, by kind and name, as values that are equal only if all bits are."""
    import tensorflow as tf

    newest = checkpoints_in(work_dir)[-1]
    reader = tf.train.load_checkpoint(newest)
    contents: dict[tuple[str, str], Any] = {("last checkpoint", "name"): Path(newest).name}
    for name in reader.get_variable_to_shape_map():
        # The rest of the checkpoint says how its objects hang together.
        if name.endswith("VARIABLE_VALUE"):
            value = reader.get_tensor(name)
            contents[_GROUPS[name.partition("/")[0]], name] = (value.dtype, value.shape, value.tobytes())
    for path in (work_dir / "attention").rglob("*.*"):
        contents[_MAP_FILES, str(path.relative_to(work_dir))] = path.read_bytes()
    metrics = json.loads((work_dir / METRICS_FILE).read_text())
    del metrics["settings"]["work_dir"]
    contents |= {(_METRICS_FILE, name): json.dumps(value) for name, value in metrics.items()}
    return contents


def _print_report(report: StageReport) -> None:
    print(f"  {sum(report.kills.values())} kills: " + ", ".join(f"{n} {moment}" for moment, n in report.kills.items()))
    print("  compared: " + ", ".join(f"{number} {kind}" for kind, number in report.compared.items()))
    for difference in report.differences:
        print(f"  NOT identical: {difference}")
    if not report.differences:
        print("  all bit-identical to the uninterrupted run", flush=True)


def run_and_judge(settings: KillTestSettings) -> list[StageReport]:
    """Runs, returns the reports, and exits with code 1 and one line unless all is identical."""
    reports = run(settings)
    different = [report.stage for report in reports if report.differences]
    if different:
        sys.exit(f"kill_test: NOT identical after kills: {', '.join(different)}")
    print(f"kill_test: {', '.join(report.stage for report in reports)}: bit-identical after kills")
    return reports


if __name__ == "__main__":
    launch(KillTestSettings, run_and_judge, "kill_test")
