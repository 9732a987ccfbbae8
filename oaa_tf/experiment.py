"""Connects the stages: the folders of an experiment, and which stage reads the results of which."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oaa_tf import evaluate, export, make_pseudo_labels, make_records, relabel, train_cls, train_integral, train_seg
from oaa_tf.command_line.dry_run import DONE, TO_DO, dry_run_text
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import setting
from oaa_tf.data.formats.folder_files import with_split
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR
from oaa_tf.demo.data_set import has_demo_data, write_demo_data
from oaa_tf.runs.checkpoints import checkpoints_in, stage_state
from oaa_tf.runs.work_dir import WorkDir

_TASKS = {"train_cls": "attention", "train_integral": "attention", "train_seg": "segmentation"}
_WARM_STARTS = ("train_integral", "train_seg")
_DEMO_FOLDER = "demo_data"
_COMMANDS = {
    "train_cls": train_cls,
    "train_integral": train_integral,
    "make_pseudo_labels": make_pseudo_labels,
    "train_seg": train_seg,
    "relabel": relabel,
    "export": export,
    "evaluate": evaluate,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentSettings(make_records.DataFolderSettings):
    """Shared by all commands that run several stages, with the stages' own settings as `--<stage>.<setting>`."""

    work_dir: str = setting(help="Folder for everything; run again in it to resume.")
    voc_dir: str = setting("", help="Folder in VOC layout; without it and image_dir, the demo data are made.")
    image_dir: str = setting(
        "",
        help="Folder of images; without tags, with one subfolder per class. Here and in tags, {split} stands for the"
        " split's name.",
    )
    train_split: str = setting("train", help="Training split.")
    val_split: str = setting("val", help="Validation split; without masks, it is evaluated by its tags.")
    use_saliency: bool = setting(
        True, help="Use the saliency maps in <voc_dir or image_dir>/saliency for the pseudo labels."
    )
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of a Keras h5 file.")
    seg_backbone_weights: str = setting("", help="backbone_weights of the segmentation network, if they differ.")
    warm_start: tuple[str, ...] = setting(
        (), help="Stages that start from the classifier's weights.", choices=_WARM_STARTS
    )
    train_cls: train_cls.TrainClsSettings
    train_integral: train_integral.TrainIntegralSettings
    make_pseudo_labels: make_pseudo_labels.MakePseudoLabelsSettings
    train_seg: train_seg.TrainSegSettings
    relabel: relabel.RelabelSettings

    def __post_init__(self) -> None:
        """Checks the combination of stages."""
        super().__post_init__()
        for name in _TASKS:
            if seed := getattr(self, name).seed:
                raise UserError(
                    "every stage has the seed of the whole; use --seed (--seeds of tools.ablation)",
                    flag=f"{name}.seed",
                    value=seed,
                )
        for name in _WARM_STARTS:
            initial_weights = getattr(self, name).initial_weights
            own = f"--{name}.initial_weights={initial_weights}" if initial_weights else ""
            has_backbone_weights = name == "train_seg" and self.seg_backbone_weights
            backbone_weights = f"--seg_backbone_weights={self.seg_backbone_weights}" if has_backbone_weights else ""
            if name in self.warm_start and (own or backbone_weights):
                raise UserError(
                    f"starts from the classifier's weights, not from {own or backbone_weights}; use one of the two",
                    flag="warm_start",
                    value=name,
                )
            if own and backbone_weights:
                raise UserError(
                    f"has the backbone's weights, not {backbone_weights}; use one of the two",
                    flag=f"{name}.initial_weights",
                    value=initial_weights,
                )
        backbone = self.train_seg.backbone
        if backbone == self.train_cls.backbone:
            return
        if "train_seg" in self.warm_start:
            raise UserError(
                f"the classifier's weights are {self.train_cls.backbone}'s, not for --train_seg.backbone={backbone};"
                " leave train_seg out of --warm_start",
                flag="warm_start",
                value="train_seg",
            )
        has_own_weights = self.seg_backbone_weights or self.train_seg.initial_weights
        if not has_own_weights and self.backbone_weights not in ("imagenet", "none"):
            raise UserError(
                f"--backbone_weights={self.backbone_weights} is for {self.train_cls.backbone}; name weights of its own"
                " with --seg_backbone_weights",
                flag="train_seg.backbone",
                value=backbone,
            )


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of an experiment, ready to run.

    Attributes:
        command: The command's name.
        settings: Its settings.
    """

    command: str
    settings: Any

    @property
    def folder(self) -> Path:
        """The folder that it writes."""
        return Path(self.settings.output_dir if self.command == "export" else self.settings.work_dir)

    def run(self) -> dict[str, Any]:
        """Does what is left to do and returns the command's metrics; raises `UserError` like the command."""
        if self.command == "export" and export.is_current(self.settings):
            return {}
        return _COMMANDS[self.command].run(self.settings)

    def state(self) -> str:
        """`DONE`, `TO_DO`, or the step from which a training continues.

        Raises:
            UserError: Its folder belongs to a run with other settings, or is damaged.
        """
        if self.command == "export":
            is_trained = stage_state(Path(self.settings.stage_dir)) == DONE
            return DONE if is_trained and export.is_current(self.settings) else TO_DO
        return stage_state(WorkDir.peek(self.settings, {}).path)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The stages of one seed; most methods return a `Step` that reads the folders of earlier steps.

    Attributes:
        settings: The settings.
        root: Parent of the stages' folders.
        train_records: Manifest of the training images.
        val_records: Manifest of the validation images, or None.
        seed: Seed of all stages.
    """

    settings: ExperimentSettings
    root: Path
    train_records: str
    val_records: str | None
    seed: int

    def classifier(self) -> Step:
        """Trains the classifier."""
        return self._step("train_cls", "train_cls")

    def classifier_maps(self) -> dict[str, Path]:
        """Folders of the classifier's maps by name: "CAM" and, for each fusion, "OAA <fusion>"."""
        folders = train_cls.oaa_folders(self.settings.train_cls.fusions)
        by_name = {"CAM": train_cls.CAM_FOLDER} | {f"OAA {fusion}": folder for fusion, folder in folders.items()}
        return {name: self.root / "train_cls" / folder for name, folder in by_name.items()}

    def integral_model(self, name: str, loss: str) -> Step:
        """Trains the integral attention model on the cumulative attention."""
        maps = str(self.root / "train_cls" / train_cls.OAA_FOLDER)
        return self._step("train_integral", name, maps=maps, loss=loss)

    def pseudo_labels(self, name: str, maps: Path, *, use_saliency: bool, **options: Any) -> Step:
        """Makes pseudo labels from attention maps."""
        return self._step("make_pseudo_labels", name, maps=str(maps), use_saliency=use_saliency, **options)

    def segmentation_network(self, name: str, labels: Path, **options: Any) -> Step:
        """Trains the segmentation network on pseudo labels."""
        return self._step("train_seg", name, labels=str(labels), **options)

    def second_labels(self, name: str, model: Path, *, use_saliency: bool) -> Step:
        """Makes pseudo labels with a segmentation SavedModel."""
        return self._step("relabel", name, model=str(model), use_saliency=use_saliency)

    def exported(self, stage: str, name: str) -> Step:
        """Exports a trained stage."""
        settings = export.ExportSettings(stage_dir=str(self.root / stage), output_dir=str(self.root / name))
        return Step("export", settings)

    def evaluation(self, name: str, split: str, *, maps: str = "", masks: str = "", model: str = "") -> Step:
        """Evaluates maps, masks or a model on "train" or "val"."""
        records = self.train_records if split == "train" else self.val_records
        if records is None:
            raise ValueError("there are no validation images")
        folder = str(self.root / "evaluate" / name)
        settings = evaluate.EvaluateSettings(work_dir=folder, records=records, maps=maps, masks=masks, model=model)
        return Step("evaluate", settings)

    def _step(self, command: str, name: str, **inputs: Any) -> Step:
        """A stage in the folder `name`, with the inputs that the experiment decides."""
        options: dict[str, Any] = {"records": self.train_records, "work_dir": str(self.root / name)}
        if command == "train_seg" and self.settings.seg_backbone_weights:
            options["backbone_weights"] = self.settings.seg_backbone_weights
        if command in self.settings.warm_start:
            options["initial_weights"] = str(self.root / "train_cls")
        if command in _TASKS:
            options["seed"] = self.seed
        return Step(command, dataclasses.replace(getattr(self.settings, command), **options | inputs))


