"""Plots with a point a configuration: accuracy against speed, and speed against the work of one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.formatting import listed, milliseconds, percent, rate, three_digits
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables
from bench.measure.stats import pareto_front
from bench.report.plots.plot import run_plot, value_range
from bench.report.plots.style import (
    FAINT,
    MOST_ROWS,
    WIDTH,
    accuracy_axis,
    count_seeds,
    family_colours,
    leading,
    legend,
    log_axis,
    marker_of,
    measured,
    note,
    title,
)

PANELS_BESIDE = 3  # of several devices
LABEL_SIZE = 8.5  # points
# Where a label may stand: distance from its point (points of 1/72 inch) and angle, nearest and most readable first.
LABEL_PLACES = [
    (far, math.radians(angle))
    for far in (6.0, 9.0, 13.0, 19.0, 27.0, 37.0, 49.0)
    for angle in (45, 315, 135, 225, 0, 180, 90, 270)
]


@dataclass(frozen=True)
class Scale:
    """A quantity as an axis; `better` is 1 where more is better, -1 where less is."""

    metric: str
    label: str
    better: int = 1


TRAINING = Scale("images_per_second", "training throughput, images/s")
INFERENCE = Scale("inference_images_per_second", "inference throughput in batches, images/s")
LATENCY = Scale("latency_ms", "latency of one image (p50), ms: less is better", -1)


def _throughput_alt(tables: Tables, rows: pd.DataFrame) -> str:
    best = rows[rows["pareto"]].sort_values("images_per_second")["label"]
    front = f" The Pareto front goes from {best.iloc[0]} to {best.iloc[-1]}." if len(best) else ""
    speeds = value_range(rows, "images_per_second", rate)
    return f"Test accuracy goes {value_range(rows, 'test_accuracy', percent)}, training throughput {speeds}.{front}"


@run_plot(
    "Test accuracy against training speed",
    caption="Up is more accurate, right is faster. Nothing beats a point on the Pareto front on both. Accuracy is "
    "spaced by the logarithm of the error.",
    alt=_throughput_alt,
)
def accuracy_against_throughput(tables: Tables) -> Figure | None:
    """Who is accurate, who is fast to train, and which choices nothing beats on both."""
    return _against(tables, tables.like_for_like, [TRAINING], accuracy_against_throughput.title)


def _latency_alt(tables: Tables, rows: pd.DataFrame) -> str:
    latency = value_range(rows, "latency_p50_seconds", milliseconds, less_is_better=True)
    batches = value_range(rows, "inference_images_per_second", rate)
    parts = [f"One image takes {latency}." if latency else "", f"Batches go through {batches}." if batches else ""]
    return " ".join([f"Test accuracy goes {value_range(rows, 'test_accuracy', percent)}.", *filter(None, parts)])


@run_plot(
    "Test accuracy against inference",
    caption="On the left the time of one image, where further left is better; on the right how many go through in "
    "batches, where further right is. Nothing beats a point on the Pareto front on both.",
    alt=_latency_alt,
)
def accuracy_against_latency(tables: Tables) -> Figure | None:
    """The same for inference: how long one image takes, and how many a second go through in batches."""
    rows = tables.like_for_like
    rows = rows.assign(latency_ms=rows["latency_p50_seconds"] * 1e3)
    return _against(tables, rows, [LATENCY, INFERENCE], accuracy_against_latency.title)


def _against(tables: Tables, rows: pd.DataFrame, scales: Sequence[Scale], text: str) -> Figure | None:
    """A panel for each device and scale."""
    scales = [scale for scale in scales if len(measured(rows, "test_accuracy", scale.metric))]
    rows = measured(rows, "test_accuracy")
    if not scales:
        return None
    devices = list(dict.fromkeys(rows["device_name"]))
    wanted = [(device, scale) for device in devices for scale in scales]
    beside = len(scales) if len(scales) > 1 else min(len(wanted), PANELS_BESIDE)
    down = -(-len(wanted) // beside)
    figure = Figure(figsize=(WIDTH, 1.4 + 4.0 * down if down == 1 else 1.2 + 3.4 * down), layout="constrained")
    panels = figure.subplots(down, beside, sharey=True, squeeze=False).ravel()
    colours, drawn, crowded = family_colours(tables.summary["model"]), [], False
    for axes, (device, scale) in zip(panels, wanted, strict=False):
        here = measured(rows[rows["device_name"] == device], scale.metric)
        if len(here):
            drawn.append((axes, _configurations(axes, here, scale, colours), scale))
            crowded = crowded or len(here) > MOST_ROWS
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
    for axes in panels[len(wanted) :]:
        axes.set_visible(False)
    accuracy_axis(panels[0], *(rows[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    for axes in panels[::beside]:
        axes.set_ylabel("test accuracy, %")
    legend(figure, rows, colours, Line2D([], [], ls="--", lw=1, color=FAINT, label="Pareto front"))
    alone = "; of one seed, the interval is that of its test images and timed blocks" if rows["n"].min() == 1 else ""
    cut = f"; faint: all but {MOST_ROWS} of a device's configurations" if crowded else ""
    title(figure, text, f"median and 95% interval, {count_seeds(rows)}{alone}{cut}")
    for axes, shown, scale in drawn:
        _place_labels(axes, shown, colours, (scale.metric, "test_accuracy"))
    return figure


def _configurations(axes: Axes, here: pd.DataFrame, scale: Scale, colours: dict[str, str]) -> pd.DataFrame:
    """Draw a device's configurations and their Pareto front."""
    x = scale.metric
    front = here[pareto_front(here[x] ** scale.better, here["test_accuracy"])].sort_values(x)
    axes.plot(front[x], front["test_accuracy"], "--", color=FAINT, lw=1, zorder=1)
    first = here["best_of_family"] | here.index.isin(front.index)
    shown = _points(axes, here, first, (x, "test_accuracy"), colours)
    log_axis(axes, scale.label, here[x].min(), here[x].max())
    return shown


