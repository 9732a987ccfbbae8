"""The rows of pictures: what every stage makes of an image, with its IoU where there is a mask to compare with."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
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
        layer: Data URI of what lies over the photograph; None for the photograph itself.
        is_attention: Whether the layer is attention; the photograph below is grey then.
        names: Class index, x and y of the names to write on it, as in `pictures.name_places`.
        classes: Classes that it shows, for its description.
        iou: Its mean IoU, over the labels that occur in this image; NaN if it leaves all pixels without a label, None
            without a mask to compare with.
        threshold: Of attention, the one that the IoU is for.
    """

    title: str
    layer: str | None = None
    is_attention: bool = False
    names: Sequence[tuple[int, float, float]] = ()
    classes: Sequence[int] = ()
    iou: float | None = None
    threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        image_id: Its name.
        split: "train", for example.
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


@dataclasses.dataclass(frozen=True)
class _Column:
    """What makes the pictures of one column: `make` from an image's position and record."""

    title: str
    make: Callable[[int, Record], Picture | None]


class Gallery:
    """Makes the rows of a run.

    Attributes:
        missing: What cannot be shown, and why, a sentence each.
    """

    def __init__(self, run: RunFolder, side: int) -> None:
        """Opens what there is.

        Args:
            run: The run.
            side: Longest side of the pictures in pixels.
        """
        self._run = run
        self._side = side
        self.missing: list[str] = []
        self._segment: Callable[[np.ndarray], np.ndarray] | None = None

    def rows(self, num_images: int, image_ids: Sequence[str], choose: str, seed: int) -> list[Row]:
        """The rows of both splits.

        Args:
            num_images: How many images of each split, if none are named.
            image_ids: The images to show instead.
            choose: "random", or "worst" for those with the lowest IoU of the pseudo label or the prediction.
            seed: Of the random choice.

        Raises:
            UserError: An image that is named is in neither split.
        """
        splits = [(self._run.train_records, self._train_columns), (self._run.val_records, self._val_columns)]
        if self._run.train_records is None:
            self.missing.append("Pictures of training images: the records that they were made into are not there.")
        known = {name for records, _ in splits if records is not None for name in records.image_ids}
        for name in image_ids:
            if name not in known:
                raise UserError(f"--images={name}: no such image among those of {self._run.root}")
        rows, shown = [], None
        for records, columns in splits:
            if records is None or (shown is not None and shown.checksum == records.checksum):
                continue
            shown = records
            if image_ids:
                positions = [p for p, name in enumerate(records.image_ids) if name in set(image_ids)]
            else:
                positions = self._chosen(records, num_images, choose, seed)
            made = columns(records) if positions else []
            rows += [self._row(records, position, made) for position in positions]
        return rows

    def _chosen(self, records: RecordSet, count: int, choose: str, seed: int) -> list[int]:
        is_train = records is self._run.train_records
        folder = self._label_folder("make_pseudo_labels") if is_train else self._predictions_folder
        if choose == "worst" and count:
            if not records.has_masks or folder is None:
                self.missing.append(
                    f"The worst images of {records.split}: there are no masks, or nothing to compare them with;"
                    " random ones are shown."
                )
            else:
                scores = [self._iou_of_file(records, folder, position) for position in range(len(records))]
                return [int(position) for position in np.argsort(scores, kind="stable")[:count]]
        order = np.random.default_rng(seed).permutation(len(records))
        return sorted(order[:count].tolist())

    def _iou_of_file(self, records: RecordSet, folder: Path, position: int) -> float:
        path = folder / f"{records.image_ids[position]}.png"
        truth = records.record(position).mask
        return float(np.nan_to_num(_iou(truth, read_indexed(path), records), nan=-1)) if path.exists() else 2.0

    def _label_folder(self, name: str) -> Path | None:
        stage = self._run.stages.get(name)
        return stage.path / LABELS_FOLDER if stage and stage.metrics else None

    @property
    def _predictions_folder(self) -> Path | None:
        evaluation = self._run.evaluation("model")
        folder = evaluation.path / PREDICTIONS_FOLDER if evaluation else None
        return folder if folder and folder.is_dir() else None

    def _train_columns(self, records: RecordSet) -> list[_Column]:
        has_second = self._label_folder("relabel") is not None
        columns = [
            self._maps_column("CAM", "train_cls", "attention/cam", records),
            self._maps_column("Cumulative (OAA)", "train_cls", "attention/oaa", records),
            self._maps_column("Integral (OAA+)", "train_integral", "attention/oaa_plus", records),
            self._files_column("Pseudo label", self._label_folder("make_pseudo_labels"), records),
            *([self._files_column("Second label", self._label_folder("relabel"), records)] if has_second else []),
            self._network_column(records),
            _truth_column(records, self._side),
        ]
        return [column for column in columns if column]

    def _val_columns(self, records: RecordSet) -> list[_Column]:
        columns = [
            self._files_column("Prediction", self._predictions_folder, records),
            _truth_column(records, self._side),
        ]
        return [column for column in columns if column]

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
        threshold = evaluation.scores["threshold"] if evaluation else None

        def make(position: int, record: Record) -> Picture:
            classes, grids = maps.for_image(position)
            height, width = pictures.thumbnail_size(*record.image.shape[:2], _HEAT_SIDE)
            small = maps.frame(position).to_image(grids, height, width)
            iou = None
            if record.mask is not None and threshold is not None:
                predicted = pictures.thresholded(maps.at_image_size(position)[1], classes, threshold)
                iou = _iou(record.mask, predicted, records)
            layer = pictures.heat(small.max(axis=0))
            return Picture(title, layer, is_attention=True, classes=classes, iou=iou, threshold=threshold)

        return _Column(title, make)

    def _files_column(self, title: str, folder: Path | None, records: RecordSet) -> _Column | None:
        if folder is None:
            stage = "make_pseudo_labels has" if title == "Pseudo label" else "the evaluation of the segmentation has"
            self.missing.append(f"{title}: {stage} not been run, or not finished.")
            return None

        def make(position: int, record: Record) -> Picture | None:
            path = folder / f"{record.image_id}.png"
            return _mask_picture(title, read_indexed(path), record, records, self._side) if path.exists() else None

        return _Column(title, make)

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

        def make(position: int, record: Record) -> Picture:
            labels = segment(record.image[np.newaxis])["mask"][0].numpy()
            return _mask_picture("Prediction", labels, record, records, self._side)

        return _Column("Prediction", make)

    def _row(self, records: RecordSet, position: int, columns: Sequence[_Column]) -> Row:
        record = records.record(position)
        made = [column.make(position, record) for column in columns]
        return Row(
            image_id=record.image_id,
            split=records.split,
            classes=records.labels[position],
            size=record.image.shape[:2],
            photo=pictures.photo(record.image, self._side),
            pictures=(Picture("Image"), *(picture for picture in made if picture)),
        )


def _truth_column(records: RecordSet, side: int) -> _Column | None:
    if not records.has_masks:
        return None

    def make(position: int, record: Record) -> Picture:
        return dataclasses.replace(_mask_picture("Ground truth", record.mask, record, records, side), iou=None)

    return _Column("Ground truth", make)


def _mask_picture(title: str, labels: np.ndarray, record: Record, records: RecordSet, side: int) -> Picture:
    places = pictures.name_places(labels)
    iou = None if record.mask is None else _iou(record.mask, labels, records)
    return Picture(title, pictures.mask(labels, side), names=places, classes=[label for label, _, _ in places], iou=iou)


def _iou(truth: np.ndarray, predicted: np.ndarray, records: RecordSet) -> float:
    return float(mean_iou(confusion_matrix(truth, predicted, len(records.classes))))
