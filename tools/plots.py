"""Plots of what tools measure; with matplotlib, which is optional."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaa_tf.runs.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by color-blind people too.
_COLORS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73")
_STYLES = ("-", "--", "-.", ":", "-")


def plot_map_curves(path: Path, sweeps: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> None:
    """Draws precision over recall of attention maps, and how much of the objects they cover at each threshold.

    Args:
        path: The PNG to write.
        sweeps: By row, one "sweep" of `evaluate` per seed: lists "threshold", "precision", "recall".
    """
    if (figure := _figure()) is None:
        return
    left, right = figure.subplots(1, 2)
    for (name, of_seeds), color, style in zip(sweeps.items(), _COLORS, _STYLES, strict=False):
        for seed, sweep in enumerate(of_seeds):
            look = {"color": color, "linestyle": style, "linewidth": 1.5, "label": None if seed else name}
            left.plot(sweep["recall"], sweep["precision"], **look)
            right.plot(sweep["threshold"], sweep["recall"], **look)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="maps at all thresholds")
    right.set(xlabel="threshold", ylabel="recall", xlim=(0, 1), ylim=(0, 1), title="share of the objects covered")
    _finish(figure, (left, right), path)


def plot_epochs(path: Path, studies: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Draws mIoU, precision and recall of CAM and of cumulative attention after each epoch.

    Args:
        path: The PNG to write.
        studies: By name of the data, the rows of an `accumulation_study.json`; one row of plots each.
    """
    if (figure := _figure(3, len(studies))) is None:
        return
    axes = figure.subplots(len(studies), 3, sharey="col", squeeze=False)
    titles = {
        "best_mean_iou": "mIoU at the best threshold",
        "precision_at_0.3": "precision at 0.3",
        "recall_at_0.3": "recall at 0.3",
    }
    for beside, (data, rows) in zip(axes, studies.items(), strict=True):
        rows = list(rows)
        first = min(row["first_epoch"] for row in rows if row["first_epoch"] > 0)
        lines = {
            "CAM of the epoch": [r for r in rows if r["gate"] == "none" and r["first_epoch"] == r["last_epoch"]],
            "OAA average": [r for r in rows if _from(r, first) and r["fusion"] == "average"],
            "OAA max": [r for r in rows if _from(r, first) and r["fusion"] == "max"],
        }
        for axis, (key, title) in zip(beside, titles.items(), strict=True):
            for (name, of_line), color, style in zip(lines.items(), _COLORS, _STYLES, strict=False):
                of_line = sorted(of_line, key=lambda row: row["last_epoch"])
                epochs, values = [row["last_epoch"] for row in of_line], [row[key] for row in of_line]
                axis.plot(epochs, values, color=color, linestyle=style, marker="o", markersize=3, label=name)
            axis.set(xlabel="epoch", title=f"{data}: {title}" if data else title)
    _finish(figure, axes.flat, path)


def plot_minutes(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Draws mIoU over the minutes of a pipeline, a line for each preset.

    Args:
        path: The PNG to write.
        rows: The rows of `time_to_quality.json`.
    """
    if (figure := _figure(1)) is None:
        return
    axis = figure.subplots()
    rows = list(rows)
    presets = dict.fromkeys(row["preset"] for row in rows)
    for preset, color, style in zip(presets, _COLORS, _STYLES, strict=False):
        of_preset = [row for row in rows if row["preset"] == preset]
        minutes, values = [row["minutes"] for row in of_preset], [100 * row["mean_iou"] for row in of_preset]
        axis.plot(minutes, values, color=color, linestyle=style, marker="o", markersize=4, label=Path(preset).stem)
    axis.set(xlabel="minutes from the command to its exit", ylabel="mIoU in percent", xlim=(0, None), ylim=(0, None))
    _finish(figure, (axis,), path)


def _from(row: Mapping[str, Any], first: int) -> bool:
    return row["gate"] == "paper" and row["first_epoch"] == first


def _finish(figure: "Figure", axes: Iterable["Axes"], path: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _figure(num_columns: int = 2, num_rows: int = 1) -> "Figure | None":
    """A figure for plots beside and below each other; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plots: matplotlib is not installed (pip install matplotlib)")
        return None
    return Figure(figsize=(5 * num_columns, 4 * num_rows), layout="constrained")
