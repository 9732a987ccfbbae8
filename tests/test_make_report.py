"""The report page of runs that are finished, unfinished, or have no masks, by parsing it and in a browser."""

import fnmatch
import html
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from report_page import ReportPage
from tiny_model import MODEL_CLASSES, make_trained_stage
from tiny_voc import CLASSES, LABELS, attention_from_masks, make_tiny_records

from oaa_tf import evaluate, make_pseudo_labels, make_report
from oaa_tf.attention.history import Snapshot
from oaa_tf.attention.map_files import AttentionMaps
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.images.palette_png import read_indexed
from oaa_tf.make_report import MakeReportSettings
from oaa_tf.report.gallery import Picture, Row
from oaa_tf.report.page import report_page
from oaa_tf.report.run_folder import Evaluation, RunFolder, StageFolder

ROOT = Path(__file__).parents[1]
HOSTILE = """</script><img src=x onerror=alert(1)>&amp;"'{{style}}"""


def write_stage(folder: Path, name: str, checksum: str, flags: str = "", finished: bool = True) -> None:
    """What a training stage leaves that the report reads, without training."""
    folder.mkdir(exist_ok=True)
    (folder / "flags.txt").write_text(flags)
    (folder / "inputs.json").write_text(json.dumps({"records": checksum}))
    if finished:
        metrics = {
            "stage": name,
            "classes": CLASSES,
            "seed": 3,
            "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default():
        for step in (10, 20, 30):
            tf.summary.scalar("loss", 3 / step, step=step)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages but the integral attention model, whose maps are perfect and whose networks know nothing."""
    assert MODEL_CLASSES == CLASSES
    root = tmp_path_factory.mktemp("report") / "my run"
    root.mkdir()
    records = make_tiny_records(root)
    make_tiny_records(root, split="val", saliency=False)
    train, val = (str(root / f"records/{split}.json") for split in ("train", "val"))
    cls = root / "train_cls"
    write_stage(
        cls, "train_cls", records.checksum, "--image_size=48\n--batch_size=2\n--accumulate_from_epoch=1\n--noflip\n"
    )
    maps = attention_from_masks(records, 48)
    for folder, kind in (("cam", "cam"), ("oaa", "oaa_max")):
        AttentionMaps.save(cls / "attention" / folder, maps, records, kind=kind, image_size=48)
    (cls / "attention_history").mkdir()
    slots = np.arange(2)
    for step in (0, 2, 10):
        so_far = maps[:2] * (step > 0)
        snapshot = Snapshot(slots, maps[:2], so_far, np.float32([0.25, 0.5]), np.int32([step, 0]))
        snapshot.write(cls / f"attention_history/step-{step:06d}.npz")
    make_pseudo_labels.run(
        make_pseudo_labels.MakePseudoLabelsSettings(
            records=train, maps=str(cls / "attention/oaa"), work_dir=str(root / "labels"), use_saliency=True
        )
    )
    make_trained_stage(root / "train_seg", "segmentation")
    write_stage(root / "train_seg", "train_seg", records.checksum)
    for name, inputs in {
        "cam": {"maps": str(cls / "attention/cam")},
        "oaa": {"maps": str(cls / "attention/oaa")},
        "labels": {"masks": str(root / "labels/SegmentationClass")},
    }.items():
        evaluate.run(evaluate.EvaluateSettings(records=train, work_dir=str(root / "evaluate" / name), **inputs))
    # A model's evaluation, from its masks.
    model = root / "evaluate/model"
    found = evaluate.run(
        evaluate.EvaluateSettings(records=val, masks=str(root / "voc/SegmentationClass"), work_dir=str(model))
    )
    (model / "metrics.json").write_text(json.dumps(found | {"evaluated": "model"}))
    shutil.copytree(root / "voc/SegmentationClass", model / "predictions")
    return root


@pytest.fixture(scope="module")
def page_file(run_folder: Path) -> Path:
    found = make_report.run(MakeReportSettings(work_dir=str(run_folder), picture_size=64))
    assert found["file"] == str(run_folder / "report.html")
    assert found["images"] == 2 * len(LABELS)
    assert found["missing"] == ["Integral (OAA+): train_integral has not been run."]
    return run_folder / "report.html"


@pytest.fixture(scope="module")
def page(page_file: Path) -> ReportPage:
    return ReportPage.read(page_file)


def test_the_page_needs_nothing_else(page: ReportPage) -> None:
    assert len(page.urls) > 20
    assert all(url.startswith(("data:", "#")) or url == "var(--photo" or "${" in url for url in page.urls), page.urls
    assert "http:" not in page.text and "https:" not in page.text


def test_all_sections_are_there(page: ReportPage) -> None:
    assert page.text.count("Not in this report") == 1
    for part in (
        "my run",
        "Summary",
        "Curves",
        "Scores by class",
        "Accumulation, epoch by epoch",
        "Images",
        "Settings",
    ):
        assert part in page.text, part
    assert "3 classes · 4 training images · 4 validation images · seed 3 · TensorFlow 2.21.0, Keras 3.15.1" in page.text
    for part in ("Classifier: loss", "Segmentation network: loss", "mIoU at every threshold", "precision and recall"):
        assert part in page.text, part
    assert "--flip=false" in page.text


def test_the_tables_say_what_the_evaluations_found(page: ReportPage, run_folder: Path) -> None:
    metrics = json.loads((run_folder / "evaluate/oaa/metrics.json").read_text())
    assert 0.5 < metrics["best"]["mean_iou"] < 1
    assert f"best threshold, {metrics['best']['threshold']:.2f}" in page.text
    assert page.text.count(f"{100 * metrics['best']['mean_iou']:.1f}") >= 2
    assert f"{100 * metrics['best']['iou_per_class']['cat']:.1f}" in page.text
    assert "segmentation100.0all pixelsval, 4 images" in page.text


def test_the_table_of_photos_says_what_the_masks_show(page: ReportPage, run_folder: Path) -> None:
    images = json.loads((run_folder / "evaluate/model/metrics.json").read_text())["images"]
    # Its masks are the truth.
    assert images["cat"]["auc"] == images["cat"]["detection_rate"] == 1 and images["cat"]["false_alarms"] == 0
    of_table = page.text.partition("segmentation network's masks show each class")[2]
    assert "cat100.00.0100.0" in re.sub(r"\s", "", of_table)


def test_a_row_per_image_with_all_pictures(page_file: Path, page: ReportPage) -> None:
    assert set(page.articles) == set(LABELS)
    # The images of val have the same names.
    rows = re.findall(r"<article.*?</article>", page_file.read_text(), flags=re.DOTALL)
    assert len(rows) == 8
    titles = [re.findall(r"<figcaption><span>(.*?)</span>", row) for row in rows]
    assert titles[0] == ["Image", "CAM", "Cumulative (OAA)", "Saliency", "Pseudo label", "Prediction", "Ground truth"]
    assert titles[-1] == ["Image", "Prediction", "Ground truth"]
    assert rows[-1].count("<b>100.0</b>") == 1  # The prediction of val is the truth.
    assert "Ground truth of c: cat, dog" in page.articles["c"]


def test_the_replay_has_every_step(page: ReportPage) -> None:
    first, second = page.data["replay"]
    assert (first["image"], first["name"], second["name"]) == ("a", "cat", "dog")
    assert first["steps"] == [0, 2, 10] and first["epochs"] == [0, 1, 5]
    assert first["waiting"] == [True, True, False]
    assert first["updates"] == [0, 2, 10] and second["scores"] == [0.5] * 3
    assert len(set(first["cumulative"])) == 2 and len(set(first["attention"])) == 1


def test_images_can_be_chosen(run_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "chosen.html"
    chosen = MakeReportSettings(work_dir=str(run_folder), images=("d",), output=str(output))
    assert make_report.run(chosen)["images"] == 2
    assert set(ReportPage.read(output).articles) == {"d"}
    with pytest.raises(UserError, match="--images=nobody: no such image among those of"):
        make_report.run(MakeReportSettings(work_dir=str(run_folder), images=("d", "nobody")))


@pytest.mark.parametrize(
    ("choose", "count", "expected"),
    [("worst", 1, ["c"]), ("worst", 2, ["c", "b"]), ("ranked", 1, ["a"]), ("ranked", 2, ["a", "c"])]
    + [("ranked", 3, ["a", "b", "c"]), ("ranked", 9, ["a", "d", "b", "c"])],
)
def test_images_by_the_iou_of_their_predictions(
    choose: str, count: int, expected: list[str], run_folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run_folder, copied)
    for name, wrong_share in {"a": 0, "b": 0.5, "c": 1, "d": 0.25}.items():
        prediction = read_indexed(copied / f"voc/SegmentationClass/{name}.png")
        prediction[: round(wrong_share * len(prediction))] = 3
        encoded = tf.io.encode_png(prediction[:, :, np.newaxis]).numpy()
        (copied / f"evaluate/model/predictions/{name}.png").write_bytes(encoded)
    make_report.run(MakeReportSettings(work_dir=str(copied), num_images=count, choose=choose))
    page = (copied / "report.html").read_text()
    assert re.findall(r">(\w)</h3>", page)[-len(expected) :] == expected


def test_a_run_that_has_just_begun(run_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "begun"
    shutil.copytree(run_folder / "records", root / "records")
    checksum = json.loads((root / "records/train.json").read_text())["checksum"]
    write_stage(root / "train_cls", "train_cls", checksum, finished=False)
    events = next((root / "train_cls/tensorboard").iterdir())
    events.write_bytes(events.read_bytes()[:-7])  # The last record is half written.
    missing = "\n".join(make_report.run(MakeReportSettings(work_dir=str(root), num_images=2))["missing"])
    for expected in (
        *(
            "Scores: nothing has been evaluated",
            "CAM: train_cls has not finished",
            "Integral (OAA+): train_integral has",
        ),
        *(
            "Pseudo label: make_pseudo_labels has",
            "Prediction: train_seg has not been run",
            "Replay of the accumulation",
        ),
    ):
        assert expected in missing
    page = ReportPage.read(root / "report.html")
    assert all(sentence in page.text for sentence in missing.split("\n"))
    assert "Classifier: loss" in page.text and len(page.articles) == 2
    assert "Summary" not in page.text and page.data == {"replay": []}


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"--work_dir={tmp_path}: no stage has been run in it"):
        make_report.run(MakeReportSettings(work_dir=str(tmp_path)))
    with pytest.raises(UserError, match=r"no stage has been run"):
        make_report.run(MakeReportSettings(work_dir=str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("name", "key", "advice"),
    [
        ("evaluate/oaa/metrics.json", "evaluated", "delete it and run the stage again"),
        ("evaluate/oaa/metrics.json", "sweep", "delete it and run the stage again"),
        ("evaluate/labels/metrics.json", "supervision", "delete it and run the stage again"),
        ("train_cls/flags.txt", "batch_size", "write the line --batch_size=<number> of that run into"),
    ],
)
def test_files_without_what_the_report_needs_are_named(
    run_folder: Path, tmp_path: Path, name: str, key: str, advice: str
) -> None:
    copied = shutil.copytree(run_folder, tmp_path / "run")
    path = copied / name
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        del content[key]
        path.write_text(json.dumps(content))
    else:
        path.write_text(path.read_text().partition(f"--{key}")[0])
    with pytest.raises(UserError, match=rf"{path}: damaged; {advice}"):
        make_report.run(MakeReportSettings(work_dir=str(copied), num_images=0))


def test_a_page_that_cannot_be_written(run_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "no folder/report.html"
    with pytest.raises(UserError, match=rf"--output={output}: cannot be written"):
        make_report.run(MakeReportSettings(work_dir=str(run_folder), num_images=0, output=str(output)))


def hostile_page() -> str:
    """A page with the worst names that data could have."""
    scores = {"mean_iou": 0.5, "iou_per_class": {"background": 0.5, HOSTILE: None}, "labelled_share": 1.0}
    metrics = {"evaluated": "masks", "classes": [HOSTILE], "split": HOSTILE, "num_images": 1, "supervision": None}
    sweep = {"threshold": [0.2, 0.5], "mean_iou": [0.1, 0.2], "recall": [0.5, None], "precision": [0.5, None]}
    maps = {"evaluated": "maps", "maps_kind": HOSTILE, "best": scores | {"threshold": 0.5}, "sweep": sweep}
    evaluations = Evaluation(HOSTILE, Path("x"), metrics | scores), Evaluation(HOSTILE, Path("x"), metrics | maps)
    stage = StageFolder(Path("x"), HOSTILE, {HOSTILE: HOSTILE}, None)
    run = RunFolder(Path(HOSTILE), {HOSTILE: stage}, evaluations, None, None)
    shown = Picture("Prediction", "data:,", names=[(0, 0.5, 0.5)], classes=[0], iou=float("nan"))
    row = Row(HOSTILE, HOSTILE, (0,), (30, 40), "data:,", (Picture("Image"), shown))
    replay = [{"image": HOSTILE, "name": HOSTILE}]
    return report_page(run, [row], replay, [HOSTILE])


def test_maps_without_a_positive_score_are_counted() -> None:
    stage = StageFolder(Path("x"), "train_cls", {}, {"classes": ["a"], "empty_maps": 3, "num_pairs": 1200})
    scores = {"mean_iou": 0.5, "iou_per_class": {"background": 0.5, "a": 0.5}, "labelled_share": 1.0}
    metrics = {"evaluated": "masks", "classes": ["a"], "split": "train", "num_images": 1, "supervision": None}
    evaluation = Evaluation("labels", Path("x"), metrics | scores)
    page = ReportPage(report_page(RunFolder(Path("x"), {"train_cls": stage}, (evaluation,), None, None), [], [], []))
    assert "3 of 1,200 class activation maps have no positive score" in page.text


def test_names_are_escaped() -> None:
    page = ReportPage(hostile_page())
    assert page.tags.count("img") == 3  # The layer, and the two of the replay.
    assert page.data["replay"] == [{"image": HOSTILE, "name": HOSTILE}]
    assert page.text.count(HOSTILE) >= 8
    assert f"--{HOSTILE}={HOSTILE}" in page.text
    assert [line["name"] for chart in page.charts for line in chart["lines"]] == [HOSTILE] * 2
    assert page.articles == {HOSTILE: [f"Photograph {HOSTILE}", f"Prediction of {HOSTILE}: {HOSTILE}"]}


# A small phone has 390 pixels, of which the margins take 2 rem.
PHONE, ROOM = 390, 390 - 2 * 16
# What the page's script puts into `.pairs`.
PAIR = '<label><input type="radio"><img alt=""><span>cat<small>2007_000027</small></span></label>'


def phone_rules(styles: str) -> list[tuple[str, dict[str, str]]]:
    """Selectors and declarations that apply to a phone, in their order."""
    styles = re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL)
    found = []
    for media, inside, selectors, body in re.findall(
        r"@media ([^{]*)\{((?:[^{}]*\{[^{}]*\})*)[^{}]*\}|([^{}@]+)\{([^{}]*)\}", styles
    ):
        if media:
            limit = re.search(r"max-width: (\d+)rem", media)
            found += phone_rules(inside) if limit and 16 * int(limit[1]) >= PHONE else []
            continue
        pairs = (one.partition(":") for one in body.split(";") if ":" in one)
        declarations = {name.strip(): value.strip() for name, _, value in pairs}
        found += [(selector.strip(), declarations) for selector in selectors.split(",")]
    return found


def name_of(element: tuple[str, dict[str, str]]) -> str:
    return ".".join((element[0], *element[1].get("class", "").split()))


def is_part(compound: str, element: tuple[str, dict[str, str]]) -> bool:
    """Whether an element has the tag, the classes, the id and the attributes of a part of a selector."""
    tag, attributes = element
    plain = re.sub(r":.*", "", compound)
    names = {f".{name}" for name in attributes.get("class", "").split()} | {f"#{attributes.get('id')}"}
    names |= {f"[{name}]" for name in attributes}
    wanted_tag = re.match(r"[a-z0-9]*", plain)[0]
    return wanted_tag in ("", tag) and set(re.findall(r"[.#][\w-]+|\[[a-z]+\]", plain)) <= names


def style_of(chain: tuple, rules: list[tuple[str, dict[str, str]]], before: bool = False) -> dict[str, str]:
    """The declarations for the last element of a chain, or for its `::before`; the last rule wins."""
    style: dict[str, str] = {}
    for selector, declarations in rules:
        *outer, last = selector.split()
        if "+" in outer or "~" in outer or ("::" in last) != before or ":focus" in last or not is_part(last, chain[-1]):
            continue
        around = iter(reversed(chain[:-1]))
        if all(any(is_part(part, element) for element in around) for part in reversed(outer)):
            style |= declarations
    return style


def is_clipped(style: dict[str, str]) -> bool:
    return any(style.get(name, "visible") != "visible" for name in ("overflow", "overflow-x"))


def sticks_out_of(chain: tuple, rules: list[tuple[str, dict[str, str]]]) -> str:
    """Why an element can make the page wider than a phone's screen; empty if it can't."""
    style = style_of(chain, rules)
    around = [style_of(chain[:depth], rules) for depth in range(len(chain) - 1, 0, -1)]
    if chain[-1][0] == "table" and not any(map(is_clipped, around)):
        return "a table that does not scroll"
    if chain[-1][0] == "pre" and not any(map(is_clipped, [style, *around])):
        return "text that does not scroll"
    if style.get("white-space") == "nowrap" and not any(map(is_clipped, around)):
        return "text that is not broken and does not scroll"
    is_rigid = style.get("flex") == "none" and "width" not in style and around[0].get("flex-wrap") != "wrap"
    if is_rigid and not any(map(is_clipped, around)):
        return "a row of things that neither shrink nor scroll"
    for name in ("width", "min-width", "flex-basis", "grid-template-columns"):
        value = style.get(name, "")
        lengths = [
            float(number) * {"rem": 16, "px": 1}[unit] for number, unit in re.findall(r"([\d.]+)(rem|px)", value)
        ]
        is_limited = "%" in value or "vw" in value or any(map(is_clipped, around))
        if sum(lengths) > ROOM and not is_limited:
            return f"{name}: {value}"
        # Such a track is at least as wide as the longest word in it.
        if re.search(r"(?<!, )\b\d+fr", value):
            return f"{name}: {value} without minmax"
    for one, holders in ((style, around), (style_of(chain, rules, before=True), [style, *around])):
        # What scrolls or clips does so only for what is positioned inside it.
        if one.get("position") == "absolute" and not one.get("left", "").startswith("-"):
            holder = next((each for each in holders if "position" in each or is_clipped(each)), {})
            if "position" not in holder:
                return "is positioned on the page, whatever scrolls around it"
    return ""


def test_a_phone_scrolls_tables_and_rows_and_not_the_page(page_file: Path) -> None:
    pairs = 'role="radiogroup" aria-label="Image and class">'
    text = page_file.read_text()
    assert pairs in text
    page = ReportPage(text.replace(pairs, pairs + PAIR))
    rules = phone_rules(page.styles)
    assert {"table", "pre", "article", "select", "svg"} <= set(page.tags)
    reasons = {" ".join(map(name_of, chain)): sticks_out_of(chain, rules) for chain in page.elements}
    assert {name: reason for name, reason in reasons.items() if reason} == {}
    # Words longer than the screen are broken, also where the width of a word counts as a minimum.
    (body,) = (chain for chain in page.elements if chain[-1][0] == "body")
    assert style_of(body, rules)["overflow-wrap"] == "anywhere"


def test_the_template_is_in_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "oaa_tf.report"
    ]
    files = [
        path for path in (ROOT / "oaa_tf/report").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(files) == 10
    for path in files:
        name = path.relative_to(ROOT / "oaa_tf/report").as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Runs behind the page's own script and leaves what it finds in the document, which the browser prints.
DRIVER = """
const result = { errors: window.errors };
const form = document.getElementById("controls");
const visible = () => [...document.querySelectorAll("article")].filter((one) => !one.hidden)
  .map((one) => one.querySelector("h3").textContent + "/" + one.dataset.split);
const set = (name, value) => {
  form.elements[name].value = value;
  form.dispatchEvent(new Event("change"));
};
const press = (key, target = document.activeElement) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
result.all = visible();
set("class", "0"); result.cats = visible(); set("class", "");
set("split", "val"); result.val = visible(); set("split", "");
set("order", "Prediction"); result.worst = visible();
result.ious = [...document.querySelectorAll("article")].map((one) => JSON.parse(one.dataset.ious).Prediction);
set("order", "");
press("j", document.body); press("j"); press("k");
result.focused = document.activeElement.querySelector("h3").textContent;
press("Enter");
result.enlarged = document.getElementById("enlarged").open;
document.getElementById("enlarged").close();
const slider = document.querySelector(".transport input");
result.last = document.querySelector(".moment").textContent;
const end = document.querySelector("[data-panel=cumulative] img").src;
slider.value = 0; slider.dispatchEvent(new Event("input"));
result.first = document.querySelector(".moment").textContent;
result.changed = end !== document.querySelector("[data-panel=cumulative] img").src;
const chart = document.querySelector("svg[data-chart]");
chart.focus(); press("ArrowLeft");
result.readout = document.querySelector(".readout").textContent;
// More pairs of image and class than there is room for.
const pairs = document.querySelector(".pairs");
for (let i = 0; i < 30; i++) pairs.append(pairs.lastElementChild.cloneNode(true));
result.overflow = document.documentElement.scrollWidth - window.innerWidth;
const pre = document.body.appendChild(document.createElement("pre"));
pre.id = "result";
pre.textContent = JSON.stringify(result);
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = os.environ.get("OAA_TF_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed, and OAA_TF_BROWSER is not set")
    return found


def driven(browser: str, page: str, folder: Path, width: int) -> dict:
    """What `DRIVER` finds in a page."""
    page = page.replace("<head>", "<head><script>window.errors = []; window.onerror = (e) => errors.push(e);</script>")
    path = folder / "driven.html"
    path.write_text(page.replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"),
        *(f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom", path.as_uri()),
    ]
    document = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="result">(.*?)</pre>', document)
    assert found, document[-1000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(browser: str, page_file: Path, tmp_path: Path, width: int) -> None:
    found = driven(browser, page_file.read_text(), tmp_path, width)
    assert found["errors"] == []
    assert found["all"] == [f"{name}/{split}" for split in ("train", "val") for name in "abcd"]
    assert found["cats"] == ["a/train", "c/train", "a/val", "c/val"]
    assert found["val"] == ["a/val", "b/val", "c/val", "d/val"]
    assert sorted(found["worst"]) == sorted(found["all"]) and found["worst"] != found["all"]
    assert found["ious"] == sorted(found["ious"]) and found["ious"][-4:] == [1] * 4
    assert found["focused"] == "a" and found["enlarged"]
    assert found["last"] == "epoch 5.0, step 10 · score 0.25 · accumulated 10 times"
    assert found["first"] == "epoch 0.0, step 0 · score 0.25 · accumulation has not begun"
    assert found["changed"]
    assert found["readout"] == "step 30: 0.100"
    assert found["overflow"] <= 0
