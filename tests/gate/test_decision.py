"""The verdict's rules, each on a journal that is made for it."""

import math
import re
from typing import Any

import pytest
from made_up_journal import NONE, Noise, made_up_journal

from bench.gate.decision import EXIT_STATUS, FEWEST_LAUNCHES, CellVerdict, decide, flagged, unsettled
from bench.gate.journal import Failure, Record
from bench.gate.launch_stats import detectable, holm, launch_values, noise, p_slower, step_seconds, trimmed

QUIET = Noise(launch=0.01, block=0.005, drift=0.04, odd=0.0)
LOUD = Noise(launch=0.15, block=0.01, drift=0.04, odd=0.0)


def joined(screen: Record, confirm: Record | None = None) -> Record:
    """Two phases of one gate."""
    if confirm:
        screen.slices += confirm.slices
        screen.launches["confirm"] = confirm.launches["confirm"]
    return screen


def gate(slowdown: float, again: float | None = None, noise: Noise = QUIET, launches: int = 8, **more: Any) -> Record:
    screen = made_up_journal(launches, slowdown, noise=noise, seed=1, **more)
    if again is None:
        return screen
    return joined(screen, made_up_journal(launches, again, noise=noise, seed=2, phase="confirm", **more))


def verdicts(record: Record, **options: Any) -> dict[str, str]:
    return {cell.cell: cell.verdict for cell in decide(record, **options).cells}


def one(record: Record) -> CellVerdict:
    (cell,) = decide(record).cells
    return cell


def test_equal_code_passes() -> None:
    decision = decide(gate(0.0))
    assert (decision.verdict, decision.exit_status) == ("pass", 0)
    assert all(cell.estimate and cell.estimate.high < 1.10 for cell in decision.cells)
    assert "No regression" in decision.headline


def test_a_slowdown_that_is_flagged_and_confirmed_is_a_regression_of_the_confirmed_size() -> None:
    decision = decide(gate(0.10, again=0.15, cells=["x"]))
    assert (decision.verdict, decision.exit_status) == ("regression", 1)
    assert decision.cells[0].estimate is not None
    assert decision.cells[0].estimate.ratio == pytest.approx(1.15, abs=0.02)
    assert decision.cells[0].reason.startswith("flagged at")
    assert "x is 1" in decision.headline


def test_only_the_slow_cell_is_flagged() -> None:
    assert flagged(gate(0.10, slowed=["vit train"])) == ["vit train"]


def test_a_flag_alone_fails_nothing_and_passes_nothing() -> None:
    assert verdicts(gate(0.2, cells=["x"])) == {"x": "inconclusive"}


def test_what_looks_slower_and_is_not_confirmed_is_called_likely_a_regression() -> None:
    headline = decide(gate(0.1, cells=["x"])).headline
    assert re.fullmatch(
        r"Likely a regression, not confirmed: x is about (9|10|11)\.\d% slower \([89]\.\d to 1\d\.\d%\)\.", headline
    )
    assert decide(gate(0.0, noise=LOUD, cells=["x"])).headline.startswith("Inconclusive: ")


def test_what_is_flagged_and_not_confirmed_passes_only_if_all_launches_together_exclude_the_promise() -> None:
    assert one(gate(0.06, again=0.0, cells=["x"])).verdict == "pass"
    assert one(gate(0.25, again=0.0, cells=["x"])).verdict == "inconclusive"
    assert "not confirmed" in one(gate(0.25, again=0.0, cells=["x"])).reason


def test_a_slowdown_within_the_margin_is_not_worth_failing_however_sure() -> None:
    sure = gate(0.02, again=0.02, noise=Noise(0.001, 0.001, 0.0, 0.0), cells=["x"])
    found = one(sure)
    assert found.estimate
    assert (found.verdict, found.estimate.ratio) == ("pass", pytest.approx(1.02, abs=0.001))
    assert found.estimate.low > 1.015


def test_an_estimate_at_the_margin_itself_is_not_worth_failing() -> None:
    record = gate(0.1, again=0.1, cells=["x"])
    ratios = [trimmed(launch_values(record.slices, [phase])["x"]).ratio for phase in ("screen", "confirm")]
    lower = min(ratios)
    record.header["margin"] = max(ratios) - 1  # 1 + margin is the ratio again, to the last digit
    assert (flagged(record), one(record).verdict) == ([], "inconclusive")
    record.header["margin"] = lower - 1
    assert one(record).verdict != "regression"
    record.header["margin"] = math.nextafter(lower, 1) - 1
    assert (flagged(record), one(record).verdict) == (["x"], "regression")


