"""Plots that hold configurations against each other: by numeric mode, with less data, and made equal in size."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bench.analysis.comparison import Comparison, compare_measured, nothing
from bench.analysis.formatting import percent, ratio, span, whole
from bench.analysis.labels import MATCH_TITLES, family_title, records, without_device
from bench.analysis.laws import IMAGES, find_laws
from bench.analysis.matched_pairs import Pair, find_pairs, pair_sentences, shape
from bench.analysis.modes import Twin, twins
from bench.analysis.scaling import best_at_each_size
from bench.analysis.summary import Tables
from bench.report.plots import style
from bench.report.plots.plot import run_plot

METRICS = {  # metric -> what its axis says
    "images_per_second": "training speed, times the twin's",
    "peak_memory_bytes": "memory, times the twin's",
    "test_accuracy": "test accuracy, points more",
}
Change = tuple[int, str, Comparison]  # number of its row and its colour


def _modes_alt(tables: Tables, rows: pd.DataFrame) -> str:
    speeds: dict[str, list[float]] = {}
    for twin in twins(records(rows)):
        if found := compare_measured(tables, twin.row, twin.plain, "images_per_second"):
            if found.noisy:
                continue
            speeds.setdefault(_choice(twin), []).append(found.amount)
    ranges = [
        f"{choice} trains {span(times, ratio)} times as fast ({len(times)} configurations)"
        for choice, times in speeds.items()
    ]
    return f"{'; '.join(ranges)}." if ranges else ""


@run_plot("What each choice changed", alt=_modes_alt)
def mode_ratios(tables: Tables) -> Figure | None:
    """What a numeric mode, a compilation or a memory layout changed: each configuration over its twin without it. Right
    of the dashed line is faster, more memory, more accurate; hollow points show no difference.
    """
    rows = tables.like_for_like
    every = [twin for twin in twins(records(rows[rows["n"] > 0])) if _compared(tables, twin)]
    if not every:
        return None
    several, colours = rows["device_name"].nunique() > 1, style.family_colours(tables.summary["model"])
    shown = _best_of_each_choice(every)
    lines: list[tuple[str, str, dict[str, Comparison]]] = []  # name, colour, comparisons: none of a choice's head
    for choice, places in shown.groupby("choice", sort=False).groups.items():
        lines.append((str(choice), style.INK, {}))
        for twin in (every[place] for place in places):
            name = twin.row["label"] if several else without_device(twin.row)
            lines.append((name, colours[twin.row["model"]], _compared(tables, twin)))
    metrics = [metric for metric in METRICS if any(metric in found for *_, found in lines)]
    figure, panels = style.canvas(1.9 + 0.25 * len(lines), 1, len(metrics), sharey=True)
    for axes, metric in zip(panels[0], metrics, strict=True):
        own = [(y, colour, found[metric]) for y, (_, colour, found) in enumerate(lines) if metric in found]
        _changes(axes, own, METRICS[metric])
    style.name_rows(panels[0, 0], [name for name, *_ in lines], [colour for _, colour, _ in lines])
    for text, (*_, found) in zip(panels[0, 0].get_yticklabels(), lines, strict=True):
        text.set_fontweight("normal" if found else "bold")
    style.legend_below(
        figure,
        [*style.family_handles(shown["model"], colours), style.dot("no difference shown", style.INK, mfc="white")],
    )
    cut = f"; {len(shown)} of {len(every)} twins, the best on validation" if len(shown) < len(every) else ""
    what = "each configuration against the one that differs in this choice alone; 95% intervals"
    return style.title(figure, mode_ratios.title, f"{what}, {style.count_seeds(shown)}{style.speeds_note(shown)}{cut}")


def _compared(tables: Tables, twin: Twin) -> dict[str, Comparison]:
    found = {metric: compare_measured(tables, twin.row, twin.plain, metric) for metric in METRICS}
    return {metric: each for metric, each in found.items() if each}


def _choice(twin: Twin) -> str:
    return f"{twin.title} against {twin.base_title}"


def _best_of_each_choice(pairs: list[Twin]) -> pd.DataFrame:
    """All rows, or of too many as many of each choice and family, the best on validation, in the order they had."""
    rows = pd.DataFrame([twin.row | {"choice": _choice(twin)} for twin in pairs])
    groups = rows.sort_values("val_accuracy", ascending=False, kind="stable").groupby(["choice", "model"])
    most = style.MOST_ROWS if len(rows) <= style.MOST_ROWS else max(1, style.MOST_ROWS // groups.ngroups)
    return rows.loc[sorted(groups.head(most).index)]


def _changes(axes: Axes, changes: list[Change], label: str, marker: str = "o", hollow: bool = True) -> None:
    """A panel of comparisons in one metric: a point, its interval, and the number above it."""
    none = nothing(changes[0][2].metric)
    for y, _, each in changes:
        if each.noisy:
            style.note(axes, "too noisy", (none, y), (4, 0))
    changes = [change for change in changes if not change[2].noisy]
    if not changes:
        axes.set(xticks=[], xlim=(none - 0.1, none + 1), xlabel=label)
        return
    places, colours, found = zip(*changes, strict=True)
    factor = 1.0 if none else 100.0
    middles = [factor * each.amount for each in found]
    spans = [[(factor * end, y) for end in each.interval[:3:2]] for y, _, each in changes]
    axes.add_collection(LineCollection(spans, colors=colours, lw=1))
    fills = ["white" if hollow and not each.shown else colour for _, colour, each in changes]
    axes.scatter(middles, places, s=36, c=fills, edgecolors=colours, lw=1, zorder=3, marker=marker)
    for middle, y in zip(middles, places, strict=True):
        text = ratio(middle) if none else f"{round(middle, 2) + 0.0:+.2f}"
        style.note(axes, text, (middle, y), (0, 3), ha="center", va="bottom", fontsize=7.5)
    axes.axvline(none, color=style.FAINT, ls="--", lw=1, zorder=1)
    axes.grid(visible=False, axis="y")
    ends = [none, *(factor * end for each in found for end in each.interval[:3] if not math.isnan(end))]
    if none:
        style.log_axis(axes, label, min(ends), max(ends), margin=1.15)
    else:
        room = 0.12 * max(max(ends) - min(ends), 0.1)
        axes.set(xlim=(min(ends) - room, max(ends) + room), xlabel=label)


def _data_alt(tables: Tables, rows: pd.DataFrame) -> str:
    here = tables.summary[tables.summary["device_name"].isin(rows["device_name"]) & (tables.summary["n"] > 0)]
    best = best_at_each_size(here.dropna(subset=["num_train_images", "test_accuracy"]))
    lines = []
    for model, own in best.sort_values("num_train_images").groupby("model", sort=False):
        ends = records(own.iloc[[0, -1]])
        known = [f"{percent(row['test_accuracy'])} with {whole(row['num_train_images'])} images" for row in ends]
        lines.append(f"the {family_title(str(model))} goes from {' to '.join(known)}")
    return f"Test accuracy of {'; of '.join(lines)}." if lines else ""


@run_plot("Data efficiency", alt=_data_alt)
def data_efficiency(tables: Tables) -> Figure | None:
    """Test accuracy with fewer different training images and as many steps; the steeper the line, the hungrier for
    data.
    """
    rows = style.measured(tables.summary, "test_accuracy", "num_train_images")
    rows = rows[rows["match"].isna() | (rows["match"] == "")]
    devices, colours = rows["device_name"].unique(), style.family_colours(tables.summary["model"])
    laws = [law for name in devices for law in find_laws(tables, name)]
    if rows["train_fraction"].nunique() < 2 or any(law.scale == IMAGES for law in laws):
        return None  # widths vary, too, so the laws of both have a figure of their own
    figure, panels = style.canvas(4.8, 1, len(devices), sharey=True)
    best = best_at_each_size(rows)
    for axes, device in zip(panels[0], devices, strict=True):
        here = best[best["device_name"] == device].sort_values("num_train_images")
        others = rows[(rows["device_name"] == device) & ~rows.index.isin(here.index)]
        shades = others["model"].map(colours)
        axes.scatter(others["num_train_images"], others["test_accuracy"], s=12, c=shades, alpha=0.35, lw=0)
        for model in best.loc[best["device_name"] == device, "model"].unique():
            line, colour, label = here[here["model"] == model], colours[model], family_title(model)
            x = line["num_train_images"]
            axes.fill_between(x, line["test_accuracy_low"], line["test_accuracy_high"], color=colour, alpha=0.18, lw=0)
            axes.plot(x, line["test_accuracy"], "o-", color=colour, lw=2.2, ms=6, mec="white", mew=0.7, label=label)
        ends = here["num_train_images"].iloc[[0, -1]]
        style.log_axis(axes, "different training images (the number of steps stays)", *ends)
        axes.set_title(device if len(devices) > 1 else "", color=style.FAINT)
        axes.legend(loc="lower right")
    style.accuracy_axis(panels[0, 0], *(best[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
    panels[0, 0].set_ylabel("test accuracy, %")
    faint = "; faint: the other configurations" if len(rows) > len(best) else ""
    subtitle = f"each family's best on validation at each size, mean and 95% interval, {style.count_seeds(rows)}{faint}"
    return style.title(figure, data_efficiency.title, subtitle)


def _pairs_alt(tables: Tables, rows: pd.DataFrame) -> str:
    return " ".join(pair_sentences(find_pairs(tables, rows["device_name"].iloc[0])))


@run_plot("Matched pairs", alt=_pairs_alt)
def matched_pairs(tables: Tables) -> Figure | None:
    """Each line is a pair of equal size: on the left the test accuracy of both, on the right the ratio of their
    training speeds.
    """
    every = [pair for pair in find_pairs(tables) if {"test_accuracy", "images_per_second"} <= pair.found.keys()]
    if not every:
        return None
    order = {by: place for place, by in enumerate(MATCH_TITLES)}
    pairs = sorted(every, key=lambda pair: (order.get(pair.by, 9), -pair.base["test_accuracy"]))[: style.MOST_ROWS]
    colours = style.family_colours(tables.summary["model"])
    figure, ((accuracy, speed),) = style.canvas(1.9 + 0.3 * len(pairs), 1, 2, sharey=True, width_ratios=(3, 2))
    ends = [[(100 * row["test_accuracy"], y) for row in (pair.base, pair.made)] for y, pair in enumerate(pairs)]
    accuracy.add_collection(LineCollection(ends, colors=style.PLAIN, lw=3))
    sides = {"o": pd.DataFrame([pair.base for pair in pairs]), "D": pd.DataFrame([pair.made for pair in pairs])}
    for (marker, rows), shift in zip(sides.items(), (-0.12, 0.12), strict=True):
        for model, own in rows.groupby("model", sort=False):
            x, reach = 100 * own["test_accuracy"], 100 * style.whiskers(own, "test_accuracy")
            how: dict[str, Any] = {"fmt": marker, "color": colours[str(model)], "ms": 6.5, "mec": "white", "mew": 0.7}
            accuracy.errorbar(x, own.index + shift, xerr=reach, elinewidth=1, zorder=3, **how)
    names = dict.fromkeys(pair.names for pair in pairs)
    which = " over ".join(reversed(next(iter(names)))) if len(names) == 1 else "made over given"
    speeds = [(y, style.INK, pair.found["images_per_second"]) for y, pair in enumerate(pairs)]
    _changes(speed, speeds, f"training speed, {which}", "s", hollow=False)
    accuracy.set_xlabel("test accuracy, %")
    style.name_rows(accuracy, _names(pairs))
    families = sorted({(model, marker) for marker, rows in sides.items() for model in rows["model"]})
    handles = [style.dot(family_title(model), colours[model], marker=marker) for model, marker in families]
    style.legend_below(figure, handles, handletextpad=0.8)
    cut = f"; {len(pairs)} of {len(every)}" if len(pairs) < len(every) else ""
    both = pd.concat(sides.values())
    seeds = style.count_seeds(both) + style.speeds_note(both)
    subtitle = f"means and 95% intervals, {seeds}; right of the dashed line, the one made equal is faster{cut}"
    return style.title(figure, matched_pairs.title, subtitle)


def _names(pairs: list[Pair]) -> list[str]:
    """What was given and in what the other equals it; which other one, only where there are several."""
    names = [f"{pair.base['label']}, equal {MATCH_TITLES.get(pair.by, pair.by)}" for pair in pairs]
    return [
        f"{name}: {shape(pair)}" if names.count(name) > 1 else name for name, pair in zip(names, pairs, strict=True)
    ]
