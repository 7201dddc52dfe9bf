"""Plots with a point a configuration: accuracy against speed, and speed against the work of one image."""

import math
from collections.abc import Callable
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
from bench.report.plots import style
from bench.report.plots.plot import run_plot, value_range

PANELS_BESIDE = 3  # of several devices
LABEL_SIZE = 8.5  # points
# Where a label may stand: distance from its point (points of 1/72 inch) and angle, nearest and most readable first.
LABEL_PLACES = [
    (far, math.radians(angle))
    for far in (6.0, 9.0, 13.0, 19.0, 27.0, 37.0, 49.0)
    for angle in (45, 315, 135, 225, 0, 180, 90, 270)
]
SPEEDS = {  # metric -> what its axis says
    "images_per_second": "training throughput, images/s",
    "latency_ms": "latency of one image (p50), ms: less is better",
    "inference_images_per_second": "inference throughput in batches, images/s",
}
Draw = Callable[[Axes, pd.DataFrame, str], "pd.Series[bool]"]  # a panel's lines and axes; which rows stand out


def _throughput_alt(tables: Tables, rows: pd.DataFrame) -> str:
    best = rows[rows["pareto"]].sort_values("images_per_second")["label"]
    front = f" The Pareto front goes from {best.iloc[0]} to {best.iloc[-1]}." if len(best) else ""
    speeds = value_range(rows, "images_per_second", rate)
    return f"Test accuracy goes {value_range(rows, 'test_accuracy', percent)}, training throughput {speeds}.{front}"


@run_plot("Test accuracy against training speed", alt=_throughput_alt)
def accuracy_against_throughput(tables: Tables) -> Figure | None:
    """Up is more accurate, right is faster. Nothing beats a point on the Pareto front on both. Accuracy is spaced by
    the logarithm of the error.
    """
    return _against(tables, tables.like_for_like, ["images_per_second"], accuracy_against_throughput.title)


def _latency_alt(tables: Tables, rows: pd.DataFrame) -> str:
    latency = value_range(rows, "latency_p50_seconds", milliseconds, less_is_better=True)
    batches = value_range(rows, "inference_images_per_second", rate)
    parts = [f"One image takes {latency}." if latency else "", f"Batches go through {batches}." if batches else ""]
    return " ".join([f"Test accuracy goes {value_range(rows, 'test_accuracy', percent)}.", *filter(None, parts)])


@run_plot("Test accuracy against inference", alt=_latency_alt)
def accuracy_against_latency(tables: Tables) -> Figure | None:
    """On the left the time of one image, where further left is better; on the right how many go through in batches,
    where further right is. Nothing beats a point on the Pareto front on both.
    """
    rows = tables.like_for_like
    rows = rows.assign(latency_ms=rows["latency_p50_seconds"] * 1e3)
    return _against(tables, rows, ["latency_ms", "inference_images_per_second"], accuracy_against_latency.title)


def _against(tables: Tables, rows: pd.DataFrame, speeds: list[str], text: str) -> Figure | None:
    """A panel for each device and speed, with the Pareto front of both."""
    rows = style.measured(rows, "test_accuracy")
    speeds = [speed for speed in speeds if rows[speed].notna().any()]
    if not speeds:
        return None

    def draw(axes: Axes, here: pd.DataFrame, x: str) -> "pd.Series[bool]":
        speed = 1 / here[x] if x == "latency_ms" else here[x]
        front = here[pareto_front(speed, here["test_accuracy"])].sort_values(x)
        axes.plot(front[x], front["test_accuracy"], "--", color=style.FAINT, lw=1, zorder=1)
        style.log_axis(axes, SPEEDS[x], here[x].min(), here[x].max())
        return here["best_of_family"] | here.index.isin(front.index)

    sizes = [len(style.measured(here, speed)) for _, here in rows.groupby("device_name") for speed in speeds]
    alone = "; of one seed, accuracy's interval is that of the test images" if rows["n"].min() == 1 else ""
    cut = f"; faint: all but {style.MOST_ROWS} of a device's configurations" if max(sizes) > style.MOST_ROWS else ""
    subtitle = f"mean and 95% interval, {style.count_seeds(rows)}{style.speeds_note(rows)}{alone}{cut}"
    return _panels(tables, rows, speeds, "test_accuracy", draw, "Pareto front", (text, subtitle))


