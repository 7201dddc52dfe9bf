"""Plots of accuracy while training goes on, and of what patch size and depth bring and cost."""

from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.formatting import mebibytes, percent, seconds, three_digits
from bench.analysis.labels import family_title, plain_name, records, trained_epochs
from bench.analysis.modes import mode_title
from bench.analysis.robustness import CLEAN, mean_accuracies, read_robustness
from bench.analysis.summary import Tables
from bench.analysis.tuning import read_tuning
from bench.report.plots import style
from bench.report.plots.plot import run_plot

MOST_MODES = 5  # rows of heat maps: one more numeric mode shows little that these don't
LINES = ("-", "--", ":")  # of devices
MAPS = (  # metric, title, factor, format and its alt text's words and format, colours
    ("test_accuracy", "test accuracy, %", 100, ".2f", percent, "crest"),
    ("images_per_second", "images/s (training)", 1, ",.0f", three_digits, "crest"),
    ("peak_memory_bytes", "peak memory, MiB", 2**-20, ",.0f", mebibytes, "flare"),
)


def _target_alt(tables: Tables, rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=[tables.goal]).sort_values(tables.goal) if tables.goal else rows[:0]
    first = f"First, in the median, is {known.iloc[0]['label']} after {seconds(known.iloc[0][tables.goal])}."
    return first if len(known) else "No configuration reached it with most seeds."


@run_plot("Training time to the target", alt=_target_alt)
def time_to_accuracy(tables: Tables) -> Figure | None:
    """Training time until validation accuracy first reaches the suite's headline target; further left is sooner."""
    every = tables.like_for_like[tables.like_for_like["n_raced"] > 0]
    if not tables.goal or not every[tables.goal].notna().any():
        return None
    column, target = tables.goal, float(tables.goal.removeprefix("seconds_to_"))
    rows = every.sort_values(column).head(style.MOST_ROWS)
    rows = rows.assign(y=range(len(rows)))
    seeds = tables.trials.merge(rows[["config_id", "device_name", "y"]], on=["config_id", "device_name"])
    colours, times = style.family_colours(tables.summary["model"]), seeds[column].to_numpy(float)
    low, high = float(np.nanmin(times)), float(np.nanmax(times))
    step = max(high / low, 3.0) ** 0.1  # of the log axis; what missed stands beyond the last time
    edge = high * step**2
    figure, ((axes,),) = style.canvas(1.8 + 0.27 * len(rows))
    axes.axvspan(high * step, high * step**10, color="#f2f2f2", zorder=0)
    missed, marker = rows["n_raced"] - rows[f"reached_{target:g}"], style.markers(tables.summary, colours)
    for (model, dtype), group in rows.groupby(["model", "dtype"]):
        how: dict[str, Any] = {"ls": "", "marker": marker(str(model), str(dtype)), "color": colours[str(model)]}
        own, late = seeds[seeds["y"].isin(group["y"])], group.loc[missed[group.index] > 0, "y"]
        axes.plot(own[column], own["y"], ms=3, alpha=0.55, **how)
        axes.plot(group[column], group["y"], ms=7, mec="white", mew=0.7, **how)
        axes.plot([edge] * len(late), late, ms=5, mfc="white", mew=1, **how)
    for y, count, of in zip(rows["y"], missed, rows["n_raced"], strict=True):
        style.note(axes, f"{count}/{of}" if count else "", (edge, y), (6, 0), color=style.FAINT)
    style.log_axis(axes, f"training seconds to {100 * target:g}% on validation", low, high, margin=step**0.6)
    axes.set_xlim(low / step, high * step**5.5)
    style.name_rows(axes, list(rows["label"]), [colours[model] for model in rows["model"]])
    cut = f"; the {len(rows)} quickest of {len(every)}" if len(rows) < len(every) else ""
    clock = " by the speed of launches" if (rows["n_launches"] > 0).any() else ""
    what = f"large: median, {style.count_seeds(rows)}; small: each seed{clock}"
    style.legend(figure, tables.summary, colours)
    return style.title(figure, time_to_accuracy.title, f"{what}; grey edge: how many never reached it{cut}")


def _curves_alt(tables: Tables, rows: pd.DataFrame) -> str:
    ends = [
        f"{row['label']} ends at {percent(row['val_accuracy'])} on validation after {trained_epochs(row):g} epochs"
        + (f" and {seconds(row['train_seconds'])}" if row["train_seconds"] > 0 else "")
        for row in records(rows[rows["best_of_family"]])
    ]
    return f"{'; '.join(ends)}."


