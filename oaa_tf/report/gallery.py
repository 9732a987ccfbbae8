"""The rows of pictures: the results of every stage for an image, with their IoU if the image has a mask."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.attention.spreading import Spreading
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.data.images.image_files import fitting_size, resized
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records.record_set import Record, RecordSet
from oaa_tf.labels.label_files import LABELS_FOLDER
from oaa_tf.metrics import confusion_matrix, mean_iou
from oaa_tf.models.inference import segmentation_functions
from oaa_tf.models.networks import load_network
from oaa_tf.report import pictures
from oaa_tf.report.run_folder import RunFolder
from oaa_tf.runs.work_dir import PREDICTIONS_FOLDER

_HEAT_SIDE = 96


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of a row.

    Attributes:
        title: For example "CAM".
        layer: Data URI of the layer over the photograph; None for the photograph itself.
        is_attention: Whether the layer is attention; then the photograph below is grey.
        names: Class index, x and y of the names to write on it, see `pictures.name_places`.
        classes: Classes that it shows, for its description; None if it is of no classes.
        iou: Mean IoU over the labels that occur in this image; NaN if no pixel has a label, None without a mask to
            compare with.
    """

    title: str
    layer: str | None = None
    is_attention: bool = False
    names: Sequence[tuple[int, float, float]] = ()
    classes: Sequence[int] | None = ()
    iou: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        image_id: Id of the image.
        split: Its split, for example "train".
        classes: Indices of its classes.
        size: Height and width of the photograph.
        photo: Data URI.
        pictures: The photograph first.
    """

    image_id: str
    split: str
    classes: tuple[int, ...]
    size: tuple[int, int]
    photo: str
    pictures: tuple[Picture, ...]

    @property
    def ious(self) -> dict[str, float | None]:
        """IoU by title of the pictures that have one, None for NaN."""
        return json_ready({picture.title: picture.iou for picture in self.pictures if picture.iou is not None})


_Column = Callable[[int, Record], Picture | None]
"""Makes the picture of one column from an image's position and record."""


