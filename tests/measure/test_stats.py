"""Intervals hold what they promise, and small cases come out by hand."""

import json
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from bench.measure.stats import (
    MEDIAN_FACTOR,
    BlockInterval,
    Interval,
    accuracy_difference,
    accuracy_interval,
    binomial_half_width,
    block_interval,
    difference_by_seed,
    difference_interval,
    log_mean_interval,
    log_median_interval,
    mean_interval,
    median_time_to_target,
    pareto_front,
    ratio_by_seed,
    ratio_interval,
    times,
)

POSITIVE = st.floats(1e-3, 1e9)
RUNS = 1000
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def test_interval_of_three_seeds_by_hand() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.amount == 2.0
    assert interval.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.low == pytest.approx(4.0 - interval.high)
    assert interval.n == 3


def test_one_seed_has_the_floor_or_no_interval() -> None:
    assert mean_interval([0.9], floor=0.1) == (pytest.approx(0.8), 0.9, pytest.approx(1.0), 1)
    alone = mean_interval([0.9])
    assert alone.amount == 0.9
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_nothing_measured_is_not_a_number() -> None:
    for interval in (mean_interval([]), log_mean_interval([None, math.nan]), ratio_interval([], [1.0])):
        assert math.isnan(interval.amount)
        assert interval.n == 0


def test_seeds_that_agree_exactly_leave_the_floor() -> None:
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5, 3)
    assert mean_interval([0.5, 0.5, 0.5], floor=0.01) == (0.49, 0.5, 0.51, 3)


def test_what_was_not_measured_is_left_out() -> None:
    assert mean_interval([None, 2.0, math.nan, 1.0, 3.0]) == mean_interval([1.0, 2.0, 3.0])


@pytest.mark.parametrize("n", [3, 5, 10])
def test_mean_interval_covers_the_truth_at_least_nineteen_times_in_twenty(n: int) -> None:
    draws = np.random.default_rng(1).normal(7.0, 2.0, size=(RUNS, n))
    assert _coverage(mean_interval(draw) for draw in draws.tolist())(7.0) > 0.935


def test_log_interval_covers_the_truth_of_a_speed() -> None:
    draws = np.exp(np.random.default_rng(2).normal(math.log(5000), 0.1, size=(RUNS, 3)))
    assert _coverage(log_mean_interval(draw) for draw in draws.tolist())(5000) > 0.935


def test_ratio_and_difference_cover_the_truth() -> None:
    numbers = np.random.default_rng(3)
    a, b = numbers.normal(1.0, 0.1, size=(RUNS, 3)), numbers.normal(0.5, 0.02, size=(RUNS, 5))
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    assert _coverage(difference_interval(x, y) for x, y in pairs)(0.5) > 0.935
    assert _coverage(ratio_interval(np.exp(x), np.exp(y)) for x, y in pairs)(math.exp(0.5)) > 0.935


def test_difference_is_never_surer_than_the_floor() -> None:
    interval = difference_interval([0.99, 0.99, 0.99], [0.98, 0.98, 0.98], floor=0.003)
    assert interval == (pytest.approx(0.007), pytest.approx(0.01), pytest.approx(0.013), 3)


def test_a_paired_difference_by_hand() -> None:
    a, b = {0: 5.0, 1: 7.0, 2: 9.0}, {0: 4.0, 1: 5.0, 2: 6.0}
    interval, paired = difference_by_seed(a, b)
    assert paired
    assert interval.amount == 2.0  # of 1, 2, 3
    assert interval.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.n == 3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({0: 1.0, 1: 1.1, 2: 1.2}, {1: 2.0, 2: 2.2, 3: 2.3}),
        ({0: 1.0, 1: 1.1, 2: 1.2, 3: 1.3}, {0: 2.0, 1: 2.2, 2: 2.3}),  # pairs would compare other means than the page
        ({0: 1.0, 1: 1.1}, {0: 2.0, 1: 2.2}),
    ],
)
def test_other_seeds_or_fewer_than_three_are_compared_by_welch(a: dict[int, float], b: dict[int, float]) -> None:
    assert difference_by_seed(a, b) == (difference_interval(a.values(), b.values()), False)
    assert ratio_by_seed(a, b) == (ratio_interval(a.values(), b.values()), False)


