"""Real faults in real runs, each kind once; tests/benchmarks/faults.py does it a hundred times and prints the table."""

import random
import sys
from pathlib import Path

import pytest
from fault_kills import kills_of_everything
from fault_runs import Run, suite_of_traps
from fault_trials import ENDS_BADLY, HANGS, check_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds its processes by /proc")

KINDS = ("segfault", "sys_exit", "limited", "chatter", "hang_in_c", "stop", "family_hang", "close", "garble")


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has ended, all its trials side by side: those that hang cost no time of the processor's."""
    run = Run(tmp_path_factory.mktemp("trapped"), suite_of_traps([*KINDS, "healthy"], timeout_seconds=15))
    assert run.go_on("--jobs", "11", "--quiet", "--json") == 1, run.log()
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_trial_does_is_a_row_with_its_stack_and_stands_in_the_report(trapped: Run, kind: str) -> None:
    check_rows(trapped, {kind: (ENDS_BADLY | HANGS)[kind]})


def test_after_trials_that_did_harm_the_run_is_whole_and_nothing_of_theirs_lives(trapped: Run) -> None:
    statuses = trapped.check_whole()
    assert statuses == {"ok": 3, "failed": 4, "timeout": 3, "oom": 1}
    assert "printed by a model" in trapped.log()  # beside the warnings, and not in the answer


@pytest.mark.slow
def test_kills_of_driver_worker_and_fork_server_lose_and_repeat_nothing(tmp_path: Path) -> None:
    lines = kills_of_everything(tmp_path, random.Random(0), 4)
    assert sum(times for _, _, times, _ in lines) == 4
    assert {fault for fault, *_ in lines} >= {"kill -9 of the worker", "kill -9 of the fork server"}
