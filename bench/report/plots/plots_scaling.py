"""Scaling as a picture: images/s against processes beside the ideal line, and what each process is still worth."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.scaling import Ladder, by_configuration, efficiency, ladders
from bench.analysis.summary import Tables
from bench.report.plots import style as canvas
from bench.report.plots.style import FAINT, INK, WIDTH, family_colours, styled

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
    panels[0].errorbar(sizes, speeds, _bars(rows, speeds), **style)
    ideal = [speeds[0] * size / sizes[0] for size in sizes]
    panels[0].plot(sizes, ideal, ls="--", lw=1, color=FAINT, zorder=1)
    shares = [efficiency(tables, ladder, row) for row in rows[1:]]
    known = [(size, share) for size, share in zip(sizes[1:], shares, strict=True) if share]
    middles = [1.0, *(share.median for _, share in known)]
    ends = np.abs(np.array([[1.0, 1.0], *([share.low, share.high] for _, share in known)]).T - middles)
    panels[1].errorbar(
        [sizes[0], *(size for size, _ in known)], np.multiply(100, middles), 100 * np.nan_to_num(ends), **style
    )


def _bars(rows: list[dict[str, Any]], speeds: list[float]) -> Any:
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
