"""The records of an experiment: where its photos come from, and what they are."""

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oaa_tf import make_records, make_saliency
from oaa_tf.command_line.dry_run import TO_DO, dry_run_text
from oaa_tf.command_line.errors import UserError, first_names
from oaa_tf.data.formats.folder_files import with_split
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.records.conversion import Findings
from oaa_tf.demo.data_set import has_demo_data, write_demo_data
from oaa_tf.experiment import ExperimentSettings
from oaa_tf.labels.label_files import require_few_classes
from oaa_tf.training.settings import TRAININGS

_DEMO_FOLDER = "demo_data"
_RECORDS_FOLDER = "records"


def make_all_records(settings: ExperimentSettings, root: Path, seed: int) -> tuple[str, str | None]:
    """Makes the records of both splits; without a data folder, makes the demo data first.

    Args:
        settings: The settings.
        root: Parent of the folders `records` and `demo_data`.
        seed: Seed of the demo data.

    Returns:
        The manifests of the training and the validation images; None for the latter if `image_dir` has no validation
        images: `val_share` is 0 and no path has `{split}`.

    Raises:
        UserError: See `make_records.run`; or there is no folder of saliency maps, the validation images have other
            classes than the training images, or the initial weights of a stage do not fit its network.
    """
    if not settings.voc_dir and not settings.image_dir:
        write_demo_data(root / _DEMO_FOLDER, seed=seed)
    of_splits = _records_settings(settings, root)
    if settings.saliency_model:
        from oaa_tf.models.saliency_network import SaliencyNetwork

        with _saliency_errors():
            network = SaliencyNetwork(settings.saliency_model)
            make_saliency.write_maps(_photos(of_splits[0]), Path(of_splits[0].saliency_dir), network)
    made = [make_records.run(one) for one in of_splits]
    _check_records(settings, made)
    return manifests(settings, root)


def dry_run_records(
    settings: ExperimentSettings, root: Path, seed: int
) -> tuple[dict[str, Any], tuple[str, str | None], tuple[bool, bool], Findings | None]:
    """What `make_all_records` would do, after a look at all images.

    Returns:
        Its states and what it would report, for `dry_run_text`; the manifests; whether each split will have masks; and
        what the training images are, None if the demo data are to be made.
    """
    uses_demo_data = not settings.voc_dir and not settings.image_dir
    if uses_demo_data and not has_demo_data(root / _DEMO_FOLDER, seed=seed):
        return {"demo_data": TO_DO}, manifests(settings, root), (True, True), None
    states, made, found = {}, [], []
    reports: dict[str, Any] = {}
    of_splits = _records_settings(settings, root)
    if settings.saliency_model:
        from oaa_tf.models.saliency_network import Preprocessing

        folder = Path(of_splits[0].saliency_dir)
        with _saliency_errors():
            maps = make_saliency.dry_run_maps(_photos(of_splits[0]), folder, settings.saliency_model, Preprocessing())
        reports["saliency_maps"] = dry_run_text(maps).splitlines()
        if maps["images_left"]:
            of_splits[0] = dataclasses.replace(of_splits[0], saliency_dir="")
    for one in of_splits:
        state, findings = make_records.examine(one)
        states[one.split] = f"{state}, {len(findings.images):,} images"
        reports[f"{one.split}_photos"] = dry_run_text(findings.report()).splitlines()
        made.append({"split": one.split, "class_names": list(findings.classes), "with_masks": findings.has_masks})
        found.append(findings)
    _check_records(settings, made)
    train, *val = found
    have_masks = train.has_masks, any(findings.has_masks for findings in val)
    return {"records": states, **reports}, manifests(settings, root), have_masks, train


def _splits(settings: ExperimentSettings) -> list[str]:
    """The names of the training split and, unless there is none, the validation split."""
    has_validation = not settings.image_dir or settings.val_share or _has_split_in_path(settings)
    return [settings.train_split, *([settings.val_split] if has_validation else [])]


def _has_split_in_path(settings: ExperimentSettings) -> bool:
    return "{split}" in settings.image_dir + settings.tags


def manifests(settings: ExperimentSettings, root: Path) -> tuple[str, str | None]:
    """The manifests that `make_all_records` returns, whether they are there or not."""
    train, *val = (str(root / _RECORDS_FOLDER / f"{split}.json") for split in _splits(settings))
    return train, val[0] if val else None


