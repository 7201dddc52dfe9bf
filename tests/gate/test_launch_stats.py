"""What launches say: against scipy, against hand counts, and against odd launches."""

import math

import numpy as np
import pytest
from scipy.stats import mstats, t, ttest_1samp

from bench.gate.journal import Slice
from bench.gate.launch_stats import (
    LAUNCH_NOISE,
    bonferroni,
    detectable,
    forecast,
    holm,
    launch_values,
    noise,
    p_slower,
    step_seconds,
    trimmed,
)


def slices(launch: int, base: list[float], head: list[float], block: int = 0, **more: object) -> list[Slice]:
    arms = [("base", seconds) for seconds in base] + [("head", seconds) for seconds in head]
    return [
        Slice(launch, "screen", "x", block, slot, arm, 10, seconds, **more)  # type: ignore[arg-type]
        for slot, (arm, seconds) in enumerate(arms)
    ]


def test_a_launch_is_the_log_ratio_of_step_times() -> None:
    values = launch_values(slices(0, [1.0, 1.0], [1.1, 1.1]) + slices(1, [2.0, 2.0], [2.0, 2.0]), ["screen"])
    assert values["x"] == pytest.approx([math.log(1.1), 0.0])


def test_steady_drift_within_a_block_cancels_in_abba() -> None:
    drifting = slices(0, [1.0, 1.03], [1.01, 1.02])  # A at 1.00 and 1.03, B between
    assert launch_values(drifting, ["screen"])["x"] == pytest.approx([0.0], abs=1e-3)


def test_an_odd_block_of_three_does_not_move_its_launch() -> None:
    blocks = [piece for b, ratio in enumerate((1.0, 1.0, 3.0)) for piece in slices(0, [1, 1], [ratio, ratio], b)]
    assert launch_values(blocks, ["screen"])["x"] == pytest.approx([0.0])


def test_half_a_block_is_left_out_and_other_phases_are_not_looked_at() -> None:
    half = [*slices(0, [1.0, 1.0], [2.0]), *slices(0, [1.0, 1.0], [1.0, 1.0], block=1)]
    assert launch_values(half, ["screen"])["x"] == pytest.approx([0.0])
    assert launch_values(half, ["confirm"]) == {}


def test_time_that_others_took_of_the_core_is_left_out_where_the_system_tells_it() -> None:
    waited = [*slices(0, [1.0, 1.0], [], own_seconds=1.0), *slices(0, [], [9.0, 9.0], own_seconds=1.0)]
    assert launch_values(waited, ["screen"])["x"] == pytest.approx([0.0])
    assert step_seconds(waited) == {"x": {"base": 0.1, "head": 0.1}}


@pytest.mark.parametrize(("n", "cut"), [(6, 1), (8, 1), (10, 2), (13, 2)])
def test_the_interval_is_yuens(n: int, cut: int) -> None:
    values = np.random.default_rng(n).normal(0.05, 0.03, n)
    found, kept = trimmed(values), n - 2 * cut
    squares = float(mstats.winsorize(values, (cut / n, cut / n)).var(ddof=1)) * (n - 1)
    half = t.ppf(0.975, kept - 1) * math.sqrt(squares / (kept * (kept - 1)))  # Yuen 1974, equations 1 to 3
    middle = np.sort(values)[cut : n - cut].mean()
    assert np.log([found.low, found.ratio, found.high]) == pytest.approx([middle - half, middle, middle + half])
    assert found.n == n


