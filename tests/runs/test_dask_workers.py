"""Work by a Dask cluster: the same files as alone, also when a worker dies."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_voc import make_tiny_records

from oaa_tf import evaluate, export, make_maps, make_pseudo_labels, make_records, predict, relabel, train_cls, train_seg
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.runs.parallel import in_parallel

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow

TINY = {"image_size": 48, "batch_size": 2, "num_steps": 2, "width": 2, "backbone_weights": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records, a classifier with its maps, and a segmentation model."""
    root = tmp_path_factory.mktemp("data")
    common = {"records": str(make_tiny_records(root).manifest_path), **TINY}
    train_cls.run(train_cls.TrainClsSettings(work_dir=str(root / "cls"), **common))
    train_seg.run(train_seg.TrainSegSettings(work_dir=str(root / "seg"), labels="masks", frame_size=48, **common))
    export.run(export.ExportSettings(stage_dir=str(root / "seg"), output_dir=str(root / "model")))
    return root


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers."""
    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster.scheduler_address


COMMANDS = {
    "make_records": (make_records, make_records.MakeRecordsSettings, {"voc_dir": "voc", "images_per_shard": 3}),
    "make_pseudo_labels": (
        make_pseudo_labels,
        make_pseudo_labels.MakePseudoLabelsSettings,
        {"maps": "cls/attention/oaa", "refine": "pamr", "use_saliency": True},
    ),
    "relabel": (relabel, relabel.RelabelSettings, {"model": "model", "min_probability": 0.0}),
    "make_maps": (make_maps, make_maps.MakeMapsSettings, {"stage_dir": "cls", "flip": True}),
    "evaluate": (evaluate, evaluate.EvaluateSettings, {"model": "model"}),
    "evaluate maps": (evaluate, evaluate.EvaluateSettings, {"maps": "cls/attention/oaa"}),
    "predict": (predict, predict.PredictSettings, {"model": "model", "images": ("voc/JPEGImages",)}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_cluster_writes_what_one_process_writes(
    name: str, data: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, settings_class, options = COMMANDS[name]

    def absolute(value):
        is_path = isinstance(value, str) and (data / value).exists()
        return str(data / value) if is_path else tuple(map(absolute, value)) if isinstance(value, tuple) else value

    options = {key: absolute(value) for key, value in options.items()}
    if name != "predict" and name != "make_records":
        options["records"] = str(data / "records/train.json")
    output = "output_dir" if name in ("predict", "make_records") else "work_dir"
    results = {}
    for scheduler in ("", address):
        monkeypatch.chdir(tmp_path)
        results[scheduler] = module.run(settings_class(**options, **{output: "out"}, scheduler=scheduler))
        shutil.move(tmp_path / "out", tmp_path / ("cluster" if scheduler else "alone"))
    files = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()]
    assert len(files) > 2
    for path in files:
        if path.name in ("metrics.json", "pseudo_labels.json"):
            alone, cluster = (json.loads((tmp_path / which / path).read_text()) for which in ("alone", "cluster"))
            assert alone["settings"].pop("scheduler") == "" and cluster["settings"].pop("scheduler") == address
            assert cluster == alone
        elif path.name not in ("flags.txt", ".lock"):
            assert (tmp_path / "cluster" / path).read_bytes() == (tmp_path / "alone" / path).read_bytes(), path
    assert len(list((tmp_path / "cluster").rglob("*"))) == len(list((tmp_path / "alone").rglob("*")))


def test_images_that_cannot_be_read_are_named(data: Path, address: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(data / f"voc/JPEGImages/{name}.jpg", tmp_path)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    settings = predict.PredictSettings(
        model=str(data / "model"), images=(str(tmp_path),), output_dir=str(tmp_path / "masks"), scheduler=address
    )
    with pytest.raises(UserError, match=r"1 of 2 images were skipped: .*b\.jpg") as caught:
        predict.run(settings)
    assert [image["mask"] for image in caught.value.result["images"]] == ["a.png"]


def test_the_work_of_a_killed_worker_is_done_again(address: str, tmp_path: Path) -> None:
    flag = tmp_path / "killed"

    def work(item: int) -> int:
        if item == 20 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), 9)
        return item**2

    assert list(in_parallel(work, range(60), "squares", scheduler=address)) == [item**2 for item in range(60)]
    assert flag.exists()


def test_workers_that_always_die_are_one_line(address: str) -> None:
    def work(item: int) -> None:
        os.kill(os.getpid(), 9)

    with pytest.raises(UserError, match=r"its workers die at work \(.*\): have they enough memory\?"):
        list(in_parallel(work, range(4), "deadly", scheduler=address))


def test_errors_come_back_with_their_flag(address: str) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise UserError("expected less", flag="items", value=item)
        return item

    with pytest.raises(UserError, match="--items=3: expected less") as caught:
        list(in_parallel(work, range(8), "items", scheduler=address))
    assert caught.value.flag == "items"


def test_processes_of_this_machine() -> None:
    assert list(in_parallel(str, range(5), "words", scheduler="local:1")) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "scheduler", ["tcp://10.0.0.1:8786", "host:8786", "local:0", "tls://", "tcp://localhost.evil.org:1"]
)
def test_a_scheduler_elsewhere_needs_tls(scheduler: str) -> None:
    with pytest.raises(
        UserError, match=r"--scheduler=.*: expected local:N, tls://HOST:PORT, or tcp:// on this machine"
    ):
        list(in_parallel(str, [1], "words", scheduler=scheduler))


def test_a_scheduler_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["dask"].config.config["distributed"]["comm"]["timeouts"], "connect", "1s")
    with pytest.raises(UserError, match=r"--scheduler=tcp://127.0.0.1:9: can't be reached \(.*\); is it running\?"):
        list(in_parallel(str, [1], "words", scheduler="tcp://127.0.0.1:9"))


def test_without_dask_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"--scheduler=local:2: needs Dask: pip install 'oaa-tf\[dask\]'"):
        list(in_parallel(str, [1], "words", scheduler="local:2"))


def test_records_maps_and_models_travel_by_name(data: Path, tmp_path: Path) -> None:
    records = RecordSet.open(data / "records/train.json")
    maps = AttentionMaps.open(data / "cls/attention/oaa", records)
    again = pickle.loads(pickle.dumps(maps))
    assert len(pickle.dumps(maps)) < 1000
    np.testing.assert_array_equal(again.maps, maps.maps)
    np.testing.assert_array_equal(again.records.record(1).image, records.record(1).image)
    segmenter = pickle.loads(pickle.dumps(Segmenter(data / "model", crf=True)))
    image = records.record(0).image
    np.testing.assert_array_equal(segmenter(image), Segmenter(data / "model", crf=True)(image))
    in_memory = AttentionMaps.from_array(maps.maps, records, image_size=48)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(in_memory)).maps, maps.maps)

    shutil.copytree(data / "records", tmp_path / "records")
    moved = RecordSet.open(tmp_path / "records/train.json")
    sent = pickle.dumps(moved)
    (tmp_path / "records/train.json").write_text((data / "records/train.json").read_text().replace('"dog"', '"fox"'))
    with pytest.raises(UserError, match=r"train\.json"):
        pickle.loads(sent)