def _flops_alt(tables: Tables, rows: pd.DataFrame) -> str:
    share = value_range(rows, "flops_share", lambda x: f"{x:.1%}")
    work = value_range(rows, "flops_per_second", lambda x: f"{three_digits(x / 1e9)} GFLOP/s")
    peak = f" The share of the matrix-product peak goes {share}." if share else ""
    return f"Work in training goes {work}.{peak}" if work else ""


@run_plot("Work done a second against the work of one image", alt=_flops_alt)
def flops_share(tables: Tables) -> Figure | None:
    """How much of its matrix-product speed the device brings to training; higher is better used. Small nets stay far
    below it, as their time goes elsewhere.
    """
    rows = tables.like_for_like
    rows = rows.assign(mflop=rows["num_train_flops"] / 1e6, gflops=rows["flops_per_second"] / 1e9)
    rows = rows[(rows["n"] > 0) & (rows["mflop"] > 0) & (rows["gflops"] > 0)]
    if rows.empty:
        return None

    def draw(axes: Axes, here: pd.DataFrame, x: str) -> "pd.Series[bool]":
        right, peaks = here[x].max() * 1.5, here.groupby("dtype")["matmul_flops_per_second"].median().dropna() / 1e9
        for text, equal in peaks.groupby(peaks.map(three_digits), sort=False):
            how: dict[str, Any] = {
                "ha": "right",
                "va": "bottom",
                "fontsize": 8.5,
                "color": style.FAINT,
                "in_layout": True,
            }
            style.note(axes, f"{listed(list(equal.index))} peak {text} GFLOP/s", (right, equal.iloc[0]), (-6, 2), **how)
        for peak in peaks:
            axes.axhline(peak, color=style.FAINT, ls="--", lw=1, zorder=1)
        style.log_axis(axes, "MFLOP an image (training)", here[x].min(), here[x].max(), margin=1.5)
        highest = max([here["gflops"].max(), *peaks])
        style.log_axis(axes, "GFLOP/s in training", here["gflops"].min(), highest, "y", margin=1.5)
        return here["best_of_family"]

    subtitle = f"means, {style.count_timings(rows)}; forward and backward, a multiply-add is two FLOPs"
    titles = flops_share.title, subtitle
    return _panels(tables, rows, ["mflop"], "gflops", draw, "matrix-product peak, measured", titles)


