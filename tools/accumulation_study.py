"""Compares epochs, gates and fusions on one classifier run.

    python -m tools.accumulation_study --flagfile=flags/voc12_animals_ablation.flags --records=records/train.json \
        --backbone_weights=VGG16.weights.h5 --work_dir=runs/study

The table is fed by the training and does not feed back into it. So one run, of which the attention and the scores of
every epoch are kept, answers for all choices at once: what the gate "topk" would have accumulated from epoch 3 is put
together afterwards. Writes `accumulation_study.json`, a row for each choice, `by_epoch.png`, and `visits.npz`, the maps
of all epochs.
"""

import dataclasses
from typing import Any

from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.train_cls import TrainClsSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccumulationStudySettings(Settings):
    """The data, and the classifier's settings as `--train_cls.<setting>`: gate, fusions, first epoch do not matter."""

    records: str = setting(help="Manifest of the training records with masks, from make_records (<split>.json).")
    work_dir: str = setting(help="Folder for everything; run again in it to resume.")
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of one of Keras' h5 files.")
    train_cls: TrainClsSettings


def run(settings: AccumulationStudySettings) -> dict[str, Any]:
    """Trains, and writes `accumulation_study.json` and `visits.npz`.

    Args:
        settings: The settings.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: Anything that the user can put right.
    """
    from oaa_tf.training.run import run_training
    from tools.accumulation_visits import AccumulationStudy

    return run_training(AccumulationStudy, _classifier_settings(settings))


def dry_run(settings: AccumulationStudySettings) -> dict[str, Any]:
    """What `run` would do; see `dry_run_training`."""
    from oaa_tf.training.run import dry_run_training
    from tools.accumulation_visits import AccumulationStudy

    return dry_run_training(AccumulationStudy, _classifier_settings(settings))


def _classifier_settings(settings: AccumulationStudySettings) -> TrainClsSettings:
    own = {name: getattr(settings, name) for name in ("records", "work_dir", "backbone_weights")}
    return dataclasses.replace(settings.train_cls, **own)


if __name__ == "__main__":
    launch(AccumulationStudySettings, run, "accumulation_study", dry_run)
