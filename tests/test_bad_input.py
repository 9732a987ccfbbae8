"""Bad input to everything that reads files: it is read as what it was, or refused in one line that names it.

The fast tests run some dozens of cases for each reader, the slow one two thousand in all.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import (
    OUTSIDE,
    damages,
    hostile_annotations,
    hostile_arrays,
    hostile_images,
    hostile_json,
    hostile_pickles,
    hostile_texts,
    spoiled_json,
)
from hypothesis import HealthCheck, given, settings
from own_data import write_own_data
from test_evaluate import save_model
from tiny_voc import attention_from_masks, make_tiny_records

from oaa_tf import evaluate, make_records, predict
from oaa_tf.attention.foreign_maps import (
    read_class_pngs,
    read_irn_dictionaries,
    write_class_pngs,
    write_irn_dictionaries,
)
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.formats import mask_files
from oaa_tf.data.formats.class_list import ClassList
from oaa_tf.data.formats.coco import read_coco, read_json_content
from oaa_tf.data.formats.tag_list import read_csv_tags, read_json_tags
from oaa_tf.data.formats.voc import VocFolder
from oaa_tf.data.images import saliency_files
from oaa_tf.data.images.decoding import decode_image
from oaa_tf.data.images.image_files import read_for_record
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.labels.label_files import PseudoLabels
from oaa_tf.make_pseudo_labels import MakePseudoLabelsSettings
from oaa_tf.make_pseudo_labels import run as make_labels
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.segmenter import ORIGIN_FILE, Segmenter, file_checksums
from oaa_tf.runs.work_dir import WorkDir

IMAGE_SIZE = 64
LIMITS = {signal.SIGPROF: (signal.ITIMER_PROF, 20), signal.SIGALRM: (signal.ITIMER_REAL, 300)}
"""Seconds that a case may compute, and that it may last, which is more on a busy machine."""


class TimeIsUp(BaseException):
    """Not an `Exception`, so that nothing takes it for a damaged file."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(signum: int, frame: Any) -> None:
        raise TimeIsUp(signal.Signals(signum).name)

    before = {number: signal.signal(number, stop) for number in LIMITS}
    for timer, seconds in LIMITS.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in LIMITS.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


# Readers: each takes the folder `sandbox` and returns what it has read.


def read_records(root: Path) -> Any:
    records = RecordSet.open(root / "records/train.json")
    data = [records.read(position) for position in range(len(records))]
    return records.image_ids, records.labels, records.classes, records.sizes.tolist(), data


