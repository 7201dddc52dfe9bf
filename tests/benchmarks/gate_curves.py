"""Our gate and the rules of others on the same journals, over the minutes that they take; the picture of it."""

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from gate_recordings import Recording
from gate_replay import gate_minutes, regressed, virtual_gates
from matplotlib.figure import Figure
from rival_rules import RIVALS, Rival, Times, step_times, virtual_runs
from scipy.stats import binomtest

from bench.gate.decision import Decision
from bench.report.plots import style

OURS = "this gate"
SCREENS = (6, 8, 10, 14, 20)  # launches of a screen along our curve
PROCESSES = (1, 2, 3, 5, 8, 12, 16, 20)  # of either version along the others' curves
MOST_OF_JOURNAL = 0.8  # that one experiment may use, so that a journal still holds several
MARKS = {  # Okabe and Ito's colours
    OURS: ("#0072B2", "o"),
    "sequential runs, mean +10%": ("#D55E00", "s"),
    "pytest-benchmark median:10%": ("#CC79A7", "D"),
    "asv continuous, factor 1.1": ("#009E73", "^"),
    "pyperf compare_to": ("#B8860B", "v"),
}


@dataclass
class Tally:
    """`hits` of `n`, added up over journals, and the minutes that the average one takes."""

    hits: int = 0
    n: int = 0
    minutes: list[float] = field(default_factory=list)

    def add(self, found: Iterable[bool], minutes: float) -> None:
        results = list(found)
        self.hits, self.n = self.hits + sum(results), self.n + len(results)
        self.minutes.append(minutes)

    @property
    def rate(self) -> float:
        return self.hits / self.n

    def text(self) -> str:
        """Share with Clopper and Pearson's 95% bounds."""
        if not self.n:
            return "-"
        low, high = binomtest(self.hits, self.n).proportion_ci(0.95, "exact")
        return f"{percent(self.rate)} ({percent(low)} to {percent(high)})"


def percent(share: float) -> str:
    """So that a little isn't none, and not quite all isn't all."""
    if 0 < share < 0.0995:
        return f"{100 * share:.2g}%"
    digits = -math.floor(math.log10(100 * (1 - share))) if 0.99 < share < 1 else 0
    return f"{100 * share:.{digits}f}%"


@dataclass
class Point:
    """A rule at one length: `size` is our screen's launches, or the others' processes of either version."""

    rule: str
    size: int
    tallies: dict[float, Tally] = field(default_factory=dict)

    def add(self, recording: Recording, found: Iterable[bool], minutes: float) -> None:
        self.tallies.setdefault(round(recording.slowdown, 2), Tally()).add(found, minutes)

    def minutes(self, slowdown: float) -> float:
        return fmean(self.tallies[slowdown].minutes)


def all_curves(
    recordings: Sequence[Recording],
    found: Mapping[str, Sequence[Decision]],
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> dict[str, list[Point]]:
    """Rule -> its points. Journals in which only one cell was slowed are left out.

    Args:
        found: journal -> what virtual gates with the options' own lengths said.
    """
    whole = [one for one in recordings if not one.slowdown or set(one.slowed) == set(one.record.header["cells"])]
    first = Point(OURS, options.launches)
    for one in whole:
        first.add(one, map(regressed, found[one.name]), gate_minutes(found[one.name], one))
    curves = {OURS: [first, *our_curve(whole, options, rng)]}
    times = {one.name: step_times(one.record) for one in whole}
    return curves | {name: list(rival_curve(rival, whole, times)) for name, rival in RIVALS.items()}


def our_curve(
    recordings: Sequence[Recording], options: argparse.Namespace, rng: np.random.Generator
) -> Iterator[Point]:
    """Screens and confirmations of other lengths, in fewer gates."""
    chosen = options.launches, options.confirm or options.launches
    for size in SCREENS:
        if (size, size) == chosen:
            continue
        point = Point(OURS, size)
        for one in recordings:
            found = virtual_gates(one.record, max(1, options.gates // 4), size, size, rng)
            point.add(one, map(regressed, found), gate_minutes(found, one))
        yield point


def rival_curve(rival: Rival, recordings: Sequence[Recording], times: dict[str, Times]) -> Iterator[Point]:
    """Where a journal is too short for so many processes, its slowdown has no point there."""
    lengths: dict[float, int] = {}
    for one in recordings:
        length = len(one.record.launches["screen"])
        lengths[one.slowdown] = min(length, lengths.get(one.slowdown, length))
    for processes in PROCESSES:
        if processes < rival.fewest or processes > (rival.most or processes):
            continue
        point = Point(rival.name, processes)
        for one in recordings:
            if 2 * processes <= MOST_OF_JOURNAL * lengths[one.slowdown]:
                fails = [bool(cells) for cells in virtual_runs(times[one.name], rival, processes)]
                point.add(one, fails, processes * one.launch_seconds / 60)
        if point.tallies:
            yield point


def picture(curves: dict[str, list[Point]], said: str) -> Figure:
    """False alarms, and power at +10%, against minutes."""
    figure = Figure(figsize=(style.WIDTH, 5.2))
    panels = {
        0.0: "false alarms: identical code fails, % of runs (dashed: 1%)",
        0.1: "power: head 10% slower fails, % of runs",
    }
    minutes = [point.minutes(s) for points in curves.values() for point in points for s in point.tallies]
    for axes, (slowdown, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for name, points in curves.items():
            shown = sorted(
                (point.minutes(slowdown), 100 * point.tallies[slowdown].rate)
                for point in points
                if slowdown in point.tallies
            )
            colour, marker = MARKS[name]
            wide = 2.4 if name == OURS else 1.4
            axes.plot(*zip(*shown, strict=True) if shown else ([], []), color=colour, marker=marker, lw=wide, ms=6)
        style.log_axis(axes, "minutes of measuring", min(minutes), max(minutes))
        axes.set_title(label)
        axes.set_ylim(-3, 103)
    alarms = figure.axes[0]
    alarms.set_yscale("symlog", linthresh=1.0, linscale=0.4)  # below 1% linear, so that none has a place
    alarms.set_ylim(-0.12, 130)
    style.set_ticks(alarms.yaxis, [0, 1, 3, 10, 30, 100], lambda y: f"{y:g}")
    alarms.axhline(1, color=style.FAINT, lw=1.2, ls=(0, (4, 3)), zorder=1)
    lines = [
        style.Line2D([], [], color=colour, marker=marker, lw=2.4 if name == OURS else 1.4, label=name)
        for name, (colour, marker) in MARKS.items()
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, columnspacing=1.6)
    style.title(figure, "What a rule costs, and how often it is wrong", f"{said}; each rule on the same journals")
    return figure
