"""The content of the report page; the folder `template` has its layout."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from oaa_tf.report.charts import Line, line_chart
from oaa_tf.report.class_colors import class_color
from oaa_tf.report.event_files import read_scalars
from oaa_tf.report.gallery import Row
from oaa_tf.report.run_folder import RunFolder

_LOSS = ("mean over the log interval", None, {"loss": "loss"})
# By stage: title, label of the y axis, its range, and the names of the lines by the tags of their scalars.
_TRAINING_CHARTS = {
    "train_cls": (
        ("Classifier: loss", *_LOSS),
        (
            "Classifier and accumulation",
            "share",
            (0, 1),
            {
                "exact_match": "images with exactly the right classes",
                "gated_share": "pairs that pass the gate",
                "attention_coverage": "cells with attention above 0.3",
            },
        ),
        (
            "Cumulative attention in training",
            "on the grid",
            (0, 1),
            {
                "cumulative_attention/best_mean_iou": "mIoU, best threshold",
                "cumulative_attention/precision_at_0.3": "precision at 0.3",
                "cumulative_attention/recall_at_0.3": "recall at 0.3",
            },
        ),
    ),
    "train_integral": (("Integral attention model: loss", *_LOSS),),
    "train_affinity": (("Affinity network: loss", *_LOSS),),
    "train_seg": (("Segmentation network: loss", *_LOSS),),
}
_STYLES = {
    "CAM": 0,
    "OAA max": 1,
    "OAA average": 2,
    "OAA+ MCE": 3,
    "OAA+ hybrid": 4,
    "OAA harmonic": 5,
    "OAA+ hybrid, spread": 5,
}


def report_page(run: RunFolder, rows: Sequence[Row], replay: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """The complete HTML of the page.

    Args:
        run: The run.
        rows: The gallery's rows.
        replay: See `oaa_tf.report.replay`.
        missing: A sentence for each thing that cannot be shown.
    """
    charts = [chart for chart in (*_training_charts(run), *_sweep_charts(run)) if chart]
    # A section has the name of its template.
    sections = (
        ("summary", "Summary", run.evaluations),
        ("curves", "Curves", charts),
        ("classes", "Scores by class", run.evaluations),
        ("replay", "Accumulation, epoch by epoch", replay),
        ("images", "Images", rows),
        ("settings", "Settings", run.stages),
    )
    pictures = [picture for row in rows for picture in row.pictures]
    labels = {label for row in rows for label in row.classes}
    return _template().render(
        title=run.root.resolve().name,
        facts=_facts(run),
        missing=dict.fromkeys(missing),
        sections=[(name, title) for name, title, content in sections if content],
        run=run,
        classes=run.classes,
        charts=charts,
        rows=rows,
        # Choices for the reader, and the legend.
        splits=dict.fromkeys(row.split for row in rows),
        orders=list(dict.fromkeys(picture.title for picture in pictures if picture.iou is not None))[::-1],
        labels=sorted(labels),
        shown_labels=sorted(labels.union(*(picture.classes or () for picture in pictures))),
        data={"replay": replay},
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.globals["class_color"] = class_color
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    return environment.get_template("report.html")


def _percent(share: float | None) -> str:
    """A share in percent, such as "55.0"; a dash if it is unknown."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.1f}"


def _facts(run: RunFolder) -> list[str]:
    facts = [f"{len(run.classes)} classes"]
    for records, kind in ((run.train_records, "training"), (run.val_records, "validation")):
        if records is not None:
            facts.append(f"{len(records):,} {kind} images")
    if seeds := sorted({metrics["seed"] for metrics in run.metrics if metrics.get("seed") is not None}):
        facts.append(f"seed {', '.join(map(str, seeds))}")
    if versions := next((metrics["versions"] for metrics in run.metrics if metrics.get("versions")), None):
        facts.append(f"TensorFlow {versions.get('tensorflow')}, Keras {versions.get('keras')}")
    return facts


def _training_charts(run: RunFolder) -> Iterator[dict[str, Any] | None]:
    for name, charts in _TRAINING_CHARTS.items():
        scalars = read_scalars(run.stages[name].path / "tensorboard") if name in run.stages else {}
        for title, y_label, y_range, names in charts:
            found = [(label, list(scalars[tag].items())) for tag, label in names.items() if tag in scalars]
            lines = [Line(label, points, style) for style, (label, points) in enumerate(found)]
            if any(len(line.points) > 1 for line in lines):
                yield line_chart(title, lines, x_label="step", y_label=y_label, y_range=y_range)


def _sweep_charts(run: RunFolder) -> Iterator[dict[str, Any] | None]:
    by_threshold: list[Line] = []
    by_recall: list[Line] = []
    for one in run.evaluations:
        if one.metrics["evaluated"] == "maps":
            sweep, style = one.metrics["sweep"], _STYLES.get(one.name, len(by_recall))
            by_threshold.append(Line(one.name, list(zip(sweep["threshold"], sweep["mean_iou"], strict=True)), style))
            known = [point for point in zip(sweep["recall"], sweep["precision"], strict=True) if point[0] is not None]
            by_recall.append(Line(one.name, sorted(known, key=lambda point: point[0]), style))
    if by_threshold:
        title = "Attention maps: mIoU at every threshold"
        yield line_chart(title, by_threshold, x_label="threshold", y_label="mIoU", x_range=(0, 1))
        title, ends = "Attention maps: precision and recall", (0, 1)
        yield line_chart(title, by_recall, x_label="recall", y_label="precision", x_range=ends, y_range=ends)
