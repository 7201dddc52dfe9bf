"""Plots that hold configurations against each other: by numeric mode, with less data, and made equal in size."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.comparison import Comparison, Row, compare_rows
from bench.analysis.formatting import percent, ratio, span, whole
from bench.analysis.labels import MATCH_TITLES, family_title, records, without_device
from bench.analysis.matched_pairs import Pair, find_pairs, pair_sentences, shape
from bench.analysis.modes import Twin, twins
from bench.analysis.scaling import best_at_each_size
from bench.analysis.summary import Tables
from bench.report.plots.plot import run_plot
from bench.report.plots.style import (
    FAINT,
    INK,
    MOST_ROWS,
    PLAIN,
    WIDTH,
    accuracy_axis,
    count_seeds,
    family_colours,
    family_handles,
    legend_below,
    log_axis,
    measured,
    name_rows,
    note,
    title,
)

METRICS = {  # metric -> what its axis says
    "images_per_second": "training speed, times the twin's",
    "peak_memory_bytes": "memory, times the twin's",
    "test_accuracy": "test accuracy, points more",
}
Found = dict[str, Comparison]  # by metric


def _modes_alt(tables: Tables, rows: pd.DataFrame) -> str:
    speeds: dict[str, list[float]] = {}
    for twin in twins(records(rows)):
        found = _compared(tables, twin).get("images_per_second")
        speeds.setdefault(f"{twin.title} against {twin.base_title}", []).extend([found.amount] if found else [])
    ranges = [
        f"{choice} trains {span(times, ratio)} times as fast ({len(times)} configurations)"
        for choice, times in speeds.items()
        if times
    ]
    return f"{'; '.join(ranges)}." if ranges else ""


@run_plot(
    "What each choice changed",
    caption="What a numeric mode, a compilation or a memory layout changed: each configuration over its twin without "
    "it. Right of the dashed line is faster, more memory, more accurate; hollow points show no difference.",
    alt=_modes_alt,
)
def mode_ratios(tables: Tables) -> Figure | None:
    """Speed and memory as ratios to the plain twin, accuracy as a difference, with the intervals of both paired."""
    rows = tables.like_for_like
    pairs = [twin for twin in twins(records(rows[rows["n"] > 0])) if _compared(tables, twin)]
    if not pairs:
        return None
    total, pairs = len(pairs), _best_of_each_choice(pairs)
    colours, several = family_colours(tables.summary["model"]), rows["device_name"].nunique() > 1
    lines: list[tuple[str, str, Found]] = []  # label, colour, comparisons: none for the head of a choice
    for head in dict.fromkeys((twin.title, twin.base_title) for twin in pairs):
        lines.append((f"{head[0]} against {head[1]}", INK, {}))
        for twin in pairs:
            if (twin.title, twin.base_title) == head:
                name = twin.row["label"] if several else without_device(twin.row)
                lines.append((name, colours[twin.row["model"]], _compared(tables, twin)))
    metrics = [metric for metric in METRICS if any(metric in found for *_, found in lines)]
    figure = Figure(figsize=(WIDTH, 1.9 + 0.25 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _changes(axes, metric, lines)
    name_rows(panels[0], [name for name, *_ in lines], [colour for _, colour, _ in lines])
    for text, (*_, found) in zip(panels[0].get_yticklabels(), lines, strict=True):
        text.set_fontweight("normal" if found else "bold")
    hollow = Line2D([], [], ls="", marker="o", ms=7, mfc="white", mec=INK, label="no difference shown")
    legend_below(figure, [*family_handles((twin.row["model"] for twin in pairs), colours), hollow])
    cut = f"; {len(pairs)} of {total} twins, the best on validation" if len(pairs) < total else ""
    seeds = count_seeds(pd.DataFrame([twin.row for twin in pairs]))
    subtitle = f"each configuration against the one that differs in this choice alone; 95% intervals, {seeds}{cut}"
    title(figure, mode_ratios.title, subtitle)
    return figure


def _compared(tables: Tables, twin: Twin) -> Found:
    both = [metric for metric in METRICS if twin.row[metric] > 0 and twin.plain[metric] > 0]
    return {metric: compare_rows(tables, twin.row, twin.plain, metric) for metric in both}


def _best_of_each_choice(pairs: list[Twin]) -> list[Twin]:
    """All, or of too many as many of each choice and family, the best on validation, in the order that they had."""
    if len(pairs) <= MOST_ROWS:
        return pairs
    frame = pd.DataFrame(
        [(twin.title, twin.base_title, twin.row["model"], twin.row["val_accuracy"]) for twin in pairs],
        columns=["choice", "base", "model", "accuracy"],
    )
    groups = frame.sort_values("accuracy", ascending=False, kind="stable").groupby(["choice", "base", "model"])
    return [pairs[index] for index in sorted(groups.head(max(1, MOST_ROWS // groups.ngroups)).index)]


def _changes(axes: Axes, metric: str, lines: list[tuple[str, str, Found]]) -> None:
    """One metric of all lines: a point, its interval, and the number above it."""
    factor, none = (100.0, 0.0) if metric == "test_accuracy" else (1.0, 1.0)
    known = [(y, colour, found[metric]) for y, (_, colour, found) in enumerate(lines) if metric in found]
    ends = [none, *(factor * end for *_, found in known for end in found.interval[:3] if not math.isnan(end))]
    sure = [(y, colour, found.interval) for y, colour, found in known if not math.isnan(found.interval.low)]
    spans = [[(factor * each.low, y), (factor * each.high, y)] for y, _, each in sure]
    axes.add_collection(LineCollection(spans, colors=[colour for _, colour, _ in sure], lw=1))
    edges = [colour for _, colour, _ in known]
    fills = [colour if found.shown else "white" for _, colour, found in known]
    middles = [factor * found.amount for *_, found in known]
    axes.scatter(middles, [y for y, *_ in known], s=36, c=fills, edgecolors=edges, lw=1, zorder=3)
    for middle, (y, *_) in zip(middles, known, strict=True):
        text = f"{round(middle, 2) + 0.0:+.2f}" if none == 0 else ratio(middle)
        note(axes, text, (middle, y), (0, 3), ha="center", va="bottom", fontsize=7.5)
    axes.axvline(none, color=FAINT, ls="--", lw=1, zorder=1)
    axes.grid(visible=False, axis="y")
    if none:
        log_axis(axes, METRICS[metric], min(ends), max(ends), margin=1.15)
    else:
        room = 0.12 * max(max(ends) - min(ends), 0.1)
        axes.set(xlim=(min(ends) - room, max(ends) + room), xlabel=METRICS[metric])


def _data_alt(tables: Tables, rows: pd.DataFrame) -> str:
    here = tables.summary[tables.summary["device_name"].isin(rows["device_name"]) & (tables.summary["n"] > 0)]
    best = best_at_each_size(here.dropna(subset=["num_train_images", "test_accuracy"]))
    lines = []
    for model, own in best.sort_values("num_train_images").groupby("model", sort=False):
        ends = records(own.iloc[[0, -1]])
        known = [f"{percent(row['test_accuracy'])} with {whole(row['num_train_images'])} images" for row in ends]
        lines.append(f"the {family_title(str(model))} goes from {' to '.join(known)}")
    return f"Test accuracy of {'; of '.join(lines)}." if lines else ""


@run_plot(
    "Data efficiency",
    caption="Test accuracy with fewer different training images and as many steps; the steeper the line, the "
    "hungrier for data.",
    alt=_data_alt,
)
def data_efficiency(tables: Tables) -> Figure | None:
    """Test accuracy against the number of training images: who needs more of them."""
    rows = measured(tables.summary, "test_accuracy", "num_train_images")
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
        log_axis(axes, "different training images (the number of steps stays)", *ends)
        axes.set_title(device if len(devices) > 1 else "", color=FAINT)
        axes.legend(loc="lower right")
    accuracy_axis(panels[0], *(best[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    panels[0].set_ylabel("test accuracy, %")
    faint = "; faint: the other configurations" if len(rows) > len(best) else ""
    subtitle = f"each family's best on validation at each size, median and 95% interval, {count_seeds(rows)}{faint}"
    title(figure, data_efficiency.title, subtitle)
    return figure


def _pairs_alt(tables: Tables, rows: pd.DataFrame) -> str:
    device = rows["device_name"].iloc[0]
    return " ".join(pair_sentences([pair for pair in find_pairs(tables) if pair.made["device_name"] == device]))


@run_plot(
    "Matched pairs",
    caption="Each line is a pair of equal size: on the left the test accuracy of both, on the right the ratio of "
    "their training speeds.",
    alt=_pairs_alt,
)
def matched_pairs(tables: Tables) -> Figure | None:
    """Each pair's two accuracies, and how many times as fast the made one trains."""
    pairs = [pair for pair in find_pairs(tables) if {"test_accuracy", "images_per_second"} <= pair.found.keys()]
    if not pairs:
        return None
    total, pairs = len(pairs), sorted(pairs, key=_order)[:MOST_ROWS]
    figure = Figure(figsize=(WIDTH, 1.9 + 0.3 * len(pairs)), layout="constrained")
    accuracy, speed = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    colours = family_colours(tables.summary["model"])
    sides = {"o": [pair.base for pair in pairs], "D": [pair.made for pair in pairs]}
    ends = [[(100 * row["test_accuracy"], y) for row in (pair.base, pair.made)] for y, pair in enumerate(pairs)]
    accuracy.add_collection(LineCollection(ends, colors=PLAIN, lw=3))
    for (marker, rows), shift in zip(sides.items(), (-0.12, 0.12), strict=True):
        _accuracies(accuracy, rows, marker, shift, colours)
    factors = [pair.found["images_per_second"].interval for pair in pairs]
    spans = [[(each.low, y), (each.high, y)] for y, each in enumerate(factors) if each.low == each.low]
    speed.add_collection(LineCollection(spans, colors=INK, lw=1))
    speed.plot([each.median for each in factors], range(len(pairs)), "s", color=INK, ms=5)
    for y, each in enumerate(factors):
        note(speed, f"{each.median:.2f}", (each.median, y), (0, 5), ha="center", va="baseline")
    names = dict.fromkeys(pair.names for pair in pairs)
    which = " over ".join(reversed(next(iter(names)))) if len(names) == 1 else "made over given"
    ratios = [end for each in factors for end in each[:3] if end == end]
    speed.axvline(1, color=FAINT, ls="--", lw=1, zorder=1)
    log_axis(speed, f"training speed, {which}", min(1.0, *ratios), max(1.0, *ratios), margin=1.15)
    accuracy.set_xlabel("test accuracy, %")
    name_rows(accuracy, _names(pairs))
    speed.grid(visible=False, axis="y")
    families = sorted({(row["model"], marker) for marker, rows in sides.items() for row in rows})
    handles = [
        Line2D([], [], ls="", marker=marker, ms=7, color=colours[model], label=family_title(model))
        for model, marker in families
    ]
    legend_below(figure, handles, handletextpad=0.8)
    cut = f"; {len(pairs)} of {total}" if len(pairs) < total else ""
    seeds = count_seeds(pd.DataFrame([row for rows in sides.values() for row in rows]))
    subtitle = f"medians and 95% intervals, {seeds}; right of the dashed line, the one made equal is faster{cut}"
    title(figure, matched_pairs.title, subtitle)
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