def test_a_p_value_of_just_the_level_is_flagged_and_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = gate(0.1, cells=["x", "y"], slowed=["x"])
    p = next(cell.p_screen for cell in decide(record).cells if cell.cell == "x")
    assert p
    for level, cells in ((p, ["x"]), (math.nextafter(p, 0), [])):
        monkeypatch.setattr("bench.gate.decision.SCREEN_ALPHA", level)
        assert flagged(record) == cells
    monkeypatch.undo()
    again = gate(0.1, again=0.1, cells=["x"])
    p = one(again).p_confirm
    assert p
    for level, verdict in ((p, "regression"), (math.nextafter(p, 0), "inconclusive")):
        monkeypatch.setattr("bench.gate.decision.CONFIRM_ALPHA", level)
        assert one(again).verdict == verdict


def test_an_interval_that_ends_at_the_promise_does_not_exclude_it() -> None:
    record = gate(0.0, cells=["x"])
    found = one(record).estimate
    assert found
    record.header["promise"] = found.high - 1
    assert (one(record).verdict, unsettled(record)) == ("inconclusive", ["x"])
    record.header["promise"] = math.nextafter(found.high, 2) - 1
    assert (one(record).verdict, unsettled(record)) == ("pass", [])


def test_noise_can_never_pass() -> None:
    record = gate(0.0, noise=LOUD, cells=["x"])
    assert one(record).verdict == "inconclusive"
    assert decide(record).exit_status == 3
    assert "can't be excluded" in one(record).reason
    assert unsettled(record) == ["x"]


@pytest.mark.parametrize("what", ["warn", "pass"])
def test_inconclusive_may_be_let_through_and_is_still_called_so(what: str) -> None:
    decision = decide(gate(0.0, noise=LOUD), inconclusive=what)  # type: ignore[arg-type]
    assert (decision.verdict, decision.exit_status) == ("inconclusive", 0)
    slower = decide(gate(0.2, again=0.2), inconclusive=what)  # type: ignore[arg-type]
    assert slower.exit_status == 1


def test_more_launches_settle_what_few_left_open() -> None:
    noise = Noise(launch=0.12, block=0.01, drift=0.0, odd=0.0)
    screen = made_up_journal(6, 0.0, noise=noise, seed=0, cells=["x"])
    assert unsettled(screen) == ["x"]
    more = joined(screen, made_up_journal(60, 0.0, noise=noise, seed=6, cells=["x"], phase="confirm"))
    found = one(more)
    assert found.estimate
    assert (found.verdict, found.estimate.n) == ("pass", 60)  # both made-up phases number theirs from 0 on


def test_too_few_launches_say_so() -> None:
    assert one(gate(0.0, launches=FEWEST_LAUNCHES, cells=["x"])).verdict == "pass"
    found = one(gate(0.5, launches=FEWEST_LAUNCHES - 1, cells=["x"]))
    assert (found.verdict, found.estimate) == ("inconclusive", None)
    assert f"at least {FEWEST_LAUNCHES} are needed" in found.reason


def test_a_line_of_the_table_has_its_cells_figures_over_the_launches_of_both_phases() -> None:
    cells = [*"abcde"]  # of five the screen's level is the stricter one
    record = gate(0.1, again=0.1, cells=cells, slowed=["a", "b"])
    screen, fresh = launch_values(record.slices, ["screen"]), launch_values(record.slices, ["confirm"])
    pooled = launch_values(record.slices, ["screen", "confirm"])
    confirmed = dict(zip("ab", holm([p_slower(fresh[cell]) for cell in "ab"]), strict=True))
    times = step_seconds(record.slices)
    for found in decide(record).cells:
        values = pooled[found.cell]
        assert found.estimate == trimmed(fresh[found.cell] if found.cell in confirmed else values)
        assert found.noise == noise(values)
        assert found.detectable == detectable(values, record.header["margin"], 0.2 / 5)
        assert found.p_screen == min(1, 5 * p_slower(screen[found.cell]))
        assert found.p_confirm == confirmed.get(found.cell)
        assert found.seconds_per_step == (times[found.cell]["base"], times[found.cell]["head"])
    found = one(gate(0.0, cells=["x"]))  # alone, the confirmation's is
    assert found.detectable == detectable(launch_values(gate(0.0, cells=["x"]).slices, ["screen"])["x"], 0.03, 0.05)


def test_reasons_and_headlines_name_sizes_and_the_slowest_cell() -> None:
    confirmed = decide(gate(0.10, again=0.15, noise=NONE, cells=["x", "y"], slowed=["y"]))
    assert confirmed.cells[1].reason == "flagged at 10.0%, confirmed"
    assert confirmed.headline == "Regression: y is 15.0% slower; flagged, and confirmed on fresh launches."
    flag = decide(gate(0.10, noise=NONE, cells=["x", "y"], slowed=["y"]))
    assert flag.cells[1].reason == "flagged at 10.0%, too few launches to confirm: a larger --budget"
    assert flag.headline == "Likely a regression, not confirmed: y is about 10.0% slower (10.0 to 10.0%)."
    open_still = decide(gate(0.0, noise=LOUD, cells=["x", "y"]))
    assert [cell.reason for cell in open_still.cells] == ["a slowdown of 10% can't be excluded", ""]
    assert open_still.headline == (
        "Inconclusive: this machine's noise leaves 1 of 2 cells undecided between no change and 10% slower."
    )
    for slowdown, measured in ((0.02, "y, measured 2.0% slower"), (-0.05, "x, measured 0.0% slower")):
        assert decide(gate(slowdown, noise=NONE, cells=["x", "y"], slowed=["y"])).headline == (
            f"No regression: every cell is less than 10% slower with 95% confidence; the slowest, {measured} "
            "(up to 3% isn't worth failing)."
        )
    assert "x, measured 5.0% faster" in decide(gate(-0.05, noise=NONE, cells=["x"])).headline


