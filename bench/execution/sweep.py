"""A sweep: the trials of a plan, one after the other, each on disk before the next begins.

Trials that are there for their accuracy alone run side by side; each of them, too, is on disk as soon as it ends.
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.execution.base import Executor
from bench.execution.progress import Progress
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.system import process
from bench.system.environment import git_state
from bench.system.redaction import redacted
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
    store: RunFolder,
    executor: Executor,
    listeners: Sequence[Progress] = (),
    budget_seconds: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run `trials` in order and append each to the store.

    Args:
        trials: those that are still to do.
        skipped: trial_id -> why it can't run here; it gets a row that says so.
        listeners: are told what happens, in their order.
        budget_seconds: no trial starts after this time; one that has started is finished.

    Raises: StoreError: the run folder can't be written to any more; no trial runs any longer then.
    """
    deadline = math.inf if budget_seconds is None else now() + budget_seconds
    sweep = _Sweep(trials, skipped, store, executor, listeners, deadline, now)
    with process.listening():
        try:
            sweep.run()
        except KeyboardInterrupt:
            process.taken()
            sweep.outcome.interrupted = True
    return sweep.outcome


@dataclass
class _Sweep:
    """A sweep under way.

    Attributes:
        loads: trial_id -> load of the machine just before the trial began.
    """

    trials: list[Trial]
    skipped: dict[str, str]
    store: RunFolder
    executor: Executor
    listeners: Sequence[Progress]
    deadline: float
    now: Callable[[], float]
    outcome: Outcome = field(default_factory=Outcome)
    loads: dict[str, float | None] = field(default_factory=dict)

    def run(self) -> None:
        """Timed trials one after the other; trials that aren't, as far as they follow each other, side by side."""
        one_by_one = not self.executor.exclusive
        for alone, group in itertools.groupby(self._begun(), key=lambda trial: trial.timed and one_by_one):
            if alone:
                for trial in group:
                    self._end(trial, self.executor.run(trial, self._folder_of(trial), self._report))
            else:
                self._run_together(group)

    def _run_together(self, group: Iterator[Trial]) -> None:
        known: dict[str, Trial] = {}  # trials that the executor has taken and given no result of, by id
        taken = (known.setdefault(trial.trial_id, trial) for trial in group)
        results = self.executor.run_together(taken, self._folder_of)
        stop = closing(results) if isinstance(results, Generator) else nullcontext()
        with stop:  # should a row not reach the disk, or Ctrl-C come, the others' processes end here and now
            for result in results:
                self._end(known.pop(str(result.trial_id)), result)
        self.outcome.left_out = [*known.values(), *self.outcome.left_out]  # taken ahead, and never begun

    def _begun(self) -> Iterator[Trial]:
        """Trials that can run here, each begun when it is asked for; the others get their rows on the way."""
        for position, trial in enumerate(self.trials):
            process.check()
            if self.now() >= self.deadline:
                self.outcome.left_out = self.trials[position:]
                return
            for listener in self.listeners:
                listener.begin(trial, position, len(self.trials))
            if trial.trial_id in self.skipped:
                self._end(trial, Result(**trial.row(), status="skipped", error=self.skipped[trial.trial_id]))
            else:
                if not self.executor.exclusive:  # a cluster's nodes measure their own
                    self.loads[trial.trial_id] = load()
                yield trial

    def _end(self, trial: Trial, result: Result) -> None:
        """Put a result on disk; a signal that comes meanwhile takes effect when it is there and progress was told."""
        result.git_commit, result.git_dirty = git_state()
        result.error, result.trace = (text and redacted(text) for text in (result.error, result.trace))
        if result.load is None:
            result.load = self.loads.pop(trial.trial_id, None)
        try:
            with process.held():
                self.store.append(result)
                self.outcome.statuses[trial.trial_id] = result.status or "failed"
        finally:
            if trial.trial_id in self.outcome.statuses:
                for listener in self.listeners:
                    listener.end(trial, result)

    def _report(self, message: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener.evaluated(message)

    def _folder_of(self, trial: Trial) -> Path:
        return self.store.folder / "trials" / trial.trial_id


def load() -> float | None:
    """Processes that run or wait on this machine, per core: the system's average over the last minute."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 3)
    except (AttributeError, OSError):
        return None  # Windows keeps none