def read_sealed_manifest(root: Path) -> Any:
    """Gives the manifest the right checksum first: the damage is a program's."""
    path = root / "records/train.json"
    with contextlib.suppress(ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            content.pop("manifest_sha256", None)
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            path.write_text(json.dumps(content | {"manifest_sha256": digest}))
    records = RecordSet.open(path)
    assert_names_stay(records.image_ids)
    assert all(0 <= label < len(records.classes) for labels in records.labels for label in labels)
    assert records.first_slots[-1] == sum(map(len, records.labels))
    return None


def read_ids(root: Path) -> Any:
    ids = VocFolder(root / "voc").image_ids("train")
    assert_names_stay(ids)
    return None


def read_listed_labels(root: Path) -> Any:
    labels = VocFolder(root / "voc").listed_labels("train")
    assert_names_stay(labels)
    assert all(index in range(3) for indices in labels.values() for index in indices)
    return None


def read_classes(root: Path) -> Any:
    classes = VocFolder(root / "voc").class_list.known
    assert classes and all(name.isprintable() and len(name) <= 100 for name in classes)
    return None


def read_annotation(root: Path) -> Any:
    assert set(VocFolder(root / "voc").annotated_labels("a", skip_difficult=True)) <= {0, 1, 2}
    return None


def read_tags(root: Path) -> Any:
    tagged, classes = read_csv_tags(root / "csv/tags.csv", root / "csv/photos", ())
    assert all(index in range(len(classes.known)) for one in tagged for index in one.tags)
    return None


def read_json_list(root: Path) -> Any:
    path = root / "csv/list.json"
    tagged, classes = read_json_tags(read_json_content(path), path, root / "csv/photos", ())
    assert all(index in range(len(classes.known)) for one in tagged for index in one.tags)
    return None


def read_label_map(root: Path) -> Any:
    classes = ClassList.of_folder(root / "map", (), (), root / "map/labelmap.txt")
    assert set(classes.colors.values()) <= {0, *range(len(classes.known) + 1)}
    return None


def read_coco_objects(root: Path) -> Any:
    tagged, classes = read_coco(root / "coco/instances.json", ())
    for one in tagged:
        if one.draw_mask:
            assert set(np.unique(one.draw_mask())) <= {0, *range(len(classes.known) + 1), 255}
    return None


def read_mask(root: Path) -> Any:
    classes = VocFolder(root / "voc").class_list
    path = root / "voc/SegmentationClass/a.png"
    return classes.renumbered(mask_files.read_mask(path, classes), path).tolist()


def read_jpeg(root: Path) -> Any:
    data, (height, width), _ = read_for_record(root / "voc/JPEGImages/a.jpg")
    assert decode_image(data).shape == (height, width, 3)
    return None


def read_saliency(root: Path) -> Any:
    _, (height, width), _ = read_for_record(root / "voc/JPEGImages/a.jpg")
    return saliency_files.read_saliency(root / "voc/Saliency/a.png", height, width).tolist()


def read_flags(root: Path) -> Any:
    for settings_class, stage in (
        (evaluate.EvaluateSettings, "evaluate"),
        (MakePseudoLabelsSettings, "make_pseudo_labels"),
    ):
        parse(settings_class, stage, [f"--flagfile={root / 'run.flags'}"])
    return None


def read_maps(root: Path) -> Any:
    maps = AttentionMaps.open(root / "maps", RecordSet.open(root / "records/train.json"))
    assert isinstance(maps.kind, str) and maps.supervision in ("image labels", "image labels + saliency", "pixel masks")
    return maps.maps.tolist(), maps.image_size


def read_labels(root: Path) -> Any:
    labels = PseudoLabels(root / "labels", RecordSet.open(root / "records/train.json"))
    assert labels.supervision in ("image labels", "image labels + saliency", "pixel masks")
    return [label_map.tolist() for label_map in labels]


def read_irn(root: Path) -> Any:
    maps = read_irn_dictionaries(root / "irn", RecordSet.open(root / "records/train.json"), IMAGE_SIZE)
    assert maps.shape == (5, IMAGE_SIZE // 8, IMAGE_SIZE // 8) and maps.dtype == np.uint8
    return None


def read_png_maps(root: Path) -> Any:
    return read_class_pngs(root / "png", RecordSet.open(root / "records/train.json"), IMAGE_SIZE).tolist()


def read_model(root: Path) -> Any:
    segmenter = Segmenter(root / "model")
    return segmenter.classes, segmenter(np.full((20, 30, 3), 99, np.uint8)).tolist()


def read_network(root: Path) -> Any:
    description = NetworkDescription.read(root / "stage")
    assert 0 < description.width < 10**6 and all(isinstance(name, str) for name in description.classes)
    return None


def read_work_dir(root: Path) -> Any:
    settings = MakePseudoLabelsSettings(records="r", maps="m", work_dir=str(root / "begun"))
    with WorkDir.claim(settings, {"records": "1", "maps": "2"}) as work_dir:
        metrics = work_dir.finished_metrics()
        assert isinstance(metrics, dict)
    return None


def evaluate_labels(root: Path) -> Any:
    """The scores of a folder of masks, in a new work_dir."""
    shutil.rmtree(root / "scores", ignore_errors=True)
    flags = {"records": str(root / "records/train.json"), "masks": str(root / "labels/SegmentationClass")}
    metrics = evaluate.run(evaluate.EvaluateSettings(work_dir=str(root / "scores"), **flags))
    return metrics["iou_per_class"], metrics["labelled_share"]


def predict_photos(root: Path) -> Any:
    """The masks of the images that are as they were."""
    shutil.rmtree(root / "predicted", ignore_errors=True)
    flags = {"model": str(root / "model"), "images": (str(root / "photos"),), "output_dir": str(root / "predicted")}
    try:
        predict.run(predict.PredictSettings(overlays=False, **flags))
    finally:
        found = {path.stem: read_indexed(path).tolist() for path in (root / "predicted").glob("*.png")}
        assert found.keys() >= {"b", "c", "d"}, "one bad image must not keep the others from being done"
    return {name: found[name] for name in "bcd"}


def records_of_voc(root: Path) -> Any:
    """Makes records from the whole folder; every image is in them or named as skipped."""
    shutil.rmtree(root / "remade", ignore_errors=True)
    flags = {"voc_dir": str(root / "voc"), "output_dir": str(root / "remade")}
    make_records.run(make_records.MakeRecordsSettings(saliency_dir=str(root / "voc/Saliency"), num_workers=1, **flags))
    records = RecordSet.open(root / "remade/train.json")
    skipped = [entry["id"] for entry in json.loads((root / "remade/train.json").read_text())["skipped"]]
    assert {*records.image_ids, *skipped} == set(VocFolder(root / "voc").image_ids("train"))
    for position in range(len(records)):
        record = records.record(position)
        assert record.image.shape[:2] == record.mask.shape == record.saliency.shape == tuple(records.sizes[position])
    return None


def assert_names_stay(names: Any) -> None:
    folder = Path("/some/folder")
    for name in names:
        path = Path(os.path.normpath(folder / f"{name}.png"))
        assert path.parent == folder and len(os.fsencode(path.name)) < 230


@dataclasses.dataclass(frozen=True)
class Target:
    """A file and what reads it.

    Attributes:
        file: Path in the sandbox.
        read: Reads it; the result must not change, unless it is refused.
        num_cases: Random cases in the slow test.
        hostile: Whole files by name, beside the random damage.
        is_json: Whether it is also spoiled value by value.
        culprit: What every refusal names; the file's name by default.
    """

    file: str
    read: Callable[[Path], Any]
    num_cases: int = 110
    hostile: Callable[[], dict[str, bytes]] = dict
    is_json: bool = False
    culprit: str = ""


MASKS_AND_IMAGES = ("JPEGImages/a.jpg", "SegmentationClass/a.png", "Saliency/a.png")
TARGETS = {
    "shard": Target("records/train-00000-of-00001.tfrecord", read_records),
    "manifest": Target("records/train.json", read_records, hostile=hostile_json),
    "sealed manifest": Target("records/train.json", read_sealed_manifest, 150, is_json=True, culprit="train"),
    "ids": Target("voc/ImageSets/Segmentation/train.txt", read_ids, hostile=hostile_texts),
    "cls list": Target("voc/ImageSets/Segmentation/train_cls.txt", read_listed_labels, hostile=hostile_texts),
    "class list": Target("voc/classes.txt", read_classes, hostile=hostile_texts),
    "annotation": Target("voc/Annotations/a.xml", read_annotation, hostile=hostile_annotations),
    "tags": Target("csv/tags.csv", read_tags, hostile=hostile_texts),
    "JSON list": Target("csv/list.json", read_json_list, hostile=hostile_json, is_json=True),
    "label map": Target("map/labelmap.txt", read_label_map, hostile=hostile_texts),
    "COCO": Target("coco/instances.json", read_coco_objects, hostile=hostile_json, is_json=True),
    "mask": Target("voc/SegmentationClass/a.png", read_mask, hostile=hostile_images),
    "image": Target("voc/JPEGImages/a.jpg", read_jpeg, 150, hostile=hostile_images),
    "saliency": Target("voc/Saliency/a.png", read_saliency, hostile=hostile_images),
    "flagfile": Target("run.flags", read_flags, 150, hostile=hostile_texts, culprit="-"),
    "maps.npy": Target("maps/maps.npy", read_maps, hostile=hostile_arrays, culprit="maps"),
    "maps.json": Target("maps/maps.json", read_maps, 150, hostile=hostile_json, is_json=True, culprit="maps"),
    "pseudo_labels.json": Target(
        "labels/pseudo_labels.json", read_labels, hostile=hostile_json, is_json=True, culprit="labels"
    ),
    "pseudo label": Target("labels/SegmentationClass/a.png", read_labels, 60, hostile=hostile_images),
    "IRN maps": Target("irn/a.npy", read_irn, 150, hostile=lambda: hostile_arrays() | hostile_pickles()),
    "PNG maps": Target("png/a_0.png", read_png_maps, 60, hostile=hostile_images),
    "SavedModel's graph": Target("model/saved_model.pb", read_model, 60),
    "SavedModel's weights": Target("model/variables/variables.data-00000-of-00001", read_model, 60),
    "SavedModel's classes": Target("model/assets.extra/classes.json", read_model, 60, hostile=hostile_json),
    "SavedModel's origin": Target("model/assets.extra/origin.json", read_model, 60, hostile_json, is_json=True),
    "network.json": Target("stage/network.json", read_network, hostile=hostile_json, is_json=True),
    "flags.txt": Target("begun/flags.txt", read_work_dir, 60, hostile=hostile_texts, culprit="begun"),
    "inputs.json": Target("begun/inputs.json", read_work_dir, 60, hostile_json, is_json=True, culprit="begun"),
    "metrics.json": Target("begun/metrics.json", read_work_dir, 60, hostile=hostile_json, is_json=True),
    "evaluate: a mask": Target("labels/SegmentationClass/a.png", evaluate_labels, 60),
    "evaluate: what masks are of": Target(
        "labels/pseudo_labels.json", evaluate_labels, 60, is_json=True, culprit="--masks"
    ),
    "predict": Target("photos/a.jpg", predict_photos, 100),
    **{f"make_records: {file}": Target(f"voc/{file}", records_of_voc, 40) for file in MASKS_AND_IMAGES},
    "make_records: ids": Target("voc/ImageSets/Segmentation/train.txt", records_of_voc, 40),
    "make_records: cls list": Target(
        # Where tags and masks contradict each other, the list of ids is named.
        "voc/ImageSets/Segmentation/train_cls.txt",
        records_of_voc,
        40,
        culprit="ImageSets",
    ),
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good file of every kind."""
    root = tmp_path_factory.mktemp("sandbox")
    records = make_tiny_records(root)
    (root / "voc/Annotations").mkdir()
    objects = "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin></bndbox></object>"
    (root / "voc/Annotations/a.xml").write_text(f"<annotation><filename>a.jpg</filename>{objects}</annotation>")
    for form in ("csv", "coco"):
        write_own_data(root / "voc", root / form, form)
    choice = {"type": "choices", "value": {"choices": ["dog"]}}
    task = {"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": [choice]}]}
    (root / "csv/list.json").write_text(json.dumps([task, task | {"data": {"image": "b.jpg"}}]))
    (root / "map").mkdir()
    (root / "map/labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n")
    maps = attention_from_masks(records, IMAGE_SIZE)
    AttentionMaps.save(root / "maps", maps, records, kind="oaa", image_size=IMAGE_SIZE, seed=3)
    opened = AttentionMaps.open(root / "maps", records)
    write_irn_dictionaries(opened, root / "irn")
    write_class_pngs(opened, root / "png")
    flags = {"records": str(root / "records/train.json"), "maps": str(root / "maps")}
    make_labels(MakePseudoLabelsSettings(work_dir=str(root / "labels"), **flags))
    save_model(root / "model")
    (root / "model" / ORIGIN_FILE).write_text(json.dumps({"seed": 1, "files": file_checksums(root / "model")}))
    (root / "stage").mkdir()
    NetworkDescription("segmentation", records.classes, IMAGE_SIZE, width=2).write(root / "stage")
    shutil.copytree(root / "voc/JPEGImages", root / "photos")
    (root / "run.flags").write_text(
        "# A preset.\n--records=r\n--work_dir=w\n--maps=m\n--evaluate.threshold=0.4\n--num_workers=2\n"
        "--make_pseudo_labels.drop_below=0.2\n--train_cls.num_steps=5\n"
    )
    settings = MakePseudoLabelsSettings(records="r", maps="m", work_dir=str(root / "begun"))
    with WorkDir.claim(settings, {"records": "1", "maps": "2"}):
        (root / "begun/metrics.json").write_text('{"mean_iou": 0.5, "classes": ["cat"]}')
    return root


@pytest.fixture(scope="module")
def good(sandbox: Path) -> Callable[[str], Any]:
    """What a reader gives while nothing is wrong."""
    of_reader = functools.cache(lambda read: read(sandbox))
    return lambda name: of_reader(TARGETS[name].read)


def outcome(name: str, sandbox: Path, spoiled: bytes, good_value: Any) -> str:
    """Puts bytes in the place of a target's file, reads it, and puts the file back: "read" or "refused"."""
    target = TARGETS[name]
    path = sandbox / target.file
    whole = path.read_bytes()
    path.write_bytes(spoiled)
    try:
        with time_limit():
            value = target.read(sandbox)
    except UserError as error:
        message = str(error)
        assert (target.culprit or path.name) in message, message
        assert len(message) < 1500 and message.isprintable(), message
        return "refused"
    finally:
        path.write_bytes(whole)
    assert value == good_value, "read, but not as what it was"
    return "read"


def run_cases(name: str, sandbox: Path, good_value: Any, num_cases: int) -> Counter:
    """Random damage; how many cases had which outcome."""
    target = TARGETS[name]
    whole = (sandbox / target.file).read_bytes()
    spoiled = damages().map(lambda damage: damage(whole))
    if target.is_json:
        spoiled |= spoiled_json(json.loads(whole)).map(lambda content: json.dumps(content).encode())
    outcomes = Counter()

    @settings(max_examples=num_cases, suppress_health_check=list(HealthCheck), database=None)
    @given(data=spoiled)
    def case(data: bytes) -> None:
        outcomes[outcome(name, sandbox, data, good_value)] += 1

    case()
    return outcomes


@pytest.mark.parametrize("name", TARGETS)
def test_damage(name: str, sandbox: Path, good) -> None:
    assert run_cases(name, sandbox, good(name), 6)["refused"] > 0


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.hostile is not dict])
def test_hostile_files(name: str, sandbox: Path, good) -> None:
    target = TARGETS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = Counter(outcome(name, sandbox, data, good(name)) for data in target.hostile().values())
    assert outcomes["refused"] > len(target.hostile()) // 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 2**10, "kilobytes"


@pytest.mark.slow
def test_two_thousand_cases(sandbox: Path, good) -> None:
    total = Counter()
    for name, target in TARGETS.items():
        outcomes = run_cases(name, sandbox, good(name), target.num_cases)
        print(f"{name}: {dict(outcomes)}")
        total += outcomes
    print(f"all: {dict(total)}")
    assert total.total() >= 2000


# Names and links that lead out of the data's folder


@pytest.fixture
def data(sandbox: Path, tmp_path: Path) -> Path:
    """A copy of the folder and its records, to be spoiled."""
    for name in ("voc", "records"):
        shutil.copytree(sandbox / name, tmp_path / name)
    return tmp_path


# Of a path of two names, lists take the last one for the id.
@pytest.mark.parametrize("name", [name for name in OUTSIDE if name not in ("", "/etc/passwd")])
def test_names_in_lists_stay_in_the_folder(data: Path, name: str) -> None:
    lists = data / "voc/ImageSets/Segmentation"
    (lists / "train.txt").write_text(f"a\n{name}\n")
    (lists / "train_cls.txt").write_text(f"a 0\n{name} 0\n")
    folder = VocFolder(data / "voc")
    for read, path in ((folder.image_ids, "train.txt:2"), (folder.listed_labels, "train_cls.txt:2")):
        with pytest.raises(UserError, match=rf"{path}: .* is no image id; expected a plain file name"):
            read("train")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(("entries", "key"), [("images", "id"), ("shards", "file")])
def test_names_in_manifests_stay_in_the_folder(data: Path, entries: str, key: str, name: str) -> None:
    path = data / "records/train.json"
    content = json.loads(path.read_text())
    content[entries][0][key] = name
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"train.json: not a manifest as make_records writes it: wrong {entries[:-1]}"):
        read_sealed_manifest(data)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        (target.file, target.read)
        for name, target in TARGETS.items()
        if target.file.startswith(("voc/ImageSets", "voc/Annotations", "voc/classes", "records/train-"))
    ]
    + [(f"voc/{file}", records_of_voc) for file in MASKS_AND_IMAGES],
)
def test_links_stay_in_the_folder(data: Path, file: str, read: Callable[[Path], Any]) -> None:
    path = data / file
    # Inside the folder, links are welcome.
    inside = path.rename(path.with_name(f"inside{path.suffix}.txt"))
    path.symlink_to(inside)
    read(data)
    outside = data / "outside"
    inside.rename(outside)
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(UserError, match=rf"{path.name}: links to a file outside of the (data|records') folder"):
        read(data)


@pytest.mark.parametrize("mask_dir", ["../masks", "/tmp", "SegmentationClass/../../masks"])
def test_the_folder_of_masks_is_inside(data: Path, mask_dir: str) -> None:
    with pytest.raises(UserError, match=rf"--mask_dir={mask_dir}: expected the name of a folder inside"):
        VocFolder(data / "voc", mask_dir=mask_dir)


@pytest.mark.parametrize("file", ["JPEGImages/a.jpg", "SegmentationClass/a.png", "classes.txt"])
def test_a_named_pipe_keeps_nobody_waiting(data: Path, file: str) -> None:
    (data / "voc" / file).unlink()
    os.mkfifo(data / "voc" / file)
    with time_limit(), pytest.raises(UserError, match=rf"{Path(file).name}: cannot read: not a regular file"):
        records_of_voc(data)


# Settings


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x1b[2J", "\udcff"])
def test_control_characters_in_settings_are_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"--masks=.*: holds control characters or bytes that are no UTF-8") as caught:
        evaluate.EvaluateSettings(records="r", work_dir="w", masks=value)
    assert str(caught.value).isprintable()