@run_plot("How fast do they learn?", alt=_curves_alt)
def learning_curves(tables: Tables) -> Figure | None:
    """Each family's best on validation: the mean over seeds, and a band from the worst seed to the best."""
    known = tables.trials[["trial_id", "config_id", "device_name", "model"]].drop_duplicates("trial_id")
    points = tables.evaluations.merge(known, on="trial_id").dropna(subset=["val_accuracy"])
    best = tables.summary[tables.summary["best_of_family"]]
    points = points[points["config_id"].isin(best["config_id"])]
    x = "train_seconds" if (points["train_seconds"] > 0).any() else "epoch"
    points = points[points[x] > 0]
    if points.empty or best.empty:
        return None
    devices, colours = best["device_name"].unique(), style.family_colours(tables.summary["model"])
    low = points.groupby("trial_id")["val_accuracy"].quantile(0.1).quantile(0.1)
    figure, panels = style.canvas(0.9 + 3.6 * len(devices), len(devices), 1, sharey=True)
    for (axes,), device in zip(panels, devices, strict=True):
        here = points[points["device_name"] == device]
        for row in records(best[best["device_name"] == device]):
            steps = (
                here[here["config_id"] == row["config_id"]]
                .groupby("step")
                .agg(
                    x=(x, "mean"),
                    low=("val_accuracy", "min"),
                    mean=("val_accuracy", "mean"),
                    high=("val_accuracy", "max"),
                )
            )
            colour, label = colours[row["model"]], f"{plain_name(row)}, n = {row['n']:g}"
            axes.fill_between(steps["x"], steps["low"], steps["high"], color=colour, alpha=0.22, lw=0)
            dashes = LINES[list(colours).index(row["model"]) % len(LINES)]  # told apart in grey, too
            axes.plot(steps["x"], steps["mean"], color=colour, lw=2.6, ls=dashes, label=label)
        if x == "epoch":
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        elif len(here):
            seen = here.loc[here["val_accuracy"] >= low, x]
            style.log_axis(axes, "training seconds (evaluations not counted)", seen.min(), seen.max(), margin=1.1)
        axes.set_ylabel("validation accuracy, %")
        axes.legend(loc="lower right", title=device if len(devices) > 1 else None)
    style.accuracy_axis(panels[0, 0], pd.Series([low, points["val_accuracy"].max()]))
    subtitle = "each family's best on validation: mean over seeds, and from the worst seed to the best"
    return style.title(figure, learning_curves.title, subtitle)


def _tuning_alt(tables: Tables, rows: pd.DataFrame) -> str:
    gains = [f"{each.title} from {percent(each.own)} to {percent(each.best)}" for each in read_tuning(tables)]
    return f"Own recipe and best: {', '.join(gains)}." if gains else ""


