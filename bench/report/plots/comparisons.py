"""What a numeric mode, a layout or a compilation changed: each configuration against its plain twin."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.comparison import Comparison, Row, compare_rows
from bench.analysis.formatting import ratio
from bench.analysis.labels import MATCH_TITLES, family_title, records, without_device
from bench.analysis.matched_pairs import Pair, find_pairs, shape
from bench.analysis.modes import Twin, twins
from bench.analysis.scaling import best_at_each_size
from bench.analysis.summary import Tables
from bench.report.plots import style
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, INK, MOST_ROWS, WIDTH, family_colours, styled

METRICS = {  # metric -> what its axis says
    "images_per_second": "training speed, times the twin's",
    "peak_memory_bytes": "memory, times the twin's",
    "test_accuracy": "test accuracy, points more",
}


@dataclass(frozen=True)
class Line:
    """A row of the picture: the head of a group, or a twin below it."""

    words: str
    colour: str
    found: dict[str, Comparison] | None = None


@styled
def mode_ratios(tables: Tables) -> Figure | None:
    """Speed and memory as ratios to the plain twin, accuracy as a difference, with the intervals of both paired."""
    rows = tables.like_for_like
    pairs = [twin for twin in twins(records(rows[rows["n"] > 0])) if _compared(tables, twin)]
    if not pairs:
        return None
    total, pairs = len(pairs), _leading(pairs)
    colours, lines = family_colours(tables.summary["model"]), []
    for head in dict.fromkeys((twin.title, twin.base_title) for twin in pairs):
        lines.append(Line(f"{head[0]} against {head[1]}", INK))
        own = [twin for twin in pairs if (twin.title, twin.base_title) == head]
        several = rows["device_name"].nunique() > 1
        names = [twin.row["label"] if several else without_device(twin.row) for twin in own]
        lines += [
            Line(name, colours[twin.row["model"]], _compared(tables, twin))
            for name, twin in zip(names, own, strict=True)
        ]
    metrics = [metric for metric in METRICS if any(line.found and metric in line.found for line in lines)]
    figure = Figure(figsize=(WIDTH, 1.9 + 0.25 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _panel(axes, metric, lines)
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    panels[0].set_yticks(range(len(lines)), [line.words for line in lines], fontsize=9)
    for text, line in zip(panels[0].get_yticklabels(), lines, strict=True):
        text.set(color=line.colour, fontweight="normal" if line.found else "bold")
    handles = [
        Line2D([], [], ls="", marker="o", ms=7, color=colours[model], label=family_title(model))
        for model in dict.fromkeys(twin.row["model"] for twin in pairs)
    ]
    handles.append(Line2D([], [], ls="", marker="o", ms=7, mfc="white", mec=INK, label="no difference shown"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.3)
    cut = f"; {len(pairs)} of {total} twins, the best on validation" if len(pairs) < total else ""
    seeds = style.count_seeds(pd.DataFrame([twin.row for twin in pairs]))
    said = f"each configuration against the one that differs in this choice alone; 95% intervals, {seeds}{cut}"
    style.title(figure, "What each choice changed", said)
    return figure


def _compared(tables: Tables, twin: Twin) -> dict[str, Comparison]:
    both = [metric for metric in METRICS if twin.row[metric] > 0 and twin.plain[metric] > 0]
    return {metric: compare_rows(tables, twin.row, twin.plain, metric) for metric in both}


def _leading(pairs: list[Twin]) -> list[Twin]:
    """All, or of too many as many of each choice and family, the best on validation, in the order that they had."""
    if len(pairs) <= MOST_ROWS:
        return pairs
    groups: dict[tuple[str, str, str], list[int]] = {}
    for index, twin in enumerate(pairs):
        groups.setdefault((twin.title, twin.base_title, twin.row["model"]), []).append(index)
    most, kept = max(1, MOST_ROWS // len(groups)), set()
    for own in groups.values():
        kept.update(sorted(own, key=lambda index: -_accuracy(pairs[index]))[:most])
    return [pairs[index] for index in sorted(kept)]


def _accuracy(twin: Twin) -> float:
    return -1.0 if math.isnan(twin.row["val_accuracy"]) else float(twin.row["val_accuracy"])


def _panel(axes: Axes, metric: str, lines: list[Line]) -> None:
    """One metric of all lines: a point, its interval, and for ratios the number beside it."""
    factor, none = (100.0, 0.0) if metric == "test_accuracy" else (1.0, 1.0)
    known = [(y, line, line.found[metric]) for y, line in enumerate(lines) if line.found and metric in line.found]
    ends = [none, *(factor * end for _, _, found in known for end in found.interval[:3] if not math.isnan(end))]
    spans = [
        ([(factor * found.interval.low, y), (factor * found.interval.high, y)], line.colour)
        for y, line, found in known
        if not math.isnan(found.interval.low)
    ]
    axes.add_collection(LineCollection([ends for ends, _ in spans], colors=[colour for _, colour in spans], lw=1))
    edges = [line.colour for _, line, _ in known]
    fills = [line.colour if found.shown else "white" for _, line, found in known]
    middles = [factor * found.amount for _, _, found in known]
    axes.scatter(middles, [y for y, _, _ in known], s=36, c=fills, edgecolors=edges, lw=1, zorder=3)
    place: dict[str, Any] = {
        "textcoords": "offset points",
        "ha": "center",
        "va": "bottom",
        "fontsize": 7.5,
        "color": INK,
    }
    for middle, (y, _, _) in zip(middles, known, strict=True):
        text = f"{round(middle, 2) + 0.0:+.2f}" if none == 0 else ratio(middle)
        axes.annotate(text, (middle, y), (0, 3), in_layout=False, **place)
    axes.axvline(none, color=FAINT, ls="--", lw=1, zorder=1)
    axes.grid(visible=False, axis="y")
    if none:
        style.log_axis(axes, METRICS[metric], min(ends), max(ends), margin=1.15)
    else:
        room = 0.12 * max(max(ends) - min(ends), 0.1)
        axes.set(xlim=(min(ends) - room, max(ends) + room), xlabel=METRICS[metric])


# Figures that hold families against each other: with less data, and made equal in size.
@styled
def data_efficiency(tables: Tables) -> Figure | None:
    """Test accuracy against the number of training images: who needs more of them."""
    rows = canvas.measured(tables.summary, "test_accuracy", "num_train_images")
    rows = rows[rows["match"].isna() | (rows["match"] == "")]
    if rows["train_fraction"].nunique() < 2:
        return None
    devices, colours = list(dict.fromkeys(rows["device_name"])), family_colours(tables.summary["model"])
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    panels = figure.subplots(1, len(devices), sharey=True, squeeze=False)[0]
    best = best_at_each_size(rows)
    for axes, device in zip(panels, devices, strict=True):
        here = best[best["device_name"] == device]
        others = rows[(rows["device_name"] == device) & ~rows.index.isin(here.index)]
        shades = [colours[model] for model in others["model"]]
        axes.scatter(others["num_train_images"], others["test_accuracy"], s=12, c=shades, alpha=0.35, lw=0)
        for model, line in here.groupby("model", sort=False):
            line = line.sort_values("num_train_images")
            x, colour = line["num_train_images"], colours[str(model)]
            axes.fill_between(x, line["test_accuracy_low"], line["test_accuracy_high"], color=colour, alpha=0.18, lw=0)
            label = family_title(str(model))
            axes.plot(x, line["test_accuracy"], "o-", color=colour, lw=2.2, ms=6, mec="white", mew=0.7, label=label)
        ends = here["num_train_images"].min(), here["num_train_images"].max()
        canvas.log_axis(axes, "different training images (the number of steps stays)", *ends)
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
        axes.legend(loc="lower right")
    canvas.accuracy_axis(panels[0], *(best[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    panels[0].set_ylabel("test accuracy, %")
    others = "; faint: the other configurations" if len(rows) > len(best) else ""
    said = f"each family's best on validation at each size, median and 95% interval, {canvas.count_seeds(rows)}{others}"
    canvas.title(figure, "Data efficiency", said)
    return figure


@styled
def matched_pairs(tables: Tables) -> Figure | None:
    """Each pair's two accuracies, and how many times as fast the made one trains."""
    pairs = [pair for pair in find_pairs(tables) if {"test_accuracy", "images_per_second"} <= pair.found.keys()]
    if not pairs:
        return None
    total, pairs = len(pairs), sorted(pairs, key=_order)[:MOST_ROWS]
    figure = Figure(figsize=(WIDTH, 1.9 + 0.3 * len(pairs)), layout="constrained")
    accuracy, speed = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    colours = family_colours(tables.summary["model"])
    ends = [[100 * row["test_accuracy"] for row in (pair.base, pair.made)] for pair in pairs]
    accuracy.add_collection(LineCollection([[(a, y), (b, y)] for y, (a, b) in enumerate(ends)], colors="#c9ced4", lw=3))
    for side, marker, shift in (("base", "o", -0.12), ("made", "D", 0.12)):
        _accuracies(accuracy, [getattr(pair, side) for pair in pairs], marker, shift, colours)
    factors = [pair.found["images_per_second"].interval for pair in pairs]
    spans = [[(each.low, y), (each.high, y)] for y, each in enumerate(factors) if each.low == each.low]
    speed.add_collection(LineCollection(spans, colors=INK, lw=1))
    speed.plot([each.median for each in factors], range(len(pairs)), "s", color=INK, ms=5)
    for y, (_, middle, _, _) in enumerate(factors):
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": INK}
        speed.annotate(f"{middle:.2f}", (middle, y), (0, 5), in_layout=False, **place)
    names = dict.fromkeys(pair.names for pair in pairs)
    which = " over ".join(reversed(next(iter(names)))) if len(names) == 1 else "made over given"
    ratios = [end for pair in pairs for end in pair.found["images_per_second"].interval[:3] if end == end]
    speed.axvline(1, color=FAINT, ls="--", lw=1, zorder=1)
    canvas.log_axis(speed, f"training speed, {which}", min(1.0, *ratios), max(1.0, *ratios), margin=1.15)
    accuracy.set_xlabel("test accuracy, %")
    accuracy.set_ylim(len(pairs) - 0.4, -0.6)
    accuracy.set_yticks(range(len(pairs)), _names(pairs), fontsize=9)
    accuracy.grid(visible=False, axis="y")
    speed.grid(visible=False, axis="y")
    families = {(row["model"], marker) for pair in pairs for row, marker in ((pair.base, "o"), (pair.made, "D"))}
    handles = [
        Line2D([], [], ls="", marker=marker, ms=7, color=colours[model], label=family_title(model))
        for model, marker in sorted(families)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    cut = f"; {len(pairs)} of {total}" if len(pairs) < total else ""
    seeds = canvas.count_seeds(pd.DataFrame([row for pair in pairs for row in (pair.base, pair.made)]))
    said = f"medians and 95% intervals, {seeds}; right of the dashed line, the one made equal is faster{cut}"
    canvas.title(figure, "Matched pairs", said)
    return figure


def _accuracies(axes: Axes, rows: list[Row], marker: str, shift: float, colours: dict[str, str]) -> None:
    """One side of the pairs: a marker a line, with its interval."""
    frame = 100 * pd.DataFrame(rows)[["test_accuracy", "test_accuracy_low", "test_accuracy_high"]].astype(float)
    middle, low, high = (frame[key] for key in frame)
    models = pd.Series([row["model"] for row in rows])
    for model in models.unique():
        own = (models == model).to_numpy()
        errors = np.nan_to_num(np.clip([middle - low, high - middle], 0, None))[:, own]
        style: dict[str, Any] = {"color": colours[model], "marker": marker, "ms": 6.5, "mec": "white", "mew": 0.7}
        axes.errorbar(middle[own], np.flatnonzero(own) + shift, xerr=errors, ls="", elinewidth=1, zorder=3, **style)


def _order(pair: Pair) -> tuple[Any, ...]:
    return list(MATCH_TITLES).index(pair.by) if pair.by in MATCH_TITLES else 9, -pair.base["test_accuracy"]


def _names(pairs: list[Pair]) -> list[str]:
    """What was given and in what the other equals it; which other one, only where there are several."""
    names = [f"{pair.base['label']}, equal {MATCH_TITLES.get(pair.by, pair.by)}" for pair in pairs]
    several = {name for name in names if names.count(name) > 1}
    return [f"{name}: {shape(pair)}" if name in several else name for name, pair in zip(names, pairs, strict=True)]
