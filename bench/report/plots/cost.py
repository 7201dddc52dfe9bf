"""Plots of what a configuration costs: memory, the parts of a step, inference by batch size, more processes."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.analysis.formatting import mebibytes, milliseconds, rate, three_digits
from bench.analysis.labels import records
from bench.analysis.scaling import Ladder, by_configuration, efficiency, ladders, speed_up
from bench.analysis.summary import Tables
from bench.report.plots.plot import run_plot, value_range
from bench.report.plots.style import (
    FAINT,
    INK,
    MOST_ROWS,
    PLAIN,
    SHADES,
    WIDTH,
    count_seeds,
    faint_curves,
    family_colours,
    legend_below,
    log_axis,
    marker_of,
    measured,
    name_rows,
    note,
    size_axis,
    title,
)

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
MOST_SCALED = 4  # configurations of a device with more processes; more lines can't be told apart
SCALED_LINES = {"fixed": ("-", "batch of all processes fixed"), "scaled": (":", "batch of each process fixed")}
SCALED_MARKERS = "os^DPX"


def _memory_alt(tables: Tables, rows: pd.DataFrame) -> str:
    return f"Peak training memory goes {value_range(rows, 'peak_memory_bytes', mebibytes, less_is_better=True)}."


@run_plot(
    "Memory",
    caption="Peak memory that training adds, split into what holds it; shorter is better.",
    alt=_memory_alt,
)
def memory(tables: Tables) -> Figure | None:
    """Peak memory of training, split where that is known."""
    rows = measured(tables.like_for_like, "peak_memory_bytes").sort_values("peak_memory_bytes")
    return _bars(tables, rows, MEMORY_PARTS, "peak_memory_bytes", 2**-20, (memory.title, "peak training memory, MiB"))


def _step_alt(tables: Tables, rows: pd.DataFrame) -> str:
    steps = []
    for row in records(rows[rows["best_of_family"]]):
        sizes = {name: row[part] for part, name in STEP_PARTS.items()}
        longest, total = max(sizes, key=lambda name: sizes[name]), sum(sizes.values())
        if total > 0:
            share = f"its longest part is {longest}, {sizes[longest] / total:.0%}"
            steps.append(f"a step of {row['label']} takes {milliseconds(total)}, {share}")
    return f"In medians {'; '.join(steps)}." if steps else ""


@run_plot(
    "Where a training step goes",
    caption="Where the time of a training step goes, from a pass of its own that waits for the device after each "
    "part; shorter is better.",
    alt=_step_alt,
)
def step_split(tables: Tables) -> Figure | None:
    """How a training step's time splits into data, forward, backward and optimiser."""
    rows = measured(tables.like_for_like, *STEP_PARTS)
    rows = rows.assign(split_seconds=rows[list(STEP_PARTS)].sum(axis=1)).sort_values("split_seconds")
    return _bars(tables, rows, STEP_PARTS, "split_seconds", 1e3, (step_split.title, "ms a step"))


def _bars(
    tables: Tables, rows: pd.DataFrame, parts: dict[str, str], whole: str, unit: float, titles: tuple[str, str]
) -> Figure | None:
    """Stacked bars, the shortest first; one whose parts aren't known is plain."""
    if rows.empty:
        return None
    total, best = len(rows), rows.index[rows["best_of_family"]]
    kept = [*best, *rows.index.difference(best, sort=False)][:MOST_ROWS]
    rows = rows.loc[kept].sort_values(whole)
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
    for y, (end, size) in enumerate(zip(ends, rows[whole] * unit, strict=True)):
        note(axes, three_digits(size), (end, y), (5, 0), fontsize=8.5)
    axes.set_xlim(0, float(rows[whole].max()) * unit * 1.08)
    axes.set_xlabel(titles[1])
    name_rows(axes, list(rows["label"]), [colours[model] for model in rows["model"]])
    handles = [Patch(color=colour, label=name) for name, colour in zip(parts.values(), SHADES, strict=True)]
    handles = (handles if known.any() else []) + ([] if known.all() else [Patch(color=PLAIN, label="not split")])
    legend_below(figure, handles, handletextpad=0.8)
    cut = f"; {len(rows)} of {total}: the smallest, and each family's best on validation" if len(rows) < total else ""
    title(figure, titles[0], f"medians, {count_seeds(rows, 'n_timed')}{cut}")
    return figure


