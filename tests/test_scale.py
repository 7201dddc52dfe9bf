"""What a long sweep costs a trial: as much at its end as at its beginning (tests/benchmarks/scale.py times it)."""

import io
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

from bench.config.plan import Plan, load_plan
from bench.config.suite_file import read_suite
from bench.execution.base import Executor
from bench.execution.progress import Display
from bench.execution.sweep import run_sweep
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.trial import Trial

TRIALS = 60


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    suite = {"dataset": "digits", "models": [{"model": "cnn", "depth": 1, "width": 4}], "seeds": TRIALS}
    path.write_text(json.dumps(suite), encoding="utf-8")
    return load_plan(read_suite(path))


class Counting(Executor):
    """Trains nothing, and counts the calls of functions from the end of a trial to the beginning of the next."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.count = 0

    def run(self, trial: Trial, folder: Path | None, report: Any) -> Result:
        sys.setprofile(None)
        self.calls.append(self.count)
        self.count = 0
        evaluations = [{"epoch": 1.0, "step": step, "val_accuracy": 0.5} for step in range(3)]
        result = Result(**trial.row(), status="ok", started_at="2026-03-01T09:30:00Z", evaluations=evaluations)
        sys.setprofile(self._called)
        return result

    def _called(self, frame: FrameType, event: str, function: object) -> None:
        self.count += event in ("call", "c_call")


@pytest.mark.skipif(sys.getprofile() is not None, reason="a profiler is at work, and there can be but one")
def test_the_last_trials_bookkeeping_is_as_much_work_as_the_early_ones(plan: Plan, tmp_path: Path) -> None:
    estimates = dict.fromkeys((trial.trial_id for trial in plan.trials), 1.0)
    store = RunFolder.create(tmp_path / "run", {"suite": "mine", "plan": [*estimates]})
    executor = Counting()
    try:
        console = Console(file=io.StringIO(), force_terminal=True, width=120)
        display = Display(console, estimates, now=lambda: 0.0)  # else the words for the time left are of any length
        run_sweep([*plan.trials], {}, store, executor, [display])
    finally:
        sys.setprofile(None)
        store.close()
    assert len(read_rows(tmp_path / "run")) == len(executor.calls) == TRIALS
    early, late = min(executor.calls[11:16]), min(executor.calls[-15:-5])  # the garbage collector calls, too
    assert early > 100  # it was counted at all
    assert late <= early + TRIALS // 2  # one call for every trial before would be 55 more
