"""Findings: what a device's configurations are asked, one question after the other, and how each is answered.

The rules:
- A family's best configuration on *validation* stands for it, and only then is test accuracy compared; one that
  diverged with some seed doesn't, unless its family has no steadier one.
- A difference is shown when the two intervals don't overlap and the interval of the difference (or ratio), paired by
  seed, leaves out "none". Times to accuracy must also differ by more than the grid of evaluations can tell.
- One seed has no interval over seeds: accuracies then have their binomial floor, speeds the interval over blocks, and
  what has neither must differ by a tenth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.analysis.comparison import Comparison, Row, apart, compare_rows
from bench.analysis.formatting import listed, mebibytes, milliseconds, percent, points, rate, seconds
from bench.analysis.labels import family_title, records, without_device
from bench.analysis.summary import Tables


@dataclass(frozen=True)
class Lead:
    """Two configurations held against each other: `found` is of the one with more against the one with less."""

    more: Row
    less: Row
    found: Comparison
    shown: bool


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Args:
        does: what the winner does, and how far ahead it is: "is more accurate by 0.93 points".
        matters: what is asked after: "accuracy".
        rows: those that stand for the families, best first.
        leads: the first one against each of the others, in their order.
        shown: the first one's lead over the second is shown; or nobody else got there at all.
        figure: a row's value, as text.
        said: the answer in full; "" where nobody can give one.
        of_best: leads among the families' most accurate, where those aren't the `rows`.
    """

    does: str
    matters: str
    rows: list[Row]
    leads: list[Lead]
    shown: bool
    figure: Callable[[Row], str]
    said: str
    of_best: list[Lead] = field(default_factory=list)

    @property
    def winner(self) -> Row | None:
        return self.rows[0] if self.shown else None


class Contest:
    """One device's configurations, asked one question after the other."""

    def __init__(self, tables: Tables, device_name: str) -> None:
        here = tables.like_for_like[tables.like_for_like["device_name"] == device_name]
        self.tables = tables
        self.rows = records(here[here["n"] > 0])
        if tables.summary["device_name"].nunique() > 1:  # the answer stands under the device's name
            self.rows = [row | {"label": without_device(row)} for row in self.rows]
        self.families = list(dict.fromkeys(row["model"] for row in self.rows))
        self.one_seed = bool(self.rows) and max(row["n"] for row in self.rows) == 1
        self.champions = [row for row in self.rows if row["best_of_family"]]

    def accuracy(self) -> Finding:
        rows = sorted(self.champions, key=lambda row: -_known(row, "test_accuracy"))
        own = [f"{row['label']} {percent(row['test_accuracy'])}{_range(row)}" for row in rows]
        counts = listed([str(n) for n in sorted({row["n"] for row in rows})], "or")
        n = f"95% intervals, n = {counts} seeds; each is its family's best on validation"
        n = n if counts != "1" else "one seed, so no interval over seeds: the interval is the binomial floor"
        leads = [self._lead(rows[0], row, "test_accuracy") for row in rows[1:]]
        said = [
            f"the {title(each.more)} is {each.found.text} above the {title(each.less)} {each.found.range}".rstrip()
            for each in leads
        ]
        text = " ".join([f"Test accuracy: {listed(own)}; {n}.", *map(_claim, said, leads)])
        does = f"is more accurate by {points(leads[0].found.amount)}" if leads else ""
        return Finding(does, "accuracy", rows, leads, _first(leads), _figure("test_accuracy", percent), text)

    def speed(self) -> Finding:
        metric, words = "images_per_second", "trains {} times as fast as"
        timed = [row for row in self.rows if row[metric] > 0]
        rows, figure = _best_of_each(_steady(timed), _speed), _figure(metric, rate)
        if not rows:
            return Finding("", "training speed", [], [], False, figure, "")
        leads = self._leads(rows, metric)
        claims, of_best = _ratios(leads, words), []
        champions = sorted((row for row in self.champions if row[metric] > 0), key=_speed, reverse=True)
        if len(champions) == len(rows) and {row["config_id"] for row in champions} != {
            row["config_id"] for row in rows
        }:
            of_best = self._leads(champions, metric)
            claims += [f"Of the most accurate, {_named(champions, figure)}.", *_ratios(of_best, words)]
        said = " ".join([f"Training speed: {_named(rows, figure)}; each is its family's fastest.", *claims])
        does = f"trains {leads[0].found.text} times as fast" if leads else ""
        return Finding(does, "training speed", rows, leads, _first(leads), figure, said, of_best)

    def inference(self) -> str:
        """A sentence on the most accurate ones' inference: images a second, and how long one image takes."""
        parts = []
        for metric, head, show, words in (
            ("inference_images_per_second", "", rate, "infers {} times as fast as"),
            ("latency_p50_seconds", "One image takes ", milliseconds, "takes {} times as long as"),
        ):
            rows = sorted((row for row in self.champions if row[metric] > 0), key=lambda row: -row[metric])
            if rows:
                parts += [f"{head}{_named(rows, _figure(metric, show))}.", *_ratios(self._leads(rows, metric), words)]
        return f"Inference of the most accurate: {' '.join(parts)}" if parts else ""

    def time_to(self, target: float) -> Finding:
        """Who gets there first, among configurations that got there with every seed."""
        column, reached, goal = f"seconds_to_{target:g}", f"reached_{target:g}", f"{100 * target:g}%"
        rows = [row for row in self.rows if row[reached] == row["n_raced"] and row[column] >= 0]
        rows = _best_of_each(rows, lambda row: -row[column])
        own = [f"{r['label']} {seconds(r[column])} (reached by {r[reached]} of {r['n_raced']})" for r in rows]
        raced = {row["model"]: row[reached] for row in self.rows if row["n_raced"] > 0}
        for family in (family for family in self.families if family not in {row["model"] for row in rows}):
            if family not in raced:
                own.append(f"of the {family_title(family)} no time was measured")
                continue
            near = max((row for row in self.rows if row["model"] == family), key=lambda row: row[reached])
            every = f" with every seed (at best {near['label']}: {near[reached]} of {near['n_raced']})"
            own.append(f"no {family_title(family)} reached it{every if near[reached] else ''}")
        leads = self._leads(rows, column)
        alone = len(rows) == 1 < len(self.families) == len(raced)
        said = (
            " ".join([f"Time to {goal}: {listed(own)}.", *_ratios(leads, "takes {} times as long as")]) if rows else ""
        )
        figure = _figure(column, seconds)
        does = "" if not alone else f"alone reaches {goal} with every seed ({figure(rows[0])})"
        if leads:
            does = f"reaches {goal} sooner ({figure(rows[0])} against {figure(rows[1])})"
        return Finding(does, f"time to {goal}", rows, leads, alone or _first(leads), figure, said)

    def memory(self) -> Finding:
        rows = [row for row in self.champions if row["peak_memory_bytes"] > 0]
        rows, figure = sorted(rows, key=lambda row: row["peak_memory_bytes"]), _figure("peak_memory_bytes", mebibytes)
        leads = self._leads(rows, "peak_memory_bytes")
        claims = _ratios(leads, "needs {} times the memory of")
        said = " ".join([f"Peak training memory: {_named(rows, figure)}.", *claims]) if rows else ""
        does = f"needs {1 - 1 / leads[0].found.amount:.0%} less memory" if leads else ""
        return Finding(does, "memory", rows, leads, _first(leads), figure, said)

    def _leads(self, rows: list[Row], metric: str) -> list[Lead]:
        """The first row against each other one; the greater value comes first, so that the ratio is above one."""
        ordered = [(rows[0], row) if rows[0][metric] >= row[metric] else (row, rows[0]) for row in rows[1:]]
        return [self._lead(more, less, metric) for more, less in ordered]

    def _lead(self, more: Row, less: Row, metric: str) -> Lead:
        found = compare_rows(self.tables, more, less, metric)
        return Lead(more, less, found, apart(more, less, found))


