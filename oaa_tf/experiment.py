"""Connects the stages: the folders of an experiment, and which stage reads the results of which."""

import dataclasses
from pathlib import Path
from typing import Any

from oaa_tf import (
    evaluate,
    export,
    make_pseudo_labels,
    make_records,
    train_affinity,
    train_cls,
    train_integral,
    train_seg,
)
from oaa_tf.command_line.dry_run import DONE, TO_DO
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import setting
from oaa_tf.runs.checkpoints import checkpoints_in, stage_state
from oaa_tf.runs.work_dir import WorkDir
from oaa_tf.training.settings import PAPER_BACKBONES, TRAININGS

_WARM_STARTS = ("train_integral", "train_seg")
_COMMANDS = {
    "train_cls": train_cls,
    "train_integral": train_integral,
    "make_pseudo_labels": make_pseudo_labels,
    "train_affinity": train_affinity,
    "train_seg": train_seg,
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
    saliency_model: str = setting(
        "", help="Network that makes the saliency maps if there are none: u2netp, u2net, isnet or an ONNX file."
    )
    backbone_weights: str = setting(
        "imagenet",
        help="imagenet, none, or the path of a Keras h5 file for the classifier's backbone; another one has imagenet.",
    )
    seg_backbone_weights: str = setting("", help="backbone_weights of the segmentation network, if they differ.")
    warm_start: tuple[str, ...] = setting(
        (), help="Stages that start from the classifier's weights.", choices=_WARM_STARTS
    )
    train_cls: train_cls.TrainClsSettings
    train_integral: train_integral.TrainIntegralSettings
    make_pseudo_labels: make_pseudo_labels.MakePseudoLabelsSettings
    train_affinity: train_affinity.TrainAffinitySettings
    train_seg: train_seg.TrainSegSettings

    def __post_init__(self) -> None:
        """Checks the combination of stages."""
        super().__post_init__()
        for is_wrong, message in (
            (not self.use_saliency, "makes maps, so it needs --use_saliency"),
            (not self.voc_dir and not self.image_dir, "is for photos of your own; the demo data have maps"),
        ):
            if self.saliency_model and is_wrong:
                raise UserError(message, flag="saliency_model", value=self.saliency_model)
        for name in TRAININGS:
            if seed := getattr(self, name).seed:
                raise UserError(
                    "every stage has the seed of the whole; use --seed (--seeds of tools.ablation)",
                    flag=f"{name}.seed",
                    value=seed,
                )
        defaults = {field.name: field.default for field in dataclasses.fields(self.train_affinity)}
        for name in ("backbone", "width", "initial_weights"):
            if (value := getattr(self.train_affinity, name)) != defaults[name]:
                message = "the affinity network learns on the classifier's features; leave it out"
                raise UserError(message, flag=f"train_affinity.{name}", value=value)
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
        for name in self.warm_start:
            if (backbone := getattr(self, name).backbone) != self.train_cls.backbone:
                raise UserError(
                    f"the classifier's weights are {self.train_cls.backbone}'s, not for --{name}.backbone={backbone};"
                    f" leave {name} out of --warm_start",
                    flag="warm_start",
                    value=name,
                )
        for name in TRAININGS:
            own = getattr(self, name)
            try:
                dataclasses.replace(own, backbone_weights=self.weights_of(name)).check_backbone_weights()
            except UserError as error:
                raise error.with_flag(f"{name}.backbone") from None

    def weights_of(self, training: str) -> str:
        """The `backbone_weights` of a training stage."""
        if training == "train_seg" and self.seg_backbone_weights:
            return self.seg_backbone_weights
        is_the_classifiers = getattr(self, training).backbone == self.train_cls.backbone
        return self.backbone_weights if is_the_classifiers or self.backbone_weights == "none" else "imagenet"


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

    def spread_maps(self, name: str, maps: Path, labels: Path) -> Step:
        """Spreads attention maps by the affinity that labels teach, on the classifier's features."""
        classifier = self.settings.train_cls
        common = {"initial_weights": str(self.root / "train_cls"), "backbone": classifier.backbone}
        return self._step("train_affinity", name, maps=str(maps), labels=str(labels), width=classifier.width, **common)

    def segmentation_network(self, name: str, labels: Path, **options: Any) -> Step:
        """Trains the segmentation network on pseudo labels."""
        return self._step("train_seg", name, labels=str(labels), **options)

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
        if command in self.settings.warm_start:
            options["initial_weights"] = str(self.root / "train_cls")
        if command in TRAININGS:
            options |= {"seed": self.seed, "backbone_weights": self.settings.weights_of(command)}
        return Step(command, dataclasses.replace(getattr(self.settings, command), **options | inputs))


def check_networks(settings: ExperimentSettings, *, load_weights: bool) -> None:
    """Refuses missing weights and unknown backbones now, not hours later when a stage loads them.

    Args:
        settings: The settings of all stages.
        load_weights: Whether to load the weights too; Keras downloads what it lacks.

    Raises:
        UserError: A file is missing or can't be read, a folder does not hold a training stage that has finished, or a
            backbone can't be used.
    """
    flags = {
        "seg_backbone_weights": settings.seg_backbone_weights,
        "train_seg.head_weights": settings.train_seg.head_weights,
    }
    for name, value in flags.items():
        if value not in ("", "imagenet", "none") and not Path(value).is_file():
            raise UserError("no such file; expected imagenet, none or the path of an h5 file", flag=name, value=value)
    backbones = {}
    for stage in reversed(TRAININGS):
        own = getattr(settings, stage)
        needs_weights = not own.initial_weights and stage not in (*settings.warm_start, "train_affinity")
        weights = settings.weights_of(stage) if needs_weights and load_weights else "none"
        backbones[own.backbone, weights] = stage
    # Trying a backbone takes seconds, so none is only built that can be, or that is tried with weights as well.
    need_no_building = {*PAPER_BACKBONES, *(backbone for backbone, weights in backbones if weights != "none")}
    for (backbone, weights), stage in backbones.items():
        if weights == "none" and backbone in need_no_building:
            continue
        # The classifier is next to load its own.
        if stage == "train_cls" and backbone in PAPER_BACKBONES:
            continue
        from oaa_tf.training.initial_network import try_backbone

        try:
            try_backbone(dataclasses.replace(getattr(settings, stage), backbone_weights=weights))
        except UserError as error:
            raise error.with_flag(f"{stage}.backbone") from None
    for stage in TRAININGS:
        own = getattr(settings, stage)
        blamed = {"flag": f"{stage}.initial_weights", "value": own.initial_weights}
        try:
            own.supervision_with_initial_weights("image labels")
        except UserError as error:
            raise UserError(str(error), **blamed) from None
        if own.initial_weights and not checkpoints_in(Path(own.initial_weights)):
            raise UserError("no checkpoint in it; run that stage again in another folder", **blamed)
