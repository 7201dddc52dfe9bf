"""Speeds from launches: known truths come back, intervals hold them, and what was disturbed counts for nothing."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from made_up_launch import INFERENCE, made_up_launches
from scipy import optimize, special, stats

from bench.measure.speed_stats import Cell, Estimate, Speeds, is_clean, panel_of
from bench.result import Launch

TRUE = {"a": 1000.0, "b": 2000.0, "c": 500.0, "d": 1500.0}


def timed(config_id: str, images_per_second: float, group: int = 0) -> dict[str, object]:
    """An undisturbed slice of one second of training."""
    about = {"config_id": config_id, "num_threads": 1, "work": "train", "batch_size": 128, "group": group}
    return about | {"images": images_per_second, "seconds": 1.0}


def train(config_id: str, threads: int = 1) -> Cell:
    return Cell(config_id, "train", 128, threads)


def test_without_noise_a_ratio_is_that_of_the_speeds_to_the_last_digits() -> None:
    speeds = Speeds(made_up_launches(TRUE, drift=0.3, noise=0.0))
    assert speeds.ratio(train("b"), train("a")).amount == pytest.approx(2.0, rel=1e-9)
    assert speeds.ratio(Cell("b", "infer", 1, 1), Cell("c", "infer", 1, 1)).amount == pytest.approx(4.0, rel=1e-9)


def test_ratios_are_those_of_the_speeds_that_are_given_though_launches_have_gaps() -> None:
    launches = made_up_launches(TRUE, drift=0.5, noise=0.05)
    launches[0].slices = [piece for piece in launches[0].slices if piece["config_id"] != "a"]
    launches[3].slices = [piece for piece in launches[3].slices if piece["config_id"] != "b"]
    speeds = Speeds(launches)
    for a, b in combinations("abcd", 2):
        ratio = speeds.ratio(train(a), train(b))
        assert ratio.amount == pytest.approx(speeds.speed(train(a)).amount / speeds.speed(train(b)).amount)
    assert speeds.ratio(train("a"), train("b")).n == 4
    assert speeds.ratio(train("c"), train("d")).n == 6


def test_all_pairs_at_once_are_as_wide_as_one_by_one() -> None:
    launches = made_up_launches(TRUE, 4, drift=0.5, noise=0.05)
    launches[0].slices = [piece for piece in launches[0].slices if piece["config_id"] != "a"]
    launches[1].slices = [piece for piece in launches[1].slices if piece["config_id"] not in "ac"]
    speeds = Speeds(launches)
    for panel in speeds.panels:
        cells = [cell for cell in speeds.cells if panel_of(cell) == panel]
        one_by_one = [speeds.ratio(a, b).half_width for a, b in combinations(cells, 2)]
        assert speeds.half_widths(panel) == pytest.approx(one_by_one)
        assert max(one_by_one) == pytest.approx(ASSUMED / math.sqrt(2), rel=1e-4), (
            "of two launches nothing is known but that"
        )


def test_a_gap_in_a_slow_hour_moves_no_ratio() -> None:
    launches = made_up_launches(TRUE, drift=0.0, noise=0.0)
    for piece in launches[2].slices:
        piece["seconds"] *= 3
    launches[2].slices = [piece for piece in launches[2].slices if piece["config_id"] != "a"]
    assert Speeds(launches).ratio(train("b"), train("a")).amount == pytest.approx(2.0, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "cells"), [(3, 2), (5, 4), (6, 8), (12, 4)])
def test_intervals_of_equal_configurations_hold_one(count: int, cells: int) -> None:
    held = pairs = 0
    for seed in range(120):
        names = [f"c{index}" for index in range(cells)]
        speeds = Speeds(made_up_launches(dict.fromkeys(names, 1000.0), count, seed=seed))
        for index in range(0, cells, 2):  # pairs that share no cell
            low, _, high, n = speeds.ratio(train(names[index]), train(names[index + 1]))
            pairs, held = pairs + 1, held + (low <= 1 <= high)
            assert n == count
    assert 0.90 <= held / pairs <= 0.995


def test_variances_of_others_narrow_an_interval_of_few_launches() -> None:
    lent, alone = list[float](), list[float]()
    for seed in range(40):
        both = {"a": 1000.0, "b": 2000.0}
        for speeds, widths in ((both | TRUE, lent), (both, alone)):
            ratio = Speeds(made_up_launches(speeds, 4, seed=seed)).ratio(train("a"), train("b"))
            widths.append(ratio.half_width)
    assert sum(lent) < 0.85 * sum(alone)


@pytest.mark.parametrize("scatter", [(0.05,), (0.01, 0.2)], ids=["alike", "unlike"])
@pytest.mark.parametrize("launches", [3, 4, 9])
@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_what_variances_lend_each_other_is_smyths(count: int, launches: int, scatter: tuple[float, ...]) -> None:
    names = [*"abcdefg"[:count]]
    deviations = [scatter[index % len(scatter)] for index in range(count)]
    logs = np.random.default_rng(3).normal(7.0, deviations, (launches, count))
    speeds = Speeds(
        [
            Launch(
                number,
                *("cpu", "a CPU", "", 1.0, {}),
                *([timed(name, math.exp(log)) for name, log in zip(names, row, strict=True)], [], {}, {}),
            )
            for number, row in enumerate(logs)
        ]
    )
    pairs = [logs[:, b] - logs[:, a] for a, b in combinations(range(count), 2)]
    found = [speeds.ratio(train(a), train(b)).half_width for a, b in combinations(names, 2)]
    assert found == pytest.approx(moderated(pairs, count - 2))  # so many ratios know nothing of any one
    assert [speeds.speed(train(name)).half_width for name in names] == pytest.approx(moderated([*logs.T], 1))


def moderated(samples: list[np.ndarray], most: float) -> list[float]:
    """Half-widths of their means' intervals, by Smyth 2004, section 6.2; others lend at most `most` variances."""
    free, variances = len(samples[0]) - 1, np.array([sample.var(ddof=1) for sample in samples])
    lent = expected = 0.0
    if len(samples) > 1 and most:
        logs = np.log(variances) - special.digamma(free / 2) + math.log(free / 2)
        excess, lent = logs.var(ddof=1) - special.polygamma(1, free / 2), min(10.0, most * free)
        if excess > 0:
            lent = min(lent, 2 * optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e6))
        expected = math.exp(logs.mean() + special.digamma(lent / 2) - math.log(lent / 2))
    pooled = (lent * expected + free * variances) / (free + lent)
    return [*(stats.t.ppf(0.99, free + lent) * np.sqrt(pooled / (free + 1)))]


