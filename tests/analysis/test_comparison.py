"""Where one verdict ends and the next begins: intervals, grids and precisions met exactly, and missed by a hair."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import make_run

from bench.analysis.comparison import (
    MEMORY_APART,
    MEMORY_GRID,
    Comparison,
    compare,
    compare_rows,
    is_too_noisy,
    is_within,
    on_grid,
)
from bench.analysis.labels import records
from bench.analysis.scorecard import scorecard
from bench.analysis.summary import GRID, Tables, read_tables
from bench.measure.stats import Interval

TIME = "seconds_to_0.97"
HAIR = 1e-12


def over(x: float) -> float:
    return math.nextafter(x, math.inf)


def under(x: float) -> float:
    return math.nextafter(x, -math.inf)


@pytest.mark.parametrize("turned", [False, True], ids=["a over b", "b over a"])
@pytest.mark.parametrize(
    ("low", "amount", "high", "verdict"),
    [
        (0.8, 1.0, 1.25, "equivalent"),  # the margin's own ends: 0.8 and 1.25 are each other's inverse, exactly
        (0.8 - HAIR, 1.0, 1.25, "inconclusive"),
        (0.8, 1.0, 1.25 + HAIR, "inconclusive"),
        (0.9, 0.95, 0.97, "equivalent"),  # narrow, within the margin, without "none"
        (1.25, 1.25, 1.25, "equivalent"),  # no width, at the margin
        (1.25, 1.5, 2.0, "better"),  # touches the margin from without
        (1.0, 1.5, 2.25, "inconclusive"),  # touches "none"
        (1.0 + HAIR, 1.5, 2.25, "better"),
        (0.5, 1.0, 2.0, "inconclusive"),  # the margin lies within it
    ],
)
def test_ends_of_a_ratio_that_touch_count_as_within(
    low: float, amount: float, high: float, verdict: str, turned: bool
) -> None:
    interval = Interval(1 / high, 1 / amount, 1 / low, 3) if turned else Interval(low, amount, high, 3)
    found = Comparison("images_per_second", interval, margin=0.25)
    assert found.verdict == verdict
    assert found.side == (0 if verdict != "better" else -1 if turned else 1)


@pytest.mark.parametrize("turned", [False, True], ids=["a less b", "b less a"])
@pytest.mark.parametrize(
    ("low", "amount", "high", "verdict"),
    [
        (-0.001, 0.0, 0.001, "equivalent"),
        (-0.001 - HAIR, 0.0, 0.001, "inconclusive"),
        (0.0, 0.002, 0.004, "inconclusive"),
        (HAIR, 0.002, 0.004, "better"),
        (HAIR, 0.0005, 0.001, "equivalent"),  # shown, and too small to matter
        (0.001, 0.002, 0.003, "better"),
    ],
)
def test_ends_of_a_difference_that_touch_count_as_within(
    low: float, amount: float, high: float, verdict: str, turned: bool
) -> None:
    interval = Interval(-high, -amount, -low, 3) if turned else Interval(low, amount, high, 3)
    found = Comparison("test_accuracy", interval, margin=0.001)
    assert found.verdict == verdict
    assert found.side == (0 if verdict != "better" else -1 if turned else 1)


@pytest.mark.parametrize("amount", [1 + MEMORY_APART, 1 / (1 + MEMORY_APART)])
def test_memory_of_one_seed_is_apart_only_beyond_what_an_allocator_does_by_itself(amount: float) -> None:
    def verdict(amount: float, metric: str = "peak_memory_bytes", n: int = 1) -> str:
        return Comparison(metric, Interval(math.nan, amount, math.nan, n)).verdict

    beyond = over(amount) if amount > 1 else under(amount)
    assert (verdict(amount), verdict(beyond)) == ("inconclusive", "better")
    assert verdict(beyond, "images_per_second") == "inconclusive"  # what a clock says needs an interval
    assert verdict(beyond, n=0) == "inconclusive"


@pytest.mark.parametrize("turned", [False, True], ids=["a and b", "b and a"])
@pytest.mark.parametrize(
    "seconds", [[9.0, 11.0], [1.0, 10.0, 30.0], [1.0, 9.0, 11.0, 40.0]], ids=lambda seconds: f"n = {len(seconds)}"
)
def test_times_as_far_apart_as_the_grid_can_be_told_and_closer_ones_not(seconds: list[float], turned: bool) -> None:
    a, b = ({seed: value + later for seed, value in enumerate(seconds)} for later in (0.0, 2.0))
    sides = (b, a) if turned else (a, b)
    blurred = {grid: compare(TIME, *sides, grid=grid).blurred for grid in (0.0, under(2.0), 2.0, over(2.0))}
    assert blurred == {0.0: False, under(2.0): False, 2.0: False, over(2.0): True}
    assert not compare(TIME, a, a).blurred  # without a grid nothing is too close to be told
    assert not compare(TIME, a, {}, grid=1000.0).blurred


@pytest.mark.parametrize(
    ("grid", "margin", "verdict"),
    [
        (0.02, 0.03, "equivalent"),
        (0.02, 0.019, "inconclusive"),
        (0.04, 0.03, "inconclusive"),
        (0.0, 0.03, "equivalent"),
    ],
)
def test_values_closer_than_the_grid_are_equivalent_where_it_is_finer_than_what_matters(
    grid: float, margin: float, verdict: str
) -> None:
    found = Comparison(TIME, Interval(0.985, 0.99, 1.005, 3), margin=margin)
    assert on_grid(found, (1.0, 1.01), grid).verdict == verdict


def test_accuracies_without_a_floor_are_as_sure_as_their_seeds() -> None:
    a, b = dict.fromkeys(range(3), 0.5), dict.fromkeys(range(3), 0.25)
    assert compare("test_accuracy", a, b).interval == (0.25, 0.25, 0.25, 3)
    assert compare("test_accuracy", a, b, floor=0.5).interval == (-0.25, 0.25, 0.75, 3)


@pytest.mark.parametrize(("bytes_more", "blurred"), [(MEMORY_GRID - 1, True), (MEMORY_GRID, False)])
def test_memory_a_whole_step_of_its_grid_apart_can_be_told(bytes_more: int, blurred: bool) -> None:
    a, b = dict.fromkeys(range(3), 2.0**30), dict.fromkeys(range(3), 2.0**30 + bytes_more)
    for sides in ((a, b), (b, a)):
        assert compare("peak_memory_bytes", *sides, grid=MEMORY_GRID).blurred is blurred


@pytest.mark.parametrize(("margin", "verdict"), [(0.0, "inconclusive"), (0.04, "inconclusive"), (0.05, "equivalent")])
def test_what_is_closer_than_its_grid_is_equivalent_where_the_margin_is_wider(margin: float, verdict: str) -> None:
    a, b = dict.fromkeys(range(3), 20.0 * MEMORY_GRID), dict.fromkeys(range(3), 20.5 * MEMORY_GRID)
    for sides in ((a, b), (b, a)):
        assert compare("peak_memory_bytes", *sides, margin=margin, grid=MEMORY_GRID).verdict == verdict
    scattered = {0: 16.0 * MEMORY_GRID, 1: 20.0 * MEMORY_GRID, 2: 24.0 * MEMORY_GRID}
    assert compare("peak_memory_bytes", a, scattered, margin=margin, grid=MEMORY_GRID).verdict == "inconclusive"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("comparison") / "run"
    return read_tables(make_run(folder, configs=[("vit", 7, 2), ("cnn", None, 2)], dtypes=["fp32"]))


def test_the_coarser_of_two_rows_grids_counts(tables: Tables) -> None:
    vit, cnn = records(tables.summary)
    apart = abs(vit[TIME] - cnn[TIME])

    def blurred(of_vit: float, of_cnn: float) -> bool:
        tables.compared.clear()
        return compare_rows(tables, vit | {GRID: of_vit}, cnn | {GRID: of_cnn}, TIME).blurred

    assert [blurred(0.1, over(apart)), blurred(over(apart), 0.1), blurred(math.nan, over(apart))] == [True] * 3
    assert [blurred(0.1, apart), blurred(apart, 0.1), blurred(math.nan, math.nan)] == [False] * 3


def test_memory_of_two_rows_is_told_apart_from_a_mebibyte_on(tmp_path: Path) -> None:
    peaks = {"vit": 4 * MEMORY_GRID, "cnn-d2": 5 * MEMORY_GRID - 1, "cnn-d4": 5 * MEMORY_GRID}
    overrides = {start: {"peak_memory_bytes": peak} for start, peak in peaks.items()}
    configs = [("vit", 7, 2), ("cnn", None, 2), ("cnn", None, 4)]
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"], overrides=overrides))
    vit, *cnns = records(tables.summary)
    verdicts = [compare_rows(tables, cnn, vit, "peak_memory_bytes").verdict for cnn in cnns]
    assert verdicts == ["inconclusive", "better"]


@pytest.mark.parametrize(("high", "verdict"), [(4.0, "inconclusive"), (4.001, "too noisy to call")])
def test_a_line_whose_interval_spans_more_than_four_times_has_no_figure(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, high: float, verdict: str
) -> None:
    found = Comparison("images_per_second", Interval(1.0, 2.0, high, 3))
    monkeypatch.setattr("bench.analysis.comparison._compared", lambda *_: found)
    line = scorecard(replace(tables), records(tables.summary), "both").line("images_per_second")
    assert line
    assert line.verdict == verdict
    assert (line.difference == "") is (verdict != "inconclusive")


@pytest.mark.parametrize(
    ("first", "raced", "within"),
    [
        (0, 0, False),
        (1, 1, True),
        (1, 2, False),
        (2, 2, True),
        (1, 3, False),
        (2, 3, True),
        (2, 4, False),
        (3, 4, True),
    ],
)
def test_a_median_is_the_first_evaluations_where_more_than_half_of_the_seeds_were_there(
    first: int, raced: int, within: bool
) -> None:
    assert is_within({"first_0.97": first, "n_raced": raced}, TIME) is within
    assert not is_within({"first_0.97": first, "n_raced": raced}, "train_seconds")


@pytest.mark.parametrize("amount", [1.0, 3.0, 1 / 3])
def test_a_ratio_known_to_just_twice_the_precision_is_an_answer(amount: float) -> None:
    found = Interval(amount / 2, amount, amount * 2, 8)
    half_width = math.log(found.high / found.low) / 2
    assert not is_too_noisy(found, half_width / 2)
    assert is_too_noisy(found, under(half_width / 2))


@pytest.mark.parametrize("turned", [False, True], ids=["a over b", "b over a"])
def test_a_wide_ratio_is_an_answer_only_if_it_is_more_than_twice_as_far_from_one(turned: bool) -> None:
    """Half-widths of exactly log 2, the widest that tell anything: 4 is twice as far from 1 as that, and no more."""

    def noisy(amount: float, factor: float = 2.0, n: int = 8) -> bool:
        amount = 1 / amount if turned else amount
        return is_too_noisy(Interval(amount / factor, amount, amount * factor, n), 0.03)

    assert [noisy(2.0), noisy(4.0), noisy(4.001), noisy(100.0)] == [True, True, False, False]
    assert noisy(100.0, factor=2.001)  # wider than that tells nothing, however far
    assert noisy(100.0, n=0)
    assert noisy(100.0, factor=math.nan)
