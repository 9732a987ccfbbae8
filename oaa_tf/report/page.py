"""The page, put together from what a run has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oaa_tf.command_line.json_values import json_ready
from oaa_tf.report.charts import Line, line_chart
from oaa_tf.report.class_colors import class_color
from oaa_tf.report.event_files import read_scalars
from oaa_tf.report.gallery import Picture, Row
from oaa_tf.report.markup import element, fill, percent, script_data, text
from oaa_tf.report.run_folder import Evaluation, RunFolder, StageFolder

_TEMPLATE = Path(__file__).parent / "template"
_TRAINING = {
    "train_cls": "Classifier",
    "train_integral": "Integral attention model",
    "train_seg": "Segmentation network",
}
_STYLES = {"CAM": 0, "OAA max": 1, "OAA average": 2, "OAA+ MCE": 3, "OAA+ hybrid": 4, "OAA harmonic": 5}


def report_page(run: RunFolder, rows: Sequence[Row], replay: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """The page's HTML, with everything in it.

    Args:
        run: The run.
        rows: The gallery's rows.
        replay: See `oaa_tf.report.replay`.
        missing: What cannot be shown, a sentence each.
    """
    sections = [
        ("summary", "Summary", _summary(run)),
        ("curves", "Curves", _curves(run)),
        ("classes", "IoU by class", _per_class(run)),
        ("replay", "Accumulation, epoch by epoch", _read("replay.html") if replay else ""),
        ("images", "Images", _gallery(rows, run) if rows else ""),
        ("settings", "Settings", _settings(run)),
    ]
    sections = [section for section in sections if section[2]]
    return fill(
        _read("report.html"),
        {
            "title": text(run.root.resolve().name),
            "facts": text(_facts(run)),
            "navigation": "".join(element("a", text(title), href=f"#{name}") for name, title, _ in sections),
            "missing": _missing(missing),
            "sections": "".join(
                element(
                    "section",
                    element("h2", text(title), id=f"{name}-title"),
                    content,
                    id=name,
                    aria_labelledby=f"{name}-title",
                )
                for name, title, content in sections
            ),
            "data": script_data({"replay": list(replay)}),
            "style": _read("report.css"),
            "script": _read("report.js"),
        },
    )


def _read(name: str) -> str:
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def _facts(run: RunFolder) -> str:
    facts = [f"{len(run.classes)} classes"]
    if run.train_records is not None:
        facts.append(f"{len(run.train_records):,} training images")
    if run.val_records is not None:
        facts.append(f"{len(run.val_records):,} validation images")
    metrics = [one.metrics for one in (*run.stages.values(), *run.evaluations) if one.metrics]
    seeds = sorted({one["seed"] for one in metrics if one.get("seed") is not None})
    if seeds:
        facts.append(f"seed {', '.join(map(str, seeds))}")
    for versions in [one["versions"] for one in metrics if one.get("versions")][:1]:
        facts.append(f"TensorFlow {versions.get('tensorflow')}, Keras {versions.get('keras')}")
    return " · ".join(facts)


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(element("li", text(sentence)) for sentence in dict.fromkeys(missing))
    return element("aside", element("h2", "Not in this report"), element("ul", items), class_="missing")


def _bar(share: float | None) -> str:
    return element("td", element("span", percent(share)), class_="bar", style=f"--share:{100 * (share or 0):.1f}%")


def _table(head: Sequence[str], body: Sequence[str], numeric: set[str], caption: str) -> str:
    cells = "".join(
        element("th", text(name), scope="col", class_="number" if name in numeric else None) for name in head
    )
    return element(
        "div",
        element(
            "table", element("caption", text(caption)), element("thead", element("tr", cells)), element("tbody", *body)
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _summary(run: RunFolder) -> str:
    body = []
    for one in run.evaluations:
        scores, metrics = one.scores, one.metrics
        if metrics["evaluated"] == "maps":
            measured = f"best threshold, {scores['threshold']:.2f}"
        elif scores["labelled_share"] is not None and scores["labelled_share"] < 1:
            measured = f"{percent(scores['labelled_share'])} % of the pixels"
        else:
            measured = "all pixels"
        cells = (
            measured,
            f"{metrics['split']}, {metrics['num_images']:,} images",
            metrics["supervision"] or "not known",
        )
        body.append(
            element(
                "tr",
                element("th", text(one.name), scope="row"),
                _bar(scores["mean_iou"]),
                *(element("td", text(cell)) for cell in cells),
            )
        )
    if not body:
        return ""
    head = ("", "mIoU, %", "Measured on", "Images", "Supervision")
    return _table(head, body, {"mIoU, %"}, "Mean intersection over union of every stage")


def _per_class(run: RunFolder) -> str:
    if not run.evaluations:
        return ""
    names = ["background", *run.classes]
    body = []
    for number, name in enumerate(names):
        swatch = _swatch(number - 1) if number else element("i", class_="swatch background")
        cells = [_bar(one.scores["iou_per_class"].get(name)) for one in run.evaluations]
        body.append(element("tr", element("th", swatch, text(name), scope="row"), *cells))
    means = [_bar(one.scores["mean_iou"]) for one in run.evaluations]
    body.append(element("tr", element("th", "mean", scope="row"), *means, class_="mean"))
    head = [one.name for one in run.evaluations]
    return _table(("", *head), body, set(head), "Intersection over union by class, in percent")


def _swatch(label: int) -> str:
    color, pattern = class_color(label)
    return element("i", class_=f"swatch {pattern}", style=f"--color:{color}")


def _curves(run: RunFolder) -> str:
    charts = []
    for name, title in _TRAINING.items():
        if name in run.stages:
            charts += _training_charts(run.stages[name], title)
    charts += _sweep_charts([one for one in run.evaluations if one.metrics["evaluated"] == "maps"])
    return element("div", *charts, class_="charts") if charts else ""


def _training_charts(stage: StageFolder, title: str) -> list[str]:
    scalars = read_scalars(stage.path / "tensorboard")
    charts = []

    def add(chart_title: str, y_label: str, tags: dict[str, str], y_range: tuple[float, float] | None) -> None:
        found = [(label, scalars[tag]) for tag, label in tags.items() if tag in scalars]
        lines = [Line(label, list(of), list(of.values()), style) for style, (label, of) in enumerate(found)]
        if any(len(line.x) > 1 for line in lines):
            charts.append(line_chart(chart_title, lines, x_label="step", y_label=y_label, y_range=y_range))

    add(f"{title}: loss", "mean over the log interval", {"loss": "loss"}, None)
    if stage.name == "train_cls":
        shares = {
            "exact_match": "images with exactly the right classes",
            "gated_share": "pairs that pass the gate",
            "attention_coverage": "cells with attention above 0.3",
        }
        add("Classifier and accumulation", "share", shares, (0, 1))
        quality = {
            "cumulative_attention/best_mean_iou": "mIoU, best threshold",
            "cumulative_attention/precision_at_0.3": "precision at 0.3",
            "cumulative_attention/recall_at_0.3": "recall at 0.3",
        }
        add("Cumulative attention in training", "on the grid", quality, (0, 1))
    return charts


def _sweep_charts(evaluations: Sequence[Evaluation]) -> list[str]:
    sweeps = [(one.name, one.metrics["sweep"], _STYLES.get(one.name, number)) for number, one in enumerate(evaluations)]
    if not sweeps:
        return []
    by_threshold = [Line(name, sweep["threshold"], sweep["mean_iou"], style) for name, sweep, style in sweeps]
    by_recall = []
    for name, sweep, style in sweeps:
        known = [(r, p) for r, p in zip(sweep["recall"], sweep["precision"], strict=True) if r is not None]
        known = sorted(known, key=lambda point: point[0])
        by_recall.append(Line(name, [r for r, _ in known], [p for _, p in known], style))
    return [
        line_chart(
            "Attention maps: mIoU at every threshold", by_threshold, x_label="threshold", y_label="mIoU", x_range=(0, 1)
        ),
        line_chart(
            "Attention maps: precision and recall",
            by_recall,
            x_label="recall",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1),
        ),
    ]


def _gallery(rows: Sequence[Row], run: RunFolder) -> str:
    classes = sorted({label for row in rows for label in row.classes})
    splits = list(dict.fromkeys(row.split for row in rows))
    titles = dict.fromkeys(picture.title for row in rows for picture in row.pictures if picture.iou is not None)
    options = "".join(element("option", text(run.classes[label]), value=label) for label in classes)
    orders = "".join(element("option", f"worst first: {text(title)}", value=title) for title in reversed(titles))
    split_options = "".join(element("option", text(split), value=split) for split in splits)
    used = sorted({label for row in rows for picture in row.pictures for label in picture.classes} | set(classes))
    legend = "".join(element("li", _swatch(label), text(run.classes[label])) for label in used)
    return fill(
        _read("gallery.html"),
        {
            "classes": options,
            "splits": split_options,
            "orders": orders,
            "legend": legend,
            "rows": "".join(_row(number, row, run.classes) for number, row in enumerate(rows)),
        },
    )


def _row(number: int, row: Row, classes: Sequence[str]) -> str:
    height, width = row.size
    chips = "".join(element("li", _swatch(label), text(classes[label])) for label in row.classes)
    heading = element(
        "header",
        element("h3", text(row.image_id), id=f"image-{number}"),
        element("ul", chips, class_="chips", aria_label="Classes"),
        element("span", text(row.split), class_="split"),
        element("button", "Enlarge", type="button", class_="enlarge", aria_label=f"Enlarge {row.image_id}"),
    )
    figures = "".join(_figure(picture, row, classes) for picture in row.pictures)
    # NaN, which JSON does not have: nothing to compare, as with a pseudo label that is ignored whole.
    ious = {picture.title: json_ready(picture.iou) for picture in row.pictures if picture.iou is not None}
    return element(
        "article",
        heading,
        element("div", figures, class_="figures"),
        style=f"--photo:url({row.photo});--w:{width};--h:{height}",
        tabindex=-1,
        aria_labelledby=f"image-{number}",
        data_classes=" ".join(map(str, row.classes)),
        data_split=row.split,
        data_ious=script_data(ious),
    )


def _figure(picture: Picture, row: Row, classes: Sequence[str]) -> str:
    shown = ", ".join(classes[label] for label in picture.classes) or "nothing"
    if picture.layer is None:
        description, layer = f"Photograph {row.image_id}", ""
    else:
        what = f"attention for {shown}" if picture.is_attention else shown
        description = f"{picture.title} of {row.image_id}: {what}"
        layer = element("img", src=picture.layer, alt="", loading="lazy", decoding="async")
    names = "".join(
        element("span", text(classes[label]), class_="name", style=f"--x:{100 * x:.0f};--y:{100 * y:.0f}")
        for label, x, y in picture.names
    )
    iou = "" if picture.iou is None else element("b", percent(picture.iou))
    return element(
        "figure",
        element(
            "div",
            layer,
            names,
            class_=f"picture {'heat' if picture.is_attention else 'labels'}",
            role="img",
            aria_label=description,
        ),
        element("figcaption", element("span", text(picture.title)), iou),
    )


def _settings(run: RunFolder) -> str:
    parts = []
    for stage in run.stages.values():
        flags = "\n".join(f"--{name}={value}" for name, value in stage.flags.items())
        parts.append(element("details", element("summary", text(stage.name)), element("pre", text(flags), tabindex=0)))
    return "".join(parts)
