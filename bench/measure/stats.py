"""Intervals and comparisons: plain functions on numbers, and the same 95% everywhere.

The unit is the seed (one trial), so n is small: intervals are Student's t around the median. Accuracies have besides
a floor, since a test set of finite size can't tell finer differences apart however many seeds are run.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
MEDIAN_FACTOR = 1.2533  # standard error of a median over that of a mean: sqrt(pi / 2), for normal values
PARTS = 4  # of a trial's timed blocks, in time
FEWEST_PAIRS = 3  # seeds in common that a paired comparison needs

BySeed = Mapping[Any, float]


class Interval(NamedTuple):
    """A median between the ends of its 95% interval; an end that can't be known is NaN. n counts the values."""

    low: float
    median: float
    high: float
    n: int


class BlockInterval(NamedTuple):
    """Images per second over the timed blocks of one trial; spread is the interquartile range over the median."""

    low: float
    median: float
    high: float
    n: int
    spread: float


def median_interval(values: Iterable[float | None], floor: float = 0.0) -> Interval:
    """Median over seeds, with the half-width of its interval at least `floor`; what wasn't measured is left out."""
    return _interval([values], floor)


def log_median_interval(values: Iterable[float | None]) -> Interval:
    """Median of positive quantities (speeds, seconds, bytes), whose noise is a share of them."""
    return _interval([values], logs=True)


def difference_interval(a: Iterable[float | None], b: Iterable[float | None], floor: float = 0.0) -> Interval:
    """Difference of two medians, a - b (Welch's t); its half-width is at least `floor`. n is the smaller sample's."""
    return _interval([a, b], floor)


def ratio_interval(a: Iterable[float | None], b: Iterable[float | None]) -> Interval:
    """Ratio of two medians of positive quantities, a / b (Welch's t on logarithms). n is the smaller sample's."""
    return _interval([a, b], logs=True)


def difference_by_seed(a: BySeed, b: BySeed, floor: float = 0.0) -> tuple[Interval, bool]:
    """Difference a - b of two configurations, and whether it is paired: the median of the differences seed by seed.

    What a seed does to both (its order of batches, its hour on the machine) drops out of their differences. With fewer
    than three seeds in common it is Welch's: a t of one degree of freedom would say next to nothing.
    """
    shared = _shared_seeds(a, b)
    if len(shared) < FEWEST_PAIRS:
        return difference_interval(a.values(), b.values(), floor), False
    return median_interval([a[seed] - b[seed] for seed in shared], floor), True


def ratio_by_seed(a: BySeed, b: BySeed) -> tuple[Interval, bool]:
    """Ratio a / b of positive quantities, likewise: seed by seed, on logarithms, where three seeds are shared."""
    shared = _shared_seeds(a, b)
    if len(shared) < FEWEST_PAIRS:
        return ratio_interval(a.values(), b.values()), False
    return log_median_interval([a[seed] / b[seed] for seed in shared]), True


def binomial_half_width(p: float, n: float) -> float:
    """Half of the 95% interval of an accuracy `p` measured on `n` images: 0.0020 at 99% of 10,000.

    It is Wilson's interval's, so that 100% of few images isn't taken for certain. NaN where n is unknown.
    """
    if not n > 0 or math.isnan(p):
        return math.nan
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)


