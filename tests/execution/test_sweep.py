"""A sweep with a fake executor: order, a row after each, failures as rows, budget, interruption, resume."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bench.errors import StoreError
from bench.execution.base import Executor
from bench.execution.progress import Progress
from bench.execution.sweep import run_sweep
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.system import process
from bench.trial import Training, Trial


def trials(count: int = 3, seeds: int = 2) -> list[Trial]:
    return [
        Trial(
            suite="x", dataset="digits", model="vit", settings={"depth": depth}, recipe="vit", training=Training(),
            dtype="fp32", device="cpu", seed=seed,
        )
        for seed in range(seeds)
        for depth in range(1, count + 1)
    ]  # fmt: skip


class FakeExecutor(Executor):
    """Answers at once; notes what was asked, and how many rows were on disk by then."""

    def __init__(self, store: RunFolder, act: Callable[[int], Result | None] = lambda index: None) -> None:
        self.store = store
        self.act = act
        self.asked: list[str] = []
        self.rows_before: list[int] = []
        self.together: list[list[str]] = []

    def run(self, trial: Trial, folder: Path | None, report: Any) -> Result:
        self.rows_before.append(len(read_rows(self.store.folder)))
        self.asked.append(trial.trial_id)
        return self.act(len(self.asked) - 1) or Result(**trial.row(), status="ok")

    def run_together(self, trials: Iterable[Trial], folder_of: Any) -> Iterator[Result]:
        """Two at once, of which the one that began later ends first."""
        taken = iter(trials)
        while pair := list(islice(taken, 2)):
            self.together.append([trial.trial_id for trial in pair])
            for trial in reversed(pair):
                yield self.run(trial, folder_of(trial), None)


@pytest.fixture
def store(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {})


def test_each_trial_is_on_disk_before_the_next_begins(store: RunFolder) -> None:
    executor = FakeExecutor(store)
    plan = trials()
    outcome = run_sweep(plan, {}, store, executor)
    assert executor.asked == [trial.trial_id for trial in plan]
    assert executor.rows_before == [0, 1, 2, 3, 4, 5]
    assert outcome.statuses == {trial.trial_id: "ok" for trial in plan}
    assert not outcome.left_out
    assert not outcome.interrupted


def test_a_failure_is_a_row_and_the_sweep_goes_on(store: RunFolder) -> None:
    plan = trials()
    failed = Result(**plan[1].row(), status="failed", error="RuntimeError: boom")
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, lambda i: failed if i == 1 else None))
    rows = read_rows(store.folder)
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert rows[1]["error"] == "RuntimeError: boom"
    assert outcome.statuses[plan[1].trial_id] == "failed"


def test_what_the_device_lacks_is_a_skipped_row_and_never_run(store: RunFolder) -> None:
    plan = trials()
    executor = FakeExecutor(store)
    run_sweep(plan, {plan[2].trial_id: "no bfloat16 here"}, store, executor)
    row = read_rows(store.folder)[2]
    assert (row["status"], row["error"], row["train_seconds"]) == ("skipped", "no bfloat16 here", "")
    assert plan[2].trial_id not in executor.asked


def test_budget_starts_no_trial_after_its_time_and_finishes_the_one_that_runs(store: RunFolder) -> None:
    time = 0.0

    def ten_seconds(index: int) -> None:
        nonlocal time
        time += 10.0

    plan = trials()
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, ten_seconds), (), 25.0, now=lambda: time)
    assert len(outcome.statuses) == 3  # begun at 0, 10 and 20 s
    assert outcome.left_out == plan[3:]
    assert {trial.seed for trial in plan[:3]} == {0}  # one whole round of the grid


def test_interruption_keeps_what_is_done_and_leaves_no_row_for_what_was_running(store: RunFolder) -> None:
    def stop(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    plan = trials()
    outcome = run_sweep(plan, {}, store, FakeExecutor(store, stop))
    assert outcome.interrupted
    assert store.finished() == {plan[0].trial_id, plan[1].trial_id}


def test_every_row_names_the_revision_that_made_it(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.execution.sweep.git_state", lambda: ("abc123", True))
    run_sweep(trials(), {}, store, FakeExecutor(store))
    assert {(row["git_commit"], row["git_dirty"]) for row in read_rows(store.folder)} == {("abc123", "true")}


def test_untimed_trials_run_together_after_the_timed_ones_and_each_is_kept_at_once(store: RunFolder) -> None:
    timed, untimed = trials(3, 1), [trial.model_copy(update={"timed": False}) for trial in trials(3, 2)[3:]]
    executor = FakeExecutor(store)
    outcome = run_sweep([*timed, *untimed], {}, store, executor)
    ids = [trial.trial_id for trial in untimed]
    assert executor.asked == [*(trial.trial_id for trial in timed), ids[1], ids[0], ids[2]]
    assert executor.together == [ids[:2], ids[2:]]
    assert executor.rows_before == [0, 1, 2, 3, 4, 5]
    assert len(outcome.statuses) == 6


def test_budget_takes_no_further_trial_while_others_run_together(store: RunFolder) -> None:
    time = 0.0

    def ten_seconds(index: int) -> None:
        nonlocal time
        time += 10

    untimed = [trial.model_copy(update={"timed": False}) for trial in trials(3, 2)]
    outcome = run_sweep(untimed, {}, store, FakeExecutor(store, ten_seconds), (), 15.0, now=lambda: time)
    assert len(outcome.statuses) == 2
    assert outcome.left_out == untimed[2:]


@pytest.mark.parametrize("name", process.ENDINGS)
def test_a_signal_in_an_append_is_heard_when_the_row_is_there(
    store: RunFolder, name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    number = getattr(signal, name)
    usual = signal.signal(number, signal.SIG_DFL)  # `nohup`, or a shell's background, may have it ignored
    request.addfinalizer(lambda: signal.signal(number, usual))
    append = RunFolder.append

    def struck(self: RunFolder, result: Result) -> None:
        os.kill(os.getpid(), number)
        append(self, result)

    monkeypatch.setattr(RunFolder, "append", struck)
    told: list[str | None] = []
    progress = Progress()
    monkeypatch.setattr(progress, "end", lambda trial, result: told.append(result.trial_id))
    plan = trials()
    outcome = run_sweep(plan, {}, store, FakeExecutor(store), [progress])
    assert outcome.interrupted
    assert store.finished() == {plan[0].trial_id} == set(outcome.statuses)
    assert told == [plan[0].trial_id]
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_signal_that_was_swallowed_is_heard_before_the_next_trial(store: RunFolder) -> None:
    def swallow(index: int) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
        except KeyboardInterrupt:
            pass  # what Python does in a callback of a weak reference

    outcome = run_sweep(trials(), {}, store, FakeExecutor(store, swallow))
    assert outcome.interrupted
    assert len(outcome.statuses) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_under_nohup_the_end_of_the_terminal_stays_unheard(store: RunFolder) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        strike = lambda index: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
        assert not run_sweep(trials(), {}, store, FakeExecutor(store, strike)).interrupted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_when_a_row_cannot_be_written_no_trial_beside_it_runs_on(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    class Watched(FakeExecutor):
        def run_together(self, trials: Iterable[Trial], folder_of: Any) -> Iterator[Result]:
            try:
                yield from super().run_together(trials, folder_of)
            finally:
                stopped.append(True)

    def full(result: Result) -> NoReturn:
        raise StoreError("No space left on device")

    monkeypatch.setattr(store, "append", full)
    untimed = [trial.model_copy(update={"timed": False}) for trial in trials(3, 2)]
    with pytest.raises(StoreError) as caught:
        run_sweep(untimed, {}, store, Watched(store))
    assert caught.value  # it is still held here, and with it all frames that led to it
    assert stopped == [True]


def test_no_secret_in_a_failure_reaches_the_disk(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.execution.sweep.redacted", lambda text: text.replace("s3cret", "***"))
    plan = trials(1, 1)
    failed = Result(**plan[0].row(), status="failed", error="no s3cret", trace="line 1: s3cret\n")
    run_sweep(plan, {}, store, FakeExecutor(store, lambda i: failed))
    assert read_rows(store.folder)[0]["error"] == "no ***"
    for path in store.folder.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_each_row_has_the_load_of_the_machine_just_before_its_trial(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = iter([0.5, 1.0, 4.0])
    monkeypatch.setattr("bench.execution.sweep.load", lambda: next(loads))
    timed, untimed = trials(1, 1), [trial.model_copy(update={"timed": False}) for trial in trials(3, 1)[1:]]
    run_sweep([*timed, *untimed], {}, store, FakeExecutor(store))
    rows = {row["trial_id"]: row["load"] for row in read_rows(store.folder)}
    assert [rows[trial.trial_id] for trial in (*timed, *untimed)] == ["0.5", "1.0", "4.0"]


def test_a_cluster_says_for_itself_how_busy_its_nodes_were(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.execution.sweep.load", lambda: 9.0)
    executor = FakeExecutor(store)
    executor.exclusive = True
    run_sweep(trials(1, 1), {}, store, executor)
    assert read_rows(store.folder)[0]["load"] == ""
