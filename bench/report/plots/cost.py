"""Plots of what a configuration costs: memory, the parts of a step, inference by batch size, more processes."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.analysis.comparison import sentence
from bench.analysis.formatting import mebibytes, milliseconds, rate, three_digits
from bench.analysis.labels import plain_name, records
from bench.analysis.scaling import Ladder, by_configuration, efficiency, ladders, speed_up
from bench.analysis.summary import MEMORY, Tables
from bench.report.plots import style
from bench.report.plots.plot import run_plot, value_range

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
    return f"Peak training memory goes {value_range(rows, MEMORY, mebibytes, less_is_better=True)}."


@run_plot("Memory", alt=_memory_alt)
def memory(tables: Tables) -> Figure | None:
    """Peak memory that training adds, split into what holds it; shorter is better."""
    rows = style.measured(tables.like_for_like, MEMORY)
    if rows.empty:
        return None
    titles = memory.title, "peak training memory, MiB"
    return _bars(tables, rows, MEMORY_PARTS, MEMORY, 2**-20, titles, f"means, {style.count_seeds(rows, 'n')}")


def _step_alt(tables: Tables, rows: pd.DataFrame) -> str:
    steps = []
    for row in records(rows[rows["best_of_family"]].dropna(subset=[*STEP_PARTS])):
        sizes = {name: row[part] for part, name in STEP_PARTS.items()}
        longest, total = max(sizes, key=lambda name: sizes[name]), sum(sizes.values())
        share = f"its longest part is {longest}, {sizes[longest] / (total or 1):.0%}"
        steps.append(f"a step of {row['label']} takes {milliseconds(total)}, {share}")
    return f"{sentence('; '.join(steps))}" if steps else ""


@run_plot("Where a training step goes", alt=_step_alt)
def step_split(tables: Tables) -> Figure | None:
    """Where the time of a training step goes, from a pass of its own that waits for the device after each part; shorter
    is better.
    """
    rows = style.measured(tables.like_for_like, *STEP_PARTS)
    if rows.empty:
        return None
    rows = rows.assign(split_seconds=rows[list(STEP_PARTS)].sum(axis=1))
    average = "medians" if (rows["n_launches"] > 0).any() else "means"
    sure = f"{average}, {style.count_timings(rows)}"
    return _bars(tables, rows, STEP_PARTS, "split_seconds", 1e3, (step_split.title, "ms a step"), sure)


def _bars(
    tables: Tables,
    rows: pd.DataFrame,
    parts: dict[str, str],
    whole: str,
    unit: float,
    titles: tuple[str, str],
    sure: str,
) -> Figure:
    """Stacked bars, the shortest first; one whose parts aren't known is plain."""
    total = len(rows)
    kept = rows.sort_values(whole).sort_values("best_of_family", ascending=False, kind="stable").head(style.MOST_ROWS)
    rows = kept.sort_values(whole)
    figure, ((axes,),) = style.canvas(1.7 + 0.27 * len(rows))
    colours, places = style.family_colours(tables.summary["model"]), np.arange(len(rows))
    known, sizes = rows[list(parts)].notna().all(axis=1), unit * rows[[*parts, whole]]
    ends = sizes[list(parts)].cumsum(axis=1)
    for part, colour in zip(parts, style.SHADES, strict=True):
        starts = (ends[part] - sizes[part])[known]
        axes.barh(places[known], sizes.loc[known, part], 0.66, starts, color=colour, lw=0)
    axes.barh(places[~known], sizes.loc[~known, whole], 0.66, color=style.PLAIN, lw=0)
    for y, (end, size) in enumerate(zip(ends.assign(whole=sizes[whole]).max(axis=1), sizes[whole], strict=True)):
        style.note(axes, three_digits(size), (end, y), (5, 0), fontsize=8.5)
    axes.set_xlim(0, float(sizes[whole].max()) * 1.08)
    axes.set_xlabel(titles[1])
    style.name_rows(axes, list(rows["label"]), [colours[model] for model in rows["model"]])
    named = dict(zip(parts.values(), style.SHADES, strict=True)) if known.any() else {}
    named |= {} if known.all() else {"not split": style.PLAIN}
    style.legend_below(figure, [Patch(color=colour, label=name) for name, colour in named.items()], handletextpad=0.8)
    cut = f"; {len(rows)} of {total}: the smallest, and each family's best on validation" if len(rows) < total else ""
    return style.title(figure, titles[0], f"{sure}{cut}")