def _records_settings(settings: ExperimentSettings, root: Path) -> list[make_records.MakeRecordsSettings]:
    """The settings of `make_records` for each split."""
    voc_dir = settings.voc_dir
    if not voc_dir and not settings.image_dir:
        voc_dir = str(root / _DEMO_FOLDER)
    made = []
    for split in _splits(settings):
        image_dir, tags = (with_split(path, split) for path in (settings.image_dir, settings.tags))
        uses_saliency = settings.use_saliency and split == settings.train_split
        one = make_records.MakeRecordsSettings(
            voc_dir=voc_dir,
            image_dir=image_dir,
            tags=tags,
            val_share=0.0 if _has_split_in_path(settings) else settings.val_share,
            split=split,
            output_dir=str(root / _RECORDS_FOLDER),
            labels_from=settings.labels_from,
            classes=settings.classes,
            mask_dir=settings.mask_dir,
            max_side=settings.max_side,
            negative_folders=settings.negative_folders,
            saliency_dir=_saliency_dir(settings, root, Path(voc_dir or image_dir)) if uses_saliency else "",
        )
        made.append(one)
    return made


def _saliency_dir(settings: ExperimentSettings, root: Path, data_dir: Path) -> str:
    """The folder of saliency maps: that of a data folder, or one beside the records for those of `saliency_model`."""
    folder = data_dir / SALIENCY_DIR
    if settings.saliency_model:
        if folder.is_dir():
            raise UserError(
                f"{folder} has maps already; leave the flag out to use them, or move them away",
                flag="saliency_model",
                value=settings.saliency_model,
            )
        return str(root / _RECORDS_FOLDER / SALIENCY_DIR)
    # If the data folder itself is missing, the reader of its format says so.
    if data_dir.is_dir() and not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder of saliency maps; let a network make them with --saliency_model=u2netp, or go"
            " without with --nouse_saliency"
        )
    return str(folder)


def _photos(settings: make_records.MakeRecordsSettings) -> dict[str, Callable[[], np.ndarray]]:
    """Readers of a split's photos, by the name that `make_records` expects of their saliency maps."""
    # What there is to say of the photos, make_records says.
    with contextlib.redirect_stdout(io.StringIO()):
        source = make_records.open_source(dataclasses.replace(settings, saliency_dir=""))
    return {
        Path(image.file or image.image_id).with_suffix("").as_posix(): functools.partial(read_image, image.image)
        for image in source.images
    }


@contextlib.contextmanager
def _saliency_errors() -> Iterator[None]:
    """Turns the mistakes of make_saliency into those of an experiment, which has one flag for it."""
    try:
        yield
    except UserError as error:
        if error.flag == "model":
            has_flag = " --" in error.message
            advice = "; make the maps with make_saliency then, which has that flag" if has_flag else ""
            raise UserError(error.message + advice, flag="saliency_model", value=error.value) from None
        if error.flag == "output_dir":
            raise UserError(f"{error.value} {error.message}") from None
        raise


def _check_records(settings: ExperimentSettings, made: Sequence[Mapping[str, Any]]) -> None:
    """Refuses, before any training, records that cannot be evaluated or that do not fit the initial weights.

    Raises:
        UserError: The splits have different classes, which happens only to paths with `{split}`; there are more than
            label maps can number; or the initial weights of a stage belong to another network.
    """
    train, val = made[0], made[-1]
    require_few_classes(len(train["class_names"]), f"{train['split']}'s records")
    if val["class_names"] != train["class_names"]:
        flag = "tags" if settings.tags else "image_dir"
        raise UserError(
            f"{train['split']} has the classes {first_names(train['class_names'])}, but {val['split']} has"
            f" {first_names(val['class_names'])}; write the same classes.txt into the folders of both, or keep classes"
            " that both have with --classes",
            flag=flag,
            value=getattr(settings, flag),
        )
    for stage in TRAININGS:
        own = getattr(settings, stage)
        if own.initial_weights:
            from oaa_tf.models.networks import check_common_layers
            from oaa_tf.training.initial_network import describe_network

            try:
                check_common_layers(own.initial_weights, describe_network(tuple(train["class_names"]), own))
            except UserError as error:
                flag = f"{stage}.initial_weights"
                raise UserError(error.message, flag=flag, value=own.initial_weights) from None