def _inference_alt(tables: Tables, rows: pd.DataFrame) -> str:
    speeds = [
        f"{row['label']} {rate(row['inference_images_per_second'])} in batches of {row['batch_size']:g}, "
        f"{milliseconds(row['latency_p50_seconds'])} for one image"
        for row in records(rows[rows["best_of_family"]])
    ]
    return f"{'; '.join(speeds)}."


@run_plot(
    "Inference by batch size",
    caption="Inference speed at each batch size, and the latency of single images; a small net gains most from a "
    "larger batch.",
    alt=_inference_alt,
)
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
        faint_curves(axes, here[~here["config_id"].isin(chosen["config_id"])], ("batch_size", "rate"), colours)
        for row in records(chosen):
            line = here[here["config_id"] == row["config_id"]]
            style: dict[str, Any] = {"color": colours[row["model"]], "marker": marker_of(row["dtype"])}
            label = row["label"] + _latency(row)
            axes.plot(line["batch_size"], line["rate"], lw=2.4, ms=6, mec="white", mew=0.7, label=label, **style)
        size_axis(axes, sorted(here["batch_size"].unique()), "batch size, images")
        axes.legend(loc="lower right", title=device if len(devices) > 1 else None)
    log_axis(panels[0], "inference throughput, images/s", points["rate"].min(), points["rate"].max(), "y")
    others = "; faint: the other configurations" if len(tables.summary) > len(best) else ""
    seeds = count_seeds(best, "n_timed")
    subtitle = f"each family's best on validation, medians, {seeds}; latency is of one image{others}"
    title(figure, inference_by_batch.title, subtitle)
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


def _scaling_alt(tables: Tables, rows: pd.DataFrame) -> str:
    ends = []
    for ladder in ladders(tables, rows["device_name"].iloc[0]):
        speed, share = speed_up(tables, ladder, ladder.more[-1]), efficiency(tables, ladder, ladder.more[-1])
        if speed and share:
            size = f"{ladder.more[-1]['world_size']:g} processes"
            times = f"{speed.text} times with {size}, efficiency {share.median:.0%}"
            ends.append(f"{ladder.name}, {ladder.batch}: {times}")
    more = f"; {len(ends) - 4} more" if len(ends) > 4 else ""
    return f"{'; '.join(ends[:4])}{more}." if ends else ""


@run_plot(
    "Training speed with more processes",
    caption="Training speed with more processes, and what each of them is worth beside the first. On the dashed line "
    "nothing is lost to waiting and talking.",
    alt=_scaling_alt,
)
def scaling(tables: Tables) -> Figure | None:
    """Two panels a device: speed on logarithmic axes, where ideal is a straight line, and efficiency."""
    found = {name: _timed_ladders(tables, name) for name in dict.fromkeys(tables.summary["device_name"])}
    drawn = {name: own[:MOST_SCALED] for name, own in found.items() if own}
    if not drawn:
        return None
    colours = family_colours(tables.summary["model"])
    figure = Figure(figsize=(WIDTH, 0.9 + 4.2 * len(drawn)), layout="constrained")
    panels = figure.subplots(len(drawn), 2, squeeze=False)
    for (speed, share), (name, own) in zip(panels, drawn.items(), strict=True):
        key = []
        for group, marker in zip(own, SCALED_MARKERS, strict=False):
            style: dict[str, Any] = {"color": colours[group[0].base["model"]], "marker": marker, "mec": "white"}
            style |= {"lw": 2, "ms": 7}
            key.append(Line2D([], [], label=group[0].name, **style))
            for ladder in group:
                _ladder(tables, (speed, share), ladder, style)
        _scaling_axes(speed, share, [ladder for group in own for ladder in group])
        # where the lines all begin at 100%, there is room below them
        share.legend(handles=key, loc="lower left", title=name if len(drawn) > 1 else None, handlelength=3)
    ideal = Line2D([], [], ls="--", lw=1, color=FAINT, label="ideal: each process worth as much as the first")
    shown = [ladder for own in drawn.values() for group in own for ladder in group]
    batches = {ladder.global_batch for ladder in shown}
    kinds = [line for batch, line in SCALED_LINES.items() if batch in batches]
    lines = [Line2D([], [], ls=ls, lw=2, color=INK, label=text) for ls, text in kinds]
    figure.legend(handles=[*lines, ideal], loc="outside lower center", ncols=3)
    few, total = (sum(len(own) for own in each.values()) for each in (drawn, found))
    cut = f"; {few} of {total} configurations, the families' best among them" if few < total else ""
    seeds = count_seeds(pd.DataFrame([row for ladder in shown for row in ladder.rows]), "n_timed")
    subtitle = f"efficiency: images/s a process over those of the first; medians and 95% intervals, {seeds}{cut}"
    title(figure, scaling.title, subtitle)
    return figure


