"""Figures with a point a configuration: accuracy against speed, and speed against the work of one image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.formatting import listed, three_digits
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables
from bench.measure.stats import pareto_front
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, MOST_ROWS, WIDTH, family_colours, marker_of, styled

# Placement: labels beside the points of a scatter plot, clear of each other and of every marker.
Box = tuple[float, float, float, float]  # left, bottom, right, top


def place_labels(
    axes: Axes,
    rows: pd.DataFrame,
    colours: dict[str, str],
    metrics: tuple[str, str],
    others: pd.DataFrame | None = None,
    size: float = 8.5,
) -> None:
    """Write each point's patch and depth beside it: in the nearest free place, with a line to it where that is far.

    Args:
        metrics: of the two axes.
        others: points that get no label, and are kept clear of.

    Where nothing is free, a point stays without.
    """
    points_per_pixel = 72 / axes.figure.dpi
    frame = np.asarray(axes.get_window_extent().extents) * points_per_pixel
    points = records(rows)
    crosses = [_cross(axes, point, points_per_pixel, metrics) for point in points]
    more = [] if others is None else [_cross(axes, point, points_per_pixel, metrics) for point in records(others)]
    taken = [box for cross in (*crosses, *more) for box in cross]
    for row, (body, *_) in zip(points, crosses, strict=True):
        text, x, y = _short(row), (body[0] + body[2]) / 2, (body[1] + body[3]) / 2
        width, height = 0.6 * size * len(text), 1.1 * size
        boxes = [(far, _box(x, y, dx, dy, width, height)) for far, dx, dy in _offsets()]
        free = ((far, box) for far, box in boxes if _inside(box, frame) and not any(_overlap(box, b) for b in taken))
        far, box = next(free, (0.0, None))
        if box is None:
            continue
        taken.append(box)
        axes.annotate(
            text,
            (row[metrics[0]], row[metrics[1]]),
            ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=colours[row["model"]],
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": FAINT, "shrinkB": 3} if far > 14 else None,
        )


def _cross(axes: Axes, row: dict[str, Any], scale: float, metrics: tuple[str, str]) -> list[Box]:
    """Where a point's marker and its whiskers are, in points of the page."""
    ends = [[row.get(f"{metric}{end}", math.nan) for end in ("_low", "", "_high")] for metric in metrics]
    (left, x, right), (low, y, high) = ([v if v == v else some[1] for v in some] for some in ends)
    corners = axes.transData.transform([(x, y), (left, low), (right, high)]) * scale
    (x, y), (left, low), (right, high) = corners
    return [(x - 4, y - 4, x + 4, y + 4), (left, y - 0.5, right, y + 0.5), (x - 0.5, low, x + 0.5, high)]


def _short(row: dict[str, Any]) -> str:
    """The label without what colour, marker and panel already say."""
    said = {family_title(row["model"]), row["dtype"], row["device"]}
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in said)


def _offsets() -> Iterator[tuple[float, float, float]]:
    """Distance and direction, the nearest and most readable places first."""
    for far in (6.0, 9.0, 13.0, 19.0, 27.0, 37.0, 49.0):
        for angle in (45, 315, 135, 225, 0, 180, 90, 270):
            yield far, far * math.cos(math.radians(angle)), far * math.sin(math.radians(angle))


def _box(x: float, y: float, dx: float, dy: float, width: float, height: float) -> Box:
    """Edges of a text that leaves the point (x, y) towards (dx, dy)."""
    left = x + dx - (0 if dx > 0.1 else width if dx < -0.1 else width / 2)
    bottom = y + dy - (0 if dy > 0.1 else height if dy < -0.1 else height / 2)
    return left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: Box, frame: Any) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]


ACROSS = 3  # panels side by side


@dataclass(frozen=True)
class Scale:
    """A quantity as an axis; `better` is 1 where more is better, -1 where less is."""

    metric: str
    words: str
    better: int = 1


TRAINING = Scale("images_per_second", "training throughput, images/s")
INFERENCE = Scale("inference_images_per_second", "inference throughput in batches, images/s")
LATENCY = Scale("latency_ms", "latency of one image (p50), ms: less is better", -1)