def test_a_faster_cell_passes_and_is_called_faster() -> None:
    found = one(gate(-0.2, cells=["x"]))
    assert found.verdict == "pass"
    assert found.faster
    same = one(gate(0.0, noise=NONE, cells=["x"]))
    assert same.estimate
    assert (same.estimate.high, same.faster) == (1.0, False)


@pytest.mark.parametrize(
    ("kind", "verdict", "status"), [("missing", "missing", 4), ("crash", "crashed", 5), ("timeout", "crashed", 5)]
)
def test_a_cell_that_failed_is_never_a_pass(kind: Any, verdict: str, status: int) -> None:
    record = gate(0.0, cells=["x", "y"])
    record.failures.append(Failure(kind, "base", "y", "why it failed"))
    decision = decide(record)
    assert (decision.verdict, decision.exit_status) == (verdict, status)
    assert decide(record, inconclusive="pass").exit_status == status, "that is for what couldn't be told alone"
    assert verdicts(record) == {"x": "pass", "y": verdict}
    assert "why it failed" in decision.headline
    record.failures += [Failure(kind, "base", "x", "what failed then"), Failure("crash", "head", "y", "and again")]
    (x, y), headline = decide(record).cells, decide(record).headline
    assert (x.reason, y.reason) == ("what failed then", "why it failed")  # of a cell, what failed first
    assert headline.endswith(": what failed then.")  # of cells, the table's first


def test_missing_cells_may_be_allowed_but_comparing_nothing_never_passes() -> None:
    record = gate(0.0, cells=["x", "y"])
    record.failures.append(Failure("missing", "base", "y", "it is new"))
    assert decide(record, allow_missing=True).verdict == "pass"
    record.failures.append(Failure("missing", "base", None, "no protocol"))
    assert decide(record, allow_missing=True).exit_status == 4


def test_a_cell_that_head_lacks_is_never_excused() -> None:
    record = gate(0.0, cells=["x", "y"])
    record.failures.append(Failure("missing", "head", "y", "it is gone"))
    assert decide(record, allow_missing=True).exit_status == 4


def test_a_confirmed_regression_is_told_even_if_another_cell_crashed() -> None:
    record = gate(0.2, again=0.2, cells=["x", "y"])
    record.failures.append(Failure("crash", "head", "y", "died of signal 9"))
    assert verdicts(record) == {"x": "regression", "y": "regression"}
    assert decide(record).exit_status == 1


def test_more_work_is_a_regression_without_any_timing() -> None:
    record = gate(0.0, cells=["x"])
    record.work["x"] = {"base": {"parameters": 100}, "head": {"parameters": 110}}
    decision = decide(record)
    assert (decision.verdict, decision.exit_status) == ("regression", 1)
    assert "More work a step in x" in decision.headline
    assert [change.what for change in decision.work] == ["parameters"]
    assert decide(record, work="warn").exit_status == 0


def test_faster_by_doing_less_is_said() -> None:
    record = gate(-0.2, cells=["x"])
    record.work["x"] = {"base": {"parameters": 110}, "head": {"parameters": 100}}
    assert any("does less work" in note for note in decide(record).notes)


def test_only_work_passes_on_equal_counts_and_not_without_any() -> None:
    record = gate(0.0, launches=0, cells=["x"])
    record.header["only_work"] = True
    assert decide(record).exit_status == 4
    record.work["x"] = {"base": {"parameters": 100}, "head": {"parameters": 100}}
    assert decide(record).exit_status == 0


def test_a_gate_that_was_stopped_says_so() -> None:
    record = gate(0.0)
    record.ended = False
    assert any("--resume" in note for note in decide(record).notes)


def test_without_noise_the_estimate_is_the_slowdown() -> None:
    found = one(gate(0.07, again=0.07, noise=NONE, cells=["x"]))
    assert found.verdict == "regression"
    assert found.estimate is not None
    assert found.estimate.ratio == pytest.approx(1.07)


def test_each_verdict_has_a_status_of_its_own() -> None:
    assert EXIT_STATUS == {"pass": 0, "regression": 1, "inconclusive": 3, "missing": 4, "crashed": 5}