def _inference_alt(tables: Tables, rows: pd.DataFrame) -> str:
    speeds = [
        f"{row['label']} {rate(row['inference_images_per_second'])} in batches of {row['batch_size']:g}, "
        f"{milliseconds(row['latency_p50_seconds'])} for one image"
        for row in records(rows[rows["best_of_family"]])
    ]
    return f"{'; '.join(speeds)}."


@run_plot("Inference by batch size", alt=_inference_alt)
def inference_by_batch(tables: Tables) -> Figure | None:
    """Inference speed at each batch size, and the latency of single images; a small net gains most from a larger
    batch.
    """
    points = _rates(tables)
    best = tables.summary[tables.summary["best_of_family"] & tables.summary["config_id"].isin(points["config_id"])]
    if best.empty or points["batch_size"].nunique() < 2:
        return None
    devices, colours = best["device_name"].unique(), style.family_colours(tables.summary["model"])
    marker = style.markers(tables.summary, colours)
    figure, panels = style.canvas(4.6, 1, len(devices), sharey=True)
    for axes, device in zip(panels[0], devices, strict=True):
        here, chosen = points[points["device_name"] == device], best[best["device_name"] == device]
        style.faint_curves(axes, here[~here["config_id"].isin(chosen["config_id"])], ("batch_size", "rate"), colours)
        for row in records(chosen):
            line = here[here["config_id"] == row["config_id"]]
            p50, p99 = (three_digits(row[f"latency_p{p}_seconds"] * 1e3) for p in (50, 99))
            label = plain_name(row) + ("" if "nan" in (p50, p99) else f" (latency p50 {p50}, p99 {p99} ms)")
            how: dict[str, Any] = {"color": colours[row["model"]], "marker": marker(row["model"], row["dtype"])}
            axes.plot(line["batch_size"], line["rate"], lw=2.4, ms=6, mec="white", mew=0.7, label=label, **how)
        style.size_axis(axes, sorted(here["batch_size"].unique()), "batch size, images")
        axes.legend(loc="lower right", title=device if len(devices) > 1 else None)
    style.log_axis(panels[0, 0], "inference throughput, images/s", points["rate"].min(), points["rate"].max(), "y")
    others = "; faint: the other configurations" if len(tables.summary) > len(best) else ""
    subtitle = f"each family's best on validation, means, {style.count_timings(best)}; latency is of one image{others}"
    return style.title(figure, inference_by_batch.title, subtitle)


def _rates(tables: Tables) -> pd.DataFrame:
    """Images/s a configuration and batch size: from launches, else the mean over trials of the median over blocks."""
    launched = tables.summary[tables.summary["speed_threads"] > 0]
    cells = [
        {key: row[key] for key in ("config_id", "device_name", "model")} | {"batch_size": cell.batch_size, "rate": rate}
        for row in records(launched)
        for cell in tables.speeds[row["device_name"]].cells
        if (cell.config_id, cell.work, cell.num_threads) == (row["config_id"], "infer", row["speed_threads"])
        and (rate := tables.speeds[row["device_name"]].speed(cell).amount) > 0
    ]
    known = tables.trials.loc[tables.trials["status"] == "ok", ["trial_id", "config_id", "device_name", "model"]]
    blocks = tables.inference[tables.inference["seconds"] > 0]
    blocks = blocks.assign(rate=blocks["images"] / blocks["seconds"]).merge(known, on="trial_id")
    keys = ["config_id", "device_name", "model", "batch_size"]
    blocks = blocks[~blocks["config_id"].isin(launched["config_id"])]
    rates = blocks.groupby([*keys, "trial_id"], sort=False)["rate"].median().groupby(keys).mean().reset_index()
    every = pd.concat([pd.DataFrame(cells, columns=rates.columns), rates]) if cells else rates
    return every.sort_values("batch_size", kind="stable")  # launches time cells in random order


def _scaling_alt(tables: Tables, rows: pd.DataFrame) -> str:
    ends = []
    for ladder in ladders(tables, rows["device_name"].iloc[0]):
        speed, share = speed_up(tables, ladder, ladder.more[-1]), efficiency(tables, ladder, ladder.more[-1])
        if speed and share:
            size = f"{ladder.more[-1]['world_size']:g} processes"
            times = f"{speed.text} times with {size}, efficiency {share.amount:.0%}"
            ends.append(f"{ladder.name}, {ladder.batch}: {times}")
    more = f"; {len(ends) - 4} more" if len(ends) > 4 else ""
    return f"{'; '.join(ends[:4])}{more}." if ends else ""