def test_without_trimming_p_is_students(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gate.launch_stats.TRIM", 0.0)
    values = np.random.default_rng(0).normal(0.01, 0.03, 9)
    assert p_slower(values) == pytest.approx(ttest_1samp(values, 0, alternative="greater").pvalue)


def test_one_odd_launch_of_eight_moves_neither_estimate_nor_interval_far() -> None:
    values = np.random.default_rng(1).normal(0.0, 0.02, 8)
    odd = values.copy()
    odd[3] = 0.22
    plain, moved = trimmed(values), trimmed(odd)
    assert abs(moved.ratio - plain.ratio) < 0.01
    assert moved.high < 1.05


def test_equal_launches_are_certain() -> None:
    assert p_slower(np.full(6, 0.1)) < 1e-9
    assert p_slower(np.full(6, -0.1)) > 1 - 1e-9
    assert trimmed(np.zeros(6)).low == trimmed(np.zeros(6)).high == 1.0
    assert p_slower(np.zeros(6)) == 1.0  # just as fast isn't slower


def test_noise_takes_two_launches() -> None:
    assert noise(np.array([0.1])) is None
    assert noise(np.array([0.1, 0.3])) == pytest.approx(0.2 / math.sqrt(2))


def test_adjusted_p_values_are_those_of_hand_counts() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # Holm 1979: 3p, then 2p, then p, rising
    assert bonferroni([0.01, 0.5]) == [0.02, 1.0]
    assert holm([]) == bonferroni([]) == []


def test_what_can_be_detected_grows_with_noise_and_is_never_below_the_margin() -> None:
    rng = np.random.default_rng(0)
    quiet, loud = rng.normal(0, 0.005, 10), rng.normal(0, 0.1, 10)
    assert 0.03 < detectable(quiet, 0.03, 0.0125) < 0.05 < detectable(loud, 0.03, 0.0125)
    for values, alpha in ((quiet, 0.0125), (loud, 0.05)):
        error = np.diff(np.log([trimmed(values).ratio, trimmed(values).high]))[0] / t.ppf(0.975, 5)  # 6 launches kept
        limit = max(math.log(1.03), t.ppf(1 - alpha, 5) * error)
        assert detectable(values, 0.03, alpha) == pytest.approx(math.exp(limit + 2 * error) - 1)
    assert noise(loud) == pytest.approx(loud.std(ddof=1))
    assert noise(loud[:1]) is None


def launch(dice: np.random.Generator, spread: float, ratio: float = 1.0, blocks: int = 4) -> list[Slice]:
    """A launch whose blocks scatter by so much around a ratio."""
    ratios = ratio * np.exp(dice.normal(0, spread, blocks))
    return [piece for b, r in enumerate(ratios) for piece in slices(0, [1.0, 1.0], [r, r], b)]


def test_a_forecast_knows_the_noise_of_a_block_whatever_the_change() -> None:
    dice = np.random.default_rng(0)
    for ratio in (1.0, 1.5):
        assert forecast(launch(dice, 0.03, ratio, blocks=4_000), 8, 0.03)[0] == pytest.approx(0.03, rel=0.05)
    one, half = slices(0, [1.0, 1.0], [1.1, 1.1]), slices(0, [1.0, 1.0], [1.1])
    assert forecast(one, 8, 0.03)[0] == forecast(half, 8, 0.03)[0] == 0.0, (
        "one block tells nothing, half of one no more"
    )


def test_a_quiet_machine_tells_the_margin_and_what_launches_add(monkeypatch: pytest.MonkeyPatch) -> None:
    still = launch(np.random.default_rng(0), 0.0)
    error = LAUNCH_NOISE / math.sqrt(8)
    assert forecast(still, 8, 0.03)[1] == pytest.approx(1.03 * math.exp(2 * error) - 1)
    monkeypatch.setattr("bench.gate.launch_stats.LAUNCH_NOISE", 0.0)
    assert forecast(still, 8, 0.03)[1] == pytest.approx(0.03)


def test_a_forecast_pools_what_blocks_scatter_within_each_launch() -> None:
    found = [
        piece
        for number, logs in enumerate(([0.0, 0.1, 0.2], [0.5, 0.6], [0.9]))
        for block, log in enumerate(logs)
        for piece in slices(number, [1.0, 1.0], [math.exp(log)] * 2, block)
    ]
    scatter = math.sqrt((0.02 + 0.005) / (2 + 1))  # squares around the launch's own mean, over what is free
    error = math.sqrt(LAUNCH_NOISE**2 + scatter**2 / 3) / math.sqrt(8)  # a launch has as many blocks as the longest
    assert forecast(found, 8, 0.03) == pytest.approx((scatter, math.exp(4 * error) - 1))


def test_more_launches_tell_less_and_more_noise_tells_more() -> None:
    noisy = launch(np.random.default_rng(1), 0.03)
    by_launches = [forecast(noisy, launches, 0.03)[1] for launches in (4, 8, 16, 64)]
    assert by_launches == sorted(by_launches, reverse=True)
    by_noise = [forecast(launch(np.random.default_rng(1), spread), 8, 0.03)[1] for spread in (0.0, 0.01, 0.05, 0.2)]
    assert by_noise == sorted(by_noise)


def test_a_slowdown_that_can_be_told_is_told_nineteen_times_of_twenty() -> None:
    dice = np.random.default_rng(2)
    for spread in (0.01, 0.1):
        slower = math.log1p(forecast(launch(dice, spread, blocks=1_000)[: 4 * 1_000], 8, 0.03)[1])
        error = math.sqrt(LAUNCH_NOISE**2 + spread**2 / 1_000) / math.sqrt(8)
        means = dice.normal(slower, error, 2_000)
        assert (means > max(math.log1p(0.03), 1.96 * error)).mean() >= 0.95
