"""Figures of what a configuration costs: where its memory and its step go, and how inference grows with the batch."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.analysis.formatting import three_digits
from bench.analysis.labels import records
from bench.analysis.scaling import Ladder, by_configuration, efficiency, ladders
from bench.analysis.summary import Tables
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, INK, MOST_ROWS, WIDTH, family_colours, styled

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


# Scaling as a picture: images/s against processes beside the ideal line, and what each process is still worth.
MOST_CONFIGURATIONS = 4  # of a device; more lines can't be told apart
DASHES = {"fixed": "-", "scaled": ":"}
MARKERS = "os^DPX"


@styled
def scaling(tables: Tables) -> Figure | None:
    """Two panels a device: speed on logarithmic axes, where ideal is a straight line, and efficiency."""
    drawn = {
        name: _measured(tables, name)[:MOST_CONFIGURATIONS] for name in dict.fromkeys(tables.summary["device_name"])
    }
    drawn = {name: own for name, own in drawn.items() if own}
    if not drawn:
        return None
    colours = family_colours(tables.summary["model"])
    total = sum(len(_measured(tables, name)) for name in drawn)
    figure = Figure(figsize=(WIDTH, 0.9 + 4.2 * len(drawn)), layout="constrained")
    panels = figure.subplots(len(drawn), 2, squeeze=False)
    for (speed, share), (name, own) in zip(panels, drawn.items(), strict=True):
        for group, marker in zip(own, MARKERS, strict=False):
            for ladder in group:
                _draw(tables, (speed, share), ladder, colours, marker)
        _axes(speed, share, [ladder for group in own for ladder in group])
        key = [_in_key(group[0], colours, marker) for group, marker in zip(own, MARKERS, strict=False)]
        # where the lines all begin at 100%, there is room below them
        share.legend(handles=key, loc="lower left", title=name if len(drawn) > 1 else None, handlelength=3)
    ideal = Line2D([], [], ls="--", lw=1, color=FAINT, label="ideal: each process worth as much as the first")
    shown = [ladder for own in drawn.values() for group in own for ladder in group]
    batches = {ladder.global_batch for ladder in shown}
    words = {"fixed": "batch of all processes fixed", "scaled": "batch of each process fixed"}
    kinds = [Line2D([], [], ls=DASHES[b], lw=2, color=INK, label=words[b]) for b in words if b in batches]
    figure.legend(handles=[*kinds, ideal], loc="outside lower center", ncols=3)
    rows = pd.DataFrame([row for ladder in shown for row in ladder.rows])
    few = sum(len(own) for own in drawn.values())
    cut = f"; {few} of {total} configurations, the families' best among them" if few < total else ""
    seeds = f"medians and 95% intervals, {canvas.count_seeds(rows, 'n_timed')}{cut}"
    said = f"efficiency: images/s a process over those of the first; {seeds}"
    canvas.title(figure, "Training speed with more processes", said)
    return figure


def _measured(tables: Tables, name: str) -> list[list[Ladder]]:
    """Ladders with a speed at their first row and at another one, by configuration."""
    own = [ladder for ladder in ladders(tables, name) if ladder.base["images_per_second"] > 0]
    return by_configuration([each for each in own if any(row["images_per_second"] > 0 for row in each.more)])


def _in_key(ladder: Ladder, colours: dict[str, str], marker: str) -> Line2D:
    return Line2D(
        [], [], color=colours[ladder.base["model"]], marker=marker, lw=2, ms=7, mec="white", label=ladder.name
    )


def _draw(tables: Tables, panels: tuple[Axes, Axes], ladder: Ladder, colours: dict[str, str], marker: str) -> None:
    style: dict[str, Any] = {"color": colours[ladder.base["model"]], "ls": DASHES.get(ladder.global_batch, "-")}
    style |= {"marker": marker, "lw": 2, "ms": 7, "mec": "white", "mew": 0.7, "capsize": 3, "elinewidth": 1}
    rows = [row for row in ladder.rows if row["images_per_second"] > 0]
    sizes, speeds = ([row[key] for row in rows] for key in ("world_size", "images_per_second"))
    panels[0].errorbar(sizes, speeds, _scaling_bars(rows, speeds), **style)
    ideal = [speeds[0] * size / sizes[0] for size in sizes]
    panels[0].plot(sizes, ideal, ls="--", lw=1, color=FAINT, zorder=1)
    shares = [efficiency(tables, ladder, row) for row in rows[1:]]
    known = [(size, share) for size, share in zip(sizes[1:], shares, strict=True) if share]
    middles = [1.0, *(share.median for _, share in known)]
    ends = np.abs(np.array([[1.0, 1.0], *([share.low, share.high] for _, share in known)]).T - middles)
    panels[1].errorbar(
        [sizes[0], *(size for size, _ in known)], np.multiply(100, middles), 100 * np.nan_to_num(ends), **style
    )


def _scaling_bars(rows: list[dict[str, Any]], speeds: list[float]) -> Any:
    ends = np.array([[row[f"images_per_second_{end}"] for row in rows] for end in ("low", "high")])
    return np.nan_to_num(np.abs(ends - speeds))


def _axes(speed: Axes, share: Axes, own: list[Ladder]) -> None:
    sizes = sorted({row["world_size"] for ladder in own for row in ladder.rows})
    speeds = [row["images_per_second"] for ladder in own for row in ladder.rows if row["images_per_second"] > 0]
    ideal = [ladder.base["images_per_second"] * sizes[-1] / ladder.base["world_size"] for ladder in own]
    canvas.log_axis(speed, "training, images/s", min(speeds), max([*speeds, *ideal]), "y", margin=1.2)
    for axes in (speed, share):
        axes.set_xscale("log")
        canvas.set_ticks(axes.xaxis, sizes, lambda size: f"{size:g}")
        axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
        axes.set_xlabel("processes that train one model together")
    share.axhline(100, ls="--", lw=1, color=FAINT, zorder=1)
    share.set_ylabel("efficiency, %")
    shares = [
        row["images_per_second"] * ladder.base["world_size"] / (ladder.base["images_per_second"] * row["world_size"])
        for ladder in own
        for row in ladder.more
        if row["images_per_second"] > 0
    ]
    share.set_ylim(0, 110 * max(1.0, *shares))  # an interval of two seeds may reach far beyond
