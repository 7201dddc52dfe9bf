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

from bench.measure.stats import (
    BlockInterval,
    Interval,
    accuracy_interval,
    binomial_half_width,
    block_interval,
    difference_by_seed,
    difference_interval,
    log_median_interval,
    median_interval,
    median_time_to_target,
    pareto_front,
    ratio_by_seed,
    ratio_interval,
)

POSITIVE = st.floats(1e-3, 1e9)
RUNS = 1000
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def test_interval_of_three_seeds_by_hand() -> None:
    interval = median_interval([1.0, 2.0, 3.0])
    assert interval.median == 2.0
    assert interval.high - 2.0 == pytest.approx(4.302653 * 1.2533 / math.sqrt(3), rel=1e-6)
    assert interval.low == pytest.approx(4.0 - interval.high)
    assert interval.n == 3


def test_one_seed_has_the_floor_or_no_interval() -> None:
    assert median_interval([0.9], floor=0.1) == (pytest.approx(0.8), 0.9, pytest.approx(1.0), 1)
    alone = median_interval([0.9])
    assert alone.median == 0.9
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_nothing_measured_is_not_a_number() -> None:
    for interval in (median_interval([]), log_median_interval([None, math.nan]), ratio_interval([], [1.0])):
        assert math.isnan(interval.median)
        assert interval.n == 0


def test_seeds_that_agree_exactly_leave_the_floor() -> None:
    assert median_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5, 3)
    assert median_interval([0.5, 0.5, 0.5], floor=0.01) == (0.49, 0.5, 0.51, 3)


def test_what_was_not_measured_is_left_out() -> None:
    assert median_interval([None, 2.0, math.nan, 1.0, 3.0]) == median_interval([1.0, 2.0, 3.0])


@pytest.mark.parametrize("n", [3, 5, 10])
def test_median_interval_covers_the_truth_at_least_nineteen_times_in_twenty(n: int) -> None:
    draws = np.random.default_rng(1).normal(7.0, 2.0, size=(RUNS, n))
    assert _coverage(median_interval(draw) for draw in draws.tolist())(7.0) > 0.935


def test_log_interval_covers_the_truth_of_a_speed() -> None:
    draws = np.exp(np.random.default_rng(2).normal(math.log(5000), 0.1, size=(RUNS, 3)))
    assert _coverage(log_median_interval(draw) for draw in draws.tolist())(5000) > 0.935


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
    a, b = {0: 5.0, 1: 7.0, 2: 9.0, 3: 0.0}, {0: 4.0, 1: 5.0, 2: 6.0, 7: 99.0}
    interval, paired = difference_by_seed(a, b)
    assert paired
    assert interval.median == 2.0  # of 1, 2, 3: the seeds that both have
    assert interval.high - 2.0 == pytest.approx(4.302653 * 1.2533 / math.sqrt(3), rel=1e-6)
    assert interval.n == 3


def test_fewer_than_three_seeds_in_common_are_compared_by_welch() -> None:
    a, b = {0: 1.0, 1: 1.1, 2: 1.2}, {1: 2.0, 2: 2.2, 3: 2.3}
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
    interval, paired = difference_by_seed({0: 1.0, 1: math.nan, 2: 3.0, 3: 4.0}, dict.fromkeys(range(4), 0.0))
    assert (interval.n, paired) == (3, True)


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
    assert math.isnan(block_interval([10], [2.0]).low)
    assert math.isnan(block_interval([10, 10], [2.0, 1.0]).low)  # two blocks can't tell drift from scatter
    assert block_interval([10, 10], [2.0, 1.0]).spread > 0
    assert math.isnan(block_interval([], []).median)


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
def test_the_median_lies_within_its_interval(values: list[float]) -> None:
    for interval in (median_interval(values), log_median_interval(values)):
        assert interval.low <= interval.median <= interval.high
        assert interval.median == statistics.median(values)


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6), st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6))
def test_turning_a_ratio_round_inverts_it(a: list[float], b: list[float]) -> None:
    there, back = ratio_interval(a, b), ratio_interval(b, a)
    assert there.median == pytest.approx(1 / back.median)
    if back.high < 1e200:
        assert there.low == pytest.approx(1 / back.high)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6), st.floats(0.001, 0.1))
@example([0.0, 1e-100], 0.01)
def test_a_floor_never_narrows_an_interval(values: list[float], floor: float) -> None:
    wide, plain = median_interval(values, floor), median_interval(values)
    assert wide.high - wide.low >= 2 * floor - 1e-12
    assert math.isnan(plain.low) or wide.high - wide.low >= plain.high - plain.low - 1e-12


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
