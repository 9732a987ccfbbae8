"""SIGTERM and Ctrl-C: every long command ends within seconds, without a traceback, and says how to go on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from oaa_tf import export, train_cls, train_seg
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.demo.data_set import write_demo_data
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records
from oaa_tf.runs.checkpoints import checkpoints_in

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SECONDS = 15
TINY = {
    **{"width": 2, "image_size": 64, "batch_size": 4, "backbone_weights": "none", "initializer": "he"},
    **{"new_layer_multiplier": 1.0, "clip_norm": 10.0},
}
FOREVER = {"num_steps": 5_000, "checkpoint_every": 5}
LAST_LINES = {
    signal.SIGTERM: (143, "stopped by SIGTERM; run the same command again to go on"),
    signal.SIGINT: (130, "stopped by Ctrl-C; run the same command again to go on"),
}


def flags(prefix: str = "", **values) -> list[str]:
    return [f"--{prefix}{name}={value}" for name, value in values.items()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demo data, records, a trained classifier with maps, and an exported segmentation network."""
    root = tmp_path_factory.mktemp("interrupts")
    write_demo_data(root / "voc", num_train=12, num_val=4, image_size=256)
    for split in ("train", "val"):
        make_records(MakeRecordsSettings(voc_dir=str(root / "voc"), split=split, output_dir=str(root / "records")))
    common = {"records": str(root / "records/train.json"), "num_steps": 2, **TINY}
    train_cls.run(train_cls.TrainClsSettings(work_dir=str(root / "cls"), **common))
    train_seg.run(train_seg.TrainSegSettings(work_dir=str(root / "seg"), labels="masks", frame_size=256, **common))
    export.run(export.ExportSettings(stage_dir=str(root / "seg"), output_dir=str(root / "model")))
    large_views = {"output_dir": str(root / "slow_model"), "scales": (4.0,), "image_size": 256}
    export.run(export.ExportSettings(stage_dir=str(root / "seg"), **large_views))
    # Many images for commands that are quick.
    many = root / "many"
    for name in ("JPEGImages", "ImageSets/Segmentation"):
        (many / name).mkdir(parents=True)
    (many / "classes.txt").write_text((root / "voc/classes.txt").read_text())
    image = next((root / "voc/JPEGImages").iterdir())
    for number in range(5000):
        os.link(image, many / f"JPEGImages/{number}.jpg")
    for split, count in (("train", 5000), ("part", 400)):
        (many / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{n}\n" for n in range(count)))
        (many / f"ImageSets/Segmentation/{split}_cls.txt").write_text("".join(f"{n} 0\n" for n in range(count)))
    make_records(MakeRecordsSettings(voc_dir=str(many), split="part", output_dir=str(root / "records")))
    maps = np.random.default_rng(0).integers(0, 256, (400, 32, 32), np.uint8)
    AttentionMaps.save(root / "maps", maps, RecordSet.open(root / "records/part.json"), kind="cam", image_size=256)
    return root


def commands(root: Path, out: Path) -> dict[str, tuple[str, list[str], str]]:
    """By case: the module, its arguments, and a pattern of files below `out` that show that the work has begun."""
    records = {"records": root / "records/train.json"}
    training = flags(work_dir=out, **records, **TINY, **FOREVER)
    of_stages = [
        *(flag for stage in ("train_cls", "train_integral", "train_seg") for flag in flags(f"{stage}.", **FOREVER)),
        *(flag for stage in ("train_cls", "train_seg") for flag in flags(f"{stage}.", width=2, image_size=64)),
        *flags(voc_dir=root / "voc", backbone_weights="none"),
        "--nouse_saliency",
    ]
    crf = ["--crf", *flags(model=root / "model")]
    index = "checkpoints/*.index"
    return {
        "train_cls": ("oaa_tf.train_cls", training, index),
        "train_integral": (
            "oaa_tf.train_integral",
            [*training, *flags(maps=root / "cls/attention/oaa")],
            index,
        ),
        "train_seg": ("oaa_tf.train_seg", [*training, *flags(labels="masks", frame_size=80)], index),
        "maps of a trained network": (
            "oaa_tf.train_cls",
            flags(work_dir=out, **records, **TINY, num_steps=2, map_scales=",".join(["1.5"] * 40)),
            index,
        ),
        "make_records": ("oaa_tf.make_records", flags(voc_dir=root / "many", output_dir=out), ".train.partial/*"),
        "make_pseudo_labels": (
            "oaa_tf.make_pseudo_labels",
            flags(work_dir=out, records=root / "records/part.json", maps=root / "maps", refine="crf"),
            "SegmentationClass/*.png",
        ),
        "relabel": (
            "oaa_tf.relabel",
            flags(work_dir=out, **records, model=root / "slow_model"),
            "SegmentationClass/*.png",
        ),
        "evaluate": (
            "oaa_tf.evaluate",
            [*crf, *flags(work_dir=out, records=root / "records/part.json")],
            "predictions/*.png",
        ),
        "predict": ("oaa_tf.predict", [*crf, *flags(images=root / "many/JPEGImages", output_dir=out)], "*.png"),
        "pipeline": ("oaa_tf.pipeline", [*of_stages, f"--work_dir={out}"], f"train_cls/{index}"),
        "ablation": (
            "tools.ablation",
            [*of_stages, f"--work_dir={out}", "--supervisions=image labels"],
            f"seed0/train_cls/{index}",
        ),
    }


def ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


CASES = list(commands(Path(), Path()))
TRAINING = ("train_cls", "train_integral", "train_seg", "pipeline", "ablation")


@pytest.mark.parametrize("case", CASES)
def test_a_signal_ends_it_within_seconds(root: Path, tmp_path: Path, case: str) -> None:
    number = (signal.SIGTERM, signal.SIGINT)[CASES.index(case) % 2]
    out = tmp_path / "out"
    module, arguments, pattern = commands(root, out)[case]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a background job of a script; only training stages look out for the signal all the same.
        preexec_fn=ignore_ctrl_c if case == "train_integral" else None,
    )
    try:
        deadline = time.monotonic() + 600
        while not any(out.glob(pattern)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        began = time.monotonic()
        stdout, stderr = process.communicate(timeout=60)
        seconds = time.monotonic() - began
    finally:
        process.kill()
    code, line = LAST_LINES[number]
    print(f"{case}: {seconds:.1f} s")
    assert process.returncode == code, stdout + stderr
    assert stderr.rstrip().splitlines()[-1] == line
    assert "Traceback" not in stderr
    assert seconds < SECONDS
    if case in TRAINING:
        step = re.search(r"checkpoint of step (\d+) written", stdout)[1]
        folder = out / Path(pattern).parents[1]
        assert checkpoints_in(folder)[-1].endswith(f"step-{step}")
    assert not list(out.rglob("metrics.json"))
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob(".*partial"))
