"""Recommendations: the best configuration within a limit of parameters, FLOPs, latency, memory or training time.

For each limit the one that is best on validation among those that keep it; a row for each round limit at which that
changes. Training time is told apart by looking at what each configuration had reached by then.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.analysis.comparison import (
    Cell,
    Row,
    Sheet,
    compare,
    compare_rows,
    margin_of,
    row_ends,
    sheets_by_device,
)
from bench.analysis.formatting import mebibytes, milliseconds, percent, points, three_digits, whole
from bench.analysis.labels import grouped, records, without_device
from bench.analysis.summary import Tables, accuracy_floor
from bench.measure.stats import mean_interval

INFERENCE = "inference_images_per_second"
MOST = 4  # rows a limit
WORTH = 0.001  # accuracy on validation: a larger limit that buys less than this gets no row


@dataclass(frozen=True)
class Limit:
    """Something that a person may have little of, and how much of it a row of the summary needs; NaN: not measured."""

    words: str
    amount: Callable[[Row], float]
    show: Callable[[float], str]
    unit: float = 1.0  # in which limits are round


@dataclass(frozen=True)
class Candidate:
    """A configuration that keeps a limit, of which it needs `amount`; `note` is what to say of it.

    `accuracy` is on validation. `by_seed` is what is behind it where that isn't of the end of training.
    """

    row: Row
    amount: float
    accuracy: float
    note: str = ""
    by_seed: dict[float, float] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Accuracy on test; of a time before the end, on validation."""
        return f"{percent(self.accuracy)}*" if self.by_seed else percent(self.row["test_accuracy"])

    @property
    def merit(self) -> tuple[float, float]:
        return self.accuracy, -self.amount


LIMITS = (
    Limit("{} parameters", lambda row: row["num_params"], whole),
    Limit("{} MFLOP an image", lambda row: row["num_flops"], lambda x: f"{three_digits(x / 1e6)} MFLOP", 1e6),
    Limit("{} ms for one image", lambda row: row["latency_p50_seconds"], milliseconds, 1e-3),
    Limit("{} ms for a batch", lambda row: row["batch_size"] / row[INFERENCE], milliseconds, 1e-3),
    Limit("{} MiB of training memory", lambda row: row["peak_memory_bytes"], mebibytes, 2**20),
)


def recommendation_sheets(tables: Tables) -> list[Sheet]:
    """For each device a table of what to choose; none where there is nothing to choose from."""
    return sheets_by_device(tables, _sheet)


def _sheet(tables: Tables, device_name: str, where: str) -> Sheet:
    here = tables.like_for_like
    rows = records(here[(here["device_name"] == device_name) & (here["n"] > 0)])
    rows = [row for row in rows if row["n"] == row["n_trained"]]  # what diverged with some seed is no advice
    rows = rows if len(rows) > 1 else []  # of one there is nothing to choose
    table = _lines(tables, "{} s of training", 1.0, _by_time(tables, rows))
    for limit in LIMITS:
        table += _lines(tables, limit.words, limit.unit, _by_limit(limit, rows))
    batches = sorted({int(row["batch_size"]) for row in rows if row[INFERENCE] > 0})
    said = [
        "For each limit the configuration that is best on validation among those that keep it; a row for each limit at "
        "which the choice gains 0.1 points or more. *: on validation; test images are read once, after training.",
        f"A batch is one of inference, {' or '.join(map(str, batches))} images." if batches else "",
    ]
    head = ["with at most", "choose", "test accuracy", "the other family's best", "difference"]
    return Sheet(f"What to choose{where}", [line for line in said if line], head, table)


Standings = dict[float, list[Candidate]]  # the candidates that keep each limit, the smallest limit first


def _by_limit(limit: Limit, rows: Sequence[Row]) -> Standings:
    known = [
        Candidate(row, amount, row["val_accuracy"], limit.show(amount))
        for row in rows
        if (amount := limit.amount(row)) > 0 and row["val_accuracy"] >= 0
    ]
    if not known:
        return {}
    sizes = round_numbers(min(each.amount for each in known), max(each.amount for each in known), limit.unit)
    return {size: [each for each in known if each.amount <= size] for size in sizes}