def _timed_ladders(tables: Tables, device: str) -> list[list[Ladder]]:
    """Ladders with a speed at their first row and at another one, by configuration."""
    own = [ladder for ladder in ladders(tables, device) if ladder.base["images_per_second"] > 0]
    return by_configuration([each for each in own if any(row["images_per_second"] > 0 for row in each.more)])


def _ladder(tables: Tables, panels: tuple[Axes, Axes], ladder: Ladder, style: dict[str, Any]) -> None:
    """Draw one configuration's speeds and efficiencies with more and more processes."""
    line, _ = SCALED_LINES.get(ladder.global_batch, ("-", ""))
    style = style | {"ls": line, "mew": 0.7, "capsize": 3, "elinewidth": 1}
    rows = [row for row in ladder.rows if row["images_per_second"] > 0]
    sizes, speeds = ([row[key] for row in rows] for key in ("world_size", "images_per_second"))
    ends = np.array([[row[f"images_per_second_{end}"] for row in rows] for end in ("low", "high")])
    panels[0].errorbar(sizes, speeds, np.nan_to_num(np.abs(ends - speeds)), **style)
    panels[0].plot(sizes, [speeds[0] * size / sizes[0] for size in sizes], ls="--", lw=1, color=FAINT, zorder=1)
    shares = [(row["world_size"], efficiency(tables, ladder, row)) for row in rows[1:]]
    known = [(sizes[0], 1.0, 1.0, 1.0), *((size, s.median, s.low, s.high) for size, s in shares if s)]
    sizes, middles, lows, highs = (list(column) for column in zip(*known, strict=True))
    ends = np.nan_to_num(np.abs(np.array([lows, highs]) - middles))
    panels[1].errorbar(sizes, np.multiply(100, middles), 100 * ends, **style)


def _scaling_axes(speed: Axes, share: Axes, own: list[Ladder]) -> None:
    sizes = sorted({row["world_size"] for ladder in own for row in ladder.rows})
    speeds = [row["images_per_second"] for ladder in own for row in ladder.rows if row["images_per_second"] > 0]
    ideal = [ladder.base["images_per_second"] * sizes[-1] / ladder.base["world_size"] for ladder in own]
    log_axis(speed, "training, images/s", min(speeds), max([*speeds, *ideal]), "y", margin=1.2)
    for axes in (speed, share):
        size_axis(axes, sizes, "processes that train one model together", margin=1.15)
    share.axhline(100, ls="--", lw=1, color=FAINT, zorder=1)
    share.set_ylabel("efficiency, %")
    shares = [
        row["images_per_second"] * ladder.base["world_size"] / (ladder.base["images_per_second"] * row["world_size"])
        for ladder in own
        for row in ladder.more
        if row["images_per_second"] > 0
    ]
    share.set_ylim(0, 110 * max(1.0, *shares))  # an interval of two seeds may reach far beyond
