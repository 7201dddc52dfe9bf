"""The scorecard: one named model a family in the five things that a chooser asks, with intervals and verdicts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.analysis.comparison import Comparison, Row, compare_rows, time_text
from bench.analysis.formatting import mebibytes, milliseconds, percent, rate
from bench.analysis.guessing import is_easy, share_of_commonest
from bench.analysis.labels import family_title, plain_name, records
from bench.analysis.matched_pairs import EQUAL, find_pairs
from bench.analysis.speeds import WIDEST, WORK, precision_of
from bench.analysis.summary import Tables, targets_of

ACCURACY, SPEED, LATENCY, MEMORY = (
    "test_accuracy",
    "images_per_second",
    "latency_p50_seconds",
    "peak_memory_bytes",
)
TIME = "seconds_to_"
BEST = "each family's best"  # the first scorecard's title
IMAGES = 10_000  # that errors are counted in


@dataclass(frozen=True)
class Line:
    """One question, and what the models come to.

    Attributes:
        metric: a column of the summary.
        subject: in words, with the unit.
        figures: a text for each model; "–" where nothing was measured.
        difference: by how much the first is ahead of the second, "" where that can't be said.
        ends: of its 95% interval, or how well what is too noisy to call is known; "" where it isn't known.
        verdict: "ViT better", "equivalent", "inconclusive", "too noisy to call"; "" with a single model.
        winner: the better family's title, "" where no difference is shown.
        found: the comparison behind it, of the one with the greater value against the other.
    """

    metric: str
    subject: str
    figures: list[str]
    difference: str = ""
    ends: str = ""
    verdict: str = ""
    winner: str = ""
    found: Comparison | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Scorecard:
    """Models of different families beside each other.

    Attributes:
        title: "each family's best", "at equal parameters", "at equal FLOPs".
        families: their titles, in the order of the figures.
        names: of the models, for people.
        codes: their labels in tables and figures.
        rows: of the summary.
    """

    title: str
    families: list[str]
    names: list[str]
    codes: list[str]
    lines: list[Line]
    rows: list[Row] = field(default_factory=list, compare=False)

    def as_json(self) -> dict[str, Any]:
        """What is printed of it."""
        hidden = ("rows", "lines")
        lines = [{key: value for key, value in vars(line).items() if key != "found"} for line in self.lines]
        return {key: value for key, value in vars(self).items() if key not in hidden} | {"lines": lines}

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> "Scorecard":
        """Raises: TypeError, LookupError: it isn't what as_json gives."""
        return cls(**content | {"lines": [Line(**line) for line in content["lines"]]})

    def line(self, metric: str) -> Line | None:
        """The line about a metric, or "seconds_to_" for that about time; None where it wasn't measured."""
        return next((line for line in self.lines if line.metric.startswith(metric)), None)


def compared_rows(tables: Tables, device_name: str) -> pd.DataFrame:
    """A device's configurations that have a finished trial and are compared like for like."""
    here = tables.like_for_like
    return here[(here["device_name"] == device_name) & (here["n"] > 0)]


def scorecards(tables: Tables, device_name: str) -> list[Scorecard]:
    """Each family's best on validation first; then a pair of equal parameters and one of equal FLOPs, if there are.

    Of several pairs the one is taken whose given configuration is best on validation.
    """
    here = compared_rows(tables, device_name)
    best = records(here[here["best_of_family"]])
    found = [scorecard(tables, best, BEST)] if best else []
    pairs = sorted(find_pairs(tables, device_name), key=lambda pair: -pair.base["val_accuracy"])
    for by, title in EQUAL.items():
        pair = next((pair for pair in pairs if pair.by == by), None)
        if pair and pair.base["model"] != pair.made["model"]:
            found.append(scorecard(tables, [pair.base, pair.made], f"at equal {title}"))
    return found


def scorecard(tables: Tables, rows: Sequence[Row], title: str) -> Scorecard:
    """These rows of the summary, a model each; in the order of the run's families."""
    families = list(dict.fromkeys(tables.summary["model"]))
    rows = sorted(rows, key=lambda row: families.index(row["model"]))
    threads = ", one thread" if {row["speed_threads"] for row in rows} == {1} else ""
    asked = [
        (ACCURACY, f"errors in {IMAGES:,} images", _errors),
        (SPEED, f"training speed{threads}", lambda row: rate(row[SPEED])),
        (LATENCY, "latency, one image", lambda row: milliseconds(row[LATENCY])),
        (MEMORY, "memory to train", lambda row: mebibytes(row[MEMORY])),
    ]
    if target := _highest_target(tables, rows):
        metric = f"{TIME}{target:g}"
        asked.append((metric, f"time to {100 * target:g}%", lambda row: time_text(row, metric)))
    known = [each for each in asked if any(not math.isnan(row[each[0]]) for row in rows)]
    return Scorecard(
        title,
        [family_title(row["model"]) for row in rows],
        [plain_name(row) for row in rows],
        [row["label"] for row in rows],
        [_line(tables, rows, *each) for each in known],
        list(rows),
    )


def _line(tables: Tables, rows: Sequence[Row], metric: str, subject: str, show: Callable[[Row], str]) -> Line:
    figures = ["–" if math.isnan(row[metric]) else show(row) for row in rows]
    smallest_first = metric not in (ACCURACY, SPEED)
    known = sorted(
        (row for row in rows if not math.isnan(row[metric])),
        key=lambda row: row[metric] if smallest_first else -row[metric],
    )
    if len(known) < 2:
        return Line(metric, subject, figures)
    best, second = known[:2]
    found = compare_rows(tables, *((second, best) if smallest_first else (best, second)), metric)
    winner = family_title(best["model"]) if found.shown else ""
    verdict = f"{winner} better" if winner else found.verdict
    if found.noisy:
        width = _known_to(found)
        aim = f", aim ±{precision_of(tables.run):.0%}" if width and metric in WORK else ""
        return Line(metric, subject, figures, "", f"{width}{aim}", "too noisy to call", found=found)
    if metric == ACCURACY:
        fewer = _count_errors(second) - _count_errors(best)  # of the figures beside it, so that the line adds up
        low, high = (IMAGES * end for end in (found.interval.low, found.interval.high))
        ends = "" if math.isnan(low) else f"{low:,.0f} to {high:,.0f}"
        return Line(metric, subject, figures, f"{fewer:,} fewer", ends, verdict, winner, found)
    return Line(metric, subject, figures, f"{found.text}×", found.ends, verdict, winner, found)


def _count_errors(row: Row) -> int:
    return round(IMAGES * (1 - row[ACCURACY]))


def _errors(row: Row) -> str:
    return f"{_count_errors(row):,} ({percent(row[ACCURACY])})"


def _known_to(found: Comparison) -> str:
    """How well a ratio is known that is no answer; "" where that isn't known either."""
    half_width = math.log(found.interval.high / found.interval.low) / 2
    if math.isnan(half_width) or half_width > WIDEST:
        return ""
    return f"±{half_width:.0%}"


def _highest_target(tables: Tables, rows: Sequence[Row]) -> float | None:
    """That all of them reach with every seed that was clocked; one that guessing reaches says nothing."""
    guess = share_of_commonest(rows)
    reached = [
        target
        for target in targets_of(tables.run)
        if not is_easy(target, guess)
        and all(row[f"reached_{target:g}"] == row["n_raced"] > 0 and row[f"{TIME}{target:g}"] >= 0 for row in rows)
    ]
    return max(reached, default=None)
