"""Probes of the cores: they tell how long a fixed loop takes, and end with whoever reads them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.system.core_probe import PERIOD_SECONDS, CoreProbes
from bench.system.environment import cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there are no probes")


@pytest.mark.parametrize("one_core", [True, False])
def test_loops_of_a_stretch_are_told_and_those_before_it_are_forgotten(one_core: bool) -> None:
    probes = CoreProbes(cores())
    try:
        for _ in range(2):
            end = time.monotonic() + 120
            with stopped(probes):  # else a busy machine would let a loop come in between
                probes.clear()
                assert probes.since_clear(one_core) == (None, 0.0)
            while (found := probes.since_clear(one_core))[0] is None and time.monotonic() < end:
                time.sleep(20 * PERIOD_SECONDS)
            mean, taken = found
            assert mean
            assert 1e-6 < mean < 10.0  # in seconds; some 15 microseconds, where nobody else wants the core
            assert taken > 3 * mean
    finally:
        probes.close()
    assert probes.since_clear(one_core) == (None, 0.0)


@contextmanager
def stopped(probes: CoreProbes) -> Iterator[None]:
    """Within it they do nothing."""
    pids = [probe.pid for probe in probes._probes.values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    while any(" T " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8") for pid in pids):
        time.sleep(0.001)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_probes_end_soon_after_a_process_that_was_killed() -> None:
    code = "import os, bench.system.core_probe as c; p = c.CoreProbes([*os.sched_getaffinity(0)]); "
    code += "print(*(each.pid for each in p._probes.values()), flush=True); os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    left = {int(word) for word in run.stdout.split()}
    assert left
    end = time.monotonic() + 120
    while left and time.monotonic() < end:
        left = {pid for pid in left if _runs(pid)}
        time.sleep(0.01)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
