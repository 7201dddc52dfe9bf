"""The gate's promise, kept on replayed launches: false alarms, power and coverage stay within bounds.

Journals are recorded ones where tests/fixtures/gate holds them, and made-up ones with noise of recorded size besides.
"""

import gzip
import lzma
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from gate_recordings import Recording, load, load_all, one_slow_cell
from gate_replay import Launches, gate_minutes, one_gate, regressed, separate_gates, virtual_gates, virtual_screens
from made_up_journal import CELLS, NONE, Noise, made_up_journal, write_journal

from bench.errors import StoreError
from bench.gate.decision import Decision, decide, flagged, unsettled
from bench.gate.journal import Record

DATA = Path(__file__).parents[1] / "fixtures" / "gate"
GATES, SCREENS, LAUNCHES = 150, 100, 6
MADE_UP = {
    "made-up-aa": made_up_journal(60),
    "made-up-slow10": made_up_journal(60, 0.10, seed=1),
    "made-up-slow20": made_up_journal(60, 0.20, seed=2),
    "made-up-onecell10": made_up_journal(60, 0.10, ["cnn train"], seed=3),
}
RECORDINGS = {name: Recording(name, record) for name, record in MADE_UP.items()}
if DATA.is_dir():
    RECORDINGS |= {one.name: one for one in load_all(DATA)}
SAME = [name for name, one in RECORDINGS.items() if not one.slowdown]


def slower_by(least: float, most: float) -> list[str]:
    return [name for name, one in RECORDINGS.items() if least <= one.slowdown <= most]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@cache
def gates(name: str) -> list[Decision]:
    return virtual_gates(RECORDINGS[name].record, GATES, LAUNCHES, LAUNCHES, rng())


@pytest.mark.parametrize("name", SAME)
def test_identical_code_fails_at_most_once_in_a_hundred_gates(name: str) -> None:
    assert fmean(map(regressed, gates(name))) <= 0.01


@pytest.mark.parametrize("name", slower_by(0.095, 0.105))
def test_ten_percent_slower_fails_in_19_of_20_gates(name: str) -> None:
    assert fmean(map(regressed, gates(name))) >= 0.95


@pytest.mark.parametrize("name", slower_by(0.095, 0.105))
def test_a_cell_that_is_no_slower_is_not_blamed(name: str) -> None:
    slowed = RECORDINGS[name].slowed
    wrong = [cell for each in gates(name) for cell in each.cells if cell.verdict == "regression"]
    assert sum(cell.cell not in slowed for cell in wrong) <= 0.01 * GATES


@pytest.mark.parametrize("name", slower_by(0.195, 0.205))
def test_twenty_percent_slower_never_passes(name: str) -> None:
    assert "pass" not in Counter(each.verdict for each in gates(name))


@pytest.mark.parametrize("name", RECORDINGS)
def test_intervals_hold_the_true_ratio_at_about_their_stated_rate(name: str) -> None:
    """Not exactly at it: a journal's own middle is off the truth by the luck of its launches."""
    one = RECORDINGS[name]
    covered = [
        cell.estimate.low <= one.truth(cell.cell) <= cell.estimate.high
        for screen in virtual_screens(one.record, SCREENS, LAUNCHES, rng())
        for cell in screen.cells
        if cell.estimate
    ]
    assert len(covered) == SCREENS * len(one.record.header["cells"])
    assert 0.86 <= fmean(covered) <= 0.995


def test_launches_with_one_slow_cell_are_made_of_two_journals() -> None:
    same, slower = RECORDINGS["made-up-aa"], RECORDINGS["made-up-slow10"]
    mixed = list(one_slow_cell(same, slower))
    assert [one.slowed for one in mixed] == [[cell] for cell in CELLS]
    for one in mixed:
        (decision,) = virtual_screens(one.record, 1, 40, rng())
        for cell in decision.cells:
            assert cell.estimate
            assert cell.estimate.ratio == pytest.approx(one.truth(cell.cell), abs=0.03)


def test_estimates_are_of_the_true_size() -> None:
    record = made_up_journal(12, 0.10, noise=NONE)
    for decision in virtual_gates(record, 3, LAUNCHES, LAUNCHES, rng()):
        for cell in decision.cells:
            assert cell.estimate
            assert cell.estimate.ratio == pytest.approx(1.10)


def test_condensed_launches_lead_to_the_verdicts_of_their_slices() -> None:
    record = made_up_journal(2 * LAUNCHES, 0.06, blocks=3, seed=5)
    order = list(range(2 * LAUNCHES))
    short = one_gate(Launches(record), order[:LAUNCHES], order[LAUNCHES:])
    screen = Record(record.header, slices=[piece for piece in record.slices if piece.launch < LAUNCHES])
    again = {*flagged(screen), *unsettled(screen)}
    assert again  # else there is nothing to confirm
    pieces = [
        piece if piece.launch < LAUNCHES else replace(piece, phase="confirm")
        for piece in record.slices
        if piece.launch < LAUNCHES or piece.cell in again
    ]
    phases = {"screen": order[:LAUNCHES], "confirm": order[LAUNCHES:]}
    whole = decide(Record(record.header, slices=pieces, launches=phases, ended=True))
    assert [cell.verdict for cell in short.cells] == [cell.verdict for cell in whole.cells]
    for condensed, full in zip(short.cells, whole.cells, strict=True):
        assert condensed.p_screen == pytest.approx(full.p_screen)
        assert condensed.p_confirm == (None if full.p_confirm is None else pytest.approx(full.p_confirm))
        assert condensed.estimate
        assert full.estimate
        assert condensed.estimate.high == pytest.approx(full.estimate.high)