def _flops_alt(tables: Tables, rows: pd.DataFrame) -> str:
    share = value_range(rows, "flops_share", lambda x: f"{x:.1%}")
    work = value_range(rows, "flops_per_second", lambda x: f"{three_digits(x / 1e9)} GFLOP/s")
    peak = f" The share of the matrix-product peak goes {share}." if share else ""
    return f"Work in training goes {work}.{peak}" if work else ""


@run_plot(
    "Work done a second against the work of one image",
    caption="How much of its matrix-product speed the device brings to training; higher is better used. Small nets "
    "stay far below it, as their time goes elsewhere.",
    alt=_flops_alt,
)
def flops_share(tables: Tables) -> Figure | None:
    """How much of what the device can do is done: work a second in training against the work of one image."""
    rows = measured(tables.like_for_like, "num_train_flops", "flops_per_second")
    rows = rows[(rows["num_train_flops"] > 0) & (rows["flops_per_second"] > 0)]
    if rows.empty:
        return None
    rows = rows.assign(mflop=rows["num_train_flops"] / 1e6, gflops=rows["flops_per_second"] / 1e9)
    devices, colours = list(dict.fromkeys(rows["device_name"])), family_colours(tables.summary["model"])
    beside = min(len(devices), PANELS_BESIDE)
    down = -(-len(devices) // beside)
    figure = Figure(figsize=(WIDTH, 1.4 + 3.8 * down), layout="constrained")
    panels = figure.subplots(down, beside, squeeze=False).ravel()
    shown = [
        _roofline(axes, rows[rows["device_name"] == device], colours)
        for axes, device in zip(panels, devices, strict=False)
    ]
    for axes, device in zip(panels, devices, strict=False):
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
    for axes in panels[len(devices) :]:
        axes.set_visible(False)
    legend(figure, rows, colours, Line2D([], [], ls="--", lw=1, color=FAINT, label="matrix-product peak, measured"))
    subtitle = f"medians, {count_seeds(rows, 'n_timed')}; forward and backward, a multiply-add is two FLOPs"
    title(figure, flops_share.title, subtitle)
    for axes, points in zip(panels, shown, strict=False):
        _place_labels(axes, points, colours, ("mflop", "gflops"))
    return figure


def _roofline(axes: Axes, here: pd.DataFrame, colours: dict[str, str]) -> pd.DataFrame:
    """Draw one device: its configurations below the peaks of its numeric modes."""
    shown = _points(axes, here, here["best_of_family"], ("mflop", "gflops"), colours)
    peaks = here.dropna(subset=["matmul_flops_per_second"]).groupby("dtype")["matmul_flops_per_second"].median() / 1e9
    right = here["mflop"].max() * 1.5
    equal: dict[str, list[str]] = {}
    for dtype, peak in peaks.items():
        equal.setdefault(three_digits(peak), []).append(str(dtype))
        axes.axhline(peak, color=FAINT, ls="--", lw=1, zorder=1)
    for text, dtypes in equal.items():
        place: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8.5, "color": FAINT, "in_layout": True}
        note(axes, f"{listed(dtypes)} peak {text} GFLOP/s", (right, peaks[dtypes[0]]), (-6, 2), **place)
    log_axis(axes, "MFLOP an image (training)", here["mflop"].min(), here["mflop"].max(), margin=1.5)
    log_axis(axes, "GFLOP/s in training", here["gflops"].min(), max([here["gflops"].max(), *peaks]), "y", margin=1.5)
    return shown


