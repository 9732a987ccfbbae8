"""The installed commands, as a user types them: every stage as a process of its own, on a tiny demo set."""

import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_page import ReportPage
from stages import settings_class

from oaa_tf.command_line.dry_run import dry_run_text
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.json_values import json_ready
from oaa_tf.command_line.launch import parse
from oaa_tf.data.images.palette_png import read_indexed

ROOT = Path(__file__).parents[1]
# A network of a few thousand weights, on small images, for a few steps.
TINY = (
    *("--width=2", "--image_size=48", "--batch_size=4", "--num_steps=6", "--checkpoint_every=3"),
    *("--backbone_weights=none", "--initializer=he", "--new_layer_multiplier=1", "--clip_norm=10"),
)


def command(module: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess:
    """Runs `python -m module arguments` and checks its exit code."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # TensorFlow's start-up messages.
    assert not re.search(r"oneDNN|absl::InitializeLog|cpu_feature_guard|computation_placer|^[IWE]0000", done.stderr)
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Every stage's output, made by the commands."""
    root = tmp_path_factory.mktemp("commands")
    voc, records = str(root / "voc"), str(root / "records/train.json")
    command("oaa_tf.make_demo_data", f"--output_dir={voc}", "--num_train=12", "--num_val=4", "--image_size=64")
    for split in ("train", "val"):
        command(
            "oaa_tf.make_records",
            *(f"--voc_dir={voc}", f"--split={split}", f"--output_dir={root / 'records'}"),
            f"--saliency_dir={voc}/saliency",
        )
    command("oaa_tf.train_cls", f"--records={records}", f"--work_dir={root / 'cls'}", *TINY, "--fusions=max,average")
    command(
        "oaa_tf.train_integral",
        *(f"--records={records}", f"--maps={root / 'cls/attention/oaa'}", f"--work_dir={root / 'integral'}"),
        *(f"--initial_weights={root / 'cls'}", *TINY),
    )
    command(
        "oaa_tf.make_pseudo_labels",
        *(f"--records={records}", f"--maps={root / 'integral/attention/oaa_plus'}", f"--work_dir={root / 'labels'}"),
        "--use_saliency",
    )
    command(
        "oaa_tf.train_affinity",
        *(f"--records={records}", f"--maps={root / 'integral/attention/oaa_plus'}", f"--labels={root / 'labels'}"),
        *(f"--initial_weights={root / 'cls'}", f"--work_dir={root / 'affinity'}", *TINY),
    )
    command(
        "oaa_tf.train_seg",
        *(f"--records={records}", f"--labels={root / 'labels'}", f"--work_dir={root / 'seg'}", "--frame_size=64"),
        *TINY,
    )
    for stage in ("integral", "seg"):
        command("oaa_tf.export", f"--stage_dir={root / stage}", f"--output_dir={root / 'models' / stage}")
    command(
        "oaa_tf.relabel",
        *(f"--records={records}", f"--model={root / 'models/seg'}", f"--work_dir={root / 'second_labels'}"),
        "--use_saliency",
    )
    command(
        "oaa_tf.evaluate",
        *(f"--records={root / 'records/val.json'}", f"--model={root / 'models/seg'}", f"--work_dir={root / 'score'}"),
    )
    command(
        "oaa_tf.predict",
        *(f"--model={root / 'models/seg'}", f"--images={voc}/JPEGImages", f"--output_dir={root / 'masks'}"),
    )
    return root


def test_every_stage_says_what_it_ran_with(work):
    for stage in ("cls", "integral", "labels", "seg", "second_labels", "score"):
        metrics = json.loads((work / stage / "metrics.json").read_text())
        assert metrics["split"] == ("val" if stage == "score" else "train")
        assert metrics["supervision"] in ("image labels", "image labels + saliency")
        assert metrics["seed"] == 0 and len(metrics["records_checksum"]) == 64
        assert metrics["settings"]["work_dir"] == str(work / stage)
        assert {"python", "tensorflow", "keras"} <= metrics["versions"].keys()
        assert (work / stage / "flags.txt").read_text().startswith("--")
    for stage in ("cls", "integral", "seg"):
        assert list((work / stage / "tensorboard").glob("events*"))


def test_maps_of_all_kinds_are_written(work):
    assert {folder.name for folder in (work / "cls/attention").iterdir()} == {"cam", "oaa", "oaa_average"}
    cam, oaa = (np.load(work / "cls/attention" / name / "maps.npy") for name in ("cam", "oaa"))
    assert cam.shape == oaa.shape
    assert oaa.dtype == np.uint8


def test_a_mask_is_predicted_for_every_image(work):
    images = sorted((work / "voc/JPEGImages").iterdir())
    for image in images:
        assert read_indexed(work / "masks" / f"{image.stem}.png").max() <= 6
    assert len(list((work / "masks").glob("*_overlay.jpg"))) == len(images)


def test_a_report_of_stages_that_were_run_one_by_one(work):
    command("oaa_tf.make_report", f"--work_dir={work}", "--num_images=2")
    report = ReportPage.read(work / "report.html")
    # Only the segmentation has been evaluated; affinity and the second labels are three pictures more than the pipeline
    # has by itself.
    assert "Summary" in report.text and "Not in this report" not in report.text
    assert sorted(len(pictures) for pictures in report.articles.values()) == [3, 3, 11, 11]
    assert len(report.data["replay"]) >= 6


def test_a_finished_stage_says_so_and_does_nothing(work):
    before = (work / "cls/metrics.json").stat().st_mtime_ns
    done = command(
        "oaa_tf.train_cls",
        *(f"--records={work / 'records/train.json'}", f"--work_dir={work / 'cls'}", *TINY, "--fusions=max,average"),
        "--json",
    )
    assert "is done" in done.stderr
    assert json.loads(done.stdout) == json.loads((work / "cls/metrics.json").read_text())
    assert (work / "cls/metrics.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("module", "arguments", "culprit"),
    [
        ("oaa_tf.train_cls", ["--records={work}/nothing.json"], "nothing.json"),
        (
            "oaa_tf.train_cls",
            ["--records={work}/records/train.json", "--backbone_weights={work}/voc/classes.txt"],
            "h5",
        ),
        ("oaa_tf.train_integral", ["--records={work}/records/train.json", "--maps={work}/voc"], "maps"),
        ("oaa_tf.train_integral", ["--records={work}/records/val.json", "--maps={work}/cls/attention/oaa"], "records"),
        (
            "oaa_tf.train_affinity",
            ["--records={work}/records/train.json", "--maps={work}/cls/attention/oaa", "--labels={work}/voc"],
            "--labels",
        ),
        ("oaa_tf.train_seg", ["--records={work}/records/train.json", "--labels={work}/voc"], "--labels"),
        ("oaa_tf.train_cls", ["--records={work}/records/train.json", "--num_step=3"], "--num_steps"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(work, tmp_path, module, arguments, culprit):
    arguments = [argument.format(work=work) for argument in arguments]
    done = command(module, *arguments, f"--work_dir={tmp_path / 'out'}", code=2)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert culprit in done.stderr


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def looked_at(work: Path, module: str, *arguments: str) -> dict[str, Any]:
    """What a command would do by its own account, which must leave no trace."""
    stage = module.rpartition(".")[2]
    settings = parse(settings_class(stage), stage, arguments)
    before = snapshot(work)
    found = importlib.import_module(module).dry_run(settings)
    assert dry_run_text(found)
    assert snapshot(work) == before
    return json_ready(found)


def test_the_dry_run_of_a_training_says_what_it_did(work, tmp_path):
    cls = shutil.copytree(work / "cls", tmp_path / "cls")
    arguments = (f"--records={work / 'records/train.json'}", *TINY, f"--work_dir={cls}", "--fusions=max,average")
    assert looked_at(cls, "oaa_tf.train_cls", *arguments)["state"] == "done"
    with pytest.raises(UserError, match="was begun with --fusions=max,average, not --fusions=max"):
        looked_at(cls, "oaa_tf.train_cls", *arguments, "--fusions=max")
    (cls / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json: damaged; delete it and run the stage again"):
        looked_at(cls, "oaa_tf.train_cls", *arguments)
    # As if it had been stopped.
    (cls / "metrics.json").unlink()
    for file in (cls / "checkpoints").glob("step-6.*"):
        file.unlink()
    found = looked_at(cls, "oaa_tf.train_cls", *arguments)
    metrics = json.loads((work / "cls/metrics.json").read_text())
    assert (found["images"], found["classes"]) == (metrics["num_images"], len(metrics["classes"]))
    assert (found["state"], found["steps"], found["steps_left"], found["epochs"]) == ("goes on from step 3", 6, 3, 2)
    assert sum(found["images_by_canvas"].values()) == found["images"]
    assert [Path(folder).name for folder in found["maps"]] == ["cam", "oaa", "oaa_average"]
    assert all((work / "cls" / Path(path).relative_to(cls)).exists() for path in [*found["writes"], *found["maps"]])
    (data,) = (work / "cls/checkpoints").glob("step-6.data*")
    assert data.stat().st_size == pytest.approx(found["checkpoint_bytes"]["in all"], rel=0.2)
    assert found["checkpoint_bytes"]["attention"] >= metrics["table_bytes"]
    assert found["parameters"] * 4 == found["checkpoint_bytes"]["network"]
    # Half of two epochs.
    assert found["training_seconds"] == pytest.approx(found["epoch_seconds"]) and found["epoch_seconds"] > 0


@pytest.mark.parametrize(
    ("module", "arguments", "expected"),
    [
        (
            "oaa_tf.train_integral",
            (*TINY, "--maps={work}/cls/attention/oaa", "--initial_weights={work}/cls", "--work_dir={work}/integral"),
            {"state": "done", "images": 12},
        ),
        (
            "oaa_tf.train_affinity",
            (
                *(*TINY, "--maps={work}/integral/attention/oaa_plus", "--labels={work}/labels"),
                *("--initial_weights={work}/cls", "--work_dir={work}/affinity"),
            ),
            {"state": "done", "images": 12, "supervision": "image labels + saliency"},
        ),
        (
            "oaa_tf.train_seg",
            (*TINY, "--labels={work}/labels", "--frame_size=64", "--work_dir={work}/seg"),
            {"state": "done", "images": 12, "supervision": "image labels + saliency"},
        ),
        (
            "oaa_tf.make_pseudo_labels",
            ("--maps={work}/integral/attention/oaa_plus", "--use_saliency", "--work_dir={work}/labels"),
            {"state": "done", "images": 12, "images_left": 0},
        ),
        (
            "oaa_tf.make_maps",
            ("--stage_dir={work}/cls", "--flip", "--work_dir={work}/new"),
            {"state": "to do", "maps_kind": "cam", "images": 12, "views": 2},
        ),
        (
            "oaa_tf.make_pseudo_labels",
            ("--maps={work}/cls/attention/cam", "--work_dir={work}/new"),
            {"state": "to do", "images": 12, "images_left": 12},
        ),
        (
            "oaa_tf.relabel",
            ("--model={work}/models/seg", "--use_saliency", "--work_dir={work}/second_labels"),
            {"state": "done", "supervision": "image labels + saliency", "images_left": 0},
        ),
        ("oaa_tf.evaluate", ("--masks={work}/labels/SegmentationClass", "--work_dir={work}/new"), {"state": "to do"}),
        ("oaa_tf.export", ("--stage_dir={work}/seg", "--output_dir={work}/models/seg"), {"task": "segmentation"}),
        (
            "oaa_tf.predict",
            ("--model={work}/models/seg", "--images={work}/voc/JPEGImages", "--output_dir={work}/new"),
            {"images": 16, "classes": 6},
        ),
        (
            "oaa_tf.make_records",
            ("--voc_dir={work}/voc", "--output_dir={work}/records", "--saliency_dir={work}/voc/saliency"),
            {"state": "done", "num_images": 12, "num_masks": 12, "num_shards": 1},
        ),
        ("oaa_tf.make_report", ("--work_dir={work}",), {"evaluations": 1}),
    ],
)
def test_the_dry_runs_of_other_stages(work, module, arguments, expected):
    arguments = [argument.format(work=work) for argument in arguments]
    fields = dataclasses.fields(settings_class(module.rpartition(".")[2]))
    if any(field.name == "records" and field.default is dataclasses.MISSING for field in fields):
        arguments.append(f"--records={work / 'records/train.json'}")
    found = looked_at(work, module, *arguments)
    assert expected.items() <= found.items()


def test_a_dry_run_names_a_download_only_where_there_is_one(work, tmp_path):
    arguments = (f"--records={work / 'records/train.json'}", *TINY, f"--work_dir={tmp_path / 'new'}")
    arguments = (*arguments, "--backbone_weights=imagenet", "--labels=masks", "--frame_size=64")
    assert looked_at(work, "oaa_tf.train_seg", *arguments)["downloads"] == ["backbone_weights"]
    assert looked_at(work, "oaa_tf.train_seg", *arguments, f"--initial_weights={work / 'cls'}")["downloads"] == []


def test_a_dry_run_finds_mistakes(work, tmp_path):
    common = (f"--records={work / 'records/train.json'}", f"--work_dir={tmp_path / 'out'}", *TINY)
    for arguments, culprit in (
        (("--records={work}/nothing.json",), "nothing.json"),
        (("--backbone_weights={work}/voc/classes.txt",), "h5"),
    ):
        with pytest.raises(UserError, match=re.escape(culprit)):
            looked_at(work, "oaa_tf.train_cls", *common, *(argument.format(work=work) for argument in arguments))
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_in_a_begun_work_dir(work):
    arguments = [f"--records={work / 'records/train.json'}", f"--work_dir={work / 'cls'}", *TINY]
    done = command("oaa_tf.train_cls", *arguments, "--fusions=max", code=2)
    assert "--fusions=max,average" in done.stderr
