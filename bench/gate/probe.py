"""The probe: in five seconds, how noisy this machine is now, and which slowdown a gate could tell on it.

A child process, pinned like the gate's workers, times the reference matrix product and then Python's dispatch in slices
of 60 ms. Every four neighbouring slices are an ABBA block of one and the same work, whose true ratio is 1: what it
shows is noise. The parent loads no torch and sleeps meanwhile.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import DeviceError

ROOT = Path(__file__).resolve().parents[2]
PROBED = ("matrix product", "Python dispatch")  # arithmetic, and the interpreter: what small models' steps consist of
SLICE_SECONDS = 0.06
BLOCK = 4  # slices
START_SECONDS = 120  # that the child may take to load torch on a busy machine, on top of its slices
CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from bench.gate.probe import child; child(*map(float, sys.argv[2:]))"
)
LAUNCH_SPREAD = 0.02  # standard deviation of the log ratio that one pair of process launches adds to its blocks' noise
BLOCKS_PER_LAUNCH = 4
MARGIN = 0.03  # the gate's


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        spread: standard deviation of a block's log ratio, about 0, the known truth: as a share (0.012 is 1.2%).
        blocks: how many it comes from; they overlap, so they count for fewer.
        seconds: that the slices took together.
    """

    spread: float
    blocks: int
    seconds: float
    core: int | None = None


def probe(seconds: float = 5.0, core: int | None = None) -> Probe:
    """Measure this machine's noise for `seconds`; loading torch in the child takes a few more.

    Args:
        seconds: of slices; under half a second they are shorter than 60 ms.
        core: the processor to stay on; None leaves that to the system.

    Raises:
        DeviceError: the child couldn't run.
    """
    command = [sys.executable, "-c", CHILD, str(ROOT), str(seconds), *([] if core is None else [str(core)])]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS + 3 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError("the probe didn't end in time; this machine is too busy to measure anything") from None
    except OSError as error:
        raise DeviceError(f"the probe can't start {sys.executable} ({error.strerror})") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DeviceError(f"the probe's process failed ({last})")
    return summarise(json.loads(done.stdout), core)


def summarise(slices: Sequence[Sequence[float]], core: int | None = None) -> Probe:
    """A probe from the slices' seconds, a sequence for each work.

    Every four neighbours are taken, not every fourth, as for an overlapping Allan variance: the same noise from the
    same seconds, less uncertainly.
    """
    logs = [log for times in slices for log in block_log_ratios(times)]
    spread = math.sqrt(sum(log * log for log in logs) / len(logs))
    return Probe(spread, len(logs), sum(map(sum, slices)), core)


def block_log_ratios(times: Sequence[float]) -> list[float]:
    """Log of B over A in each ABBA block of four neighbouring slices; fewer have none."""
    starts = range(len(times) - BLOCK + 1)
    return [(math.log(times[i + 1] * times[i + 2]) - math.log(times[i] * times[i + 3])) / 2 for i in starts]


def what_it_can_detect(
    spread: float, launches: int, launch_spread: float = LAUNCH_SPREAD, margin: float = MARGIN
) -> float:
    """The slowdown, as a share, that so many launch pairs tell 19 times of 20.

    A launch's four blocks quarter the variance of their noise, and the launch adds its own. The estimate has to pass
    both the margin and a test, about two standard errors from 0; two standard errors above the higher of them, it does.
    """
    error = math.sqrt(launch_spread**2 + spread**2 / BLOCKS_PER_LAUNCH) / math.sqrt(launches)
    return math.expm1(max(math.log1p(margin), 2 * error) + 2 * error)


def say(found: Probe, launches: int, margin: float = MARGIN) -> str:
    """The probe's answer, in one line."""
    least = 100 * what_it_can_detect(found.spread, launches, margin=margin)
    count = f"{launches} launch{'es' * (launches != 1)}"
    return (
        f"This machine's noise: {100 * found.spread:.1f}% a block; "
        f"with {count} a slowdown of about {least:.0f}% can be told."
    )


def child(seconds: float, core: float | None = None) -> None:
    """What the child process does: print the slices' seconds, a JSON list for each work."""
    if core is not None and hasattr(os, "sched_setaffinity"):  # macOS and Windows pin nothing
        os.sched_setaffinity(0, {int(core)})
    import torch

    from bench.gate.reference import REFERENCES, slice_of, units_in

    torch.set_num_threads(1)
    each = seconds / len(PROBED)
    slice_seconds = min(SLICE_SECONDS, each / BLOCK)
    found = []
    for name in PROBED:
        unit = REFERENCES[name]()
        size = units_in(unit, time.perf_counter, slice_seconds)
        found.append([slice_of(unit, size, time.perf_counter) for _ in range(round(each / slice_seconds))])
    print(json.dumps(found))
