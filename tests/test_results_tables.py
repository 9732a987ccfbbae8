"""Figures in the documentation and in presets are those of docs/results."""

import json
import re
import statistics
from pathlib import Path

import pytest

from oaa_tf.command_line.errors import UserError
from tools.results_tables import PAGE as PAPER_TABLES
from tools.results_tables import with_tables

ROOT = Path(__file__).parents[1]


def test_page_is_up_to_date() -> None:
    page = ROOT / PAPER_TABLES
    assert "<!-- table: table2.json -->" in page.read_text()
    assert page.read_text() == with_tables(page)


def test_replaces_what_stands_between_the_marks(tmp_path) -> None:
    row = {"setting": "CAM", "measurement": "maps", "split": "train", "supervision": "image labels"}
    (tmp_path / "t.json").write_text(json.dumps({"rows": [row | {"mean": 0.25, "spread": None}]}))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: t.json -->\nold\n<!-- end of table -->\nafter\n")
    text = with_tables(page)
    assert text.startswith("before\n<!-- table: t.json -->\n\n|") and text.endswith("<!-- end of table -->\nafter\n")
    assert "| maps | train | image labels | 25.0 |" in text and "old" not in text
    page.write_text(text)
    assert with_tables(page) == text


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_missing_and_damaged(content: str | None, tmp_path) -> None:
    if content is not None:
        (tmp_path / "t.json").write_text(content)
    (tmp_path / "page.md").write_text("<!-- table: t.json -->\n<!-- end of table -->\n")
    with pytest.raises(UserError, match=r"t\.json"):
        with_tables(tmp_path / "page.md")