def test_what_a_seed_does_to_both_drops_out_of_a_paired_comparison() -> None:
    a = dict(enumerate((1.0, 5.0, 9.0, 2.0)))
    difference, _ = difference_by_seed({seed: value + 0.1 for seed, value in a.items()}, a)
    assert difference.low == pytest.approx(difference.high) == pytest.approx(0.1)
    ratio, _ = ratio_by_seed({seed: 1.1 * value for seed, value in a.items()}, a)
    assert ratio.low == pytest.approx(ratio.high) == pytest.approx(1.1)
    assert ratio_interval([1.1 * value for value in a.values()], a.values()).low < 1


def test_a_seed_that_was_not_measured_is_in_no_pair() -> None:
    interval, paired = difference_by_seed({0: 1.0, 1: math.nan, 2: 3.0, 3: 4.0}, dict.fromkeys((0, 2, 3), 0.0))
    assert (interval.n, paired) == (3, True)
    assert not difference_by_seed({0: 1.0, 1: math.nan, 2: 3.0, 3: 4.0}, dict.fromkeys(range(4), 0.0))[1]


@pytest.mark.parametrize("n", [3, 5])
def test_paired_intervals_cover_the_truth_where_seeds_matter_to_both(n: int) -> None:
    numbers = np.random.default_rng(5)
    of_seed, own = numbers.normal(0, 1.0, size=(RUNS, n)), numbers.normal(0, 0.1, size=(2, RUNS, n))
    a, b = (of_seed + noise for noise in own)
    pairs = [tuple(dict(enumerate(side)) for side in both) for both in zip((a + 0.3).tolist(), b.tolist(), strict=True)]
    assert _coverage(difference_by_seed(x, y)[0] for x, y in pairs)(0.3) > 0.935
    exps = [tuple({seed: math.exp(value) for seed, value in side.items()} for side in both) for both in pairs]
    assert _coverage(ratio_by_seed(x, y)[0] for x, y in exps)(math.exp(0.3)) > 0.935


def test_binomial_half_width_is_a_fifth_of_a_point_on_mnist() -> None:
    assert binomial_half_width(0.99, 10_000) == pytest.approx(0.0020, abs=0.00005)
    assert binomial_half_width(1.0, 100) > 0.01  # all of a hundred right is not certainty
    assert math.isnan(binomial_half_width(0.99, math.nan))


def test_blocks_give_median_spread_and_the_same_interval_every_time() -> None:
    images, seconds = [100] * 5, [1.0, 0.5, 0.25, 0.5, 1.0]
    found = block_interval(images, seconds)
    assert found == block_interval(images, seconds)
    assert found.median == 200
    assert found.spread == pytest.approx(0.5)
    assert found.low <= 200 <= found.high
    assert found.n == 5


def test_block_interval_covers_the_truth_where_blocks_scatter_and_where_machines_drift() -> None:
    dice = np.random.default_rng(4)
    steady = 0.25 * np.exp(dice.normal(0, 0.04, size=(200, 40)))
    assert _coverage(block_interval([1000] * 40, row) for row in steady.tolist())(4000) > 0.9
    walks = np.cumsum(dice.normal(0, 0.01, size=(200 * 40)))  # one long drift, cut into trials
    drifting = 0.25 * np.exp(walks - np.convolve(walks, np.ones(400) / 400, mode="same")).reshape(200, 40)
    assert _coverage(block_interval([1000] * 40, row) for row in drifting.tolist())(4000) > 0.7