def accuracy_interval(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy: 0.9966 to 1 for 1,135 of 1,135 (Wilson 1927). `images` is at least 1."""
    p, z = right / images, statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle, half = (p + z**2 / (2 * images)) / (1 + z**2 / images), binomial_half_width(p, images)
    return max(0.0, middle - half), min(1.0, middle + half)


def block_interval(images: Sequence[float], seconds: Sequence[float]) -> BlockInterval:
    """Images per second of one trial from its timed blocks, in their order: median, 95% interval, spread.

    Machines drift, over minutes as over seconds, and what a trial saw of it within itself is about what sets trials
    apart. So the interval is Student's t times the scatter of the medians of the trial's four quarters, not of their
    mean: more blocks of one trial don't narrow it. Bootstrap intervals over blocks held the grand median in 10 of 40
    trials of one configuration, these in 39 (tests/benchmarks/interval_coverage.py). Fewer than three blocks have no
    interval, one block no spread (NaN).

    Raises:
        ValueError: lists of different lengths, or a block that took no time.
    """
    counts, durations = np.asarray(images, dtype=float), np.asarray(seconds, dtype=float)
    if counts.shape != durations.shape or not (durations > 0).all():
        raise ValueError("each block needs its images and its seconds, the seconds above 0")
    rates = counts / durations
    if rates.size < 2:
        return BlockInterval(math.nan, float(rates[0]) if rates.size else math.nan, math.nan, rates.size, math.nan)
    median = float(np.median(rates))
    lower, upper = np.quantile(rates, [0.25, 0.75])
    factor = math.nan
    if rates.size > 2:
        parts = np.array_split(rates, min(PARTS, rates.size))
        logs = np.log([float(np.median(part)) for part in parts])
        factor = math.exp(_students_t(len(parts) - 1) * float(logs.std(ddof=1)))
    return BlockInterval(median / factor, median, median * factor, rates.size, float(upper - lower) / median)


def median_time_to_target(seconds: Iterable[float | None]) -> tuple[float | None, int, int]:
    """(median seconds, k that reached the target, n): a miss counts as infinity, and a median of infinity is None."""
    times = [math.inf if value is None or math.isnan(value) else float(value) for value in seconds]
    reached = sum(math.isfinite(value) for value in times)
    median = statistics.median(times) if times else math.inf
    return (median if math.isfinite(median) else None), reached, len(times)


def pareto_front(a: Iterable[float], b: Iterable[float]) -> list[bool]:
    """Whether no other point is as good in both quantities and better in one; more is better.

    NaN is on no front, nor is an `a` of 0: neither was measured.
    """
    points = [(x, y, index) for index, (x, y) in enumerate(zip(a, b, strict=True))]
    front, highest, latest = [False] * len(points), -math.inf, None
    for x, y, index in sorted((point for point in points if point[0] > 0 and point[1] >= 0), reverse=True):
        if y > highest or (x, y) == latest:  # from the greatest `a` on: each new height, and its equals
            front[index], highest, latest = True, y, (x, y)
    return front


def _interval(samples: Sequence[Iterable[float | None]], floor: float = 0.0, logs: bool = False) -> Interval:
    """Of one sample's median; of two, of the difference of their medians or, on logarithms, of the ratio."""
    kept = [[float(value) for value in sample if value is not None and not math.isnan(value)] for sample in samples]
    n = min(map(len, kept))
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    first, *second = map(statistics.median, kept)
    if not logs:
        center, half = first - sum(second), _half_width(kept, floor)
        return Interval(center - half, center, center + half, n)
    scattered = [[math.log(value) if value > 0 else math.nan for value in sample] for sample in kept]
    center, factor = first / math.prod(second), math.exp(_half_width(scattered, floor))
    return Interval(center / factor, center, center * factor, n)


def _shared_seeds(a: BySeed, b: BySeed) -> list[Any]:
    return sorted(seed for seed in a.keys() & b.keys() if not math.isnan(a[seed] + b[seed]))


def _half_width(samples: list[list[float]], floor: float) -> float:
    """Half-width for the sum or difference of the samples' medians; for one sample Welch's t is Student's.

    A sample of one value says nothing of its spread: then only the floor is known, or nothing (NaN) without one.
    """
    if min(len(sample) for sample in samples) < 2:
        return floor if floor > 0 else math.nan
    variances = [statistics.variance(sample) / len(sample) for sample in samples]
    total = sum(variances)
    if not total > 0:  # all seeds alike
        return floor
    # Welch and Satterthwaite's degrees of freedom, from shares, since squares of tiny variances vanish
    degrees = 1 / sum((v / total) ** 2 / (len(s) - 1) for v, s in zip(variances, samples, strict=True))
    return max(floor, _students_t(degrees) * MEDIAN_FACTOR * math.sqrt(total))


def _students_t(degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
