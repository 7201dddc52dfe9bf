"""Plots of accuracy while training goes on, and of what patch size and depth bring and cost."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.formatting import mebibytes, percent, seconds, three_digits
from bench.analysis.labels import family_title, records
from bench.analysis.modes import mode_title
from bench.analysis.summary import Tables, targets_of
from bench.report.plots import style
from bench.report.plots.plot import run_plot

MOST_MODES = 5  # rows of heat maps: one more numeric mode shows little that these don't
MAPS = (  # metric, title, factor, format and its alt text's words and format, colours
    ("test_accuracy", "test accuracy, %", 100, ".2f", percent, "crest"),
    ("images_per_second", "images/s (training)", 1, ",.0f", three_digits, "crest"),
    ("peak_memory_bytes", "peak memory, MiB", 2**-20, ",.0f", mebibytes, "flare"),
)


def _targets_alt(tables: Tables, rows: pd.DataFrame) -> str:
    reached = []
    for target in targets_of(tables.run)[-5:]:
        known = rows.dropna(subset=[f"seconds_to_{target:g}"]).sort_values(f"seconds_to_{target:g}")
        first = known.iloc[0] if len(known) else None
        after = "by none" if first is None else f"{first['label']} after {seconds(first[f'seconds_to_{target:g}'])}"
        reached.append(f"{100 * target:g}% {after}")
    return f"First to reach each target, in the median: {'; '.join(reached)}."


@run_plot("Time to accuracy", alt=_targets_alt)
def time_to_accuracy(tables: Tables) -> Figure | None:
    """Training time until validation accuracy first reaches each target; further left is sooner."""
    targets = targets_of(tables.run)[-5:]
    columns = [f"seconds_to_{target:g}" for target in targets]
    every = tables.like_for_like[tables.like_for_like["n_raced"] > 0]
    if not every[columns].notna().any(axis=None):
        return None
    headline = f"seconds_to_{tables.run.get('target_accuracy') or targets[-1]:g}"
    first = headline if headline in columns else columns[-1]
    rows = every.sort_values([first, *columns[::-1]]).head(style.MOST_ROWS)
    rows = rows.assign(y=range(len(rows)))
    seeds = tables.trials.merge(rows[["config_id", "device_name", "y"]], on=["config_id", "device_name"])
    colours, times = style.family_colours(tables.summary["model"]), tables.trials[columns].to_numpy()
    low, high = float(np.nanmin(times)), float(np.nanmax(times))
    step = max(high / low, 3.0) ** 0.1  # of the log axis; what missed stands beyond the last time
    edge = high * step**2
    figure, (panels,) = style.canvas(1.8 + 0.27 * len(rows), 1, len(targets), sharex=True, sharey=True)
    for axes, target, column in zip(panels, targets, columns, strict=True):
        axes.axvspan(high * step, high * step**10, color="#f2f2f2", zorder=0)
        axes.set_title(f"{100 * target:g}%", fontweight="bold")
        missed = rows["n_raced"] - rows[f"reached_{target:g}"]
        for (model, dtype), group in rows.groupby(["model", "dtype"]):
            how: dict[str, Any] = {"ls": "", "marker": style.marker_of(str(dtype)), "color": colours[str(model)]}
            own, late = seeds[seeds["y"].isin(group["y"])], group.loc[missed[group.index] > 0, "y"]
            axes.plot(own[column], own["y"], ms=3, alpha=0.55, **how)
            axes.plot(group[column], group["y"], ms=7, mec="white", mew=0.7, **how)
            axes.plot([edge] * len(late), late, ms=5, mfc="white", mew=1, **how)
        for y, count, of in zip(rows["y"], missed, rows["n_raced"], strict=True):
            style.note(axes, f"{count}/{of}" if count else "", (edge, y), (6, 0), color=style.FAINT)
    style.log_axis(panels[0], "", low, high, margin=step**0.6)
    panels[0].set_xlim(low / step, high * step**5.5)
    style.name_rows(panels[0], list(rows["label"]), [colours[model] for model in rows["model"]])
    panels[len(panels) // 2].set_xlabel("training seconds to the target on validation (evaluations not counted)")
    cut = f"; the {len(rows)} quickest of {len(every)}" if len(rows) < len(every) else ""
    clock = " by the speed of launches" if (rows["n_launches"] > 0).any() else ""
    what = f"large: median, {style.count_seeds(rows)}; small: each seed{clock}"
    subtitle = f"{what}; grey edge: how many never reached it{cut}"
    style.legend(figure, tables.summary, colours)
    return style.title(figure, time_to_accuracy.title, subtitle)


def _curves_caption(tables: Tables) -> str:
    if not tables.summary["train_seconds"].notna().any():
        return "Validation accuracy as training goes on; the clock was shared, so it isn't shown."
    return "The same training against the clock and against epochs: what is quick by epoch may be slow by the clock."


def _curves_alt(tables: Tables, rows: pd.DataFrame) -> str:
    ends = [
        f"{row['label']} ends at {percent(row['val_accuracy'])} on validation after {row['epochs']:g} epochs"
        + (f" and {seconds(row['train_seconds'])}" if row["train_seconds"] > 0 else "")
        for row in records(rows[rows["best_of_family"]])
    ]
    return f"{'; '.join(ends)}."


@run_plot("Learning curves", caption=_curves_caption, alt=_curves_alt)
def learning_curves(tables: Tables) -> Figure | None:
    known = tables.trials[["trial_id", "config_id", "device_name", "model"]].drop_duplicates("trial_id")
    points = tables.evaluations.merge(known, on="trial_id").dropna(subset=["val_accuracy"])
    points = points[(points["train_seconds"] > 0) | (points["train_seconds"].isna() & (points["epoch"] > 0))]
    best = tables.summary[tables.summary["best_of_family"]]
    columns = ["train_seconds", "epoch"] if points["train_seconds"].notna().any() else ["epoch"]
    if points.empty or best.empty:
        return None
    devices, colours = best["device_name"].unique(), style.family_colours(tables.summary["model"])
    low = points.groupby("trial_id")["val_accuracy"].quantile(0.1).quantile(0.1)
    figure, panels = style.canvas(0.9 + 4.0 * len(devices), len(devices), len(columns), sharey=True)
    for pair, device in zip(panels, devices, strict=True):
        here, chosen = points[points["device_name"] == device], best[best["device_name"] == device]
        others = _medians(here[~here["config_id"].isin(chosen["config_id"])])
        for axes, x in zip(pair, columns, strict=True):
            style.faint_curves(axes, others, (x, "val_accuracy"), colours)
            for row in records(chosen):
                seeds, colour = here[here["config_id"] == row["config_id"]], colours[row["model"]]
                for _, seed in seeds.groupby("trial_id"):
                    axes.plot(seed[x], seed["val_accuracy"], color=colour, lw=0.7, alpha=0.6)
                median, label = _medians(seeds), f"{row['label']}, n = {row['n']:g}"
                axes.plot(median[x], median["val_accuracy"], color=colour, lw=2.6, label=label)
        seen = here.loc[here["val_accuracy"] >= low, "train_seconds"].dropna()
        if len(seen):
            style.log_axis(pair[0], "training seconds (evaluations not counted)", seen.min(), seen.max(), margin=1.1)
        elif len(columns) > 1:
            pair[0].set_xlabel("not timed on this device")
        pair[-1].set_xlabel("epoch")
        pair[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        pair[0].set_ylabel("validation accuracy, %")
        pair[-1].legend(loc="lower right", title=device if len(devices) > 1 else None)
    style.accuracy_axis(panels[0, 0], pd.Series([low, points["val_accuracy"].max()]))
    faint = "; faint: medians of the other configurations" if len(tables.summary) > len(best) else ""
    subtitle = f"each family's best on validation: thin, every seed; thick, the median{faint}"
    return style.title(figure, learning_curves.title, subtitle)


def _medians(points: pd.DataFrame) -> pd.DataFrame:
    """Each configuration's curve, over its seeds."""
    keys, values = ["model", "config_id", "step"], ["train_seconds", "epoch", "val_accuracy"]
    return points.groupby(keys, sort=False)[values].median().reset_index().sort_values(["config_id", "step"])


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