def test_intervals_of_forty_real_trials_cover_as_often_as_they_say() -> None:
    """The raw blocks of tests/benchmarks/interval_coverage.py, as they were measured."""
    _, trials = json.loads((REFERENCE / "interval_coverage.json").read_text())
    assert len(trials) == 40
    intervals = [block_interval(*zip(*blocks, strict=True)) for blocks in trials]
    share = _coverage(intervals)(statistics.median(interval.median for interval in intervals))
    assert 0.90 <= share <= 0.99


def test_one_block_has_no_interval_and_no_blocks_nothing() -> None:
    assert block_interval([10], [2.0]).median == 5
    assert block_interval([10], [2.0]).n == 1
    assert math.isnan(block_interval([10], [2.0]).spread)
    assert math.isnan(block_interval([10], [2.0]).low)
    assert math.isnan(block_interval([10, 10], [2.0, 1.0]).low)  # two blocks can't tell drift from scatter
    assert block_interval([10, 10], [2.0, 1.0]).spread == pytest.approx((8.75 - 6.25) / 7.5)
    assert math.isnan(block_interval([], []).median)


@pytest.mark.parametrize(
    ("seconds", "parts"),  # of the quarters, or of the blocks where there are fewer: logs of their medians, base 2
    [
        ([1.0, 0.5, 0.25], [0, 1, 2]),
        ([1.0, 0.5, 0.25, 0.125], [0, 1, 2, 3]),
        ([1.0, 1.0, 0.5, 0.25, 0.125], [0, 1, 2, 3]),
    ],
)
def test_an_interval_of_few_blocks_by_hand(seconds: list[float], parts: list[int]) -> None:
    found = block_interval([100] * len(seconds), seconds)
    students_t = {3: 4.302653, 4: 3.182446}[len(parts)]
    assert math.log2(found.high / found.median) == pytest.approx(students_t * statistics.stdev(parts), rel=1e-6)
    assert found.low * found.high == pytest.approx(found.median**2)


@pytest.mark.parametrize(("images", "seconds"), [([1], [1.0, 2.0]), ([1], [0.0])])
def test_blocks_that_cannot_be_are_refused(images: list[float], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="each block"):
        block_interval(images, seconds)


def test_a_miss_counts_as_infinity() -> None:
    assert median_time_to_target([1.0, 3.0, None]) == (3.0, 2, 3)
    assert median_time_to_target([1.0, math.nan, None]) == (None, 1, 3)
    assert median_time_to_target([1.0, None]) == (None, 1, 2)
    assert median_time_to_target([]) == (None, 0, 0)


@given(st.lists(POSITIVE, min_size=2, max_size=9))
def test_an_average_lies_within_its_interval(values: list[float]) -> None:
    means = statistics.fmean(values), statistics.geometric_mean(values), statistics.median(values)
    found = mean_interval(values), log_mean_interval(values), log_median_interval(values)
    for interval, mean in zip(found, means, strict=True):
        assert interval.low <= interval.amount <= interval.high
        assert interval.amount == pytest.approx(mean)


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_what_is_not_above_nothing_has_no_geometric_mean(least: float) -> None:
    assert all(map(math.isnan, log_mean_interval([least, 2.0])[:3]))


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6), st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6))
def test_turning_a_ratio_round_inverts_it(a: list[float], b: list[float]) -> None:
    there, back = ratio_interval(a, b), ratio_interval(b, a)
    assert there.amount == pytest.approx(1 / back.amount)
    if back.high < 1e200:
        assert there.low == pytest.approx(1 / back.high)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6), st.floats(0.001, 0.1))
@example([0.0, 1e-100], 0.01)
def test_a_floor_is_the_narrowest_that_an_interval_gets(values: list[float], floor: float) -> None:
    wide, plain = mean_interval(values, floor), mean_interval(values)
    own = 0.0 if math.isnan(plain.high) else plain.high - plain.low
    assert wide.high - wide.low == pytest.approx(max(2 * floor, own), abs=1e-12)