def _panels(
    tables: Tables, rows: pd.DataFrame, metrics: list[str], y: str, draw: Draw, dashed: str, titles: tuple[str, str]
) -> Figure:
    """A panel for each device and metric along x; labels come last, when it is known where all else lies."""
    wanted = [(device, metric) for device in rows["device_name"].unique() for metric in metrics]
    beside = len(metrics) if len(metrics) > 1 else min(len(wanted), PANELS_BESIDE)
    down = -(-len(wanted) // beside)
    figure, panels = style.canvas(5.4 if down == 1 else 1.2 + 3.4 * down, down, beside, sharey=y == "test_accuracy")
    colours, drawn = style.family_colours(tables.summary["model"]), []
    for axes, (device, x) in zip(panels.flat, wanted, strict=False):
        here = style.measured(rows[rows["device_name"] == device], x)
        if len(here):
            drawn.append((axes, _points(axes, here, draw(axes, here, x), (x, y), colours), x, y))
        axes.set_title(device if len(wanted) > len(metrics) else "", color=style.FAINT)
    for axes in panels.flat[len(wanted) :]:
        axes.set_visible(False)
    if y == "test_accuracy":
        style.accuracy_axis(panels[0, 0], *(rows[f"{y}{end}"] for end in ("", "_low", "_high")))
        for axes in panels[:, 0]:
            axes.set_ylabel("test accuracy, %")
    style.legend(figure, rows, colours, Line2D([], [], ls="--", lw=1, color=style.FAINT, label=dashed))
    style.title(figure, *titles)
    for panel in drawn:
        _place_labels(*panel, colours)
    return figure


def _points(
    axes: Axes, here: pd.DataFrame, first: "pd.Series[bool]", metrics: tuple[str, str], colours: dict[str, str]
) -> pd.DataFrame:
    """Draw configurations with their intervals, of many most of them faint; return the others.

    Their column `named` says which get a label: all, or of many those of `first`.
    """
    x, y = metrics
    shown = style.leading(here, first)
    rest = here.drop(shown.index)
    if len(rest):
        shades = rest["model"].map(colours)
        axes.scatter(rest[x], rest[y], s=10, c=shades, alpha=0.25, lw=0, zorder=2, rasterized=True)
    for (model, dtype), group in shown.groupby(["model", "dtype"], sort=False):
        how: dict[str, Any] = {"color": colours[str(model)], "marker": style.marker_of(str(dtype)), "ms": 7, "mew": 0.7}
        ends = style.whiskers(group, y), style.whiskers(group, x)
        axes.errorbar(group[x], group[y], *ends, ls="", elinewidth=0.9, mec="white", zorder=3, **how)
    return shown.assign(named=first[shown.index] if len(rest) else True)


def _place_labels(axes: Axes, rows: pd.DataFrame, x: str, y: str, colours: dict[str, str]) -> None:
    """Write the patch and depth of those that are `named` beside their points: in the nearest place that is free.

    Far from its point, a label has a line to it; where nothing is free, a point stays without. Boxes are (left,
    bottom, right, top) in points of 1/72 inch.
    """
    scale = 72 / axes.figure.dpi
    frame = np.asarray(axes.get_window_extent().extents) * scale
    middles = rows[[x, y]].to_numpy(float)
    reach = np.stack([style.whiskers(rows, x), style.whiskers(rows, y)], axis=-1)
    at, low, high = (
        axes.transData.transform(ends) * scale for ends in (middles, middles - reach[0], middles + reach[1])
    )
    taken = np.concatenate(  # by markers and by whiskers
        [
            np.hstack([at - 4, at + 4]),
            np.column_stack([low[:, 0], at[:, 1] - 0.5, high[:, 0], at[:, 1] + 0.5]),
            np.column_stack([at[:, 0] - 0.5, low[:, 1], at[:, 0] + 0.5, high[:, 1]]),
        ]
    )
    for row, middle in zip(records(rows), at, strict=True):
        text = _short_label(row)
        half = np.array([0.6 * len(text), 1.1]) * LABEL_SIZE / 2
        for far, angle in LABEL_PLACES if row["named"] else ():
            away = far * np.array([math.cos(angle), math.sin(angle)])
            shift = away + np.sign(away.round()) * half
            left, right = middle + shift - half, middle + shift + half
            inside = (left > frame[:2]).all() and (right < frame[2:]).all()
            if inside and not ((taken[:, :2] < right) & (taken[:, 2:] > left)).all(axis=1).any():
                taken = np.vstack([taken, [*left, *right]])
                line = {"arrowstyle": "-", "lw": 0.5, "color": style.FAINT, "shrinkB": 3} if far > 14 else None
                how: dict[str, Any] = {"ha": "center", "fontsize": LABEL_SIZE, "color": colours[row["model"]]}
                style.note(axes, text, (row[x], row[y]), tuple(shift), arrowprops=line, **how)
                break


def _short_label(row: dict[str, Any]) -> str:
    """The label without what colour, marker and panel already say."""
    known = {family_title(row["model"]), row["dtype"], row["device"]}
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in known)
