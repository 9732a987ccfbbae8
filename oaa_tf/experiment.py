"""The stages put together: one experiment's folders, and what each stage takes from those before it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oaa_tf import evaluate, export, make_pseudo_labels, make_records, relabel, train_cls, train_integral, train_seg
from oaa_tf.command_line.dry_run import DONE, TO_DO
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR
from oaa_tf.demo.data_set import has_demo_data, write_demo_data
from oaa_tf.runs.checkpoints import checkpoints_in, stage_state
from oaa_tf.runs.work_dir import WorkDir

_TASKS = {"train_cls": "attention", "train_integral": "attention", "train_seg": "segmentation"}
WARM_STARTS = ("train_integral", "train_seg")
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
class ExperimentSettings(Settings):
    """What is common to all commands that run several stages, and the stages' own settings as `--<stage>.<setting>`."""

    work_dir: str = setting(help="Folder for everything; run again in it to resume.")
    voc_dir: str = setting("", help="Folder in VOC layout; without it and image_dir, the demo data are made.")
    image_dir: str = setting(
        "", help="Folder of images, one folder for each class unless tags says more; {split} becomes the split's name."
    )
    tags: str = setting(
        "",
        help="Tags of the images in image_dir: a .csv with the columns file and tags, or COCO's .json; as image_dir.",
    )
    val_share: float = setting(
        0.2,
        help="With image_dir: share of the images for validation; 0 for none. Not with {split}.",
        minimum=0,
        maximum=1,
    )
    train_split: str = setting("train", help="Training split.")
    val_split: str = setting("val", help="Validation split, which is measured if it has masks.")
    classes: tuple[str, ...] = setting((), help="Classes to keep; all if empty.")
    mask_dir: str = setting(
        "SegmentationClass", help="Folder of the masks inside voc_dir or image_dir; empty for no masks."
    )
    labels_from: str = setting(
        "list", help="Where image labels come from in voc_dir.", choices=("list", "annotations", "masks")
    )
    use_saliency: bool = setting(
        True, help="Use the saliency maps in <voc_dir or image_dir>/saliency for the pseudo labels."
    )
    backbone_weights: str = setting("imagenet", help="imagenet, none, or the path of one of Keras' h5 files.")
    seg_backbone_weights: str = setting(
        "", help="As backbone_weights, for the segmentation network alone; the same if empty."
    )
    warm_start: tuple[str, ...] = setting(
        (), help="Stages that start from the classifier's weights instead.", choices=WARM_STARTS
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
        backbone = self.train_seg.backbone
        if self.seg_backbone_weights and "train_seg" in self.warm_start:
            raise UserError(
                "starts from the classifier's weights, not from"
                f" --seg_backbone_weights={self.seg_backbone_weights}; use one of the two",
                flag="warm_start",
                value="train_seg",
            )
        if self.seg_backbone_weights and self.train_seg.initial_weights:
            raise UserError(
                f"has the backbone's weights, not --seg_backbone_weights={self.seg_backbone_weights}; use one of the"
                " two",
                flag="train_seg.initial_weights",
                value=self.train_seg.initial_weights,
            )
        for name in self.warm_start:
            if own := getattr(self, name).initial_weights:
                raise UserError(
                    f"starts from the classifier's weights, not from --{name}.initial_weights={own}; use one of the"
                    " two",
                    flag="warm_start",
                    value=name,
                )
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
        """Where its results are."""
        return Path(self.settings.output_dir if self.command == "export" else self.settings.work_dir)

    def run(self) -> dict[str, Any]:
        """Does what is not done yet, and returns the command's metrics; raises `UserError` as the command does."""
        if self.command == "export" and export.is_current(self.settings):
            return {}
        return _COMMANDS[self.command].run(self.settings)

    def state(self) -> str:
        """How far it has come: `DONE`, `TO_DO`, or the step from which a training continues.

        Raises:
            UserError: Its folder was begun with other settings, or is damaged.
        """
        if self.command == "export":
            is_trained = stage_state(Path(self.settings.stage_dir)) == DONE
            return DONE if is_trained and export.is_current(self.settings) else TO_DO
        return stage_state(WorkDir.peek(self.settings, {}).path)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The stages of one seed. Every method returns a `Step`, whose inputs are the folders of steps before it.

    Attributes:
        settings: The settings.
        root: Folder of the stages' folders.
        train_records: Manifest of the training images.
        val_records: Manifest of the validation images; None without.
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
        """Folders of the classifier's maps by name: "CAM", and "OAA <fusion>", the first of which the others use."""
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

    def evaluation(self, name: str, split: str, **inputs: str) -> Step:
        """Evaluates maps, masks or a model on "train" or "val"."""
        records = self.train_records if split == "train" else self.val_records
        folder = str(self.root / "evaluate" / name)
        return Step("evaluate", evaluate.EvaluateSettings(work_dir=folder, records=records, **inputs))

    def _step(self, command: str, name: str, **inputs: Any) -> Step:
        """A stage in the folder of this name, with what comes from the experiment."""
        options: dict[str, Any] = {"records": self.train_records, "work_dir": str(self.root / name)}
        if command == "train_seg" and self.settings.seg_backbone_weights:
            options["backbone_weights"] = self.settings.seg_backbone_weights
        if command in self.settings.warm_start:
            options["initial_weights"] = str(self.root / "train_cls")
        if command in _TASKS:
            options["seed"] = self.seed
        return Step(command, dataclasses.replace(getattr(self.settings, command), **options | inputs))


def check_weights(settings: ExperimentSettings) -> None:
    """Refuses missing weights now and not hours later, when a stage wants them.

    Raises:
        UserError: A file is missing, or a folder is not that of a stage which is trained to its end.
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


def make_all_records(
    settings: ExperimentSettings,
    root: Path,
    seed: int,
    make: Callable[[Settings], Mapping[str, Any]] = make_records.run,
) -> tuple[str, str | None]:
    """Makes the records of both splits, and the demo data before if there is no folder; returns the manifests.

    Photos of `image_dir` have no validation split, and None for its manifest, if `val_share` is 0 and no path has
    `{split}` in it.

    Args:
        settings: The settings.
        root: Folder of the records' folder.
        seed: Seed of the demo data.
        make: Makes the records of a split; `oaa_tf.make_records.run`, or its `dry_run`.

    Raises:
        UserError: As `make` does, or there is no folder of saliency maps, or the validation images have masks of other
            classes than the training images, or initial weights of a stage do not fit its network.
    """
    voc_dir = settings.voc_dir
    if not voc_dir and not settings.image_dir:
        voc_dir = str(root / "demo_data")
        write_demo_data(voc_dir, seed=seed)
    has_own_place = "{split}" in settings.image_dir + settings.tags
    splits = [settings.train_split, settings.val_split]
    if settings.image_dir and not settings.val_share and not has_own_place:
        splits.pop()
    made = []
    for split in splits:
        image_dir, tags = (path.replace("{split}", split) for path in (settings.image_dir, settings.tags))
        saliency_dir = ""
        if settings.use_saliency and split == settings.train_split:
            saliency_dir = _saliency_dir(Path(voc_dir or image_dir))
        one = make_records.MakeRecordsSettings(
            voc_dir=voc_dir,
            image_dir=image_dir,
            tags=tags,
            val_share=0.0 if has_own_place else settings.val_share,
            split=split,
            output_dir=str(root / "records"),
            labels_from=settings.labels_from,
            classes=settings.classes,
            mask_dir=settings.mask_dir,
            saliency_dir=saliency_dir,
        )
        made.append(make(one))
    _check_classes(settings, splits, made)
    _check_initial_weights(settings, tuple(made[0]["class_names"]))
    manifests = [str(root / "records" / f"{split}.json") for split in splits]
    return manifests[0], manifests[1] if len(manifests) > 1 else None


def dry_run_records(
    settings: ExperimentSettings, root: Path, seed: int
) -> tuple[dict[str, Any], tuple[str, str | None], tuple[bool, bool]]:
    """What `make_all_records` would do.

    Returns:
        Its states and numbers of images, for `dry_run_text`; the manifests; whether each split will have masks.
    """
    if not settings.voc_dir and not settings.image_dir:
        demo_data = root / "demo_data"
        if not has_demo_data(demo_data, seed=seed):
            splits = (settings.train_split, settings.val_split)
            return {"demo_data": TO_DO}, tuple(str(root / f"records/{split}.json") for split in splits), (True, True)
        settings = dataclasses.replace(settings, voc_dir=str(demo_data))
    found: list[dict[str, Any]] = []

    def look(one: make_records.MakeRecordsSettings) -> dict[str, Any]:
        found.append(make_records.dry_run(one))
        return found[-1]

    manifests = make_all_records(settings, root, seed, make=look)
    records = {one["split"]: f"{one['state']}, {one['listed_images']:,} images" for one in found}
    have_masks = [one["with_masks"] for one in found]
    return {"records": records}, manifests, (have_masks[0], len(have_masks) > 1 and have_masks[1])


def _saliency_dir(data_dir: Path) -> str:
    """The folder of saliency maps inside a data folder."""
    folder = data_dir / SALIENCY_DIR
    # A data folder that is missing itself is the greater mistake, which the reader of its format names.
    if data_dir.is_dir() and not folder.is_dir():
        raise UserError(f"{folder}: no such folder of saliency maps; add it, or go without with --nouse_saliency")
    return str(folder)


def _check_classes(settings: ExperimentSettings, splits: Sequence[str], made: Sequence[Mapping[str, Any]]) -> None:
    """Refuses now, and not after the training, what could not be measured: only paths with `{split}` can differ so."""
    train, val = made[0], made[-1]
    if val["with_masks"] and val["class_names"] != train["class_names"]:
        flag = "tags" if settings.tags else "image_dir"
        raise UserError(
            f"{splits[0]} has the classes {', '.join(train['class_names'])}, but {splits[-1]} has"
            f" {', '.join(val['class_names'])}; write the same classes.txt into the folders of both, or keep classes"
            " that both have with --classes",
            flag=flag,
            value=getattr(settings, flag),
        )


def _check_initial_weights(settings: ExperimentSettings, classes: tuple[str, ...]) -> None:
    """Refuses now, and not when a stage begins, initial weights of another network than the stage's."""
    for stage, task in _TASKS.items():
        own = getattr(settings, stage)
        if own.initial_weights:
            from oaa_tf.models.networks import check_common_layers
            from oaa_tf.training.initial_network import describe_network

            try:
                check_common_layers(own.initial_weights, describe_network(task, classes, own))
            except UserError as error:
                if error.flag:
                    raise error.with_flag(f"{stage}.{error.flag}") from None
                raise