def _coverage(intervals: Iterable[Interval | BlockInterval]) -> Callable[[float], float]:
    found = list(intervals)
    return lambda truth: sum(interval.low <= truth <= interval.high for interval in found) / len(found)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), st.sampled_from([0.0, 0.5, 0.9, math.nan])),
        max_size=12,
    )
)
@settings(max_examples=50, deadline=None)
def test_the_front_is_what_nothing_beats_in_both(points: list[tuple[float, float]]) -> None:
    beaten = [any(x >= a and y >= b and (x > a or y > b) for x, y in points) for a, b in points]
    wanted = [a > 0 and b >= 0 and not worse for (a, b), worse in zip(points, beaten, strict=True)]
    assert pareto_front([a for a, _ in points], [b for _, b in points]) == wanted


def test_the_interval_of_an_accuracy_is_wilson_s() -> None:
    assert accuracy_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)  # NIST handbook, section 7.2.4.1
    assert accuracy_interval(4, 20) == pytest.approx((0.0807, 0.4160), abs=1e-4)
    for images in range(1, 300):  # in floating point some of them would end beyond 0 or 1
        assert accuracy_interval(0, images)[0] >= 0
        assert accuracy_interval(images, images)[1] <= 1


def test_a_median_of_times_is_less_sure_than_a_mean() -> None:
    seconds = [1.0, 2.0, 4.0]
    median, mean = log_median_interval(seconds), log_mean_interval(seconds)
    assert median.amount == mean.amount == pytest.approx(2.0)
    assert math.log(median.high / 2) == pytest.approx(MEDIAN_FACTOR * math.log(mean.high / 2))
    assert pytest.approx(math.sqrt(math.pi / 2), abs=1e-4) == MEDIAN_FACTOR
    assert ratio_interval([1.0, 2.0, 8.0], [1.0, 1.0, 1.0], medians=True).amount == 2.0


@pytest.mark.parametrize(("n", "less_sure"), [(1, 1.0), (2, 1.0), (3, MEDIAN_FACTOR), (4, MEDIAN_FACTOR)])
def test_a_median_of_two_is_their_mean_and_as_sure(n: int, less_sure: float) -> None:
    values, others = [1.0, 2.0, 4.0, 2.0][:n], [1.0, 3.0, 9.0, 3.0]
    intervals = [(log_median_interval(values), log_mean_interval(values))]
    for sides in ((values, others), (others, values)):  # the smaller sample decides
        intervals.append((ratio_interval(*sides, medians=True), ratio_interval(*sides)))
    for of_median, of_mean in intervals:
        assert of_median.n == of_mean.n == n
        if n == 1:
            assert math.isnan(of_median.low)
        else:
            widths = [math.log(found.high / found.low) for found in (of_median, of_mean)]
            assert widths[0] == pytest.approx(less_sure * widths[1])


def test_of_several_questions_all_intervals_hold_at_once() -> None:
    draws = np.exp(np.random.default_rng(6).normal(0, 0.02, size=(400, 10, 2, 8)))
    held = [
        all(
            found.low <= 1 <= found.high
            for found in (ratio_interval(a, b, questions=10) for a, b in questions.tolist())
        )
        for questions in draws
    ]
    assert 0.92 <= statistics.fmean(held) <= 0.98


def test_a_product_of_two_figures_has_the_scatter_of_both() -> None:
    images, speed = Interval(900.0, 1000.0, 1000 / 0.9, 3), Interval(95.0, 100.0, 100 / 0.95, 8)
    seconds = times(images, speed, -1)
    assert seconds.amount == pytest.approx(10.0)
    assert math.log(seconds.high / 10) == pytest.approx(math.hypot(math.log(0.9), math.log(0.95)))
    assert seconds.n == 3
    assert math.isnan(times(images, Interval(math.nan, 100.0, math.nan, 1)).low)