def check_weights(settings: ExperimentSettings) -> None:
    """Refuses missing weights now, not hours later when a stage loads them.

    Raises:
        UserError: A file is missing, or a folder does not hold a training stage that has finished.
    """
    flags = {
        "seg_backbone_weights": settings.seg_backbone_weights,
        "train_seg.head_weights": settings.train_seg.head_weights,
    }
    for name, value in flags.items():
        if value not in ("", "imagenet", "none") and not Path(value).is_file():
            raise UserError("no such file; expected imagenet, none or the path of an h5 file", flag=name, value=value)
    for stage in _TASKS:
        own = getattr(settings, stage)
        blamed = {"flag": f"{stage}.initial_weights", "value": own.initial_weights}
        try:
            own.supervision_with_initial_weights("image labels")
        except UserError as error:
            raise UserError(str(error), **blamed) from None
        if own.initial_weights and not checkpoints_in(Path(own.initial_weights)):
            raise UserError("no checkpoint in it; run that stage again in another folder", **blamed)


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
    made = [make_records.run(one) for one in _records_settings(settings, root)]
    _check_records(settings, made)
    return _manifests(settings, root)


def dry_run_records(
    settings: ExperimentSettings, root: Path, seed: int
) -> tuple[dict[str, Any], tuple[str, str | None], tuple[bool, bool], list[tuple[int, int]]]:
    """What `make_all_records` would do, after a look at all images.

    Returns:
        Its states and what it would report, for `dry_run_text`; the manifests; whether each split will have masks; and
        height and width of the training images, as stored. The latter is empty if the demo data are to be made.
    """
    uses_demo_data = not settings.voc_dir and not settings.image_dir
    if uses_demo_data and not has_demo_data(root / _DEMO_FOLDER, seed=seed):
        return {"demo_data": TO_DO}, _manifests(settings, root), (True, True), []
    states, reports, made, found = {}, {}, [], []
    for one in _records_settings(settings, root):
        state, findings = make_records.examine(one)
        states[one.split] = f"{state}, {len(findings.images):,} images"
        reports[f"{one.split}_photos"] = dry_run_text(findings.report()).splitlines()
        made.append({"split": one.split, "class_names": list(findings.classes), "with_masks": findings.has_masks})
        found.append(findings)
    _check_records(settings, made)
    train, *val = found
    have_masks = train.has_masks, any(findings.has_masks for findings in val)
    sizes = [(image.height, image.width) for image in train.images]
    return {"records": states, **reports}, _manifests(settings, root), have_masks, sizes