@styled
def accuracy_against_throughput(tables: Tables) -> Figure | None:
    """Who is accurate, who is fast to train, and which choices nothing beats on both."""
    return _against(tables, tables.like_for_like, [TRAINING], "Test accuracy against training speed")


@styled
def accuracy_against_latency(tables: Tables) -> Figure | None:
    """The same for inference: how long one image takes, and how many a second go through in batches."""
    rows = tables.like_for_like
    rows = rows.assign(latency_ms=rows["latency_p50_seconds"] * 1e3)
    return _against(tables, rows, [LATENCY, INFERENCE], "Test accuracy against inference")


def _against(tables: Tables, rows: pd.DataFrame, scales: Sequence[Scale], text: str) -> Figure | None:
    """A panel a device and scale."""
    scales = [scale for scale in scales if len(canvas.measured(rows, "test_accuracy", scale.metric))]
    rows = canvas.measured(rows, "test_accuracy")
    if not scales:
        return None
    devices = list(dict.fromkeys(rows["device_name"]))
    wanted = [(device, scale) for device in devices for scale in scales]
    across = len(scales) if len(scales) > 1 else min(len(wanted), ACROSS)
    down = -(-len(wanted) // across)
    figure = Figure(figsize=(WIDTH, 1.4 + 4.0 * down if down == 1 else 1.2 + 3.4 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    colours, drawn, crowded = family_colours(rows["model"]), [], False
    for axes, (device, scale) in zip(panels, wanted, strict=False):
        here = canvas.measured(rows[rows["device_name"] == device], scale.metric)
        if len(here):
            drawn.append((axes, _points(axes, here, scale, colours), scale))
            crowded = crowded or len(here) > MOST_ROWS
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
    for axes in panels[len(wanted) :]:
        axes.set_visible(False)
    canvas.accuracy_axis(panels[0], *(rows[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    for axes in panels[::across]:
        axes.set_ylabel("test accuracy, %")
    canvas.legend(figure, rows, Line2D([], [], ls="--", lw=1, color=FAINT, label="Pareto front"))
    alone = "; of one seed, the interval is that of its test images and timed blocks" if rows["n"].min() == 1 else ""
    cut = f"; faint: all but {MOST_ROWS} of a device's configurations" if crowded else ""
    canvas.title(figure, text, f"median and 95% interval, {canvas.count_seeds(rows)}{alone}{cut}")
    for axes, leading, scale in drawn:
        _name(axes, leading, colours, (scale.metric, "test_accuracy"))
    return figure


def _points(axes: Axes, here: pd.DataFrame, scale: Scale, colours: dict[str, str]) -> pd.DataFrame:
    """Draw a device's configurations, of many most of them faint; return the others, `named` if they get a label."""
    x = scale.metric
    front = here[pareto_front(here[x] ** scale.better, here["test_accuracy"])].sort_values(x)
    axes.plot(front[x], front["test_accuracy"], "--", color=FAINT, lw=1, zorder=1)
    named = here["best_of_family"] | here.index.isin(front.index)
    leading = canvas.leading(here, named)
    rest = here.drop(leading.index)
    if len(rest):
        shades = [colours[model] for model in rest["model"]]
        axes.scatter(rest[x], rest["test_accuracy"], s=10, c=shades, alpha=0.25, lw=0, zorder=2, rasterized=True)
    for (model, dtype), group in leading.groupby(["model", "dtype"], sort=False):
        style: dict[str, Any] = {"color": colours[str(model)], "marker": marker_of(str(dtype)), "ms": 7, "mew": 0.7}
        errors: dict[str, Any] = {"xerr": _spans(group, x), "yerr": _spans(group, "test_accuracy")}
        axes.errorbar(group[x], group["test_accuracy"], ls="", elinewidth=0.9, mec="white", zorder=3, **errors, **style)
    canvas.log_axis(axes, scale.words, here[x].min(), here[x].max())
    return leading.assign(named=named[leading.index] if len(rest) else True)


def _name(axes: Axes, leading: pd.DataFrame, colours: dict[str, str], metrics: tuple[str, str]) -> None:
    place_labels(axes, leading[leading["named"]], colours, metrics, leading[~leading["named"]])


def _spans(rows: pd.DataFrame, metric: str) -> "np.ndarray[Any, Any] | None":
    """Whiskers down and up, (2, rows); nothing where an interval isn't known."""
    if f"{metric}_low" not in rows:
        return None
    down, up = rows[metric] - rows[f"{metric}_low"], rows[f"{metric}_high"] - rows[metric]
    return np.nan_to_num(np.clip(np.array([down, up], dtype=float), 0, None))


@styled
def flops_share(tables: Tables) -> Figure | None:
    """How much of what the device can do is done: work a second in training against the work of one image."""
    rows = tables.summary.assign(share=tables.summary["flops_share"])
    rows = canvas.measured(rows, "num_train_flops", "flops_per_second")
    rows = rows[(rows["num_train_flops"] > 0) & (rows["flops_per_second"] > 0)]
    rows = rows[rows.index.isin(tables.like_for_like.index)]
    if rows.empty:
        return None
    rows = rows.assign(mflop=rows["num_train_flops"] / 1e6, gflops=rows["flops_per_second"] / 1e9)
    devices, colours = list(dict.fromkeys(rows["device_name"])), family_colours(rows["model"])
    across = min(len(devices), ACROSS)
    down = -(-len(devices) // across)
    figure = Figure(figsize=(WIDTH, 1.4 + 3.8 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    leading = {}
    for axes, device in zip(panels, devices, strict=False):
        leading[device] = _roofline(axes, rows[rows["device_name"] == device], colours)
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
    for axes in panels[len(devices) :]:
        axes.set_visible(False)
    canvas.legend(figure, rows, Line2D([], [], ls="--", lw=1, color=FAINT, label="matrix-product peak, measured"))
    said = f"medians, {canvas.count_seeds(rows, 'n_timed')}; forward and backward, a multiply-add is two FLOPs"
    canvas.title(figure, "Work done a second against the work of one image", said)
    for axes, device in zip(panels, devices, strict=False):
        _name(axes, leading[device], colours, ("mflop", "gflops"))
    return figure


def _roofline(axes: Axes, here: pd.DataFrame, colours: dict[str, str]) -> pd.DataFrame:
    """One device: its points below the peaks of its numeric modes."""
    leading = canvas.leading(here, here["best_of_family"])
    rest = here.drop(leading.index)
    if len(rest):
        shades = [colours[model] for model in rest["model"]]
        axes.scatter(rest["mflop"], rest["gflops"], s=10, c=shades, alpha=0.25, lw=0, rasterized=True)
    for (model, dtype), group in leading.groupby(["model", "dtype"], sort=False):
        style: dict[str, Any] = {"color": colours[str(model)], "marker": marker_of(str(dtype)), "ms": 7, "mew": 0.7}
        axes.plot(group["mflop"], group["gflops"], ls="", mec="white", zorder=3, **style)
    peaks = here.dropna(subset=["matmul_flops_per_second"]).groupby("dtype")["matmul_flops_per_second"].median() / 1e9
    right = here["mflop"].max() * 1.5
    equal: dict[str, list[str]] = {}
    for dtype, peak in peaks.items():
        equal.setdefault(three_digits(peak), []).append(str(dtype))
        axes.axhline(peak, color=FAINT, ls="--", lw=1, zorder=1)
    for said, dtypes in equal.items():
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 8.5}
        text = f"{listed(dtypes)} peak {said} GFLOP/s"
        axes.annotate(text, (right, peaks[dtypes[0]]), (-6, 2), color=FAINT, **place)
    canvas.log_axis(axes, "MFLOP an image (training)", here["mflop"].min(), here["mflop"].max(), margin=1.5)
    highest = max([here["gflops"].max(), *peaks])
    canvas.log_axis(axes, "GFLOP/s in training", here["gflops"].min(), highest, "y", margin=1.5)
    return leading.assign(named=leading["best_of_family"] if len(rest) else True)
