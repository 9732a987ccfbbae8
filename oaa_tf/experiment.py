"""The stages put together: one experiment's folders, and what each stage takes from those before it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oaa_tf import evaluate, export, make_pseudo_labels, make_records, relabel, train_cls, train_integral, train_seg
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR
from oaa_tf.demo.data_set import write_demo_data
from oaa_tf.models.networks import check_common_layers, checkpoints_in
from oaa_tf.training.stage import training_before
from oaa_tf.training.start import describe_network

_TASKS = {"train_cls": "attention", "train_integral": "attention", "train_seg": "segmentation"}
WARM_STARTS = ("train_integral", "train_seg")
_STAGES = {
    "train_cls": train_cls,
    "train_integral": train_integral,
    "make_pseudo_labels": make_pseudo_labels,
    "train_seg": train_seg,
    "relabel": relabel,
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
                    f"--{name}.seed={seed}: every stage has the seed of the whole; use --seed (--seeds of"
                    " tools.ablation)"
                )
        backbone = self.train_seg.backbone
        if self.seg_backbone_weights and "train_seg" in self.warm_start:
            raise UserError(
                "--warm_start=train_seg: starts from the classifier's weights, not from"
                f" --seg_backbone_weights={self.seg_backbone_weights}; use one of the two"
            )
        if self.seg_backbone_weights and self.train_seg.initial_weights:
            raise UserError(
                f"--train_seg.initial_weights={self.train_seg.initial_weights}: has the backbone's weights, not"
                f" --seg_backbone_weights={self.seg_backbone_weights}; use one of the two"
            )
        for name in self.warm_start:
            if own := getattr(self, name).initial_weights:
                raise UserError(
                    f"--warm_start={name}: starts from the classifier's weights, not from"
                    f" --{name}.initial_weights={own}; use one of the two"
                )
        if backbone == self.train_cls.backbone:
            return
        if "train_seg" in self.warm_start:
            raise UserError(
                f"--warm_start=train_seg: the classifier's weights are {self.train_cls.backbone}'s, not for"
                f" --train_seg.backbone={backbone}; leave train_seg out of --warm_start"
            )
        has_own_weights = self.seg_backbone_weights or self.train_seg.initial_weights
        if not has_own_weights and self.backbone_weights not in ("imagenet", "none"):
            raise UserError(
                f"--train_seg.backbone={backbone}: --backbone_weights={self.backbone_weights} is for"
                f" {self.train_cls.backbone}; name weights of its own with --seg_backbone_weights"
            )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The stages of one seed. Every method does what is not done yet, and raises `UserError` as its stage does.

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

    def train_classifier(self) -> dict[str, Any]:
        """Trains the classifier and returns its metrics."""
        return self._run("train_cls", "train_cls")

    def classifier_maps(self) -> dict[str, Path]:
        """Folders of the classifier's maps by name: "CAM", and "OAA <fusion>", the first of which the others use."""
        folders = train_cls.oaa_folders(self.settings.train_cls.fusions)
        by_name = {"CAM": train_cls.CAM_FOLDER} | {f"OAA {fusion}": folder for fusion, folder in folders.items()}
        return {name: self.root / "train_cls" / folder for name, folder in by_name.items()}

    def train_integral(self, name: str, loss: str) -> Path:
        """Trains the integral attention model on the cumulative attention and returns its maps' folder."""
        self._run("train_integral", name, maps=str(self.root / "train_cls" / train_cls.OAA_FOLDER), loss=loss)
        return self.root / name / train_integral.MAPS_FOLDER

    def make_labels(self, name: str, maps: Path, *, use_saliency: bool, **options) -> Path:
        """Makes pseudo labels and returns the stage's folder."""
        self._run("make_pseudo_labels", name, maps=str(maps), use_saliency=use_saliency, **options)
        return self.root / name

    def train_segmentation(self, name: str, labels: Path, **options) -> dict[str, Any]:
        """Trains the segmentation network and returns its metrics."""
        return self._run("train_seg", name, labels=str(labels), **options)

    def relabel(self, name: str, model: Path, *, use_saliency: bool) -> Path:
        """Makes pseudo labels from a segmentation SavedModel and returns the stage's folder."""
        self._run("relabel", name, model=str(model), use_saliency=use_saliency)
        return self.root / name

    def export(self, stage: str, name: str) -> Path:
        """Exports a trained stage and returns the SavedModel's folder."""
        settings = self._export(stage, name)
        if not export.is_current(settings):
            export.run(settings)
        return self.root / name

    def evaluate(self, name: str, split: str, **inputs: str) -> dict[str, Any]:
        """Evaluates maps, masks or a model on "train" or "val" and returns the metrics."""
        records = self.train_records if split == "train" else self.val_records
        folder = str(self.root / "evaluate" / name)
        return evaluate.run(evaluate.EvaluateSettings(work_dir=folder, records=records, **inputs))

    def _run(self, stage: str, name: str, **inputs: Any) -> dict[str, Any]:
        """Runs a stage in the folder of this name and returns its metrics."""
        return _STAGES[stage].run(self._stage(stage, name, **inputs))

    def _export(self, stage: str, name: str) -> Any:
        """Settings of a stage's export."""
        return export.ExportSettings(stage_dir=str(self.root / stage), output_dir=str(self.root / name))

    def _stage(self, stage: str, name: str, **inputs: Any) -> Any:
        """A stage's settings with what comes from the experiment."""
        own = getattr(self.settings, stage)
        options: dict[str, Any] = {"records": self.train_records, "work_dir": str(self.root / name)}
        if stage == "train_seg" and self.settings.seg_backbone_weights:
            options["backbone_weights"] = self.settings.seg_backbone_weights
        if stage in self.settings.warm_start:
            options["initial_weights"] = str(self.root / "train_cls")
        if stage.startswith("train"):
            options["seed"] = self.seed
        return dataclasses.replace(own, **options | inputs)


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
            raise UserError(f"--{name}={value}: no such file; expected imagenet, none or the path of an h5 file")
    for stage in _TASKS:
        own = getattr(settings, stage)
        try:
            training_before(own)
        except UserError as error:
            raise UserError(f"--{stage}.initial_weights={own.initial_weights}: {error}") from None
        if own.initial_weights and not checkpoints_in(Path(own.initial_weights)):
            raise UserError(
                f"--{stage}.initial_weights={own.initial_weights}: no checkpoint in it; run that stage again in another"
                " folder"
            )


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
        make: Makes the records of a split; `oaa_tf.make_records.run`, or its `plan`.

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
        flag = f"--tags={settings.tags}" if settings.tags else f"--image_dir={settings.image_dir}"
        raise UserError(
            f"{flag}: {splits[0]} has the classes {', '.join(train['class_names'])}, but {splits[-1]} has"
            f" {', '.join(val['class_names'])}; write the same classes.txt into the folders of both, or keep classes"
            " that both have with --classes"
        )


def _check_initial_weights(settings: ExperimentSettings, classes: tuple[str, ...]) -> None:
    """Refuses now, and not when a stage begins, initial weights of another network than the stage's."""
    for stage, task in _TASKS.items():
        own = getattr(settings, stage)
        if own.initial_weights:
            try:
                check_common_layers(own.initial_weights, describe_network(task, classes, own))
            except UserError as error:
                raise UserError(str(error).replace("--", f"--{stage}.", 1)) from None