def _by_time(tables: Tables, rows: Sequence[Row]) -> Standings:
    """By training seconds: what each had reached on validation by then, once all its seeds had been evaluated."""
    trials = tables.trials
    own = trials[
        trials["config_id"].isin({row["config_id"] for row in rows})
        & trials["device_name"].isin({row["device_name"] for row in rows})
        & (trials["status"] == "ok")
    ]
    evaluations = tables.evaluations[["trial_id", "train_seconds", "val_accuracy"]].dropna()
    seen = evaluations.merge(own[["trial_id", "config_id", "seed"]])
    if seen.empty:
        return {}
    seeds = seen.groupby("config_id")["seed"].nunique()
    standings: Standings = {}
    for size in round_numbers(seen["train_seconds"].min(), seen["train_seconds"].max()):
        then = seen[seen["train_seconds"] <= size].groupby(["config_id", "seed"])["val_accuracy"].last()
        reached = grouped((config_id, each) for config_id, *each in then.reset_index().itertuples(index=False))
        standings[size] = [
            Candidate(row, size, statistics.fmean(by_seed.values()), "by then", by_seed)
            for row in rows
            if (by_seed := dict(reached.get(row["config_id"], []))) and len(by_seed) == seeds[row["config_id"]]
        ]
    return standings


def _lines(tables: Tables, words: str, unit: float, standings: Standings) -> list[list[Cell]]:
    """The best on validation under each limit, compared with the best of the other families."""
    found = []
    for size, best, other in _steps(standings):
        ends, n = row_ends(best.row, "test_accuracy"), best.row["n"]
        if best.by_seed:  # of test, only the end is known
            low, _, high, n = mean_interval(best.by_seed.values(), accuracy_floor(tables.run, "val", best.accuracy))
            ends = "" if math.isnan(low) else f"{100 * max(low, 0):.2f} to {100 * min(high, 1):.2f}"
        cells = [Cell(words.format(f"{size / unit:,.10g}")), Cell(without_device(best.row), best.note)]
        cells += [Cell(best.told, f"{f'{ends}, ' if ends else ''}n = {n}")]
        if other is None:
            found.append([*cells, Cell("none"), Cell("–")])
            continue
        if best.by_seed:
            floors = [accuracy_floor(tables.run, "val", each.accuracy) for each in (best, other)]
            margin = margin_of(tables.run, "val_accuracy")
            gap = compare("val_accuracy", best.by_seed, other.by_seed, margin=margin, floor=math.hypot(*floors))
        else:
            gap = compare_rows(tables, best.row, other.row, "test_accuracy")
        cells += [Cell(without_device(other.row), other.told)]
        found.append([*cells, Cell(points(gap.amount) if gap.shown else "none shown", gap.ends)])
    return found


def _steps(standings: Standings) -> list[tuple[float, Candidate, Candidate | None]]:
    """The limits at which the best candidate changes for something better, with the best of another family."""
    steps: list[tuple[float, Candidate]] = []
    for size, known in standings.items():
        best = max(known, key=lambda each: each.merit, default=None)
        if best and (not steps or best.accuracy >= steps[-1][1].accuracy + WORTH):
            steps.append((size, best))
    found = []
    for size, best in _most_telling(steps):
        others = [each for each in standings[size] if each.row["model"] != best.row["model"]]
        found.append((size, best, max(others, key=lambda each: each.merit, default=None)))
    return found


def _most_telling(found: list[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
    """At most MOST of them: the first, the last, and between them those that gain most."""
    if len(found) <= MOST:
        return found
    gains = [after.accuracy - before.accuracy for (_, before), (_, after) in pairwise(found[:-1])]
    middle = sorted(range(len(gains)), key=lambda i: -gains[i])[: MOST - 2]
    return [found[0], *(found[1 + i] for i in sorted(middle)), found[-1]]


def round_numbers(low: float, high: float, unit: float = 1.0) -> list[float]:
    """1, 2 and 5 times the powers of ten, in `unit`, from the first at or above `low` to the first at or above `high`.

    >>> round_numbers(12, 90)
    [20.0, 50.0, 100.0]
    """
    decade = math.floor(math.log10(low / unit))
    found: list[float] = []
    while True:
        for step in (1, 2, 5):
            size = float(f"{step}e{decade}") * unit
            if size >= low * (1 - 1e-9):
                found.append(size)
            if size >= high * (1 - 1e-9):
                return found
        decade += 1
