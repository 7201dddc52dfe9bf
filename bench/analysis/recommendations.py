"""Recommendations: the best configuration within a limit of parameters, FLOPs, latency, memory or training time.

For each limit the one that is best on validation among those that keep it; a row for each round limit at which that
changes. Training time is told apart by looking at what each configuration had reached by then.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.comparison import (
    Cell,
    Comparison,
    Row,
    Sheet,
    apart,
    compare,
    compare_rows,
    row_ends,
    sheets_by_device,
)
from bench.analysis.formatting import mebibytes, percent, points, three_digits, whole
from bench.analysis.labels import records, without_device
from bench.analysis.summary import Tables, accuracy_floor
from bench.measure.stats import median_interval

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
    """A configuration under a limit. `accuracy` is on validation, `by_seed` behind it."""

    row: Row
    amount: float
    accuracy: float
    by_seed: dict[float, float]


LIMITS = (
    Limit("{} parameters", lambda row: row["num_params"], whole),
    Limit("{} MFLOP an image", lambda row: row["num_flops"], lambda x: f"{three_digits(x / 1e6)} MFLOP", 1e6),
    Limit("{} ms for one image", lambda row: row["latency_p50_seconds"], lambda x: f"{three_digits(x * 1e3)} ms", 1e-3),
    Limit("{} ms for a batch", lambda row: _batch_seconds(row), lambda x: f"{three_digits(x * 1e3)} ms", 1e-3),
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
    table = _training_lines(tables, rows)
    table += [line for limit in LIMITS for line in _lines(tables, limit, rows)]
    batches = sorted({int(row["batch_size"]) for row in rows if _batch_seconds(row) > 0})
    said = [
        "For each limit the configuration that is best on validation among those that keep it; a row for each limit at "
        "which the choice gains 0.1 points or more. *: on validation; test images are read once, after training.",
        f"A batch is one of inference, {' or '.join(map(str, batches))} images." if batches else "",
    ]
    head = ["with at most", "choose", "test accuracy", "the other family's best", "difference"]
    return Sheet(f"What to choose{where}", [line for line in said if line], head, table)


def _lines(tables: Tables, limit: Limit, rows: Sequence[Row]) -> list[list[Cell]]:
    """One limit's rows: the best on validation that keeps it, compared on test with the other families' best."""
    known = [
        Candidate(row, amount, row["val_accuracy"], {})
        for row in rows
        if (amount := limit.amount(row)) > 0 and row["val_accuracy"] >= 0
    ]
    if not known:
        return []
    sizes = round_numbers(min(each.amount for each in known), max(each.amount for each in known), limit.unit)
    found = []
    for size, best, other in _steps({size: [each for each in known if each.amount <= size] for size in sizes}):
        ends = row_ends(best.row, "test_accuracy")
        accuracy = Cell(percent(best.row["test_accuracy"]), f"{f'{ends}, ' if ends else ''}n = {best.row['n']}")
        words = limit.words.format(f"{size / limit.unit:,.10g}")
        cells = [Cell(words), _named(best, limit.show(best.amount)), accuracy]
        if other:
            gap = compare_rows(tables, best.row, other.row, "test_accuracy")
            cells += _against(other, percent(other.row["test_accuracy"]), gap, apart(best.row, other.row, gap))
        found.append(cells if other else [*cells, Cell("none"), Cell("–")])
    return found


def _steps(standings: dict[float, list[Candidate]]) -> list[tuple[float, Candidate, Candidate | None]]:
    """The limits at which the best candidate changes for something better, with the best of another family.

    Args:
        standings: the candidates that keep each limit, the smallest limit first.
    """
    steps: list[tuple[float, Candidate]] = []
    for size, known in standings.items():
        best = max(known, key=_merit, default=None)
        if best and (not steps or best.accuracy >= steps[-1][1].accuracy + WORTH):
            steps.append((size, best))
    found = []
    for size, best in _most_telling(steps):
        others = [each for each in standings[size] if each.row["model"] != best.row["model"]]
        found.append((size, best, max(others, key=_merit, default=None)))
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


def _training_lines(tables: Tables, rows: Sequence[Row]) -> list[list[Cell]]:
    """Training time: what each configuration had reached on validation by then; of test, only the end is known."""
    curves = _curves(tables, rows)
    times = [seconds for of_config in curves.values() for _, seconds, _ in of_config]
    if not times:
        return []
    sizes = round_numbers(min(each.min() for each in times), max(each.max() for each in times))
    found = []
    for size, best, other in _steps(
        {size: [each for row in rows if (each := _by_then(row, curves, size))] for size in sizes}
    ):
        around = median_interval(best.by_seed.values(), accuracy_floor(tables.run, "val", best.accuracy))
        ends = "" if math.isnan(around.low) else f"{100 * max(around.low, 0):.2f} to {100 * min(around.high, 1):.2f}, "
        accuracy = Cell(f"{percent(best.accuracy)}*", f"{ends}n = {len(best.by_seed)}")
        cells = [Cell(f"{size:,.10g} s of training"), _named(best, "by then"), accuracy]
        if other:
            floors = [accuracy_floor(tables.run, "val", each.accuracy) for each in (best, other)]
            gap = compare("val_accuracy", best.by_seed, other.by_seed, floor=math.hypot(*floors))
            cells += _against(other, f"{percent(other.accuracy)}*", gap, gap.shown)
        found.append(cells if other else [*cells, Cell("none"), Cell("–")])
    return found


Curves = dict[Any, list[tuple[Any, Any, Any]]]  # config_id -> (seed, training seconds, validation accuracy) of each


def _curves(tables: Tables, rows: Sequence[Row]) -> Curves:
    """Validation accuracy over training seconds, of the trials that ended well and were timed."""
    trials = tables.trials
    own = trials[
        trials["config_id"].isin({row["config_id"] for row in rows})
        & (trials["device_name"] == (rows[0]["device_name"] if rows else ""))
        & (trials["status"] == "ok")
        & (trials["timed"] != "false")
    ]
    evaluations = tables.evaluations[["trial_id", "train_seconds", "val_accuracy"]].dropna()
    curves: Curves = {}
    seen = evaluations.merge(own[["trial_id", "config_id", "seed"]])
    for (_, config_id, seed), curve in seen.groupby(["trial_id", "config_id", "seed"], sort=False):
        seconds, accuracy = curve["train_seconds"].to_numpy(), curve["val_accuracy"].to_numpy()
        curves.setdefault(config_id, []).append((seed, seconds, accuracy))
    return curves


def _by_then(row: Row, curves: Curves, size: float) -> Candidate | None:
    """What a configuration had reached after `size` seconds of training; None if a seed hadn't been evaluated."""
    by_seed = {}
    for seed, at, accuracy in curves.get(row["config_id"], []):
        count = int(np.searchsorted(at, size, side="right"))
        if not count:
            return None
        by_seed[seed] = float(accuracy[count - 1])
    return Candidate(row, size, float(pd.Series(by_seed).median()), by_seed) if by_seed else None


def _merit(each: Candidate) -> tuple[float, float]:
    return each.accuracy, -each.amount


def _named(each: Candidate, note: str) -> Cell:
    return Cell(without_device(each.row), note)


def _against(other: Candidate, accuracy: str, gap: Comparison, shown: bool) -> list[Cell]:
    """The other families' best, and how far behind it is."""
    return [_named(other, accuracy), Cell(points(gap.amount) if shown else "none shown", gap.ends)]


def _batch_seconds(row: Row) -> float:
    return row["batch_size"] / row["inference_images_per_second"]
