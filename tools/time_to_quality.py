"""Measures how mIoU grows with the pipeline's minutes.

    python -m tools.time_to_quality --presets=flags/voc12_animals_best.flags --voc_dir=VOC12_ANIMALS \
        --backbone_weights=VGG16.weights.h5 --work_dir=runs/minutes

Runs the pipeline once for each part of a preset's training steps, and takes the time from the command to its exit.
Writes `time_to_quality.json` and `time_to_quality.png`. Points that are measured stay; the one that was interrupted
begins anew when the command is run again.
"""

import dataclasses
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch, parse
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.pipeline import PipelineSettings
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.metrics_file import versions
from oaa_tf.runs.work_dir import METRICS_FILE, WorkDir
from oaa_tf.training.settings import TRAININGS
from tools.plots import plot_minutes


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeToQualitySettings(Settings):
    """The data, the presets, and the parts of their steps."""

    presets: tuple[str, ...] = setting(help="Presets of the pipeline, each a line of the plot.", may_change=True)
    shares: tuple[float, ...] = setting(
        (0.07, 0.2, 0.5, 1.0),
        help="Parts of the presets' training steps, each a pipeline.",
        minimum=1e-3,
        maximum=1.0,
        may_change=True,
    )
    voc_dir: str = setting(help="Folder in VOC layout, with masks of the validation split.")
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of a Keras h5 file.")
    work_dir: str = setting(help="Folder for everything; run again in it to resume.")


def run(settings: TimeToQualitySettings) -> dict[str, Any]:
    """Measures what is not measured yet, and prints a table.

    Returns:
        The content of `time_to_quality.json`: "rows", each with "preset", "share", "minutes" from the command to its
        exit, and the "mean_iou" on the validation split of the network that the pipeline exports.

    Raises:
        UserError: A preset is wrong, a pipeline fails, or the validation split has no masks.
    """
    # All of them now, and not when hours of training are behind us.
    points = {
        (preset, share): _part(settings, preset, share) for preset in settings.presets for share in settings.shares
    }
    with WorkDir.claim(settings, {}) as work_dir:
        path = work_dir.path / "time_to_quality.json"
        found = {(row["preset"], row["share"]): row for row in (read_json(path)["rows"] if path.exists() else ())}
        for (preset, share), pipeline in points.items():
            if (preset, share) not in found:
                found[preset, share] = {"preset": preset, "share": share} | _measured(pipeline)
            content = {
                "rows": sorted(found.values(), key=lambda row: (row["preset"], row["share"])),
                "versions": versions(),
                "settings": settings.as_dict(),
            }
            write_json(path, content)
        plot_minutes(path.with_suffix(".png"), content["rows"])
    for row in content["rows"]:
        print(f"{row['preset']:<40} {row['minutes']:>6.1f} min {100 * row['mean_iou']:>6.1f}")
    return content


def _part(settings: TimeToQualitySettings, preset: str, share: float) -> PipelineSettings:
    """A preset's pipeline, with a part of the steps of its trainings."""
    folder = Path(settings.work_dir) / Path(preset).stem / f"{share:g}"
    own = {"voc_dir": settings.voc_dir, "backbone_weights": settings.backbone_weights, "work_dir": folder}
    given = (f"--flagfile={preset}", *(f"--{name}={value}" for name, value in own.items()))
    pipeline = parse(PipelineSettings, "pipeline", given)
    trainings = {}
    for name in TRAININGS:
        whole = getattr(pipeline, name)
        steps = whole.num_steps if whole.num_steps or whole.num_epochs else whole.paper_steps
        trainings[name] = dataclasses.replace(
            whole, num_steps=math.ceil(share * steps), num_epochs=share * whole.num_epochs
        )
    return dataclasses.replace(pipeline, **trainings)


def _measured(pipeline: PipelineSettings) -> dict[str, float]:
    """Runs a pipeline from its beginning; its minutes, and the mIoU of its network."""
    folder = Path(pipeline.work_dir)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    flags, log = folder.with_name(f"{folder.name}.flags"), folder.with_name(f"{folder.name}.log")
    with atomic_write(flags) as file:
        file.write(pipeline.as_flags().encode())
    print(f"{folder} ...", flush=True)
    begin = time.monotonic()
    with log.open("wb") as output:
        command = [sys.executable, "-m", "oaa_tf.pipeline", f"--flagfile={flags}"]
        code = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT)
    minutes = (time.monotonic() - begin) / 60
    if code:
        raise UserError(f"{folder}: the pipeline failed; see {log}")
    *_, network = read_json(folder / METRICS_FILE)["rows"] or [{}]
    if network.get("split") != pipeline.val_split or network["mean_iou"] is None:
        raise UserError(f"{pipeline.val_split} has no masks to measure on", flag="voc_dir", value=pipeline.voc_dir)
    return {"minutes": minutes, "mean_iou": network["mean_iou"]}


if __name__ == "__main__":
    launch(TimeToQualitySettings, run, "time_to_quality")
