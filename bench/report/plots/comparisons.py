"""What a numeric mode, a layout or a compilation changed: each configuration against its plain twin."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.comparison import Comparison, compare_rows
from bench.analysis.formatting import ratio
from bench.analysis.labels import family_title, records, without_device
from bench.analysis.modes import Twin, twins
from bench.analysis.summary import Tables
from bench.report.plots import style
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
