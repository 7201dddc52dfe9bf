"""Plots with a point a configuration: accuracy against what it costs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.formatting import percent
from bench.analysis.labels import SHAPE_LETTERS, family_title, records
from bench.analysis.summary import Tables
from bench.measure.stats import pareto_front
from bench.report.plots import style
from bench.report.plots.plot import Plot, value_range

PANELS_BESIDE = 3  # of several devices
LABEL_SIZE = 8.5  # points
# Where a label may stand: distance from its point (points of 1/72 inch) and angle, nearest and most readable first.
LABEL_PLACES = [
    (far, math.radians(angle))
    for far in (6.0, 9.0, 13.0, 19.0, 27.0, 37.0, 49.0)
    for angle in (45, 315, 135, 225, 0, 180, 90, 270)
]
Draw = Callable[[Axes, pd.DataFrame, str], "pd.Series[bool]"]  # a panel's lines and axes; which rows stand out


def _hero(name: str, title: str, column: str, axis: str, factor: float = 1.0) -> Plot[Tables]:
    """Accuracy against what a model costs; each point links to its row of the page's table."""

    def draw(tables: Tables) -> Figure | None:
        rows = style.measured(tables.like_for_like, "test_accuracy", column)
        rows = rows[rows[column] > 0]
        if rows["config_id"].nunique() < 3:  # of two there is nothing that a table doesn't say
            return None
        rows = rows.assign(cost=rows[column] * factor)
        for end in ("low", "high"):
            if f"{column}_{end}" in rows:
                rows[f"cost_{end}"] = rows[f"{column}_{end}"] * factor
        return _against(tables, rows, axis, title)

    def caption(tables: Tables) -> str:
        return (
            "Up is more accurate, left is cheaper; nothing beats the dashed line on both. p: patch size, d: blocks, "
            "w: channels. The axis is stretched towards the top."
        )

    def alt(tables: Tables) -> str:
        rows = style.measured(tables.like_for_like, "test_accuracy", column)
        return f"Test accuracy goes {value_range(rows, 'test_accuracy', percent)}. The table holds the numbers."

    return Plot(name, title, draw, caption, alt)


HERO = (
    _hero("accuracy_by_parameters", "Accuracy against parameters", "num_params", "parameters"),
    _hero("accuracy_by_flops", "Accuracy against FLOPs", "num_flops", "MFLOPs per image, forward", 1e-6),
    _hero("accuracy_by_latency", "Accuracy against latency", "latency_p50_seconds", "one image, ms (median)", 1e3),
    _hero("accuracy_by_time", "Accuracy against training time", "train_seconds", "training, s"),
)


def _against(tables: Tables, rows: pd.DataFrame, axis: str, text: str) -> Figure:
    """A panel for each device, with the Pareto front of accuracy and cost."""

    def draw(axes: Axes, here: pd.DataFrame, x: str) -> "pd.Series[bool]":
        front = here[pareto_front(1 / here[x], here["test_accuracy"])].sort_values(x)
        axes.plot(front[x], front["test_accuracy"], "--", color=style.FAINT, lw=1, zorder=1)
        style.log_axis(axes, axis, here[x].min(), here[x].max())
        return here["best_of_family"] | here.index.isin(front.index)

    sizes = [len(here) for _, here in rows.groupby("device_name")]
    alone = "; of one seed, accuracy's interval is that of the test images" if rows["n"].min() == 1 else ""
    cut = f"; faint: all but {style.MOST_ROWS} of a device's configurations" if max(sizes) > style.MOST_ROWS else ""
    subtitle = f"mean and 95% interval, {style.count_seeds(rows)}{style.speeds_note(rows)}{alone}{cut}"
    return _panels(tables, rows, ["cost"], "test_accuracy", draw, "Pareto front", (text, subtitle))


def _panels(
    tables: Tables, rows: pd.DataFrame, metrics: list[str], y: str, draw: Draw, dashed: str, titles: tuple[str, str]
) -> Figure:
    """A panel for each device and metric along x; labels come last, when it is known where all else lies."""
    wanted = [(device, metric) for device in rows["device_name"].unique() for metric in metrics]
    beside = len(metrics) if len(metrics) > 1 else min(len(wanted), PANELS_BESIDE)
    down = -(-len(wanted) // beside)
    figure, panels = style.canvas(5.4 if down == 1 else 1.2 + 3.4 * down, down, beside, sharey=y == "test_accuracy")
    colours, drawn = style.family_colours(tables.summary["model"]), []
    marker = style.markers(rows, colours)
    for axes, (device, x) in zip(panels.flat, wanted, strict=False):
        here = style.measured(rows[rows["device_name"] == device], x)
        if len(here):
            drawn.append((axes, _points(axes, here, draw(axes, here, x), (x, y), colours, marker), x, y))
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
    axes: Axes,
    here: pd.DataFrame,
    first: "pd.Series[bool]",
    metrics: tuple[str, str],
    colours: dict[str, str],
    marker: Callable[[str, str], str],
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
        how: dict[str, Any] = {
            "color": colours[str(model)],
            "marker": marker(str(model), str(dtype)),
            "ms": 7,
            "mew": 0.7,
        }
        ends = style.whiskers(group, y), style.whiskers(group, x)
        axes.errorbar(group[x], group[y], *ends, ls="", elinewidth=0.9, mec="white", zorder=3, **how)
    spots = axes.scatter(shown[x], shown[y], s=160, alpha=0, zorder=4)  # what a pointer finds
    spots.set_urls([f"#row-{index}" for index in shown.index])
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
    # from the top, so that of two points above each other the upper one has the upper label
    for row, middle in sorted(zip(records(rows), at, strict=True), key=lambda each: -each[1][1]):
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
    """The label without what colour, marker and panel already say; of a twin its own shape, as in the table's names."""
    if isinstance(row["match"], str) and row["match"]:
        shape = ("patch_size", "depth", "embed_dim" if row["width"] != row["width"] else "width")
        return " ".join(f"{SHAPE_LETTERS[key]}{row[key]:g}" for key in shape if row[key] == row[key])
    known = {family_title(row["model"]), row["dtype"], row["device"]}
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in known)