def test_the_same_seed_draws_the_same_gates() -> None:
    record = MADE_UP["made-up-aa"]

    def estimates(seed: int) -> list[float]:
        found = virtual_gates(record, 5, LAUNCHES, LAUNCHES, np.random.default_rng(seed))
        return [cell.estimate.ratio for each in found for cell in each.cells if cell.estimate]

    assert estimates(1) == estimates(1)
    assert estimates(1) != estimates(2)


def test_only_what_is_flagged_is_confirmed_and_paid_for() -> None:
    record = made_up_journal(12, 0.20, ["vit train"], noise=NONE)
    found = virtual_gates(record, 2, LAUNCHES, 8, rng())
    for each in found:
        assert [cell.cell for cell in each.cells if cell.p_confirm is not None] == ["vit train"]
        assert each.launches == {"screen": LAUNCHES, "confirm": 8}
    one = Recording("onecell20", record)
    assert gate_minutes(found, one) == pytest.approx(one.launch_seconds * (6 + 8 / 4) / 60)


def test_nothing_flagged_is_nothing_confirmed() -> None:
    found = virtual_gates(made_up_journal(12, noise=NONE), 2, LAUNCHES, LAUNCHES, rng())
    assert all(each.launches == {"screen": LAUNCHES, "confirm": 0} for each in found)
    assert {each.verdict for each in found} == {"pass"}


def test_what_the_screen_leaves_open_is_measured_again_and_paid_for() -> None:
    record = made_up_journal(40, noise=Noise(launch=0.3, odd=0.0))
    found = virtual_gates(record, 10, LAUNCHES, 8, rng())
    for each in found:
        assert {cell.estimate.n for cell in each.cells if cell.estimate and cell.p_confirm is None} <= {LAUNCHES, 14}
        assert any(cell.estimate and cell.estimate.n == 14 for cell in each.cells)
    one = Recording("aa", record)
    assert gate_minutes(found, one) > one.launch_seconds * LAUNCHES / 60


def test_noise_beyond_measure_does_not_pass() -> None:
    found = virtual_gates(made_up_journal(40, noise=Noise(launch=0.5, odd=0.0)), 30, LAUNCHES, LAUNCHES, rng())
    assert "pass" not in {each.verdict for each in found}


def test_separate_gates_share_no_launch() -> None:
    record = made_up_journal(4 * LAUNCHES + 1, noise=NONE)
    assert len(separate_gates(record, LAUNCHES, LAUNCHES)) == 2
    for piece in (piece for piece in record.slices if piece.arm == "head" and piece.launch >= 2 * LAUNCHES):
        record.slices[record.slices.index(piece)] = replace(piece, seconds=1.5 * piece.seconds)
    assert [each.verdict for each in separate_gates(record, LAUNCHES, LAUNCHES)] == ["pass", "regression"]


def test_a_launch_without_one_of_the_cells_is_not_drawn() -> None:
    record = made_up_journal(8, noise=NONE)
    record.slices = [piece for piece in record.slices if (piece.launch, piece.cell) != (3, CELLS[0])]
    assert len(Launches(record)) == 7


def test_compressed_journals_read_like_plain_ones(tmp_path: Path) -> None:
    plain = tmp_path / "slow10-quiet.jsonl"
    write_journal(plain, made_up_journal(3, 0.10, ["vit infer"]))
    (tmp_path / "slow10-hog.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "slow10-stream.jsonl.xz").write_bytes(lzma.compress(plain.read_bytes()))
    (tmp_path / "README.md").write_text("not a journal")
    found = load_all(tmp_path)
    assert [one.name for one in found] == ["slow10-hog", "slow10-quiet", "slow10-stream"]
    assert all(one.record == found[0].record for one in found)
    assert found[0].truth("vit infer") == pytest.approx(1.1)
    assert found[0].truth("vit train") == 1.0


def test_a_made_up_journal_is_written_and_read_back_whole(tmp_path: Path) -> None:
    record = made_up_journal(3)
    write_journal(tmp_path / "aa-quiet.jsonl", record)
    assert load(tmp_path / "aa-quiet.jsonl").record == record


def test_a_journal_that_does_not_say_what_was_slowed_is_refused(tmp_path: Path) -> None:
    record = made_up_journal(3)
    del record.header["slowed"]
    write_journal(tmp_path / "gate.jsonl", record)
    with pytest.raises(StoreError, match=r"gate\.jsonl: doesn't say what was slowed"):
        load(tmp_path / "gate.jsonl")


def test_a_folder_without_journals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no journals"):
        load_all(tmp_path)


def fails_in(decisions: list[Decision]) -> float:
    return fmean(map(regressed, decisions))


def test_the_bounds_would_catch_a_gate_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too strict, too lax, too sure: each leaves the bounds that the tests above hold it to."""
    same, slower = MADE_UP["made-up-aa"], MADE_UP["made-up-onecell10"]

    def with_margin(record: Record, margin: float) -> list[Decision]:
        other = replace(record, header=record.header | {"margin": margin})
        return virtual_gates(other, 60, LAUNCHES, LAUNCHES, rng())

    assert fails_in(with_margin(slower, 0.12)) < 0.95
    monkeypatch.setattr("bench.gate.decision.SCREEN_ALPHA", 0.9)
    monkeypatch.setattr("bench.gate.decision.CONFIRM_ALPHA", 0.6)
    assert fails_in(with_margin(same, 0.0)) > 0.01
    monkeypatch.setattr("bench.gate.launch_stats.CONFIDENCE", 0.6)
    screens = virtual_screens(same, 60, LAUNCHES, rng())
    held = [cell.estimate.low <= 1 <= cell.estimate.high for each in screens for cell in each.cells if cell.estimate]
    assert fmean(held) < 0.86
