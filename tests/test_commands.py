"""The installed commands, as a user types them: every stage as a process of its own, on a tiny demo set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_page import ReportPage

from oaa_tf.data.palette_png import read_indexed

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
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Every stage's output, made by the commands."""
    root = tmp_path_factory.mktemp("commands")
    voc, records = str(root / "voc"), str(root / "records/train.json")
    command("tools.make_demo_data", f"--output_dir={voc}", "--num_train=12", "--num_val=4", "--image_size=64")
    for split, module in (("train", "tools.make_records"), ("val", "oaa_tf.make_records")):
        command(
            module,
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
        "oaa_tf.train_seg",
        *(f"--records={records}", f"--labels={root / 'labels'}", f"--work_dir={root / 'seg'}", "--frame_size=64"),
        *TINY,
    )
    for stage in ("integral", "seg"):
        command("oaa_tf.export", f"--stage_dir={root / stage}", f"--output_dir={root / 'models' / stage}")
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
    for stage in ("cls", "integral", "labels", "seg", "score"):
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
    command("tools.make_report", f"--work_dir={work}", "--num_images=2")
    report = ReportPage.read(work / "report.html")
    # Only the segmentation has been evaluated.
    assert "Summary" in report.text and "Not in this report" not in report.text
    assert sorted(len(pictures) for pictures in report.articles.values()) == [3, 3, 7, 7]
    assert len(report.data["replay"]) >= 6


def test_a_finished_stage_says_so_and_does_nothing(work):
    before = (work / "cls/metrics.json").stat().st_mtime_ns
    done = command(
        "oaa_tf.train_cls",
        *(f"--records={work / 'records/train.json'}", f"--work_dir={work / 'cls'}", *TINY, "--fusions=max,average"),
    )
    assert "is done" in done.stdout
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


def test_other_settings_are_refused_in_a_begun_work_dir(work):
    arguments = [f"--records={work / 'records/train.json'}", f"--work_dir={work / 'cls'}", *TINY]
    done = command("oaa_tf.train_cls", *arguments, "--fusions=max", code=2)
    assert "--fusions=max,average" in done.stderr