# Where pages and presets get their figures from: a table in docs/results/ for ours, docs/explanation/paper.md for the
# paper's. Page, heading, row and column; the cell's last figure counts for shares of labelled pixels, else the first.
RESULTS, STUDIES, PAPER = "docs/results/results.md", "docs/explanation/studies.md", "docs/explanation/paper.md"
_PAPER_1 = (PAPER, "Table 1: comparison on VOC 2012, mIoU in percent")
_PAPER_2 = (PAPER, "Table 2: fusions and losses, mIoU in percent on VOC 2012 val, VGG16")
_ANIMALS = (RESULTS, "VOC animals")
SOURCES = {
    "demo_fast_time": (RESULTS, "Demo data", "AMD", 1),
    "demo_slow_time": (RESULTS, "Demo data", "Intel", 1),
    "demo_labels": (RESULTS, "Demo data", "AMD", 7),
    "demo_labelled": (RESULTS, "Demo data", "AMD", 7),
    "demo": (RESULTS, "Demo data", "AMD", 8),
    "cpu_time": (*_ANIMALS, "one-hour preset", 1),
    "cpu_cam": (*_ANIMALS, "one-hour preset", 2),
    "cpu_max": (*_ANIMALS, "one-hour preset", 3),
    "cpu_average": (*_ANIMALS, "one-hour preset", 4),
    "cpu_maps": (*_ANIMALS, "one-hour preset", 5),
    "cpu_labels": (*_ANIMALS, "one-hour preset", 6),
    "cpu_labelled": (*_ANIMALS, "one-hour preset", 6),
    "cpu": (*_ANIMALS, "one-hour preset", 9),
    "best_time": (*_ANIMALS, "best preset, seed 1", 1),
    "best_labels": (*_ANIMALS, "best preset, seed 1", 6),
    "best_labelled": (*_ANIMALS, "best preset, seed 1", 6),
    "best": (*_ANIMALS, "best preset, seed 1", 9),
    "best_views": (*_ANIMALS, "best preset, seed 1", 10),
    "best0_time": (*_ANIMALS, "best preset, seed 0", 1),
    "best0_labels": (*_ANIMALS, "best preset, seed 0", 6),
    "best0_labelled": (*_ANIMALS, "best preset, seed 0", 6),
    "best0": (*_ANIMALS, "best preset, seed 0", 9),
    "best0_views": (*_ANIMALS, "best preset, seed 0", 10),
    "first": (*_ANIMALS, "two networks, seed 1", 8),
    "second": (*_ANIMALS, "two networks, seed 1", 9),
    "second_views": (*_ANIMALS, "two networks, seed 1", 10),
    "first0": (*_ANIMALS, "two networks, seed 0", 8),
    "second0": (*_ANIMALS, "two networks, seed 0", 9),
    "second0_views": (*_ANIMALS, "two networks, seed 0", 10),
    "vgg16_cam": (*_ANIMALS, "two networks on VGG16", 2),
    "vgg16_max": (*_ANIMALS, "two networks on VGG16", 3),
    "vgg16_average": (*_ANIMALS, "two networks on VGG16", 4),
    "vgg16_maps": (*_ANIMALS, "two networks on VGG16", 5),
    "vgg16_first_labels": (*_ANIMALS, "two networks on VGG16", 6),
    "vgg16_first_labelled": (*_ANIMALS, "two networks on VGG16", 6),
    "vgg16_labels": (*_ANIMALS, "two networks on VGG16", 7),
    "vgg16_labelled": (*_ANIMALS, "two networks on VGG16", 7),
    "vgg16_first": (*_ANIMALS, "two networks on VGG16", 8),
    "vgg16": (*_ANIMALS, "two networks on VGG16", 9),
    "six_views": (STUDIES, "CRF, views and class prior", "`runs/vgg16`", 6),
    "ten_views": (*_ANIMALS, "two networks on VGG16", 10),
    "affinity_labels": (STUDIES, "Learned affinity", "labels after the walk, train", 2),
    "affinity_labelled": (STUDIES, "Learned affinity", "labels after the walk, train", 1),
    "affinity": (STUDIES, "Learned affinity", "first network, on Lite2, val", 2),
    "affinity_views": (STUDIES, "Learned affinity", "six views, class prior, CRF, val", 2),
    "affinity0_labels": (*_ANIMALS, "labels only, affinity, seed 0", 6),
    "affinity0_labelled": (*_ANIMALS, "labels only, affinity, seed 0", 6),
    "affinity0": (*_ANIMALS, "labels only, affinity, seed 0", 8),
    "affinity0_views": (*_ANIMALS, "labels only, affinity, seed 0", 10),
    "only_first_labels": (STUDIES, "Labels only", "pseudo labels, train", 2),
    "only_first_labelled": (STUDIES, "Labels only", "pseudo labels, train", 1),
    "only_labels": (STUDIES, "Labels only", "of the first network, train", 2),
    "only_labelled": (STUDIES, "Labels only", "of the first network, train", 1),
    "only": (STUDIES, "Labels only", "second network, val", 2),
    "only_views": (STUDIES, "Labels only", "six views, class prior, CRF, val", 2),
    "steel_labels": (RESULTS, "Steel", "on VGG16", 5),
    "steel_labelled": (RESULTS, "Steel", "on VGG16", 5),
    "steel": (RESULTS, "Steel", "on VGG16", 6),
    "steel_walk_labelled": (STUDIES, "Learned affinity", "after 24 steps", 2),
    "steel_walk_labels": (STUDIES, "Learned affinity", "after 24 steps", 3),
    "steel_walk": (STUDIES, "Learned affinity", "after 24 steps", 4),
    "steel_walk1_labels": (RESULTS, "Steel", "Lite2, affinity, seed 1", 5),
    "steel_walk1_labelled": (RESULTS, "Steel", "Lite2, affinity, seed 1", 5),
    "steel_walk1": (RESULTS, "Steel", "Lite2, affinity, seed 1", 6),
    "steel_walk1_time": (RESULTS, "Steel", "Lite2, affinity, seed 1", 1),
    "steel_lite2": (STUDIES, "Surfaces", "steel surfaces", 2),
    "tiles_labels": (RESULTS, "Tiles", "on VGG16", 5),
    "tiles_labelled": (RESULTS, "Tiles", "on VGG16", 5),
    "tiles": (RESULTS, "Tiles", "on VGG16", 6),
    "tiles_lite2": (STUDIES, "Surfaces", "magnetic tiles", 2),
    "tiles_lite2_labels": (STUDIES, "Surfaces", "magnetic tiles", 3),
    "tiles_lite2_labelled": (STUDIES, "Surfaces", "magnetic tiles", 4),
    "tiles_lite2_1_labels": (RESULTS, "Tiles", "Lite2, seed 1", 5),
    "tiles_lite2_1_labelled": (RESULTS, "Tiles", "Lite2, seed 1", 5),
    "tiles_lite2_1": (RESULTS, "Tiles", "Lite2, seed 1", 6),
    "tiles_lite2_1_time": (RESULTS, "Tiles", "Lite2, seed 1", 1),
    "paper_max": (*_PAPER_2, "3", 2),
    "paper_plus": (*_PAPER_2, "5", 2),
    "paper_vgg16": (*_PAPER_1, "OAA+", 2),
    # Beside another method on VGG16.
    "paper_resnet101": (*_PAPER_1, "STC", 7),
    "paper_resnet101_test": (*_PAPER_1, "STC", 8),
}
# What they say; presets in their opening comment.
SAID = {
    "README.md": (
        "the demo takes {demo_time_in_words} on two CPU cores",
        "| {demo_labels} ({demo_labelled} %) | {demo} | {demo_time} |",
        "| {cpu_labels} ({cpu_labelled} %) | {cpu} | {cpu_time} |",
        "| {best0_labels} ({best0_labelled} %) | {best0} | {best0_time} |",
        "| {best_labels} ({best_labelled} %) | {best} | {best_time} |",
        "| both with ten views, class prior and CRF | image labels + saliency | | {best0_views} and {best_views} | |",
        "| {affinity0_labels} ({affinity0_labelled} %) | {affinity0} | |",
        "| {affinity_labels} ({affinity_labelled} %) | {affinity} | |",
        "| both with six views, class prior and CRF | image labels | | {affinity0_views} and {affinity_views} | |",
        "| {steel_labels} ({steel_labelled} %) | {steel} | 30 min |",
        "| {steel_walk_labels} ({steel_walk_labelled} %) and {steel_walk1_labels} ({steel_walk1_labelled} %) |"
        " {steel_walk} and {steel_walk1} | {steel_walk1_time} |",
        "| {tiles_labels} ({tiles_labelled} %) | {tiles} | 20 min |",
        "| {tiles_lite2_labels} ({tiles_lite2_labelled} %) and {tiles_lite2_1_labels} ({tiles_lite2_1_labelled} %) |"
        " {tiles_lite2} and {tiles_lite2_1} | {tiles_lite2_1_time} |",
    ),
    "docs/getting-started.md": ("On two cores this takes {demo_time_in_words}.",),
    "docs/how-to/better-masks.md": (
        "it reaches {best0} and {best} where the one-hour preset reaches {cpu}.",
        "All three together raise {vgg16} to {six_views} on VGG16, and with ten views instead of six to {ten_views};"
        " the preset's {best0} and {best} to {best0_views} and {best_views}.",
        "the network then has {best0} and {best} instead of {first0} and {first}, in as many steps",
        "it has {second0} and {second}, with ten views, class prior and CRF {second0_views} and {second_views}.",
        "have {affinity0_labels} and {affinity_labels}, with two seeds, instead of {only_first_labels} (",
    ),
    STUDIES: (
        "| pseudo labels, train | {vgg16_first_labelled} % | {vgg16_first_labels} |",
        "| of the first network, train | {vgg16_labelled} % | {vgg16_labels} |",
        "| first network, val | 100 % | {vgg16_first} |",
        "| second network, val | 100 % | {vgg16} |",
        "| {vgg16_cam} (0.20) | {vgg16_max} (0.27) | {vgg16_average} (0.20) | {vgg16_maps} (0.12) |"
        " {vgg16_first_labels} ({vgg16_first_labelled} %) | 62.4 | {vgg16_labels} ({vgg16_labelled} %) | 73.2 |"
        " {vgg16_first} | {vgg16} | {six_views} |",
        "| 512 channels | {first0} | {first} | {second0} | {second} | {affinity} | {steel_walk} |"
        " {steel_lite2} | {tiles_lite2} |",
        "| float32 | {cpu_cam} | {cpu_max} | {cpu_average} | {cpu_maps} | {cpu_labels} | {cpu} |",
    ),
    "docs/explanation/saliency.md": (
        "has {affinity0} and {affinity} with two seeds; [with IS-Net's maps](../results/results.md#voc-animals) it has"
        " {first0} and {first}.",
    ),
    RESULTS: (
        "| {affinity_labels} ({affinity_labelled} %) | | {affinity} | | {affinity_views} |",
        "| {only_first_labels} ({only_first_labelled} %) | {only_labels} ({only_labelled} %) | | {only} |"
        " {only_views} |",
        "| {steel_walk_labels} ({steel_walk_labelled} %) | {steel_walk} |",
        "| {tiles_lite2_labels} ({tiles_lite2_labelled} %) | {tiles_lite2} |",
        "instead of {second}; on VGG16,",
        "instead of {vgg16}.",
    ),
    str(PAPER_TABLES): (
        "the paper has {paper_plus} for VGG16 in its Table 2. Its Table 1 has {paper_vgg16} (VGG16) and"
        " {paper_resnet101} (ResNet-101)",
    ),
    PAPER: ("the same methods in Table 2 ({paper_max} and {paper_plus}).",),
    "flags/demo.flags": ("{demo_time_in_words} on two cores, segmentation mIoU {demo} on val",),
    "flags/paper_vgg16.flags": ("mIoU {paper_vgg16} (Table 1) and {paper_plus} (Table 2) on val",),
    "flags/paper_resnet101.flags": ("mIoU {paper_resnet101} on val and {paper_resnet101_test} on test (Table 1)",),
    "flags/voc12_animals_best.flags": (
        "segmentation {best0} and {best} on val, with several views, a class prior and a CRF {best0_views} and"
        " {best_views}",
    ),
    "flags/voc12_animals_cpu.flags": (
        "on two cores in {cpu_time}utes: integral attention maps mIoU {cpu_maps} on train, segmentation {cpu} on val",
    ),
}
_WORDS = {"2": "two", "4": "four", "min": "minutes"}
# An mIoU or a time.
_FIGURE = re.compile(r"(?<![\d.])\d\d\.\d(?![\d.]\d)\b|\b\d+ min(?:utes)?\b")
# Every figure in them is one of those above; other pages have measurements of their own.
WITHOUT_OTHER_FIGURES = (
    *("README.md", "docs/README.md", "docs/getting-started.md", "BUILD.md"),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs/how-to").glob("*.md"))),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "flags").glob("*.flags"))),
)


