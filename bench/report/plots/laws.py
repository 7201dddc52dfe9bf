"""The plot of scaling laws: errors against parameters, training FLOPs and training images."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.labels import family_title
from bench.analysis.laws import BUDGET, TITLES, Law, crossings, exponent_text, find_laws, law_sentences
from bench.analysis.summary import Tables
from bench.report.plots import style
from bench.report.plots.plot import run_plot

UNIT = {BUDGET: 1e12}  # of an axis, where it isn't 1


def _laws_alt(tables: Tables, rows: pd.DataFrame) -> str:
    return " ".join(law_sentences(tables, rows["device_name"].iloc[0]))


@run_plot("Scaling laws", alt=_laws_alt)
def scaling_laws(tables: Tables) -> Figure | None:
    """Test error against size, budget and data, both on logarithms: a power of size is a line, which bends where the
    law has a floor. A band is what one more size should come to in 95% of cases; the hollow point is the largest size,
    which the fit doesn't know.
    """
    found = {name: laws for name in tables.summary["device_name"].unique() if (laws := find_laws(tables, name))}
    if not found:
        return None
    scales = [scale for scale in TITLES if any(law.scale == scale for laws in found.values() for law in laws)]
    colours = style.family_colours(tables.summary["model"])
    figure, panels = style.canvas(0.9 + 4.2 * len(found), len(found), len(scales), sharey=True)
    for row, (name, laws) in zip(panels, found.items(), strict=True):
        for axes, scale in zip(row, scales, strict=True):
            own, unit = [law for law in laws if law.scale == scale], UNIT.get(scale, 1.0)
            for law in own:
                _draw(axes, law, colours[law.model], unit)
            for crossing in crossings(own):
                if crossing.at:
                    axes.axvspan(crossing.at.low / unit, crossing.at.high / unit, color="#f2f2f2", zorder=0)
                    axes.axvline(crossing.at.amount / unit, color=style.FAINT, ls=":", lw=1, zorder=1)
            if own:
                low, high = min(law.points[0].x for law in own), max(law.held.x for law in own)
                text = TITLES[scale] + (f", {unit:.0e}".replace("1e+", "10^") if unit > 1 else "")
                style.log_axis(axes, text, low / unit, high / unit, margin=1.3)
                axes.legend(loc="upper right", title=name if len(found) > 1 else None)
    errors = [100 * error for laws in found.values() for law in laws for error in _errors(law)]
    style.log_axis(panels[0, 0], "test error, %", min(errors), max(errors), "y", margin=1.1)
    for axes in panels[1:, 0]:
        axes.set_ylabel("test error, %")
    style.legend_below(figure, [style.dot("mean", style.INK), style.dot("seed", style.INK, ms=3, alpha=0.5),
                                style.dot("left out of the fit", style.INK, mfc="white")])  # fmt: skip
    seeds = pd.DataFrame({"n": [len(point.errors) for laws in found.values() for law in laws for point in law.points]})
    subtitle = f"error = a x^-b + c; b with its 95% interval; geometric means, {style.count_seeds(seeds, 'n')}"
    return style.title(figure, scaling_laws.title, subtitle)


def _draw(axes: Axes, law: Law, colour: str, unit: float) -> None:
    """Points, line and band of a law; beyond its fit, the line is dashed."""
    for x, error, errors in (*law.points, law.held):
        axes.plot([x / unit] * len(errors), [100 * each for each in errors], "o", color=colour, ms=3, alpha=0.5, lw=0)
        fill = "white" if x == law.held.x else colour
        axes.plot(x / unit, 100 * error, "o", color=colour, mfc=fill, mec=colour, ms=7, zorder=3)
    seeds = max(len(point.errors) for point in law.points)
    places = np.geomspace(law.points[0].x, law.held.x, 50)
    low, middle, high, _ = np.transpose([law.fit.at(x, seeds) for x in places])
    axes.fill_between(places / unit, 100 * low, 100 * high, color=colour, alpha=0.15, lw=0)
    axes.plot(places / unit, 100 * middle, color=colour, lw=1, ls="--")
    known = places <= law.points[-1].x
    label = f"{family_title(law.model)}: b = {exponent_text(law)}"
    axes.plot(places[known] / unit, 100 * middle[known], color=colour, lw=2, label=label)


def _errors(law: Law) -> list[float]:
    """What the axis has to show: errors of seeds, and the prediction."""
    return [*(error for point in (*law.points, law.held) for error in point.errors), *law.predicted[:3]]
