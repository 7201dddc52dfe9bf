"""The speed rounds of a run: each launch on disk before the next, within their time, through interrupts and resumes."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up_launch import made_up_launches

from bench.execution import speed_rounds
from bench.execution.progress import Progress
from bench.execution.speed_rounds import SpeedRounds
from bench.result import Launch, Result
from bench.speed.rounds import Setting
from bench.store.run_folder import RunFolder
from bench.store.tables import read_launches
from bench.system import process
from bench.trial import Training, Trial

TRIALS = [
    Trial(
        suite="x", dataset="digits", model="vit", settings={"depth": depth}, recipe="vit", training=Training(),
        dtype="fp32", device="cpu", seed=seed,
    )
    for seed in (0, 1)
    for depth in (1, 2)
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder.create(tmp_path / "run", {})
    for trial in TRIALS:
        folder.append(Result(**trial.row(), status="ok"))
    yield folder
    folder.close()


class Told(Progress):
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def measuring(self, launches: Sequence[Launch], precision: float, seconds_left: float) -> None:
        self.seen.append((len(launches), seconds_left))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, store: RunFolder) -> list[dict[str, Any]]:
    """What `measure` was asked; in its place come as many launches of 20 s as fit into the seconds."""
    found: list[dict[str, Any]] = []

    def measure(setting: Setting, known: Sequence[Launch], number: int, seconds: float, now: Any) -> Iterator[Launch]:
        found.append({"names": [entry.name for entry in setting.entries], "known": len(known), "seconds": seconds})
        for each in range(int(seconds // 20)):
            assert len(read_launches(store.folder)) == number + each  # the one before is on disk
            (launch,) = made_up_launches(
                {entry.name: 1.0 for entry in setting.entries}, 1, first=number + each, noise=NOISE[0], seed=each
            )
            launch.wall_seconds = 20.0
            yield launch

    monkeypatch.setattr(speed_rounds, "measure", measure)
    return found


NOISE = [0.3]


def test_each_launch_is_on_disk_before_the_next_and_one_trial_stands_for_a_configuration(
    store: RunFolder, asked: list[dict[str, Any]]
) -> None:
    told = Told()
    rounds = SpeedRounds(TRIALS, store, 0.03, 100.0, listeners=[told])
    assert rounds.run() is False
    assert [launch.launch for launch in read_launches(store.folder)] == [0, 1, 2, 3, 4]
    assert asked == [{"names": [trial.config_id for trial in TRIALS[:2]], "known": 0, "seconds": 100.0}]
    assert told.seen == [(0, 100.0), (1, 80.0), (2, 60.0), (3, 40.0), (4, 20.0), (5, 0.0)]


def test_half_of_the_time_is_left_for_the_end_and_what_was_not_spent_is_not_lost(
    store: RunFolder, asked: list[dict[str, Any]]
) -> None:
    rounds = SpeedRounds(TRIALS, store, 0.03, 100.0)
    rounds.run(0.5)
    rounds.run(1.0)
    assert [(each["known"], each["seconds"]) for each in asked] == [(0, 50.0), (2, 60.0)]


def test_a_run_that_goes_on_counts_what_it_has(store: RunFolder, asked: list[dict[str, Any]]) -> None:
    SpeedRounds(TRIALS, store, 0.03, 60.0).run()
    again = SpeedRounds(TRIALS, store, 0.03, 100.0)
    again.run()
    assert (asked[1]["known"], asked[1]["seconds"]) == (3, 40.0)
    assert len(read_launches(store.folder)) == store.launches == 5
    SpeedRounds(TRIALS, store, 0.03, 100.0).run()
    assert len(asked) == 2


def test_a_quarter_of_a_budget_is_on_top_of_what_earlier_sittings_spent_and_no_more_is_kept_back(
    store: RunFolder, asked: list[dict[str, Any]]
) -> None:
    first = SpeedRounds(TRIALS, store, 0.03, 100.0, budget=160.0)
    assert [first.wanted(share) for share in (0.5, 1.0)] == [20.0, 40.0]
    first.run()
    assert (first.spent, first.wanted(1.0)) == (40.0, 0.0)
    again = SpeedRounds(TRIALS, store, 0.03, 100.0, budget=160.0)
    assert [again.wanted(share) for share in (0.5, 1.0)] == [0.0, 40.0]
    again.run()
    assert [each["seconds"] for each in asked] == [40.0, 40.0]
    assert SpeedRounds(TRIALS, store, 0.03, 100.0, budget=1e9).wanted(1.0) == 20.0


def test_a_configuration_that_came_late_gets_a_launch_whatever_was_spent(
    store: RunFolder, asked: list[dict[str, Any]]
) -> None:
    SpeedRounds(TRIALS, store, 0.03, 40.0).run()
    another = TRIALS[0].model_copy(update={"settings": {"depth": 3}})
    store.append(Result(**another.row(), status="ok"))
    late = SpeedRounds([*TRIALS, another], store, 0.03, 40.0, now=lambda: 50.0)
    late.run(deadline=50.0)
    assert len(asked) == 1
    late.run()
    assert (len(asked[1]["names"]), asked[1]["known"], asked[1]["seconds"]) == (3, 2, 0.0)
    (launch,) = made_up_launches({TRIALS[0].config_id: 1.0}, 1, first=2)
    launch.missing = {another.config_id: "out of memory"}
    store.append_launch(launch)
    SpeedRounds([*TRIALS, another], store, 0.03, 40.0).run()
    assert len(asked) == 2


def test_no_launch_is_asked_for_after_the_deadline_nor_where_none_is_wanted(
    store: RunFolder, asked: list[dict[str, Any]]
) -> None:
    SpeedRounds(TRIALS, store, 0.03, 100.0, now=lambda: 50.0).run(deadline=50.0)
    SpeedRounds(TRIALS, store, 0.03, 0.0).run()
    SpeedRounds([trial.model_copy(update={"world_size": 2}) for trial in TRIALS], store, 0.03, 100.0).run()
    assert not asked


def test_a_configuration_whose_trials_all_failed_or_that_has_none_yet_is_not_timed(
    tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "other", {})
    rounds = SpeedRounds(TRIALS, folder, 0.03, 10.0)
    rounds.run()
    assert not asked
    for trial, status in zip(TRIALS, ("timeout", "ok", "failed", "failed"), strict=True):
        folder.append(Result(**trial.row(), status=status))
    rounds.run()
    assert asked[0]["names"] == [TRIALS[1].config_id]
    folder.close()


def test_a_launch_without_a_slice_is_the_devices_last(store: RunFolder, asked: list[dict[str, Any]]) -> None:
    (launch,) = made_up_launches({}, 1)
    launch.missing = {trial.config_id: "RuntimeError: no such kernel" for trial in TRIALS}
    store.append_launch(launch)
    SpeedRounds(TRIALS, store, 0.03, 100.0).run()
    assert not asked


def test_an_interrupt_loses_the_launch_that_runs_and_no_other(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> Iterator[Launch]:
        for number in (0, 1):
            yield from made_up_launches({"a": 1.0, "b": 2.0}, 1, first=number)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came late")

    monkeypatch.setattr(speed_rounds, "measure", measure)
    with process.listening():
        assert SpeedRounds(TRIALS, store, 0.03, 100.0).run() is True
    assert len(read_launches(store.folder)) == 2


def test_done_is_what_is_known_well_enough_of_each_configuration(store: RunFolder) -> None:
    names = [trial.config_id for trial in TRIALS[:2]]
    for launch in made_up_launches(dict.fromkeys(names, 1.0), 5, noise=0.001):
        store.append_launch(launch)
    assert SpeedRounds(TRIALS, store, 0.03, 100.0).is_done
    assert not SpeedRounds(TRIALS, store, 0.0001, 100.0).is_done
    another = TRIALS[0].model_copy(update={"settings": {"depth": 3}})
    store.append(Result(**another.row(), status="ok"))
    assert not SpeedRounds([*TRIALS, another], store, 0.03, 100.0).is_done