@run_plot("What does tuning bring?", alt=_tuning_alt)
def tuning(tables: Tables) -> Figure | None:
    """Validation accuracy of the best of so many settings, in the mean over all ways of taking them; the dashed line is
    the suite's own recipe. Settings that were dropped early count with what they had reached by then.
    """
    families = read_tuning(tables)
    if not families:
        return None
    colours = style.family_colours(tables.summary["model"])
    figure, ((axes,),) = style.canvas(4.0)
    shown = list[float]()
    for each in families:
        counts = range(1, len(each.reached) + 1)
        best = [each.expected_best(count) for count in counts]
        axes.plot(counts, best, color=colours[each.model], lw=2.6, marker="o", ms=4, label=each.label)
        if each.own == each.own:
            axes.axhline(each.own, color=colours[each.model], ls="--", lw=1.2)
        shown += [*best[len(best) // 4 :], *([each.own] if each.own == each.own else [])]
    axes.set_xlabel("settings tried")
    axes.set_ylabel("validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.legend(loc="lower right")
    style.accuracy_axis(axes, pd.Series(shown))
    subtitle = "the best of so many settings of a recipe; dashed: the suite's own; one seed"
    return style.title(figure, tuning.title, subtitle)


def _robustness_alt(tables: Tables, rows: pd.DataFrame) -> str:
    own = read_robustness(tables)
    errors = {
        family_title(str(model)): 1 - fmean(mean_accuracies(changed).values())
        for model, changed in own[own["device_name"].isin(rows["device_name"])].groupby("model", sort=False)
    }
    return f"Mean corruption error: {', '.join(f'{name} {percent(error)}' for name, error in errors.items())}."


@run_plot("How right do they stay on changed images?", alt=_robustness_alt)
def robustness(tables: Tables) -> Figure | None:
    """Each family's best on test images that were changed: 0 is as they are, 5 the strongest; a line is the mean over
    seeds, its band from the worst seed to the best.
    """
    rows = read_robustness(tables)
    names = [name for name in dict.fromkeys(rows["corruption"]) if name != CLEAN]
    if not names:
        return None
    devices, colours = list(dict.fromkeys(rows["device_name"])), style.family_colours(tables.summary["model"])
    across = 4
    figure, panels = style.canvas(1.1 + 2.1 * -(-len(names) // across), -(-len(names) // across), across, sharey=True)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        for (device, model), own in rows.groupby(["device_name", "model"], sort=False):
            own = own[own["corruption"].isin([name, CLEAN])]
            at = own.groupby("strength")["accuracy"].agg(["min", "mean", "max"]) * 100
            axes.fill_between(at.index, at["min"], at["max"], color=colours[str(model)], alpha=0.22, lw=0)
            axes.plot(
                at.index, at["mean"], color=colours[str(model)], lw=2, ls=LINES[devices.index(device) % len(LINES)]
            )
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xticks(range(int(rows["strength"].max()) + 1))
        axes.set_ylim(0, 100)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy, %")
    lines = [style.dot(name, style.INK, ls=LINES[i % len(LINES)], marker="") for i, name in enumerate(devices)]
    style.legend_below(figure, [*style.family_handles(rows["model"], colours), *(lines if len(lines) > 1 else [])])
    seeds = rows.groupby(["device_name", "model"])["seed"].nunique().rename("n_seen").reset_index()
    subtitle = f"test images, {int(rows['images'].max()):,}, changed at strengths 1 to 5; {style.count_seeds(seeds)}"
    return style.title(figure, robustness.title, subtitle)


def _maps_alt(tables: Tables, rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["patch_size", "depth"])
    ranges = []
    for metric, name, _, _, show, _ in MAPS:
        medians = known.dropna(subset=[metric]).groupby("patch_size")[metric].median()
        ends = [f"{show(value)} at {patch:g} px" for patch, value in [*medians.items()][:: max(1, len(medians) - 1)]]
        ranges += [f"{name.partition(',')[0]} from {' to '.join(ends)}"] if ends else []
    return f"Heat maps; medians over depths and modes by patch size: {'; '.join(ranges)}." if ranges else ""


@run_plot("Patch size and depth", alt=_maps_alt)
def patch_depth_heatmaps(tables: Tables) -> Figure | None:
    """What patch size and depth bring and cost: a smaller patch makes more tokens, so training is slower and takes more
    memory.
    """
    rows = style.measured(tables.like_for_like, "patch_size", "depth")
    maps = [each for each in MAPS if rows[each[0]].notna().any()]
    if len(rows[["patch_size", "depth"]].drop_duplicates()) < 2 or not maps:
        return None
    import seaborn  # here, since it takes longer to load than all else that draws

    devices = rows["device_name"] if rows["device_name"].nunique() > 1 else ""
    modes = [f"{family_title(row['model'])} {mode_title(row)}" for row in records(rows)]
    rows = rows.assign(mode=modes).assign(device=devices)
    rows["group"] = rows.groupby(["model", "device_name", "mode"], sort=False).ngroup()
    shown = rows[rows["group"] < MOST_MODES].sort_values(["group", "depth"])
    lines = shown.drop_duplicates(["group", "depth"])
    figure, (panels,) = style.canvas(1.6 + 0.36 * len(lines), 1, len(maps), sharey=True)
    for axes, (metric, name, factor, fmt, _, cmap) in zip(panels, maps, strict=True):
        grid = factor * shown.pivot_table(
            index=["group", "depth"], columns="patch_size", values=metric, aggfunc="median"
        )
        grid = grid.reindex(pd.MultiIndex.from_frame(lines[["group", "depth"]])).rename(columns=int)
        seaborn.heatmap(grid, ax=axes, annot=True, fmt=fmt, cmap=cmap, cbar=False, linewidths=2, yticklabels=False)
        faces = axes.collections[0].get_facecolors().reshape(*grid.shape, 4)
        for text in axes.texts:
            column, line = (int(place) for place in text.get_position())
            text.set_color(style.readable_on(faces[line, column]))
        axes.set(title=name, xlabel="patch size, px", ylabel="")
        axes.tick_params(rotation=0, length=0)
        axes.grid(visible=False)
        for y in np.flatnonzero(lines["group"].diff() > 0):
            axes.axhline(y, color="white", lw=9)
    labels = [f"{row['mode']} {row['device']}".strip() + f" d{row['depth']:g}" for row in records(lines)]
    panels[0].set_yticks(np.arange(len(lines)) + 0.5, labels, fontsize=9)
    groups = rows["group"].nunique()
    cut = f"; {MOST_MODES} of {groups} modes" if groups > MOST_MODES else ""
    style.title(
        figure,
        patch_depth_heatmaps.title,
        f"means, {style.count_seeds(rows)}{style.speeds_note(rows)}; darker is more; d: blocks{cut}",
    )
    return figure
