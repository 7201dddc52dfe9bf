"""Probes of the cores: they tell how long a fixed loop takes, and end with whoever reads them."""

import os
import subprocess
import sys
import time
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
            end = time.monotonic() + 10
            probes.clear()
            assert probes.since_clear(one_core) == (None, 0.0), "no loop fits in between"
            while (found := probes.since_clear(one_core))[0] is None and time.monotonic() < end:
                time.sleep(20 * PERIOD_SECONDS)
            mean, taken = found
            assert mean
            assert 1e-6 < mean < 0.01
            assert taken > 3 * mean
    finally:
        probes.close()
    assert probes.since_clear(one_core) == (None, 0.0)


def test_probes_end_soon_after_a_process_that_was_killed() -> None:
    code = "import os, bench.system.core_probe as c; p = c.CoreProbes([*os.sched_getaffinity(0)]); "
    code += "print(*(each.pid for each in p._probes.values()), flush=True); os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    left = {int(word) for word in run.stdout.split()}
    assert left
    end = time.monotonic() + 10
    while left and time.monotonic() < end:
        left = {pid for pid in left if _runs(pid)}
        time.sleep(0.01)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