class Gallery:
    """Makes the rows of a run.

    Attributes:
        missing: A sentence for each thing that cannot be shown, with the reason.
    """

    def __init__(self, run: RunFolder, side: int) -> None:
        """Makes pictures of `run` with a longest side of `side` pixels."""
        self._run = run
        self._side = side
        self.missing: list[str] = []

    def rows(self, num_images: int, image_ids: Sequence[str], choose: str, seed: int) -> list[Row]:
        """The rows of both splits.

        Args:
            num_images: Number of images of each split, without `image_ids`.
            image_ids: The images to show instead.
            choose: "random"; or by the IoU of the pseudo label or prediction: "worst" for the lowest, "ranked" for
                the best, the worst, and others at equal distances in rank.
            seed: Seed of the random choice.

        Raises:
            UserError: One of `image_ids` is in neither split.
        """
        train, val = self._run.train_records, self._run.val_records
        if train is None:
            self.missing.append("Pictures of training images: the records that they were made into are not there.")
        elif val is not None and val.checksum == train.checksum:
            val = None
        splits: list[tuple[RecordSet, Callable[[RecordSet], list[_Column | None]]]] = []
        if train is not None:
            splits.append((train, self._train_columns))
        if val is not None:
            splits.append((val, self._val_columns))
        for name in image_ids:
            if not any(name in records.image_ids for records, _ in splits):
                raise UserError(f"no such image among those of {self._run.root}", flag="images", value=name)
        rows = []
        for records, columns in splits:
            if image_ids:
                positions = [position for position, name in enumerate(records.image_ids) if name in image_ids]
            else:
                positions = self._chosen(records, num_images, choose, seed)
            if positions:
                made = [column for column in columns(records) if column]
                rows += [self._row(records, position, made) for position in positions]
        return rows

    def _chosen(self, records: RecordSet, count: int, choose: str, seed: int) -> list[int]:
        is_train = records is self._run.train_records
        folder = self._label_folder("make_pseudo_labels") if is_train else self._predictions_folder()
        if choose != "random" and count:
            if records.has_masks and folder is not None:
                scores = np.array([self._iou_of_file(records, folder, position) for position in range(len(records))])
                worst_first = np.argsort(scores, kind="stable")
                if choose == "worst":
                    return worst_first[:count].tolist()
                best_first = worst_first[(scores[worst_first] >= 0) & (scores[worst_first] <= 1)][::-1]
                ranks = np.linspace(0, len(best_first) - 1, min(count, len(best_first)))
                return best_first[ranks.round().astype(int)].tolist()
            self.missing.append(
                f"The {choose} images of {records.split}: there are no masks, or nothing to compare them with;"
                " random ones are shown."
            )
        order = np.random.default_rng(seed).permutation(len(records))
        return sorted(order[:count].tolist())

    def _iou_of_file(self, records: RecordSet, folder: Path, position: int) -> float:
        """The IoU, to sort by: -1 if all pixels are ignored, 2 without a file."""
        path, truth = folder / f"{records.image_ids[position]}.png", records.record(position).mask
        if truth is None or not path.exists():
            return 2.0
        return float(np.nan_to_num(_iou(truth, read_indexed(path), records), nan=-1))

    def _label_folder(self, name: str) -> Path | None:
        stage = self._run.stages.get(name)
        return stage.path / LABELS_FOLDER if stage and stage.metrics else None

    def _predictions_folder(self) -> Path | None:
        evaluation = self._run.evaluation("model")
        folder = evaluation.path / PREDICTIONS_FOLDER if evaluation else None
        return folder if folder and folder.is_dir() else None

    def _train_columns(self, records: RecordSet) -> list[_Column | None]:
        labels, second_labels = map(self._label_folder, ("make_pseudo_labels", "relabel"))
        return [
            self._maps_column("CAM", "train_cls", "attention/cam", records),
            self._maps_column("Cumulative (OAA)", "train_cls", "attention/oaa", records),
            self._maps_column("Integral (OAA+)", "train_integral", "attention/oaa_plus", records),
            *(self._affinity_columns(records) if "train_affinity" in self._run.stages else ()),
            _saliency_column(records),
            self._files_column("Pseudo label", labels, "make_pseudo_labels", records),
            self._files_column("Second label", second_labels, "relabel", records) if second_labels else None,
            self._network_column(records),
            self._truth_column(records),
        ]

    def _val_columns(self, records: RecordSet) -> list[_Column | None]:
        folder = self._predictions_folder()
        return [
            self._files_column("Prediction", folder, "the evaluation of the segmentation", records),
            self._truth_column(records),
        ]

    def _maps_column(self, title: str, stage: str, folder: str, records: RecordSet) -> _Column | None:
        if stage not in self._run.stages:
            self.missing.append(f"{title}: {stage} has not been run.")
            return None
        try:
            maps = AttentionMaps.open(self._run.stages[stage].path / folder, records)
        except UserError:
            self.missing.append(f"{title}: {stage} has not finished, or its maps are damaged.")
            return None
        evaluation = self._run.evaluation(maps.kind)

        def column(position: int, record: Record) -> Picture:
            classes, grids = maps.for_image(position)
            size = fitting_size(record.image, _HEAT_SIDE)
            layer = pictures.heat(maps.frame(position).to_image(grids, *size).max(axis=0, initial=0))
            iou = None
            if record.mask is not None and evaluation is not None:
                attention = maps.at_image_size(position)[1]
                predicted = pictures.thresholded(attention, classes, evaluation.scores["threshold"])
                iou = _iou(record.mask, predicted, records)
            return Picture(title, layer, is_attention=True, classes=classes, iou=iou)

        return column

    def _affinity_columns(self, records: RecordSet) -> list[_Column | None]:
        """The edges at which the random walk stops, and the maps after it."""
        after = self._maps_column("Spread", "train_affinity", "attention/spread", records)
        if after is None:
            return []
        folder = self._run.stages["train_affinity"].path
        description, network, _ = load_network(folder)
        maps = AttentionMaps.open(folder / "attention/spread", records)
        spreading = Spreading(network, maps, description.image_size, power=1, num_steps=0)

        def edges(position: int, record: Record) -> Picture | None:
            found = spreading([position]).edges
            if not len(found):
                return None
            layer = pictures.heat(maps.frame(position).to_image(found[0], *fitting_size(record.image, _HEAT_SIDE)))
            return Picture("Affinity edges", layer, is_attention=True, classes=None)

        return [edges, after]

    def _files_column(self, title: str, folder: Path | None, stage: str, records: RecordSet) -> _Column | None:
        if folder is None:
            self.missing.append(f"{title}: {stage} has not been run, or not finished.")
            return None

        def column(position: int, record: Record) -> Picture | None:
            path = folder / f"{record.image_id}.png"
            return self._mask_picture(title, read_indexed(path), record.mask, records) if path.exists() else None

        return column

    def _network_column(self, records: RecordSet) -> _Column | None:
        stage = self._run.stages.get("train_seg")
        try:
            if stage is None:
                raise UserError("train_seg has not been run")
            description, network, _ = load_network(stage.path)
        except UserError:
            self.missing.append("Prediction: train_seg has not been run, or has no checkpoint yet.")
            return None
        segment = segmentation_functions(network, description.image_size)["segment"]

        def column(position: int, record: Record) -> Picture:
            labels = segment(record.image[np.newaxis])["mask"][0].numpy()
            return self._mask_picture("Prediction", labels, record.mask, records)

        return column

    def _truth_column(self, records: RecordSet) -> _Column | None:
        def column(position: int, record: Record) -> Picture | None:
            return None if record.mask is None else self._mask_picture("Ground truth", record.mask, None, records)

        return column if records.has_masks else None

    def _mask_picture(self, title: str, labels: np.ndarray, truth: np.ndarray | None, records: RecordSet) -> Picture:
        places = pictures.name_places(labels)
        iou = None if truth is None else _iou(truth, labels, records)
        layer = pictures.mask(labels, self._side)
        return Picture(title, layer, names=places, classes=[label for label, _, _ in places], iou=iou)

    def _row(self, records: RecordSet, position: int, columns: Sequence[_Column]) -> Row:
        record = records.record(position)
        made = [column(position, record) for column in columns]
        return Row(
            image_id=record.image_id,
            split=records.split,
            classes=records.labels[position],
            size=record.image.shape[:2],
            photo=pictures.photo(record.image, self._side),
            pictures=(Picture("Image"), *filter(None, made)),
        )


def _saliency_column(records: RecordSet) -> _Column | None:
    def column(position: int, record: Record) -> Picture | None:
        if record.saliency is None:
            return None
        small = resized(record.saliency, fitting_size(record.image, _HEAT_SIDE), cv2.INTER_AREA)
        return Picture("Saliency", pictures.heat(small / np.float32(255)), is_attention=True, classes=None)

    return column if records.has_saliency else None


def _iou(truth: np.ndarray, predicted: np.ndarray, records: RecordSet) -> float:
    return float(mean_iou(confusion_matrix(truth, predicted, len(records.classes))))
