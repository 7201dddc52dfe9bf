"""The rules of other tools, held against the tools' own arithmetic where it can be had."""

import math

import numpy as np
import pytest
import rival_rules as rules
from made_up_journal import NONE, Noise, made_up_journal
from pytest_benchmark.utils import parse_compare_fail
from rival_rules import RIVALS, step_times, virtual_runs
from scipy.stats import mannwhitneyu, ttest_ind

THRESHOLDS = [name for name, rival in RIVALS.items() if rival.rule is not rules.pyperf_compare]


def samples(seed: int, size: int, slower: float = 0.0) -> tuple[rules.Array, rules.Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.0, 0.05, size), rng.normal(1.0 + slower, 0.05, size)


@pytest.mark.parametrize(("ratio", "fails"), [(0.8, False), (1.0, False), (1.0999, False), (1.1001, True), (2.0, True)])
def test_the_threshold_is_ten_percent_of_the_mean(ratio: float, fails: bool) -> None:
    base = np.array([1.0, 1.2, 1.4])
    assert rules.sequential_threshold(base, ratio * base) is fails


def test_pytest_benchmarks_own_check_agrees() -> None:
    check = parse_compare_fail("median:10%")
    verdicts = []
    for seed in range(100):
        base, head = samples(seed, 7, 0.1)
        own = check.fails({"median": float(np.median(head))}, {"median": float(np.median(base))}) is not None
        assert rules.pytest_benchmark(base, head) is own
        verdicts.append(own)
    assert 20 < sum(verdicts) < 80  # both kinds were compared


@pytest.mark.parametrize(("m", "n"), [(8, 8), (10, 10), (20, 20), (7, 12), (21, 21), (30, 24)])
def test_mann_whitneys_p_is_scipys(m: int, n: int) -> None:
    for seed in range(10):
        a, b = samples(seed, max(m, n), 0.03 * (seed % 4))
        method = "exact" if max(m, n) <= rules.ASV_EXACT else "asymptotic"
        expected = mannwhitneyu(a[:m], b[:n], method=method, use_continuity=False).pvalue
        assert rules.mann_whitney_p(a[:m], b[:n]) == pytest.approx(min(1.0, expected), abs=1e-12) or expected == 1.0


def test_asv_wants_both_the_factor_and_the_test() -> None:
    base = np.linspace(1.0, 1.01, 10)
    assert rules.asv_continuous(base, 1.2 * base)
    assert not rules.asv_continuous(base, 1.05 * base)  # different, but within the factor
    wide = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert not rules.asv_continuous(wide, 1.12 * wide)  # beyond the factor, but not different
    assert not rules.asv_continuous(1.2 * base, base)  # faster


def test_asv_with_few_values_is_not_made_up() -> None:
    five = np.linspace(1.0, 1.1, 5)
    with pytest.raises(ValueError, match="too few"):
        rules.asv_continuous(five, 2 * five)


def test_pyperfs_verdict_is_students() -> None:
    verdicts = []
    for seed in range(100):
        base, head = samples(seed, 12, 0.04)
        expected = bool(ttest_ind(head, base, alternative="two-sided").pvalue <= 0.05 and head.mean() > base.mean())
        assert rules.pyperf_compare(base, head) is expected
        verdicts.append(expected)
    assert 20 < sum(verdicts) < 80


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_no_launch_stands_for_both_versions(name: str, processes: int) -> None:
    found = list(RIVALS[name].layouts(12, processes))
    assert len(set(found)) == len(found) >= 3
    for base, head in found:
        assert len(base) == len(head) == processes
        assert not set(base) & set(head)
        assert {*base, *head} <= set(range(12))


def test_layouts_are_those_of_the_tools() -> None:
    assert list(rules.back_to_back(4, 2)) == [(range(2), range(2, 4))]
    assert [tuple(map(list, each)) for each in rules.in_rounds(4, 2)] == [([0, 2], [1, 3])]
    assert {(base[0], head[0]) for base, head in rules.stored(3, 1)} == {(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)}


@pytest.mark.parametrize("name", RIVALS)
def test_without_noise_every_rule_is_right(name: str) -> None:
    rival = RIVALS[name]
    processes = max(rival.fewest, 1)
    same = step_times(made_up_journal(14, noise=NONE))
    assert not any(virtual_runs(same, rival, processes))
    slower = made_up_journal(14, 0.2, slowed=["cnn train"], noise=NONE)
    assert all(cells == ["cnn train"] for cells in virtual_runs(step_times(slower), rival, processes))


def test_step_times_keep_launches_and_arms_apart() -> None:
    record = made_up_journal(3, 0.5, noise=NONE, blocks=2)
    times = step_times(record)
    assert list(times) == record.header["cells"]
    for arms in times.values():
        assert [len(launch) for launch in arms["base"]] == [4, 4, 4]
        assert math.isclose(arms["head"][0][0] / arms["base"][0][0], 1.5)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_machine_that_drifts_makes_a_rule_of_sequential_runs_cry_wolf(name: str) -> None:
    drifting = step_times(made_up_journal(40, noise=Noise(launch=0.0, block=0.002, drift=0.15, odd=0.0)))
    runs = list(virtual_runs(drifting, RIVALS[name], max(RIVALS[name].fewest, 1)))
    assert sum(map(bool, runs)) / len(runs) > 0.02