def _splits(settings: ExperimentSettings) -> list[str]:
    """The names of the training split and, unless there is none, the validation split."""
    has_validation = not settings.image_dir or settings.val_share or _has_split_in_path(settings)
    return [settings.train_split, *([settings.val_split] if has_validation else [])]


def _has_split_in_path(settings: ExperimentSettings) -> bool:
    return "{split}" in settings.image_dir + settings.tags


def _manifests(settings: ExperimentSettings, root: Path) -> tuple[str, str | None]:
    train, *val = (str(root / "records" / f"{split}.json") for split in _splits(settings))
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
            output_dir=str(root / "records"),
            labels_from=settings.labels_from,
            classes=settings.classes,
            mask_dir=settings.mask_dir,
            max_side=settings.max_side,
            negative_folders=settings.negative_folders,
            saliency_dir=_saliency_dir(Path(voc_dir or image_dir)) if uses_saliency else "",
        )
        made.append(one)
    return made


def _saliency_dir(data_dir: Path) -> str:
    """The folder of saliency maps inside a data folder."""
    folder = data_dir / SALIENCY_DIR
    # If the data folder itself is missing, the reader of its format says so.
    if data_dir.is_dir() and not folder.is_dir():
        raise UserError(f"{folder}: no such folder of saliency maps; add it, or go without with --nouse_saliency")
    return str(folder)


def _check_records(settings: ExperimentSettings, made: Sequence[Mapping[str, Any]]) -> None:
    """Refuses, before any training, records that cannot be evaluated or that do not fit the initial weights.

    Raises:
        UserError: The splits have different classes, which happens only to paths with `{split}`; or the initial weights
            of a stage belong to another network.
    """
    train, val = made[0], made[-1]
    if val["class_names"] != train["class_names"]:
        flag = "tags" if settings.tags else "image_dir"
        raise UserError(
            f"{train['split']} has the classes {', '.join(train['class_names'])}, but {val['split']} has"
            f" {', '.join(val['class_names'])}; write the same classes.txt into the folders of both, or keep classes"
            " that both have with --classes",
            flag=flag,
            value=getattr(settings, flag),
        )
    for stage, task in _TASKS.items():
        own = getattr(settings, stage)
        if own.initial_weights:
            from oaa_tf.models.networks import check_common_layers
            from oaa_tf.training.initial_network import describe_network

            try:
                check_common_layers(own.initial_weights, describe_network(task, tuple(train["class_names"]), own))
            except UserError as error:
                flag = f"{stage}.initial_weights"
                raise UserError(error.message, flag=flag, value=own.initial_weights) from None
