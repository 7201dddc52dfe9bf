"""Intervals and comparisons: plain functions on numbers, and the same 95% everywhere.

The unit is the seed (one trial) or the launch, so n is small: intervals are Student's t around the mean, which for
positive quantities is the geometric mean. Accuracies have besides a floor, since a test set of finite size can't tell
finer differences apart however many seeds are run.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MEDIAN_FACTOR = 1.2533  # standard error of a median over that of a mean: sqrt(pi / 2), for normal values
PARTS = 4  # of a trial's timed blocks, in time
FEWEST_PAIRS = 3  # seeds that a paired comparison needs

BySeed = Mapping[Any, float]
Correct = Sequence[NDArray[np.bool_]]  # of each seed, whether each test image was classified correctly


class Interval(NamedTuple):
    """A mean, difference or ratio between the ends of its 95% interval; an end that can't be known is NaN.

    n counts the values.
    """

    low: float
    amount: float
    high: float
    n: int


class BlockInterval(NamedTuple):
    """Images per second over the timed blocks of one trial; spread is the interquartile range over the median."""

    low: float
    median: float
    high: float
    n: int
    spread: float


def mean_interval(values: Iterable[float | None], floor: float = 0.0) -> Interval:
    """Mean over seeds, with the half-width of its interval at least `floor`; what wasn't measured is left out."""
    return _interval([values], floor=floor)


def log_mean_interval(values: Iterable[float | None]) -> Interval:
    """Geometric mean of positive quantities (speeds, seconds, bytes), whose noise is a share of them."""
    return _interval([values], logs=True)


def log_median_interval(values: Iterable[float | None]) -> Interval:
    """Median of positive quantities, for where a mean would be infinite if one more were missing."""
    return _interval([values], logs=True, medians=True)


def difference_interval(a: Iterable[float | None], b: Iterable[float | None], floor: float = 0.0) -> Interval:
    """Difference of two means, a - b (Welch's t); its half-width is at least `floor`. n is the smaller sample's."""
    return _interval([a, b], floor=floor)


def ratio_interval(
    a: Iterable[float | None], b: Iterable[float | None], *, medians: bool = False, questions: int = 1
) -> Interval:
    """Ratio of two geometric means (or medians) of positive quantities, a / b (Welch's t on logarithms).

    n is the smaller sample's. Of several `questions` asked at once, the intervals hold all their truths together in 95%
    of cases (Bonferroni).
    """
    return _interval([a, b], logs=True, medians=medians, questions=questions)


def difference_by_seed(a: BySeed, b: BySeed, floor: float = 0.0) -> tuple[Interval, bool]:
    """Difference a - b of two configurations, and whether it is paired: the mean of the differences seed by seed.

    What a seed does to both (its order of batches, its hour on the machine) drops out of their differences. Where they
    don't have the same three seeds or more it is Welch's: a t of one degree of freedom would say next to nothing.
    """
    seeds = _seeds_of_both(a, b)
    if not seeds:
        return difference_interval(a.values(), b.values(), floor), False
    return mean_interval([a[seed] - b[seed] for seed in seeds], floor), True


def ratio_by_seed(a: BySeed, b: BySeed, *, medians: bool = False) -> tuple[Interval, bool]:
    """Ratio a / b of positive quantities, likewise: seed by seed, on logarithms, where both have the same seeds.

    Of `medians` it is their ratio, with the scatter of the ratios seed by seed.
    """
    seeds, found = _seeds_of_both(a, b), ratio_interval(a.values(), b.values(), medians=medians)
    if not seeds:
        return found, False
    by_seed = _interval([[a[seed] / b[seed] for seed in seeds]], logs=True, medians=medians)
    factor = by_seed.high / by_seed.amount
    return Interval(found.amount / factor, found.amount, found.amount * factor, found.n), True


def times(a: Interval, b: Interval, power: int = 1) -> Interval:
    """a * b**power of two positive figures that know nothing of each other: half-widths add up as squares, on logs."""
    amount = a.amount * b.amount**power
    factor = math.exp(math.hypot(*(math.log(each.high / each.low) / 2 for each in (a, b))))
    return Interval(amount / factor, amount, amount * factor, min(a.n, b.n))


