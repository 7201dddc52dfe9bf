"""Real faults in real runs, each kind once; tests/benchmarks/faults.py does it a hundred times and prints the table."""

import random
import sys
from pathlib import Path

import pytest
from fault_kills import kills_of_everything
from fault_runs import Run, suite_of_traps
from fault_trials import ENDS_BADLY, HANGS, check_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds its processes by /proc")

QUICK = ("family_segfault", "chatter")  # what ends by itself
SLOW = ("sys_exit", "limited", "hang_in_c", "stop", "family_hang", "close")


@pytest.mark.slow
def test_a_trial_that_crashes_is_a_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = trapped(tmp_path, QUICK, timeout_seconds=120)
    assert run.check_whole() == {"ok": 3, "failed": 1}  # with two that are healthy
    assert "printed by a model" in run.log()  # beside the warnings, and not in the answer


@pytest.mark.slow
def test_whatever_else_a_trial_does_is_a_row_with_its_stack_and_stands_in_the_report(tmp_path: Path) -> None:
    assert trapped(tmp_path, SLOW, timeout_seconds=60).check_whole() == {"ok": 2, "failed": 2, "timeout": 3, "oom": 1}


@pytest.mark.slow
def test_a_trial_that_writes_to_others_files_is_a_row(tmp_path: Path) -> None:
    # By itself: what it writes to may be the fork server's, which then can't tell how another trial has ended.
    assert trapped(tmp_path, ("garble",), timeout_seconds=120).check_whole() == {"ok": 2, "failed": 1}


def trapped(folder: Path, kinds: tuple[str, ...], timeout_seconds: float) -> Run:
    """A run that has ended, all its trials side by side: those that hang cost no time of the processor's."""
    run = Run(folder, suite_of_traps([*kinds, "healthy"], timeout_seconds))
    beside = ("--set", "timing=rounds", "--set", "speed_seconds=5", "--jobs", str(len(kinds) + 2))
    assert run.go_on(*beside, "--quiet", "--json") == 1, run.log()
    check_rows(run, {kind: (ENDS_BADLY | HANGS)[kind] for kind in kinds})
    return run


@pytest.mark.slow
def test_kills_of_driver_worker_and_fork_server_lose_and_repeat_nothing(tmp_path: Path) -> None:
    lines = kills_of_everything(tmp_path, random.Random(0), 4)
    assert sum(times for _, _, times, _ in lines) == 4
    assert {fault for fault, *_ in lines} >= {"kill -9 of the worker", "kill -9 of the fork server"}
