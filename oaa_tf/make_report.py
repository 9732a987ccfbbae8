"""Writes the report of a run, one HTML page that needs no network.

    python -m oaa_tf.make_report --work_dir=runs/demo

The page has the table, the curves, the IoU by class, a replay of the accumulation and rows of pictures. It names what
the run does not have (yet).
"""

import dataclasses
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.report.run_folder import RunFolder
from oaa_tf.runs.atomic import atomic_write

REPORT_FILE = "report.html"
WITHOUT_MASKS = (
    "There are no masks, so there is no mIoU. Do attention and masks lie on the objects in the report's pictures,",
    "on all of them, and not on what comes with them? Are the classes found on photos of val, without false alarms?",
    'Masks for some photos of val would measure it: docs/how-to/own-photos.md, "Measure with masks of your own".',
)
"""What to look at in a run without any masks, as lines."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeReportSettings(Settings):
    """Which run to report on, and which of its images to show."""

    work_dir: str = setting(help="Folder of the run: the pipeline's work_dir, or one with the stages' folders in it.")
    output: str = setting("", help=f"File to write; <work_dir>/{REPORT_FILE} if empty.")
    num_images: int = setting(24, help="Images to show of each split.", minimum=0)
    choose: str = setting(
        "random",
        help="Show random images, those with the worst pseudo labels or predictions, or some from best to worst.",
        choices=("random", "worst", "ranked"),
    )
    images: tuple[str, ...] = setting((), help="Ids of the images to show instead.")
    picture_size: int = setting(240, help="Longest side of the pictures in pixels.", minimum=32, maximum=2048)
    seed: int = setting(0, help="Seed of the random choice.", minimum=0)


def run(settings: MakeReportSettings) -> dict[str, Any]:
    """Writes the page.

    Returns:
        "file"; "images", how many the page shows; and "missing", a sentence for each thing that it cannot show.

    Raises:
        UserError: The folder holds no run, an image does not exist, a file is damaged, or the page can't be written.
    """
    from oaa_tf.report.gallery import Gallery
    from oaa_tf.report.page import report_page
    from oaa_tf.report.replay import replay_data

    root = Path(settings.work_dir)
    found = RunFolder.open(root)
    gallery = Gallery(found, settings.picture_size)
    rows = gallery.rows(settings.num_images, settings.images, settings.choose, settings.seed)
    replay = replay_data(found)
    missing = [*_missing_scores(found), *gallery.missing]
    if not replay:
        missing.append("Replay of the accumulation: train_cls has kept no history (--num_pictures=0, or no steps yet).")
    page = report_page(found, rows, replay, missing)
    output = _output(settings)
    try:
        with atomic_write(output) as file:
            file.write(page.encode())
    except OSError as error:
        message = f"cannot be written ({error.strerror}); choose another file"
        raise UserError(message, flag="output", value=output) from None
    print(f"{'report:':<17} {output}")
    return {"file": str(output), "images": len(rows), "missing": missing}


def dry_run(settings: MakeReportSettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    found = RunFolder.open(Path(settings.work_dir))
    return {"evaluations": len(found.evaluations), "missing": _missing_scores(found), "writes": str(_output(settings))}


def _output(settings: MakeReportSettings) -> Path:
    return Path(settings.output) if settings.output else Path(settings.work_dir) / REPORT_FILE


def _missing_scores(found: RunFolder) -> list[str]:
    if any(one.iou_per_class for one in found.evaluations):
        return []
    if found.evaluations or (found.train_records is not None and not found.train_records.has_masks):
        return [" ".join(WITHOUT_MASKS)]
    return ["Scores: nothing has been evaluated yet (oaa_tf.evaluate, which the pipeline runs last)."]


if __name__ == "__main__":
    launch(MakeReportSettings, run, "make_report", dry_run)