def _models(
    dice: np.random.Generator, seeds: int, images: int, alike: float, spread: float
) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """Which images two models got right, seed by seed, and the true difference of their accuracies.

    An image is got right whose difficulty is below the seed's ability: `alike` is how much of the difficulty the models
    share, `spread` the standard deviation of abilities.
    """
    shared, normal = dice.normal(size=images), statistics.NormalDist()
    sides, truths = [], []
    for accuracy in (0.97, 0.96):
        threshold, ability = normal.inv_cdf(accuracy), dice.normal(0, spread, size=(seeds, 1))
        own = dice.normal(size=(seeds, images))
        sides.append(list(alike * shared + math.sqrt(1 - alike**2) * own < threshold + ability))
        of_one = normal.cdf(threshold + ability.item(0))  # of these weights; of several seeds, of the recipe
        truths.append(of_one if seeds == 1 else normal.cdf(threshold / math.hypot(1, spread)))
    return sides[0], sides[1], truths[0] - truths[1]


@pytest.mark.parametrize(
    ("seeds", "images", "alike", "spread"),
    [(1, 2000, 0.7, 0.05), (3, 2000, 0.7, 0.05), (3, 2000, 0.97, 0.03), (1, 100, 0.7, 0.0)],
    ids=["one seed", "three seeds", "models that fail on the same images", "few images"],
)
def test_a_difference_of_accuracies_covers_the_truth(seeds: int, images: int, alike: float, spread: float) -> None:
    dice = np.random.default_rng(7)
    held = []
    for _ in range(600):
        a, b, truth = _models(dice, seeds, images, alike, spread)
        found = accuracy_difference(a, b)
        held.append(found.low <= truth <= found.high)
    assert 0.92 <= statistics.fmean(held) <= 0.98


def test_what_makes_an_image_hard_for_both_models_drops_out() -> None:
    dice = np.random.default_rng(8)
    a, b, _ = _models(dice, 1, 10_000, 0.97, 0.0)
    alone = _models(dice, 1, 10_000, 0.0, 0.0)
    together, apart = accuracy_difference(a, b), accuracy_difference(*alone[:2])
    assert together.high - together.low < 0.6 * (apart.high - apart.low)
    assert together.amount == pytest.approx(a[0].mean() - b[0].mean())


@pytest.mark.parametrize("seeds", [(1, 1), (2, 2), (2, 1), (1, 3), (4, 3)], ids=str)
def test_a_difference_of_accuracies_by_hand(seeds: tuple[int, int]) -> None:
    """What the docstring says, step by step; the seeds are so far apart that they matter."""
    dice, images = np.random.default_rng(9), 30
    a, b = ((dice.random((images, count)) < (0.3, 0.9, 0.5, 0.7)[:count]).T for count in seeds)
    apart = a.mean(0) - b.mean(0)
    of_images = statistics.pvariance([*apart, 0.5**0.5, -(0.5**0.5)]) / (
        images + 2
    )  # two more, whose squares add up to 1
    scatter = [
        side.mean(1).var(ddof=1) - side.var(0, ddof=1).mean() / images if len(side) > 1 else None for side in (a, b)
    ]
    parts = []  # variance of a mean, degrees of freedom
    for own, other in ((0, 1), (1, 0)):
        source = own if scatter[own] is not None else other
        if (variance := scatter[source]) is not None:
            parts.append((variance / seeds[own], seeds[source] - 1))
    total = of_images + sum(part for part, _ in parts)
    degrees = total**2 / sum(part**2 / free for part, free in parts) if parts else math.inf
    half = student.ppf(0.975, degrees) * math.sqrt(total)
    middle = apart.mean()
    assert accuracy_difference([*a], [*b]) == pytest.approx((middle - half, middle, middle + half, min(seeds)))


def test_seeds_that_scatter_widen_a_difference_and_one_seed_borrows_the_others() -> None:
    right = np.arange(1000) < 900
    steady, scattered = [right] * 3, [np.arange(1000) < size for size in (880, 900, 920)]
    narrow, wide = accuracy_difference(steady, steady), accuracy_difference(scattered, steady)
    borrowed = accuracy_difference(scattered, steady[:1])
    assert narrow.high < 0.005 < 0.02 < wide.high < borrowed.high
    assert (narrow.n, borrowed.n) == (3, 1)
