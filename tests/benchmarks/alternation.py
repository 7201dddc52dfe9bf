"""How finely should two arms alternate? The noise of a comparison of equal work, by the length of its slices.

    python tests/benchmarks/alternation.py --seconds 60

times one and the same step for a while on one core, leaves out what other processes took of it, and compares A with B
in ABBA order within a second: 4 slices of 250 ms, or 16 of 62 ms, and so on. The true difference is none.
"""

import argparse
import os
import time
from datetime import date
from importlib.metadata import version
from typing import Any, TextIO

import numpy as np

from bench.execution.local import set_environment

set_environment()

import torch
from torch.nn import functional as F

from bench.system.environment import cpu_name, usable_cores

UNIT_SECONDS = 1.0
SLICES = (0.25, 0.125, 0.0625, 0.03125, 0.015625)


Array = np.ndarray[Any, np.dtype[np.float64]]


def waited(file: TextIO) -> float:
    """Seconds that this thread was ready to run while another had its core."""
    file.seek(0)
    return int(file.read().split()[1]) / 1e9


def trace(seconds: float) -> Array:
    """Own seconds of each step, one after the other."""
    torch.set_num_threads(1)
    images, up, down = torch.randn(64, 17, 64), torch.randn(64, 256), torch.randn(256, 64)
    times = []
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            before = waited(file)
            F.gelu(images @ up) @ down
            times.append(time.perf_counter() - start - (waited(file) - before))
    return np.array(times[100:])


def scatter(times: Array, slice_seconds: float) -> tuple[float, int]:
    """Standard deviation over units of a second of the log ratio between B and A, and how many units there are."""
    clock, groups = np.cumsum(times), round(UNIT_SECONDS / (4 * slice_seconds))

    def level(start: float) -> float:
        low, high = np.searchsorted(clock, [start, start + slice_seconds])
        return float(np.log(times[low:high].mean()))

    found = []
    for unit in np.arange(0, clock[-1] - UNIT_SECONDS, UNIT_SECONDS):
        starts = unit + slice_seconds * np.arange(4 * groups)
        a1, b1, b2, a2 = np.array([level(start) for start in starts]).reshape(groups, 4).T
        found.append(float(((b1 + b2 - a1 - a2) / 2).mean()))
    return float(np.std(found)), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--core", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    times = trace(args.seconds)
    print(
        f"`python tests/benchmarks/alternation.py --seconds {args.seconds:g}`, {date.today()}, {cpu_name()}, "
        f"{usable_cores()} cores usable, torch {version('torch')}\n\n| slices in a second | standard deviation | n |"
    )
    print("| :-- | --: | --: |")
    for length in SLICES:
        deviation, n = scatter(times, length)
        print(f"| {round(UNIT_SECONDS / length)} of {1000 * length:.0f} ms | {100 * deviation:.1f}% | {n} |")


if __name__ == "__main__":
    main()
