"""A sweep: the trials of a plan, one after the other, each on disk before the next begins."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.environment import git_state
from bench.executors import Executor
from bench.progress import Progress
from bench.results import Result
from bench.store import Store
from bench.trial import Trial


@dataclass
class Outcome:
    """What became of a sweep.

    Attributes:
        statuses: trial_id -> status, of the trials that ran now.
        left_out: trials that the budget left no time for.
        interrupted: stopped from outside; what was running has no row and runs again on resume.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    left_out: list[Trial] = field(default_factory=list)
    interrupted: bool = False


def run_sweep(
    trials: list[Trial],
    skipped: dict[str, str],
    store: Store,
    executor: Executor,
    progress: Progress,
    budget_seconds: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run `trials` in order and append each to the store.

    Args:
        trials: those that are still to do.
        skipped: trial_id -> why it can't run here; it gets a row that says so.
        budget_seconds: no trial starts after this time; one that has started is finished.
    """
    outcome = Outcome()
    start = now()
    for position, trial in enumerate(trials):
        if budget_seconds is not None and now() - start >= budget_seconds:
            outcome.left_out = trials[position:]
            break
        progress.begin(trial, position, len(trials))
        try:
            result = _result_of(trial, skipped, store.folder / "trials", executor, progress)
        except KeyboardInterrupt:
            outcome.interrupted = True
            break
        result.git_commit, result.git_dirty = git_state()
        store.append(result)
        outcome.statuses[trial.trial_id] = result.status or "failed"
        progress.end(trial, result)
    return outcome


def _result_of(trial: Trial, skipped: dict[str, str], folder: Path, executor: Executor, progress: Progress) -> Result:
    if trial.trial_id in skipped:
        return Result(**trial.row(), status="skipped", error=skipped[trial.trial_id])
    return executor.run(trial, folder / trial.trial_id, progress.evaluated)