def accuracy_difference(a: Correct, b: Correct) -> Interval:
    """Difference of two mean accuracies, a - b, on the same test images: each model's seeds, as arrays of (images,).

    Seeds and images are crossed random effects, so the variance of a mean over both has a part of each (Searle,
    Casella and McCulloch, "Variance Components", 1992; Gallas 2006 has it for readers and cases):

    - of the images: the variance over them of the difference of the models' mean correctness, over their number. What
      makes an image hard for both drops out. Two further images, half of one right for each model alone, keep it above
      0 where few images differ (Agresti and Min 2005). It holds the noise of a seed on single images, too.
    - of each model's seeds: the variance of their accuracies, less what that noise explains of it, over their number.
      A model with one seed borrows the other's; where both have one, the interval is of these trained models and says
      nothing of other seeds.

    Degrees of freedom are Welch and Satterthwaite's, of the seeds' parts; those of thousands of images count as
    infinite. n is the smaller number of seeds.
    """
    both, count = [np.asarray(each, dtype=float) for each in (a, b)], len(a[0])
    apart = both[0].mean(axis=0) - both[1].mean(axis=0)
    moments = float((apart**2).sum()) + 1, float(apart.sum())
    images = (moments[0] / (count + 2) - (moments[1] / (count + 2)) ** 2) / (count + 2)
    known = {}  # model -> variance between seeds
    for model, right in enumerate(both):
        if len(right) > 1:
            noise = float(right.var(axis=0, ddof=1).mean()) / count
            known[model] = max(0.0, float(right.mean(axis=1).var(ddof=1)) - noise)
    parts = []  # variance of a mean, degrees of freedom
    for model in range(2) if known else ():
        source = model if model in known else 1 - model
        parts.append((known[source] / len(both[model]), len(both[source]) - 1))
    total = images + sum(part for part, _ in parts)
    shares = sum((part / total) ** 2 / degrees for part, degrees in parts)
    half = students_t(1 / shares if shares > 0 else math.inf) * math.sqrt(total)
    middle = float(apart.mean())
    return Interval(middle - half, middle, middle + half, min(map(len, both)))


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
        factor = math.exp(students_t(len(parts) - 1) * float(logs.std(ddof=1)))
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


def _interval(
    samples: Sequence[Iterable[float | None]],
    *,
    floor: float = 0.0,
    logs: bool = False,
    medians: bool = False,
    questions: int = 1,
) -> Interval:
    """Of one sample's average; of two, of the difference of their averages or, on logarithms, of the ratio."""
    kept = [[float(value) for value in sample if value is not None and not math.isnan(value)] for sample in samples]
    n = min(map(len, kept))
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    if not logs:
        first, *second = map(statistics.fmean, kept)
        center, half = first - sum(second), _half_width(kept, questions)
        half = max(floor, half) if half >= 0 else floor or math.nan
        return Interval(center - half, center, center + half, n)
    scattered = [[math.log(value) if value > 0 else math.nan for value in sample] for sample in kept]
    first, *second = [statistics.median(values) if medians else _geometric_mean(values) for values in kept]
    widened = MEDIAN_FACTOR if medians and min(map(len, kept)) > 2 else 1.0  # a median of two is their mean
    center, factor = first / math.prod(second), math.exp(widened * _half_width(scattered, questions))
    return Interval(center / factor, center, center * factor, n)


def _geometric_mean(values: Sequence[float]) -> float:
    """That of values that are all alike is each of them to the last digit; of a 0 or less it is NaN."""
    if min(values) == max(values):
        return values[0]
    return math.exp(statistics.fmean(map(math.log, values))) if min(values) > 0 else math.nan


def _seeds_of_both(a: BySeed, b: BySeed) -> list[Any]:
    """The seeds, where both have the same ones and enough to be compared in pairs; else none."""
    known = [{seed for seed, value in side.items() if not math.isnan(value)} for side in (a, b)]
    return sorted(known[0]) if known[0] == known[1] and len(known[0]) >= FEWEST_PAIRS else []


def _half_width(samples: list[list[float]], questions: int) -> float:
    """Half-width for the sum or difference of the samples' means; for one sample Welch's t is Student's.

    A sample of one value says nothing of its spread: NaN.
    """
    if min(len(sample) for sample in samples) < 2:
        return math.nan
    variances = [statistics.variance(sample) / len(sample) for sample in samples]
    total = sum(variances)
    if not total > 0:  # all seeds alike
        return 0.0
    # Welch and Satterthwaite's degrees of freedom, from shares, since squares of tiny variances vanish
    degrees = 1 / sum((v / total) ** 2 / (len(s) - 1) for v, s in zip(variances, samples, strict=True))
    return students_t(degrees, questions) * math.sqrt(total)


def students_t(degrees: float, questions: int = 1) -> float:
    from scipy.special import ndtri, stdtrit

    tail = (1 - CONFIDENCE) / 2 / questions
    return float(ndtri(1 - tail) if math.isinf(degrees) else stdtrit(degrees, 1 - tail))
