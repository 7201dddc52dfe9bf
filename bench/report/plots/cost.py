"""Figures of what a configuration costs: where its memory and its step go, and how inference grows with the batch."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.analysis.formatting import three_digits
from bench.analysis.labels import records
from bench.analysis.summary import Tables
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, MOST_ROWS, WIDTH, family_colours, styled

SHADES = ("#3b2a5c", "#7a5da8", "#b29ad0", "#dfd6eb")  # of one colour that no family has, so that parts aren't families
PLAIN = "#c9ced4"  # what isn't split
MEMORY_PARTS = {
    "param_bytes": "parameters",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimiser state",
    "activation_bytes": "activations and workspace",
}
STEP_PARTS = {
    "data_seconds": "data",
    "forward_seconds": "forward",
    "backward_seconds": "backward",
    "optimizer_seconds": "optimiser",
}


@styled
def memory(tables: Tables) -> Figure | None:
    """Peak memory of training, split where that is known."""
    rows = canvas.measured(tables.like_for_like, "peak_memory_bytes").sort_values("peak_memory_bytes")
    return _bars(tables, rows, MEMORY_PARTS, "peak_memory_bytes", 2**-20, ("Memory", "peak training memory, MiB"))


@styled
def step_split(tables: Tables) -> Figure | None:
    """Where a training step's time goes."""
    rows = canvas.measured(tables.like_for_like, *STEP_PARTS)
    rows = rows.assign(split_seconds=rows[list(STEP_PARTS)].sum(axis=1)).sort_values("split_seconds")
    return _bars(tables, rows, STEP_PARTS, "split_seconds", 1e3, ("Where a training step goes", "ms a step"))


def _bars(
    tables: Tables, rows: pd.DataFrame, parts: dict[str, str], whole: str, unit: float, titles: tuple[str, str]
) -> Figure | None:
    """Stacked bars, the shortest first; one whose parts aren't known is plain."""
    if rows.empty:
        return None
    total, champions = len(rows), rows[rows["best_of_family"]]
    rows = rows.loc[[*champions.index, *rows.index.difference(champions.index, sort=False)][:MOST_ROWS]].sort_values(
        whole
    )
    figure = Figure(figsize=(WIDTH, 1.7 + 0.27 * len(rows)), layout="constrained")
    axes, colours = figure.subplots(), family_colours(tables.summary["model"])
    known = rows[list(parts)].notna().all(axis=1).to_numpy()
    places, left = np.arange(len(rows)), np.zeros(known.sum())
    for part, colour in zip(parts, SHADES, strict=True):
        sizes = rows.loc[known, part].to_numpy() * unit
        axes.barh(places[known], sizes, 0.66, left, color=colour, lw=0)
        left = left + sizes
    axes.barh(places[~known], rows.loc[~known, whole] * unit, 0.66, color=PLAIN, lw=0)
    ends = rows[whole].to_numpy() * unit
    ends[known] = np.maximum(ends[known], left)
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8.5, "color": canvas.INK}
    for y, (end, total_of) in enumerate(zip(ends, rows[whole] * unit, strict=True)):
        axes.annotate(three_digits(total_of), (end, y), (5, 0), in_layout=False, **place)
    axes.set_xlim(0, float(rows[whole].max()) * unit * 1.08)
    axes.set_xlabel(titles[1])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    canvas.name_rows(axes, rows, colours)
    handles = [Patch(color=colour, label=name) for name, colour in zip(parts.values(), SHADES, strict=True)]
    handles = (handles if known.any() else []) + ([] if known.all() else [Patch(color=PLAIN, label="not split")])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    cut = f"; {len(rows)} of {total}: the smallest, and each family's best on validation" if len(rows) < total else ""
    canvas.title(figure, titles[0], f"medians, {canvas.count_seeds(rows, 'n_timed')}{cut}")
    return figure


@styled
def inference_by_batch(tables: Tables) -> Figure | None:
    """Inference speed against the batch's size: the best of each family in full, the others faint."""
    points = _rates(tables)
    best = tables.summary[tables.summary["best_of_family"]]
    best = best[best["config_id"].isin(points["config_id"])]
    if best.empty or points["batch_size"].nunique() < 2:
        return None
    devices, colours = list(dict.fromkeys(best["device_name"])), family_colours(tables.summary["model"])
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(1, len(devices), sharey=True, squeeze=False)[0]
    for axes, device in zip(panels, devices, strict=True):
        here, chosen = points[points["device_name"] == device], best[best["device_name"] == device]
        others = here[~here["config_id"].isin(chosen["config_id"])]
        canvas.faint_curves(axes, others, ("batch_size", "rate"), colours)
        for row in records(chosen):
            line = here[here["config_id"] == row["config_id"]]
            style: dict[str, Any] = {"color": colours[row["model"]], "marker": canvas.marker_of(row["dtype"])}
            label = row["label"] + _latency(row)
            axes.plot(line["batch_size"], line["rate"], lw=2.4, ms=6, mec="white", mew=0.7, label=label, **style)
        _batch_axis(axes, here)
        axes.legend(loc="lower right", title=device if len(devices) > 1 else None)
    canvas.log_axis(panels[0], "inference throughput, images/s", points["rate"].min(), points["rate"].max(), "y")
    others = "; faint: the other configurations" if len(tables.summary) > len(best) else ""
    seeds = canvas.count_seeds(best, "n_timed")
    said = f"each family's best on validation, medians, {seeds}; latency is of one image{others}"
    canvas.title(figure, "Inference by batch size", said)
    return figure


def _rates(tables: Tables) -> pd.DataFrame:
    """Images/s a configuration and batch size: the median over trials of the median over blocks."""
    known = tables.trials.loc[tables.trials["status"] == "ok", ["trial_id", "config_id", "device_name", "model"]]
    blocks = tables.inference[tables.inference["seconds"] > 0]
    blocks = blocks.assign(rate=blocks["images"] / blocks["seconds"]).merge(known, on="trial_id")
    keys = ["config_id", "device_name", "model", "batch_size"]
    return blocks.groupby([*keys, "trial_id"], sort=False)["rate"].median().groupby(keys).median().reset_index()


def _latency(row: dict[str, Any]) -> str:
    ends = [row[f"latency_p{p}_seconds"] * 1e3 for p in (50, 99)]
    return "" if math.isnan(sum(ends)) else f" (latency p50 {three_digits(ends[0])}, p99 {three_digits(ends[1])} ms)"


def _batch_axis(axes: Axes, points: pd.DataFrame) -> None:
    sizes = sorted(points["batch_size"].unique())
    axes.set_xscale("log")
    canvas.set_ticks(axes.xaxis, sizes, lambda size: f"{size:g}")
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * 1.2)
    axes.set_xlabel("batch size, images")
    axes.tick_params(axis="x", color=FAINT)
