"""Launches: what paired launches say about one cell. Plain functions on arrays of log ratios, one number a launch."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from bench.gate.journal import Phase, Slice

Array = np.ndarray[Any, np.dtype[np.float64]]
CONFIDENCE = 0.95
TRIM = 0.2  # of the launches, at either end


@dataclass(frozen=True)
class Estimate:
    """Head's step time over base's (1.04 is 4% slower), with its 95% interval; n counts launches."""

    low: float
    ratio: float
    high: float
    n: int


def launch_values(slices: Iterable[Slice], phases: Sequence[Phase]) -> dict[str, Array]:
    """cell -> log(head's step time / base's), one number a launch: the median over the launch's blocks.

    A block whose slices don't come in equal numbers from both arms is left out.
    """
    logs: dict[tuple[str, int], dict[int, dict[str, list[float]]]] = defaultdict(dict)
    for piece in slices:
        if piece.phase in phases:
            block = logs[piece.cell, piece.launch].setdefault(piece.block, {"base": [], "head": []})
            block[piece.arm].append(math.log(piece.step_seconds))
    values: dict[str, list[float]] = defaultdict(list)
    for (cell, _), blocks in logs.items():
        whole = [arms for arms in blocks.values() if arms["base"] and len(arms["base"]) == len(arms["head"])]
        if whole:
            values[cell].append(
                median(sum(a["head"]) / len(a["head"]) - sum(a["base"]) / len(a["base"]) for a in whole)
            )
    return {cell: np.array(found) for cell, found in values.items()}


def trimmed(values: Array) -> Estimate:
    """Ratio over launches: the 20% trimmed mean, and Student's t on the winsorised variance around it.

    An odd launch (one of eight was off by 22%) moves neither. Tukey and McLaughlin 1963; the error is Yuen's (1974).
    """
    location, error, degrees = _trimmed(values)
    half = float(_stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    return Estimate(math.exp(location - half), math.exp(location), math.exp(location + half), len(values))


def p_slower(values: Array) -> float:
    """One-sided p of "head is no slower"."""
    location, error, degrees = _trimmed(values)
    if error == 0:
        return 0.0 if location > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(degrees, -location / error))


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for their number, step by step (Holm 1979)."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        worst = max(worst, min(1.0, ps[index] * (len(ps) - rank)))
        adjusted[index] = worst
    return adjusted


def bonferroni(ps: Sequence[float]) -> list[float]:
    """p values times their number."""
    return [min(1.0, p * len(ps)) for p in ps]


def noise(values: Array) -> float | None:
    """Standard deviation over launches of log ratios, as a share; None with fewer than two."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def detectable(values: Array, margin: float, alpha: float) -> float:
    """The slowdown, as a share, that as many launches of this noise flag and confirm 19 times of 20.

    To be flagged the estimate has to pass both the margin and the test's limit; two standard errors above the higher
    of them it does so in 39 of 40 screens, and in as many confirmations.
    """
    _, error, degrees = _trimmed(values)
    limit = max(math.log1p(margin), float(_stdtrit(degrees, 1 - alpha)) * error)
    return math.expm1(limit + 2 * error)


def step_seconds(slices: Iterable[Slice]) -> dict[str, dict[str, float]]:
    """cell -> arm -> median seconds of a step."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for piece in slices:
        found[piece.cell][piece.arm].append(piece.step_seconds)
    return {cell: {arm: median(times) for arm, times in arms.items()} for cell, arms in found.items()}


def _trimmed(values: Array) -> tuple[float, float, int]:
    """Trimmed mean, its standard error and degrees of freedom."""
    ordered, n = np.sort(values), len(values)
    cut = int(TRIM * n)
    kept = ordered[cut : n - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorised.std(ddof=1)) * math.sqrt((n - 1) / (len(kept) * (len(kept) - 1)))
    return float(kept.mean()), error, len(kept) - 1


def _stdtrit(degrees: int, p: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))