@run_plot("Training speed with more processes", alt=_scaling_alt)
def scaling(tables: Tables) -> Figure | None:
    """Training speed with more processes, and what each of them is worth beside the first. On the dashed line nothing
    is lost to waiting and talking.
    """
    found = {name: _timed_ladders(tables, name) for name in tables.summary["device_name"].unique()}
    drawn = {name: own[:MOST_SCALED] for name, own in found.items() if own}
    if not drawn:
        return None
    colours, shown = style.family_colours(tables.summary["model"]), []
    figure, panels = style.canvas(0.9 + 4.2 * len(drawn), len(drawn), 2)
    for (speed, share), (name, own) in zip(panels, drawn.items(), strict=True):
        key, here = [], []
        for group, marker in zip(own, SCALED_MARKERS, strict=False):
            how: dict[str, Any] = {"color": colours[group[0].base["model"]], "marker": marker, "mec": "white"}
            key.append(Line2D([], [], label=group[0].name, lw=2, ms=7, **how))
            for ladder in group:
                rungs, line = _rungs(tables, ladder), SCALED_LINES.get(ladder.global_batch, ("-", ""))[0]
                for axes, metric in ((speed, "images_per_second"), (share, "share")):
                    more = how | {"ls": line, "lw": 2, "ms": 7, "mew": 0.7, "capsize": 3, "elinewidth": 1}
                    axes.errorbar(rungs["world_size"], rungs[metric], style.whiskers(rungs, metric), **more)
                speed.plot(rungs["world_size"], rungs["ideal"], ls="--", lw=1, color=style.FAINT, zorder=1)
                here.append(rungs)
        shown += here
        rungs = pd.concat(here)
        fastest = rungs[["images_per_second", "ideal"]].to_numpy().max()
        style.log_axis(speed, "training, images/s", rungs["images_per_second"].min(), fastest, "y", margin=1.2)
        for axes in (speed, share):
            sizes = sorted(rungs["world_size"].unique())
            style.size_axis(axes, sizes, "processes that train one model together", margin=1.15)
        share.axhline(100, ls="--", lw=1, color=style.FAINT, zorder=1)
        highest = 1.1 * max(100.0, rungs["share"].max())  # an interval of two seeds may reach far beyond
        share.set(ylabel="efficiency, %", ylim=(0, highest))
        # where the lines all begin at 100%, there is room below them
        share.legend(handles=key, loc="lower left", title=name if len(drawn) > 1 else None, handlelength=3)
    rungs = pd.concat(shown)
    kinds = [line for batch, line in SCALED_LINES.items() if batch in set(rungs["ladder"])]
    lines = [Line2D([], [], ls=ls, lw=2, color=style.INK, label=text) for ls, text in kinds]
    ideal = Line2D([], [], ls="--", lw=1, color=style.FAINT, label="ideal: each process worth as much as the first")
    figure.legend(handles=[*lines, ideal], loc="outside lower center", ncols=3)
    few, total = (sum(len(own) for own in each.values()) for each in (drawn, found))
    cut = f"; {few} of {total} configurations, the families' best among them" if few < total else ""
    sure = f"means and 95% intervals, {style.count_timings(rungs)}"
    subtitle = f"efficiency: images/s a process over those of the first; {sure}{cut}"
    return style.title(figure, scaling.title, subtitle)


def _timed_ladders(tables: Tables, device: str) -> list[list[Ladder]]:
    """Ladders with a speed at their first row and at another one, by configuration."""
    own = [ladder for ladder in ladders(tables, device) if ladder.base["images_per_second"] > 0]
    return by_configuration([each for each in own if any(row["images_per_second"] > 0 for row in each.more)])


def _rungs(tables: Tables, ladder: Ladder) -> pd.DataFrame:
    """A ladder's timed rows, with the efficiency of each, its `share`, in %, and the speed that would be ideal."""
    rows = [row for row in ladder.rows if row["images_per_second"] > 0]
    known = [efficiency(tables, ladder, row) for row in rows]
    first = rows[0] is ladder.base  # a later one without efficiency is too noisy
    ends = [each[:3] if each else (1.0 if first and not place else math.nan,) * 3 for place, each in enumerate(known)]
    shares = 100 * pd.DataFrame(ends, columns=["share_low", "share", "share_high"])
    one = ladder.base["images_per_second"] / ladder.base["world_size"]
    rungs = pd.DataFrame(rows).join(shares)
    return rungs.assign(ladder=ladder.global_batch, ideal=one * rungs["world_size"])
