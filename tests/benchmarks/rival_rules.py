"""Rules that people fail a build by today, applied to a gate's journal.

Each rule is a function of base's and head's seconds a step, all values pooled, and says whether head fails. The runs
that it compares are laid out as its tool lays them out: one version's process after the other's, hence from *different*
launches of the journal, since within a launch the gate has interleaved them, which is what these tools don't do.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bench.gate.journal import Record

Array = np.ndarray[Any, np.dtype[np.float64]]
Rule = Callable[[Array, Array], bool]
Layout = tuple[range, range]
Times = Mapping[str, Mapping[str, list[Array]]]

# asv fails a build only where p is below this: asv/_stats.py, is_different(p_threshold=0.002), asv 0.6.6
ASV_P = 0.002
ASV_EXACT = 20  # values of the larger sample up to which asv takes the exact distribution


def sequential_threshold(base: Array, head: Array, share: float = 0.10) -> bool:
    """Head's mean is more than 10% above base's.

    What a script in CI does: github-action-benchmark's `alert-threshold` (there 200% unless set), and most hand-made
    checks; base is run first, then head.
    """
    return bool(head.mean() > (1 + share) * base.mean())


def pytest_benchmark(base: Array, head: Array, percent: float = 10.0) -> bool:
    """`pytest --benchmark-compare --benchmark-compare-fail=median:10%`: the median of this run against a stored one.

    Source: pytest-benchmark 5.3.1, utils.py, PercentageRegressionCheck: current / stored * 100 - 100 > threshold.
    """
    return bool(np.median(head) / np.median(base) * 100 - 100 > percent)


def asv_continuous(base: Array, head: Array, factor: float = 1.1) -> bool:
    """`asv continuous --factor 1.1` (asv's own default): medians further apart than the factor, *and* different.

    Different is a two-sided Mann-Whitney U test at p < 0.002 on all values, which `continuous` keeps by default.
    Source: asv 0.6.6, commands/compare.py, _is_result_better, and _stats.py, is_different.

    Raises:
        ValueError: too few values for the test to be made; asv compares intervals then, we don't. With six of each it
            is made and can't say "different", since the least p is 0.00216.
    """
    if 1 / math.comb(len(base) + len(head), min(len(base), len(head))) >= ASV_P:
        raise ValueError(f"{len(base)} and {len(head)} values are too few for asv's Mann-Whitney test; take 7 or more")
    return bool(np.median(base) < np.median(head) / factor) and mann_whitney_p(base, head) < ASV_P


def pyperf_compare(base: Array, head: Array) -> bool:
    """`pyperf compare_to` calls head slower: Student's t on all values of all processes, two-sided, 95%; no threshold.

    Source: pyperf 2.10, _utils.py, is_significant and tscore; _compare.py, is_significant_benchs. Its table of critical
    values is rounded in steps of degrees of freedom; here they are exact.
    """
    from scipy.special import stdtrit

    degrees = len(base) + len(head) - 2
    squares = float(((base - base.mean()) ** 2).sum() + ((head - head.mean()) ** 2).sum())
    error = math.sqrt(squares / degrees * (1 / len(base) + 1 / len(head)))
    difference = float(head.mean() - base.mean())
    return difference > 0 and difference >= float(stdtrit(degrees, 0.975)) * error


def mann_whitney_p(a: Array, b: Array) -> float:
    """Two-sided p as asv computes it: exact for samples of at most 20, else normal without continuity correction.

    Times of slices don't tie; asv's treatment of ties is left out.
    """
    m, n = len(a), len(b)
    u = int(np.searchsorted(np.sort(b), a).sum())
    u = min(u, m * n - u)
    if max(m, n) <= ASV_EXACT:
        counts = _orderings(m, n)
        upper = sum(counts[max(m * n // 2, m * n - u - 1) + 1 :])
        return (sum(counts[: u + 1]) + upper) / math.comb(m + n, m)
    z = (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)
    return math.erfc(-z / math.sqrt(2))


@cache
def _orderings(m: int, n: int) -> tuple[int, ...]:
    """Of all orders of m and n values, how many have U = 0, 1, ..., m n (Mann and Whitney 1947)."""
    if m == 0 or n == 0:
        return (1,)
    counts = [0] * (m * n + 1)
    for u, count in enumerate(_orderings(m, n - 1)):
        counts[u] += count
    for u, count in enumerate(_orderings(m - 1, n)):
        counts[u + n] += count
    return tuple(counts)


# Layouts: every stretch of the journal that can stand for base's processes and head's, in the journal's own order


def back_to_back(launches: int, processes: int) -> Iterator[Layout]:
    """All of base's processes, then all of head's."""
    for first in range(launches - 2 * processes + 1):
        yield range(first, first + processes), range(first + processes, first + 2 * processes)


def stored(launches: int, processes: int) -> Iterator[Layout]:
    """Base was run some other time: any two stretches that don't overlap."""
    for early in range(launches - 2 * processes + 1):
        for late in range(early + processes, launches - processes + 1):
            one, other = range(early, early + processes), range(late, late + processes)
            yield one, other
            yield other, one


def in_rounds(launches: int, processes: int) -> Iterator[Layout]:
    """A process of base, a process of head, and again: asv's `--interleave-rounds`."""
    for first in range(launches - 2 * processes + 1):
        yield range(first, first + 2 * processes, 2), range(first + 1, first + 2 * processes, 2)


@dataclass(frozen=True)
class Rival:
    """A rule with its tool's layout.

    Attributes:
        processes: of either version, in the tool's default; asv takes ten values, five launches of two slices each.
        fewest, most: processes that the rule can work with, and that the tool can use.
    """

    name: str
    rule: Rule
    layouts: Callable[[int, int], Iterator[Layout]]
    processes: int
    fewest: int = 1
    most: int | None = None


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("sequential runs, mean +10%", sequential_threshold, back_to_back, 1),
        Rival("pytest-benchmark median:10%", pytest_benchmark, stored, 1, most=1),
        Rival("asv continuous, factor 1.1", asv_continuous, in_rounds, 5, fewest=4),
        Rival("pyperf compare_to", pyperf_compare, back_to_back, 20, fewest=2),
    )
}


def step_times(record: Record) -> Times:
    """cell -> arm -> for each launch of the screen, in order, the seconds a step of its slices."""
    gathered: dict[str, dict[str, dict[int, list[float]]]] = {}
    for piece in record.slices:
        if piece.phase == "screen":
            arms = gathered.setdefault(piece.cell, {"base": {}, "head": {}})
            arms[piece.arm].setdefault(piece.launch, []).append(piece.seconds / piece.steps)
    return {
        cell: {arm: [np.array(launches[launch]) for launch in sorted(launches)] for arm, launches in arms.items()}
        for cell, arms in gathered.items()
    }


def virtual_runs(times: Times, rival: Rival, processes: int) -> Iterator[list[str]]:
    """For each experiment that the journal holds, with so many processes of either version, the cells that fail."""
    launches = min(len(found) for arms in times.values() for found in arms.values())
    for before, after in rival.layouts(launches, processes):
        yield [
            cell
            for cell, arms in times.items()
            if rival.rule(
                np.concatenate([arms["base"][launch] for launch in before]),
                np.concatenate([arms["head"][launch] for launch in after]),
            )
        ]
