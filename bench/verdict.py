"""The answer in words: who wins, by how much, and whether that is shown; made from the store by rules alone.

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
from dataclasses import dataclass
from typing import Any

from bench.comparison import Row, apart, compare_rows
from bench.doubts import doubts, unfinished
from bench.efficiency import data_sentences
from bench.labels import family_title, records
from bench.modes import mode_sentences
from bench.pairs import find_pairs, pair_sentences
from bench.summary import Tables, targets_of
from bench.units import listed, mebibytes, percent, points, rate, seconds


@dataclass(frozen=True)
class Verdict:
    """What a run says about one device, as plain text; the last sentence is the recommendation."""

    device_name: str
    headline: str
    sentences: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Args:
        does: what the winner does: "is more accurate".
        matters: what is asked after: "accuracy".
        rows: those that stand for the families, best first.
        shown: the first one's lead over the second is shown.
        figure: a row's value, as text.
        said: the answer in full; "" where nobody can give one.
    """

    does: str
    matters: str
    rows: list[Row]
    shown: bool
    figure: Callable[[Row], str]
    said: str

    @property
    def winner(self) -> Row | None:
        return self.rows[0] if self.shown else None


def decide(tables: Tables) -> list[Verdict]:
    """One verdict a device, in the order of the run; a run without trials gets one that says so."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    if not names:
        return [Verdict("", "Nothing to compare yet: no trial has finished.", [], [unfinished(tables)])]
    return [_Contest(tables, name, "On this machine" if len(names) == 1 else f"On {name}").verdict() for name in names]


class _Contest:
    """One device's configurations, asked one question after the other."""

    def __init__(self, tables: Tables, device_name: str, place: str) -> None:
        here = tables.with_all_data[tables.with_all_data["device_name"] == device_name]
        self.tables, self.device_name, self.place = tables, device_name, place
        self.rows = records(here[here["n"] > 0])
        self.families = list(dict.fromkeys(row["model"] for row in self.rows))
        self.one_seed = bool(self.rows) and max(row["n"] for row in self.rows) == 1
        self.champions = [row for row in self.rows if row["best_of_family"]]

    def verdict(self) -> Verdict:
        warnings = doubts(self.tables, self.device_name)
        if not self.rows:
            return Verdict(self.device_name, "Nothing to compare: no trial ended well.", [], warnings)
        accuracy, speed, memory = self.accuracy(), self.speed(), self.memory()
        times = {target: self.time_to(target) for target in targets_of(self.tables.run)}
        asked = [accuracy, *self._headline_time(times), speed]
        sentences = [finding.said for finding in (accuracy, speed, *times.values(), memory) if finding.said]
        pairs = [pair for pair in find_pairs(self.tables) if pair.made["device_name"] == self.device_name]
        sentences += data_sentences(self.tables, self.device_name)
        sentences += [*pair_sentences(pairs), *mode_sentences(self.tables, self.device_name)]
        sentences.append(self._recommendation(asked))
        return Verdict(self.device_name, self._headline([*asked, memory]), sentences, warnings)

    def accuracy(self) -> Finding:
        rows = sorted(self.champions, key=lambda row: -_known(row, "test_accuracy"))
        own = [f"{row['label']} {percent(row['test_accuracy'])}{_range(row)}" for row in rows]
        counts = listed([str(n) for n in sorted({row["n"] for row in rows})], "or")
        n = f"95% intervals, n = {counts} seeds; each is its family's best on validation"
        n = n if counts != "1" else "one seed, so no interval over seeds: the interval is the binomial floor"
        claims, shown = [], []
        for row in rows[1:]:
            gap = compare_rows(self.tables, rows[0], row, "test_accuracy")
            shown.append(apart(rows[0], row, gap))
            said = f"the {_title(rows[0])} is {gap.text} above the {_title(row)} {gap.range}".rstrip()
            claims.append(_claim(said, shown[-1]))
        said = " ".join([f"Test accuracy: {listed(own)}; {n}.", *claims])
        figure = _figure("test_accuracy", percent)
        return Finding("is more accurate", "accuracy", rows, any(shown[:1]), figure, said)

    def speed(self) -> Finding:
        rows, figure = _best_of_each(_steady(self.rows), _speed), _figure("images_per_second", rate)
        shown, claims = self._ratios(rows, "images_per_second", "trains {} times as fast as")
        champions = sorted(self.champions, key=_speed, reverse=True)
        if {row["config_id"] for row in champions} != {row["config_id"] for row in rows}:
            _, more = self._ratios(champions, "images_per_second", "trains {} times as fast as")
            claims += [f"Of the most accurate, {_named(champions, figure)}.", *more]
        said = " ".join([f"Training speed: {_named(rows, figure)}; each is its family's fastest.", *claims])
        return Finding("trains more images a second", "training speed", rows, shown, figure, said)

    def time_to(self, target: float) -> Finding:
        """Who gets there first, among configurations that got there with every seed."""
        column, reached, goal = f"seconds_to_{target:g}", f"reached_{target:g}", f"{100 * target:g}%"
        rows = [row for row in self.rows if row[reached] == row["n_raced"] and row[column] >= 0]
        rows = _best_of_each(rows, lambda row: -row[column])
        own = [f"{r['label']} {seconds(r[column])} (reached by {r[reached]} of {r['n_raced']})" for r in rows]
        for family in (family for family in self.families if family not in {row["model"] for row in rows}):
            near = max((row for row in self.rows if row["model"] == family), key=lambda row: row[reached])
            every = f" with every seed (at best {near['label']}: {near[reached]} of {near['n_raced']})"
            own.append(f"no {family_title(family)} reached it{every if near[reached] else ''}")
        shown, claims = self._ratios(rows, column, "takes {} times as long as")
        shown = shown or len(rows) == 1 < len(self.families)
        said = " ".join([f"Time to {goal}: {listed(own)}.", *claims]) if rows else ""
        return Finding(f"reaches {goal} sooner", f"time to {goal}", rows, shown, _figure(column, seconds), said)

    def memory(self) -> Finding:
        rows = [row for row in self.champions if row["peak_memory_bytes"] > 0]
        rows, figure = sorted(rows, key=lambda row: row["peak_memory_bytes"]), _figure("peak_memory_bytes", mebibytes)
        shown, claims = self._ratios(rows, "peak_memory_bytes", "needs {} times the memory of")
        said = " ".join([f"Peak training memory: {_named(rows, figure)}.", *claims]) if rows else ""
        return Finding("needs less memory", "memory", rows, shown, figure, said)

    def _ratios(self, rows: list[Row], column: str, words: str) -> tuple[bool, list[str]]:
        """A sentence on the first row against each other one, and whether the second is shown to differ from it.

        The family with the greater value comes first in the sentence, so that the ratio is above one.
        """
        shown, claims = [], []
        for row in rows[1:]:
            more, less = (rows[0], row) if rows[0][column] >= row[column] else (row, rows[0])
            factor = compare_rows(self.tables, more, less, column)
            shown.append(apart(more, less, factor))
            said = f"the {_title(more)} {words.format(factor.text)} the {_title(less)} {factor.range}"
            claims.append(_claim(said.rstrip(), shown[-1]))
        return any(shown[:1]), claims

    def _headline_time(self, times: dict[float, Finding]) -> list[Finding]:
        """The finding at the run's headline target; if nobody got there, at the highest one that somebody did."""
        wanted = times.get(self.tables.run.get("target_accuracy") or math.nan)
        return [wanted] if wanted and wanted.rows else [finding for finding in times.values() if finding.rows][-1:]

    def _headline(self, asked: list[Finding]) -> str:
        if len(self.families) == 1:
            best = self.champions[0]
            reached = percent(best["test_accuracy"])
            return f"Only one family was measured: its best, {best['label']}, reaches {reached} on test."
        wins: dict[str, list[str]] = {}
        for finding in asked:
            if finding.winner:
                wins.setdefault(_title(finding.winner), []).append(finding.does)
        told = "; ".join(f"the {family} {listed(does)}" for family, does in wins.items())
        if not told:
            return f"No difference is shown between {listed([family_title(name) for name in self.families])}."
        told = told if asked[0].winner else f"no difference in accuracy is shown; {told}"
        return f"On one seed, {told}." if self.one_seed else f"{_capital(told)}."

    def _recommendation(self, asked: list[Finding]) -> str:
        """What to choose: the family that leads on accuracy, else on time, else on speed; then when not to."""
        alone = len(self.families) == 1
        wins = [(finding, finding.rows[0]) for finding in asked if finding.rows and (finding.shown or alone)]
        if not wins:
            asked_after = listed([finding.matters for finding in asked], "or")
            return f"{self.place} either will do: no difference is shown in {asked_after}."
        lead = wins[0][1]["model"]
        best = next(row for row in self.champions if row["model"] == lead)
        reasons: dict[str, list[str]] = {}
        for finding, row in wins:
            if row["model"] == lead:
                reasons.setdefault(row["label"], []).append(f"{finding.matters} ({finding.figure(row)})")
        said = "; ".join(f"{label} for {listed(why)}" for label, why in reasons.items())
        since = "" if asked[0].shown else ", since no difference in accuracy is shown"
        said = (
            f"{self.place} choose {said}." if alone else f"{self.place} choose the {family_title(lead)}{since}: {said}."
        )
        for finding, row in wins:
            if row["model"] != lead:
                gap = best["test_accuracy"] - row["test_accuracy"]
                cost = f", {points(gap)} less accurate on test" if gap > 0 else ""
                said += f" If {finding.matters} matters most, choose {row['label']} ({finding.figure(row)}{cost})."
        return said + (" One seed is little to go by: run more before relying on it." if self.one_seed else "")


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


def _claim(said: str, shown: bool) -> str:
    return _capital(f"{said}." if shown else f"no difference shown: {said}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _range(row: Row) -> str:
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    return "" if math.isnan(low) else f" ({100 * low:.2f} to {100 * high:.2f})"


def _title(row: Row) -> str:
    return family_title(row["model"])


def _known(row: Row, column: str, otherwise: float = -1.0) -> float:
    return otherwise if math.isnan(row[column]) else row[column]


def _speed(row: Row) -> float:
    return _known(row, "images_per_second")
