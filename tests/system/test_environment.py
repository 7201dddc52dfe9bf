"""How many cores and threads a process counts on, under a made-up quota."""

import os

import pytest

from bench.system import environment
from bench.system.environment import cores, default_threads, usable_cores


@pytest.mark.parametrize(
    ("quota", "usable", "threads"),
    [(None, 8, 4), (16.0, 8, 4), (8.0, 8, 4), (3.0, 3, 3), (2.9, 2, 2), (0.5, 1, 1)],
)
def test_cores_and_threads_follow_the_quota_in_whole_cores(
    quota: float | None, usable: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota)
    monkeypatch.setattr(environment, "cores", lambda: [*range(8, 16)])
    assert usable_cores() == usable
    assert default_threads(4) == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_cores_are_those_that_the_process_is_bound_to() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(allowed)})
        assert (cores(), usable_cores()) == ([max(allowed)], 1)
    finally:
        os.sched_setaffinity(0, allowed)