def test_disturbed_slices_count_for_nothing_and_cells_without_others_are_left_out() -> None:
    launches = made_up_launches(TRUE, noise=0.0, disturbed=0.6, rounds=16)
    speeds = Speeds(launches)
    assert speeds.ratio(train("b"), train("a")).amount == pytest.approx(2.0)
    assert 0.25 < speeds.clean_share(1) < 0.55
    for piece in launches[1].slices:
        if piece["config_id"] == "a":
            piece["waited_seconds"] = piece["seconds"]
    assert Speeds(launches).ratio(train("b"), train("a")).n == 5


@pytest.mark.parametrize(
    ("told", "clean"),
    [
        ({"waited_seconds": 0.0010}, True),
        ({"waited_seconds": 0.0012}, False),
        ({"waited_seconds": 0.0022, "num_threads": 2}, True),
        ({"waited_seconds": 0.0023, "num_threads": 2}, False),
        ({"stolen_seconds": 0.01}, False),
        ({"throttled_seconds": 0.001}, False),
        ({"waited_seconds": None, "stolen_seconds": None, "throttled_seconds": None}, True),
    ],
)
def test_a_slice_is_clean_where_nothing_took_the_processor(told: dict[str, float | None], clean: bool) -> None:
    assert is_clean({"seconds": 0.045, "num_threads": 1} | told) is clean


def test_probes_take_out_what_a_neighbour_on_the_same_core_takes() -> None:
    seen, unseen = list[Estimate](), list[Estimate]()
    for seed in range(10):
        launches = made_up_launches(TRUE, 6, neighbour=0.3, noise=0.02, rounds=8, seed=seed)
        seen.append(Speeds(launches).ratio(train("b"), train("a")))
        for launch in launches:
            for piece in launch.slices:
                piece["probe_seconds"] = None
        unseen.append(Speeds(launches).ratio(train("b"), train("a")))
    assert sum(each.half_width for each in seen) < 0.4 * sum(each.half_width for each in unseen)
    assert sum(each.low <= 2 <= each.high for each in seen) >= 8
    assert np.mean([each.amount for each in seen]) == pytest.approx(2.0, rel=0.01)