def title(row: Row) -> str:
    return family_title(row["model"])


def _first(leads: list[Lead]) -> bool:
    return any(lead.shown for lead in leads[:1])


def _ratios(leads: list[Lead], words: str) -> list[str]:
    """A sentence on each lead: "The ViT trains 2.14 times as fast as the CNN (95% interval 1.68 to 2.73, paired)."."""
    return [
        _claim(f"the {title(e.more)} {words.format(e.found.text)} the {title(e.less)} {e.found.range}".rstrip(), e)
        for e in leads
    ]


def _claim(said: str, lead: Lead) -> str:
    return capital(f"{said}." if lead.shown else f"no difference shown: {said}.")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _steady(rows: list[Row]) -> list[Row]:
    """Rows whose every seed trained to its end; a family that has none keeps all, as it has no better to show."""
    steady = [row for row in rows if row["n"] == row["n_trained"]]
    return steady + [row for row in rows if row["model"] not in {each["model"] for each in steady}]


def _best_of_each(rows: list[Row], merit: Callable[[Row], Any]) -> list[Row]:
    """The row of most merit of each family, the best of them first."""
    best: dict[str, Row] = {}
    for row in rows:
        if row["model"] not in best or merit(row) > merit(best[row["model"]]):
            best[row["model"]] = row
    return sorted(best.values(), key=merit, reverse=True)


def _figure(column: str, show: Callable[[float], str]) -> Callable[[Row], str]:
    return lambda row: show(row[column])


def _named(rows: list[Row], figure: Callable[[Row], str]) -> str:
    return listed([f"{row['label']} {figure(row)}" for row in rows])


def _range(row: Row) -> str:
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    return "" if math.isnan(low) else f" ({100 * low:.2f} to {100 * high:.2f})"


def _known(row: Row, column: str, otherwise: float = -1.0) -> float:
    return otherwise if math.isnan(row[column]) else row[column]


def _speed(row: Row) -> float:
    return _known(row, "images_per_second")