def rows(page: str | Path, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading."""
    _, found, section = (ROOT / page).read_text().partition(f"# {heading}\n")
    assert found, heading
    lines = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    links_removed = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line) for line in lines if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in links_removed]


def figures() -> dict[str, str]:
    found = {}
    for name, (page, heading, row, column) in SOURCES.items():
        (cells,) = (cells for cells in rows(page, heading) if cells[0] == row)
        pattern = r"\d+ min" if name.endswith("_time") else r"\d+\.\d(?: ± \d+\.\d)?"
        found[name] = re.findall(pattern, cells[column])[-1 if "labelled" in name else 0].strip()
    found["demo_time"] = f"{found['demo_fast_time'].split()[0]} to {found['demo_slow_time']}"
    return found | {"demo_time_in_words": " ".join(_WORDS.get(word, word) for word in found["demo_time"].split())}


def plain(page: str) -> str:
    """The text of a page, or the opening comment of a preset, on one line."""
    lines = (ROOT / page).read_text().splitlines()
    if page.endswith(".flags"):
        lines = [line.removeprefix("#") for line in lines if line.startswith("#")]
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("page", SAID)
def test_figures_are_those_of_the_results(page: str) -> None:
    text = plain(page)
    for template in SAID[page]:
        sentence = template.format(**figures())
        assert sentence in text, f"{page}: expected {sentence!r}"


@pytest.mark.parametrize("page", WITHOUT_OTHER_FIGURES)
def test_no_other_figures_are_given(page: str) -> None:
    text = plain(page)
    for template in SAID.get(page, ()):
        text = text.replace(template.format(**figures()), "")
    assert _FIGURE.findall(text) == []


def test_minutes_are_those_of_the_curve() -> None:
    measured = json.loads((ROOT / "docs/results/time_to_quality.json").read_text())["rows"]
    table = [
        [
            f"`{Path(row['preset']).stem}`",
            f"{100 * row['share']:.0f} %",
            f"{row['minutes']:.1f}",
            f"{100 * row['mean_iou']:.1f}",
        ]
        for row in measured
    ]
    assert rows("docs/results/performance.md", "A whole pipeline")[2:] == table


def test_differences_between_rows_are_those_of_the_table() -> None:
    values = {
        row["setting"]: row["values"]
        for row in json.loads((ROOT / "docs/results/table2.json").read_text())["rows"]
        if row["split"] == "val"
    }
    papers = {cells[0]: cells[2] for cells in rows(*_PAPER_2)}
    numbers = dict(zip(("CAM", "OAA average", "OAA max", "OAA+ MCE", "OAA+ hybrid"), "12345", strict=True))
    checked = 0
    for name, *cells in rows(PAPER_TABLES, "Table 2"):
        if " over " not in name:
            continue
        better, worse = name.split(" over ")
        by_seed = [100 * (one - other) for one, other in zip(values[better], values[worse], strict=True)]
        mean = f"{statistics.mean(by_seed):+.1f} ± {statistics.stdev(by_seed):.1f}"
        paper = float(papers[numbers[better]]) - float(papers[numbers[worse]])
        assert cells == [*(f"{value:+.1f}" for value in by_seed), mean, f"{paper:+.1f}"], name
        checked += 1
    assert checked == 6


# Rows of the benchmark's table: the name in the JSON files, and the factor to the unit of the page.
BENCHMARK = {
    "stage 1: step over its bare forward and backward pass": ("step_over_bare", 1),
    "stage 1: step over the same step without accumulation": ("step_over_step_without_accumulation", 1),
    "stage 2: step over bare": ("train_integral_step_over_bare", 1),
    "stage 4: step over bare": ("train_seg_step_over_bare", 1),
    "images/s in training, stage 1": ("train_cls_images_per_second", 1),
    "images/s in training, stage 2": ("train_integral_images_per_second", 1),
    "images/s in training, stage 4": ("train_seg_images_per_second", 1),
    "accumulation, all of it, in % of a step": ("accumulation_share", 100),
    "PNG loop over the table's merge, maps being ready": ("png_loop_over_accumulation", 1),
    "PNG loop over all of accumulation (gate, maximum, way back to the frame, checks)": (
        "png_loop_over_whole_accumulation",
        1,
    ),
    "bytes per cell of the table": ("bytes_per_cell", 1),
    "step with 10 thousand pairs over 1 thousand": ("slots_10k_over_1k_step", 1),
    "step with 100 thousand pairs over 1 thousand": ("slots_100k_over_1k_step", 1),
    "step with 1 million pairs over 1 thousand": ("slots_1m_over_1k_step", 1),
    "padding in %, synthetic images": ("padding_share", 100),
    "the same on square canvases": ("padding_share_square", 100),
    "images/s of the input pipeline over those of training": ("pipeline_over_training", 1),
    "images/s of the input pipeline, per core": ("pipeline_images_per_second_per_core", 1),
    "bfloat16: speed over float32": ("bfloat16_speedup", 1),
    "two frozen blocks: speed over none": ("freeze_two_blocks_speedup", 1),
    "batch computed image by image over at once": ("one_image_at_a_time_over_step", 1),
    "`--recompute`: step over step without": ("recompute_over_step", 1),
    "SavedModel on pixels over its bare network": ("saved_model_over_bare", 1),
    "images/s of the SavedModel": ("inference_images_per_second", 1),
    "ONNX in int8: speed over ONNX in float32": ("onnx_int8_speedup", 1),
    "ONNX in int8: speed over the SavedModel": ("onnx_int8_speed_over_saved_model", 1),
    "`train_cls` of 100 steps, from start to exit, over its steps": ("train_cls_start_to_exit_over_steps", 1),
    "`predict`, time for each photo over its network's": ("predict_over_network", 1),
    "`predict` of one photo, from start to exit, in seconds": ("predict_one_photo_seconds", 1),
    "peak memory of stage 4, 5 crops of 320 x 320": ("segmentation_peak_memory_bytes", 1e-9),
    "the same with `--recompute`": ("segmentation_recompute_peak_memory_bytes", 1e-9),
    "the same with `--accumulate_steps=5`": ("segmentation_one_image_at_a_time_peak_memory_bytes", 1e-9),
    "convolution with dilation 12 on 15 x 20 cells: speed over TensorFlow's": ("wide_dilation_speedup", 1),
    "the same on 41 x 41 cells": ("wide_dilation_speedup_41x41_cells", 1),
    "the same on 15 x 20 cells, in bfloat16": ("wide_dilation_speedup_bfloat16", 1),
    "forward and backward pass compiled by XLA over bare": ("xla_over_bare", 1),
}


def test_the_benchmarks_table_is_that_of_its_files() -> None:
    page = ROOT / "docs/results/performance.md"
    measured = [json.loads((page.parent / f"benchmark{name}.json").read_text()) for name in ("", "_no_amx", "_amd")]
    header, _, *found = [cells for cells in rows(page, "Time and memory") if len(cells) == 4]
    assert header == ["", "Intel, AMX", "Intel", "AMD"] and [cells[0] for cells in found] == list(BENCHMARK)
    for label, *cells in found:
        name, factor = BENCHMARK[label]
        for cell, run in zip(cells, measured, strict=True):
            if not re.search(r"\d", cell):
                assert name not in run, label
                continue
            said = re.findall(r"\d+(?:\.\d+)?", cell)
            spread = run["details"].get(name, {})
            exact = [run[name], *(spread[end] for end in ("low", "high") if spread)]
            assert len(said) == len(exact), label
            for text, value in zip(said, exact, strict=True):
                assert f"{value * factor:.{len(text.partition('.')[2])}f}" == text, f"{label}: {cell}"


def test_the_comparison_with_pytorch_is_that_of_its_file() -> None:
    measured = json.loads((ROOT / "docs/results/beside_pytorch.json").read_text())
    header, _, *found = rows("docs/results/performance.md", "Compared with PyTorch")
    assert header == ["", "float32", "bfloat16"]
    names = ("pytorch_{}", "pytorch_{}_channels_last", "pytorch_{}_compiled", "{}_beside_pytorch")
    for (_, *cells), name in zip(found[:-1], names, strict=True):
        rates = [measured[f"{name}_images_per_second".format(precision)] for precision in header[1:]]
        assert cells == [f"{rate:.2f}" for rate in rates], name
    for cell, precision in zip(found[-1][1:], header[1:], strict=True):
        name = f"{precision}_speed_over_pytorch"
        spread = measured["details"][name]
        assert cell == f"{measured[name]:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


def test_shares_of_operations_and_times_are_those_of_the_benchmark() -> None:
    measured = json.loads((ROOT / "docs/results/benchmark.json").read_text())
    shares = dict(cells for cells in rows("docs/results/performance.md", "Where the time goes") if "%" in cells[1])
    assert shares.keys() == measured["profile"].keys()
    for name, text in shares.items():
        digits = len(text.removesuffix(" %").partition(".")[2])
        assert f"{100 * measured['profile'][name]:.{digits}f} %" == text, name
    merge, png_loop, whole = (measured[f"accumulation_{name}_microseconds"] for name in ("merge", "png", "whole"))
    text = plain("docs/results/performance.md")
    assert f"the table's merge takes {merge:.1f} microseconds, the PNG loop {png_loop:,.0f}" in text
    assert f"All of accumulation takes {whole:.0f} microseconds" in text


def test_rows_about_accumulation_are_those_of_the_study() -> None:
    study = json.loads((ROOT / "docs/results/accumulation_study.json").read_text())["rows"]
    assert f"All {len(study)} choices are in" in plain(STUDIES)
    _, _, *found = rows(STUDIES, "Accumulation: epochs, gate, fusion")
    for label, *cells in found:
        epochs = [int(number) for number in re.findall(r"\d+", label)]
        fusion = "average" if "average" in label else "max"
        # CAM is what a single epoch accumulates without a gate.
        gate = "none" if "CAM" in label or "`none`" in label else "paper"
        (row,) = (
            row
            for row in study
            if (row["gate"], row["fusion"], row["first_epoch"], row["last_epoch"])
            == (gate, fusion, epochs[0], epochs[-1])
        )
        assert cells == [
            f"{100 * row['best_mean_iou']:.1f} ({row['best_threshold']:.2f})",
            f"{100 * row['mean_iou_at_0.3']:.1f}",
            *(f"{100 * row[f'{name}_at_0.3']:.0f}" for name in ("precision", "recall")),
            str(row["missing"]),
        ], label
    assert len(found) == 6