def test_speeds_are_those_of_cores_of_its_own_and_a_slice_without_probes_loses_what_others_do() -> None:
    launches = made_up_launches(TRUE, 8, neighbour=0.3, noise=0.0, drift=0.0, rounds=16)
    for launch in launches:
        for number, piece in enumerate(launch.slices):
            piece["probe_seconds"] = None if number % 20 == 7 else piece["probe_seconds"]
    found = Speeds(launches).speed(train("b")).amount
    assert found == pytest.approx(TRUE["b"], rel=0.03)


def test_where_probes_never_differ_nothing_is_moved() -> None:
    with_probes = made_up_launches(TRUE, 6)
    unseen = {"probe_seconds": None}
    without = [replace(each, slices=[piece | unseen for piece in each.slices]) for each in with_probes]
    for work in (train("a"), Cell("b", "infer", 1, 1)):
        assert Speeds(with_probes).speed(work) == pytest.approx(Speeds(without).speed(work))


@pytest.mark.parametrize("odd", [-1.0, 0.0, math.inf, 10**400])
def test_probes_that_tell_nonsense_count_as_none(odd: float) -> None:
    launches = made_up_launches(TRUE, 6, noise=0.0)
    for piece in launches[0].slices:
        piece["probe_seconds"] = odd
    assert Speeds(launches).ratio(train("b"), train("a")).amount == pytest.approx(2.0)


def pair(a: str, b: str, threads: int) -> tuple[Cell, Cell]:
    return Cell(a, "train", 128, threads), Cell(b, "train", 128, threads)


def test_slices_whose_cores_were_apart_are_left_out() -> None:
    launches = made_up_launches(TRUE, 8, threads=(1, 2), apart=0.3, loses={"a": 1.2, "b": 1.6}, rounds=8)
    found, told = Speeds(launches), pair("b", "a", 2)
    assert found.apart_share(2) == pytest.approx(0.3, abs=0.06)
    assert found.apart_share(1) == 0.0
    assert found.ratio(*told).amount == pytest.approx(2.0, rel=0.03)
    assert found.ratio(*told).half_width < 0.04
    unseen = [replace(each, slices=[piece | {"exchange_seconds": None} for piece in each.slices]) for each in launches]
    assert Speeds(unseen).apart_share(2) == 0.0
    assert Speeds(unseen).ratio(*told).amount < 1.92
    assert Speeds(unseen).ratio(*told).half_width > 2 * found.ratio(*told).half_width
    assert Speeds(unseen).ratio(*pair("b", "a", 1)) == found.ratio(*pair("b", "a", 1))


def test_where_cores_were_apart_for_most_of_the_time_all_slices_count() -> None:
    launches = made_up_launches(TRUE, 8, threads=(1, 2), apart=0.9, loses={"a": 1.2, "b": 1.6}, noise=0.0)
    found = Speeds(launches)
    assert found.apart_share(2) > 0.8
    assert found.ratio(*pair("b", "a", 2)).amount == pytest.approx(1.55, abs=0.1)  # 1.5 apart, and 2 for the rest
    never = made_up_launches(TRUE, 8, threads=(1, 2), apart=1.0, loses={"a": 1.2, "b": 1.6}, noise=0.0)
    assert Speeds(never).apart_share(2) == 0.0  # nothing tells that they ever could be together
    assert Speeds(never).ratio(*pair("b", "a", 2)).amount == pytest.approx(1.5)


def test_threads_that_wait_for_a_core_are_not_apart() -> None:
    launches = made_up_launches(TRUE, 6, threads=(2,), disturbed=0.5)
    for launch in launches:
        for piece in launch.slices:
            if piece["waited_seconds"] and piece["exchange_seconds"]:
                piece["exchange_seconds"] *= 40
    assert Speeds(launches).apart_share(2) == 0.0


@pytest.mark.parametrize("odd", [-1.0, 0.0, math.inf, 10**400])
def test_exchanges_that_tell_nonsense_count_as_none(odd: float) -> None:
    launches = made_up_launches(TRUE, 6, threads=(2,), noise=0.0)
    for piece in launches[0].slices:
        piece["exchange_seconds"] = odd
    assert Speeds(launches).apart_share(2) == 0.0
    assert Speeds(launches).ratio(*pair("b", "a", 2)).amount == pytest.approx(2.0)