def _points(
    axes: Axes, here: pd.DataFrame, first: "pd.Series[bool]", metrics: tuple[str, str], colours: dict[str, str]
) -> pd.DataFrame:
    """Draw configurations with their intervals, of many most of them faint; return the others.

    Their column `named` says which get a label: all, or of many those of `first`.
    """
    x, y = metrics
    shown = leading(here, first)
    rest = here.drop(shown.index)
    if len(rest):
        shades = [colours[model] for model in rest["model"]]
        axes.scatter(rest[x], rest[y], s=10, c=shades, alpha=0.25, lw=0, zorder=2, rasterized=True)
    for (model, dtype), group in shown.groupby(["model", "dtype"], sort=False):
        style: dict[str, Any] = {"color": colours[str(model)], "marker": marker_of(str(dtype)), "ms": 7, "mew": 0.7}
        style |= {"xerr": _whiskers(group, x), "yerr": _whiskers(group, y)}
        axes.errorbar(group[x], group[y], ls="", elinewidth=0.9, mec="white", zorder=3, **style)
    return shown.assign(named=first[shown.index] if len(rest) else True)


def _whiskers(rows: pd.DataFrame, metric: str) -> "np.ndarray[Any, Any] | None":
    """Lengths down and up, (2, rows), 0 where an interval isn't known; None of a metric without intervals."""
    if f"{metric}_low" not in rows:
        return None
    down, up = rows[metric] - rows[f"{metric}_low"], rows[f"{metric}_high"] - rows[metric]
    return np.nan_to_num(np.clip(np.array([down, up], dtype=float), 0, None))


def _place_labels(axes: Axes, rows: pd.DataFrame, colours: dict[str, str], metrics: tuple[str, str]) -> None:
    """Write the patch and depth of those that are `named` beside their points: in the nearest place that is free.

    Far from its point, a label has a line to it; where nothing is free, a point stays without. Boxes are (left,
    bottom, right, top) in points of 1/72 inch.
    """
    scale = 72 / axes.figure.dpi
    frame = np.asarray(axes.get_window_extent().extents) * scale
    crosses = [(row, _cross(axes, row, metrics) * scale) for row in records(rows)]
    taken = np.concatenate([_boxes(cross) for _, cross in crosses])
    for row, cross in crosses:
        if not row["named"]:
            continue
        text = _short_label(row)
        half = np.array([0.6 * len(text), 1.1]) * LABEL_SIZE / 2
        for far, angle in LABEL_PLACES:
            away = far * np.array([math.cos(angle), math.sin(angle)])
            shift = away + np.sign(away.round()) * half
            low, high = cross[0] + shift - half, cross[0] + shift + half
            inside = (low > frame[:2]).all() and (high < frame[2:]).all()
            if inside and not ((taken[:, :2] < high) & (taken[:, 2:] > low)).all(axis=1).any():
                break
        else:
            continue
        taken = np.vstack([taken, [*low, *high]])
        line = {"arrowstyle": "-", "lw": 0.5, "color": FAINT, "shrinkB": 3} if far > 14 else None
        style: dict[str, Any] = {"ha": "center", "fontsize": LABEL_SIZE, "color": colours[row["model"]]}
        note(axes, text, (row[metrics[0]], row[metrics[1]]), tuple(shift), arrowprops=line, **style)


def _cross(axes: Axes, row: dict[str, Any], metrics: tuple[str, str]) -> "np.ndarray[Any, Any]":
    """A point and the lower left and upper right ends of its whiskers, in pixels. (3, 2)"""
    ends = [[row.get(f"{metric}{end}", math.nan) for end in ("_low", "", "_high")] for metric in metrics]
    (left, x, right), (low, y, high) = ([v if v == v else some[1] for v in some] for some in ends)
    return np.asarray(axes.transData.transform([(x, y), (left, low), (right, high)]))


def _boxes(cross: "np.ndarray[Any, Any]") -> list[tuple[float, float, float, float]]:
    """Where a point's marker and its whiskers are."""
    (x, y), (left, low), (right, high) = cross
    return [(x - 4, y - 4, x + 4, y + 4), (left, y - 0.5, right, y + 0.5), (x - 0.5, low, x + 0.5, high)]


def _short_label(row: dict[str, Any]) -> str:
    """The label without what colour, marker and panel already say."""
    known = {family_title(row["model"]), row["dtype"], row["device"]}
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in known)
