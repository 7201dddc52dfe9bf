"""What launches say about one cell: estimate, interval, p values. The arrays are log ratios, one number a launch."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from bench.gate.journal import Phase, Slice

Array = np.ndarray[Any, np.dtype[np.float64]]
CONFIDENCE = 0.95
TRIM = 0.2  # of the launches, at either end
LAUNCH_NOISE = 0.02  # of a launch's log ratio: what a pair of processes adds to the noise of its blocks


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
    values: dict[str, list[float]] = defaultdict(list)
    for (cell, _), blocks in _block_ratios(piece for piece in slices if piece.phase in phases).items():
        values[cell].append(median(blocks))
    return {cell: np.array(found) for cell, found in values.items()}


def trimmed(values: Array) -> Estimate:
    """Ratio over launches: the 20% trimmed mean, and Student's t on the winsorised variance around it.

    An odd launch (one of eight was off by 22%) moves neither. Tukey and McLaughlin 1963; the error is Yuen's (1974).
    """
    location, error, degrees = _trimmed(values)
    half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    return Estimate(math.exp(location - half), math.exp(location), math.exp(location + half), len(values))


def p_slower(values: Array) -> float:
    """One-sided p of "head is no slower"."""
    location, error, degrees = _trimmed(values)
    if error == 0:
        return 0.0 if location > 0 else 1.0
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
    limit = max(math.log1p(margin), float(stdtrit(degrees, 1 - alpha)) * error)
    return math.expm1(limit + 2 * error)


def forecast(slices: Iterable[Slice], launches: int, margin: float) -> tuple[float, float]:
    """What a gate's first slices tell beforehand: the noise of a block, and the slowdown that can be told with it.

    The first is the standard deviation of a block's log ratio within its launch and cell, the second a share that so
    many launches find 19 times of 20: two standard errors above the higher of the margin and the test's limit, which
    is about two standard errors from 0. A launch has the noise of its blocks' median, and adds its own.
    """
    squares, free, most = 0.0, 0, 1
    for blocks in _block_ratios(slices).values():
        mean = sum(blocks) / len(blocks)
        squares, free = squares + sum((x - mean) ** 2 for x in blocks), free + len(blocks) - 1
        most = max(most, len(blocks))
    noise_of_block = math.sqrt(squares / free) if free else 0.0
    error = math.sqrt(LAUNCH_NOISE**2 + noise_of_block**2 / most) / math.sqrt(launches)
    return noise_of_block, math.expm1(max(math.log1p(margin), 2 * error) + 2 * error)


def step_seconds(slices: Iterable[Slice]) -> dict[str, dict[str, float]]:
    """cell -> arm -> median seconds of a step."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for piece in slices:
        found[piece.cell][piece.arm].append(piece.step_seconds)
    return {cell: {arm: median(times) for arm, times in arms.items()} for cell, arms in found.items()}


def _block_ratios(slices: Iterable[Slice]) -> dict[tuple[str, int], list[float]]:
    """(cell, launch) -> log(head's step time / base's) of each of its whole blocks; none without one."""
    logs: dict[tuple[str, int], dict[int, dict[str, list[float]]]] = defaultdict(dict)
    for piece in slices:
        block = logs[piece.cell, piece.launch].setdefault(piece.block, {"base": [], "head": []})
        block[piece.arm].append(math.log(piece.step_seconds))
    found = {}
    for key, blocks in logs.items():
        pairs = [(arms["base"], arms["head"]) for arms in blocks.values()]
        whole = [(base, head) for base, head in pairs if base and len(base) == len(head)]
        if whole:
            found[key] = [sum(head) / len(head) - sum(base) / len(base) for base, head in whole]
    return found


def _trimmed(values: Array) -> tuple[float, float, int]:
    """Trimmed mean, its standard error and degrees of freedom."""
    ordered, n = np.sort(values), len(values)
    cut = int(TRIM * n)
    kept = ordered[cut : n - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorised.std(ddof=1)) * math.sqrt((n - 1) / (len(kept) * (len(kept) - 1)))
    return float(kept.mean()), error, len(kept) - 1
