"""Picks: the model to take under limits of parameters, latency, memory and training time.

A limit is kept by the upper end of what a model needs, where that is known, so that no lucky median passes. Of the
models that keep all limits the best on validation is picked; of those within the smallest difference of accuracy that
matters, the one with the fewest parameters.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.comparison import Row, margin_of
from bench.analysis.formatting import percent
from bench.analysis.labels import family_title, plain_name, records
from bench.analysis.summary import Tables


@dataclass(frozen=True)
class Limit:
    """Something that a person may have little of.

    Attributes:
        column: of the summary.
        factor: from base units to the unit that people type.
    """

    key: str
    words: str
    column: str
    factor: float = 1.0
    show: Callable[[float], str] = "{:,.10g}".format


LIMITS = (
    Limit("parameters", "parameters", "num_params"),
    Limit("ms", "ms for one image (median)", "latency_p50_seconds", 1e3),
    Limit("mib", "MiB to train", "peak_memory_bytes", 2**-20),
    Limit("seconds", "s to train", "train_seconds"),
)


@dataclass(frozen=True)
class Pick:
    """A row for those who can't type limits: one limit, and what it leads to."""

    limit: str
    name: str
    code: str
    accuracy: str


@dataclass(frozen=True)
class Picks:
    """What the page needs to pick a model of one device.

    Attributes:
        place: the device, where there are several; else "".
        limits: those that are known of some model.
        models: of each its name, code, family, accuracy, validation and what it needs by limit; None: not known.
        margin: of accuracy, that matters.
        rows: a pick for each limit, at a limit between the smallest and the largest need.
    """

    place: str
    limits: list[Limit]
    models: list[dict[str, Any]]
    margin: float
    rows: list[Pick]


def picks(tables: Tables) -> list[Picks]:
    """For each device with two models or more to pick from."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    found = [_of_device(tables, name, name if len(names) > 1 else "") for name in names]
    return [each for each in found if len(each.models) > 1]


def pick(models: Sequence[Mapping[str, Any]], most: Mapping[str, float], margin: float) -> Mapping[str, Any] | None:
    """The model to take under limits; None where none keeps them. The page's script does the same."""
    keep = [
        each for each in models if all((each[key] or math.inf) <= limit * (1 + 1e-9) for key, limit in most.items())
    ]
    best = max((each["validation"] for each in keep), default=0.0)
    return min(
        (each for each in keep if each["validation"] >= best - margin - 1e-9),
        key=lambda each: (each["parameters"] or math.inf, -each["validation"]),
        default=None,
    )


def _of_device(tables: Tables, device_name: str, place: str) -> Picks:
    here = tables.like_for_like
    rows = records(here[(here["device_name"] == device_name) & (here["n"] > 0)])
    # what diverged with some seed is no advice
    rows = [row for row in rows if row["n"] == row["n_trained"] and row["val_accuracy"] > 0]
    models = [_model(row) for row in rows]
    limits = [limit for limit in LIMITS if any(each[limit.key] for each in models)]
    margin = margin_of(tables.run, "val_accuracy")
    found = []
    for limit in limits:
        size = _telling(limit, models, margin)
        chosen = pick(models, {limit.key: size}, margin) if size else None
        if chosen:
            words = f"at most {limit.show(size)} {limit.words}"
            found.append(Pick(words, chosen["name"], chosen["code"], percent(chosen["accuracy"])))
    return Picks(place, limits, models, margin, found)


def _model(row: Row) -> dict[str, Any]:
    needs = {limit.key: _need(row, limit) for limit in LIMITS}
    named = {"name": plain_name(row), "code": row["label"], "family": family_title(row["model"])}
    return named | {"accuracy": row["test_accuracy"], "validation": row["val_accuracy"]} | needs


def _need(row: Row, limit: Limit) -> float | None:
    """The upper end of what a model needs, in the limit's unit; None: not known."""
    middle, high = row[limit.column], row.get(f"{limit.column}_high", math.nan)
    amount = (high if high > middle else middle) * limit.factor
    return None if not amount > 0 else round(amount, 5 - math.floor(math.log10(amount)))


def _telling(limit: Limit, models: Sequence[Mapping[str, Any]], margin: float) -> float:
    """A round limit at which the pick is another than without one, the largest such; 0 where there is none."""
    free = pick(models, {}, margin)
    needs = sorted({each[limit.key] for each in models if each[limit.key]})
    for size in round_numbers(needs[0], needs[-1])[::-1] if needs else []:
        chosen = pick(models, {limit.key: size}, margin)
        if chosen and chosen is not free:
            return size
    return 0.0


def round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten, from the first at or above `low` to the first at or above `high`.

    >>> round_numbers(12, 90)
    [20.0, 50.0, 100.0]
    """
    decade = math.floor(math.log10(low))
    found: list[float] = []
    while True:
        for step in (1, 2, 5):
            size = float(f"{step}e{decade}")
            if size >= low * (1 - 1e-9):
                found.append(size)
            if size >= high * (1 - 1e-9):
                return found
        decade += 1