def test_what_a_step_does_once_in_a_while_counts() -> None:
    launches = made_up_launches({"a": 1000.0, "b": 1000.0}, 5, noise=0.0, drift=0.0, rounds=20)
    for launch in launches:
        for piece in launch.slices:
            if piece["config_id"] == "b" and piece["work"] == "train" and piece["round"] % 10 == 3:
                piece["seconds"] *= 2  # a slice is a single step, and each tenth is done twice
    assert Speeds(launches).ratio(train("a"), train("b")).amount == pytest.approx(1.1)


ASSUMED = 2.3263 * 0.12  # half-width of a ratio of one launch: of 98%, at the deviation of many recorded ones


@pytest.mark.parametrize("count", [1, 2])
def test_one_launch_or_two_have_the_interval_of_recorded_ones(count: int) -> None:
    ratio = Speeds(made_up_launches(TRUE, count)).ratio(train("a"), train("b"))
    assert ratio.n == count
    assert ratio.half_width == pytest.approx(ASSUMED / math.sqrt(count), rel=1e-4)
    assert Speeds([]).ratio(train("a"), train("b")).n == 0


def test_one_image_is_told_by_the_median_call_and_not_by_the_slice() -> None:
    launches = made_up_launches({"a": 1000.0, "b": 2000.0}, drift=0, noise=0)
    for launch in launches:
        for piece in launch.slices:
            if piece["batch_size"] == 1:
                piece["seconds"] *= 5  # a few calls took very long
    assert Speeds(launches).speed(Cell("b", "infer", 1, 1)).amount == pytest.approx(2000.0 * INFERENCE)


def test_what_the_training_loop_loses_beyond_its_steps_is_the_stall_share() -> None:
    launches = made_up_launches(TRUE, stall={"a": 0.25}, noise=0.001)
    speeds = Speeds(launches)
    low, share, high, n = speeds.stall_share("a", 128, 1)
    assert low < share < high
    assert share == pytest.approx(0.25, abs=0.005)
    assert abs(speeds.stall_share("b", 128, 1).amount) < 0.01
    assert n == 6
    assert math.isnan(speeds.stall_share("nobody", 128, 1).amount)


def test_of_a_stretch_of_the_loop_what_others_took_is_left_out_unless_it_was_much() -> None:
    launches = made_up_launches(TRUE, stall={"a": 0.25}, noise=0.0)
    for launch in launches:
        for piece in launch.slices:
            if piece["work"] == "loop":
                piece["waited_seconds"] = 0.1 * piece["seconds"]
                piece["seconds"] += piece["waited_seconds"]
    assert Speeds(launches).stall_share("a", 128, 1).amount == pytest.approx(0.25, abs=0.01)
    for piece in launches[0].slices:
        piece["waited_seconds"] *= 5 if piece["work"] == "loop" else 1
    assert Speeds(launches).stall_share("a", 128, 1).n == 5


def test_groups_that_were_open_apart_are_compared_by_the_one_that_stood_in_both() -> None:
    launches = []
    for number, (here, there) in enumerate([(1.0, 0.5), (0.8, 1.2), (1.1, 1.0), (0.9, 0.6)]):
        slices = [timed("a", 1000 * here), timed("b", 2000 * here), timed("a", 1000 * there, group=1)]
        slices += [timed("c", 500 * there, group=1)]
        launches.append(Launch(number, "cpu", "a CPU", "", 1.0, {}, slices, [], {}, {}))
    speeds = Speeds(launches)
    assert speeds.ratio(train("b"), train("c")).amount == pytest.approx(4.0, rel=1e-6)
    assert speeds.ratio(train("b"), train("c")).half_width < 1e-6


def test_inference_at_other_batch_sizes_is_compared_apart_and_widens_nobody_elses_interval() -> None:
    launches = made_up_launches(TRUE, 6)
    plain = Speeds(launches).ratio(Cell("a", "infer", 128, 1), Cell("b", "infer", 128, 1))
    for launch in launches[:3]:
        rare = [
            piece | {"batch_size": 8} for piece in launch.slices if piece["work"] == "infer" and piece["round"] == 0
        ]
        for index, piece in enumerate(rare):
            piece["seconds"] *= 1 + index % 3
        launch.slices += rare
    speeds = Speeds(launches)
    assert speeds.ratio(Cell("a", "infer", 128, 1), Cell("b", "infer", 128, 1)) == plain
    assert speeds.speed(Cell("a", "infer", 8, 1)).n == 3
    assert {panel.work for panel in speeds.panels} == {"train", "infer"}
