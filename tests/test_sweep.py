"""A sweep with a fake executor: order, a row after each, failures as rows, budget, interruption, resume."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.progress import Quiet
from bench.recipes import Training
from bench.results import Result, read_rows
from bench.store import Store
from bench.sweep import run_sweep
from bench.trial import Trial


def trials(count: int = 3, seeds: int = 2) -> list[Trial]:
    return [
        Trial(
            suite="x", dataset="digits", model="vit", settings={"depth": depth}, recipe="vit", training=Training(),
            dtype="fp32", device="cpu", seed=seed,
        )
        for seed in range(seeds)
        for depth in range(1, count + 1)
    ]  # fmt: skip


class FakeExecutor:
    """Answers at once; notes what was asked, and how many rows were on disk by then."""

    exclusive = False

    def __init__(self, store: Store, act: Callable[[int], Result | None] = lambda index: None) -> None:
        self.store = store
        self.act = act
        self.asked: list[str] = []
        self.rows_before: list[int] = []
        self.together: list[list[str]] = []

    def run(self, trial: Trial, folder: Path | None, report: Any) -> Result:
        self.rows_before.append(len(read_rows(self.store.folder / "trials.csv")))
        self.asked.append(trial.trial_id)
        return self.act(len(self.asked) - 1) or Result(**trial.row(), status="ok")

    def run_together(self, trials: Iterable[Trial], folder_of: Any) -> Iterator[Result]:
        """Two at once, of which the one that began later ends first."""
        taken = iter(trials)
        while pair := list(islice(taken, 2)):
            self.together.append([trial.trial_id for trial in pair])
            for trial in reversed(pair):
                yield self.run(trial, folder_of(trial), None)

    def close(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run", {})


def test_each_trial_is_on_disk_before_the_next_begins(store: Store) -> None:
    executor = FakeExecutor(store)
    plan = trials()
    outcome = run_sweep(plan, {}, store, executor, Quiet())
    assert executor.asked == [trial.trial_id for trial in plan]
    assert executor.rows_before == [0, 1, 2, 3, 4, 5]
    assert outcome.statuses == {trial.trial_id: "ok" for trial in plan}
    assert not outcome.left_out
    assert not outcome.interrupted


def test_a_failure_is_a_row_and_the_sweep_goes_on(store: Store) -> None:
    plan = trials()
    failed = Result(**plan[1].row(), status="failed", error="RuntimeError: boom")
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, lambda i: failed if i == 1 else None), Quiet())
    rows = read_rows(store.folder / "trials.csv")
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert rows[1]["error"] == "RuntimeError: boom"
    assert outcome.statuses[plan[1].trial_id] == "failed"


def test_what_the_device_lacks_is_a_skipped_row_and_never_run(store: Store) -> None:
    plan = trials()
    executor = FakeExecutor(store)
    run_sweep(plan, {plan[2].trial_id: "no bfloat16 here"}, store, executor, Quiet())
    row = read_rows(store.folder / "trials.csv")[2]
    assert (row["status"], row["error"], row["train_seconds"]) == ("skipped", "no bfloat16 here", "")
    assert plan[2].trial_id not in executor.asked


def test_budget_starts_no_trial_after_its_time_and_finishes_the_one_that_runs(store: Store) -> None:
    time = 0.0

    def ten_seconds(index: int) -> None:
        nonlocal time
        time += 10.0

    plan = trials()
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, ten_seconds), Quiet(), 25.0, now=lambda: time)
    assert len(outcome.statuses) == 3  # begun at 0, 10 and 20 s
    assert outcome.left_out == plan[3:]
    assert {trial.seed for trial in plan[:3]} == {0}  # one whole round of the grid


def test_interruption_keeps_what_is_done_and_leaves_no_row_for_what_was_running(store: Store) -> None:
    def stop(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    plan = trials()
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, stop), Quiet())
    assert outcome.interrupted
    assert store.finished() == {plan[0].trial_id, plan[1].trial_id}


def test_every_row_names_the_revision_that_made_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.sweep.git_state", lambda: ("abc123", True))
    run_sweep(trials(), {}, store, FakeExecutor(store), Quiet())
    assert {(row["git_commit"], row["git_dirty"]) for row in read_rows(store.folder / "trials.csv")} == {
        ("abc123", "true")
    }


def test_untimed_trials_run_together_after_the_timed_ones_and_each_is_kept_at_once(store: Store) -> None:
    timed, untimed = trials(3, 1), [trial.model_copy(update={"timed": False}) for trial in trials(3, 2)[3:]]
    executor = FakeExecutor(store)
    outcome = run_sweep([*timed, *untimed], {}, store, executor, Quiet())
    ids = [trial.trial_id for trial in untimed]
    assert executor.asked == [*(trial.trial_id for trial in timed), ids[1], ids[0], ids[2]]
    assert executor.together == [ids[:2], ids[2:]]
    assert executor.rows_before == [0, 1, 2, 3, 4, 5]
    assert len(outcome.statuses) == 6


def test_budget_takes_no_further_trial_while_others_run_together(store: Store) -> None:
    time = 0.0

    def ten_seconds(index: int) -> None:
        nonlocal time
        time += 10

    untimed = [trial.model_copy(update={"timed": False}) for trial in trials(3, 2)]
    outcome = run_sweep(untimed, {}, store, FakeExecutor(store, ten_seconds), Quiet(), 15.0, now=lambda: time)
    assert len(outcome.statuses) == 2
    assert outcome.left_out == untimed[2:]
