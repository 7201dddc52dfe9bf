"""Reference work: four fixed loads that tell how fast a machine is at this hour, so that figures of two days compare.

What stands here never changes from commit to commit: a stored baseline is worth nothing once it does. So nothing of
models/ is used, and tests/test_reference_work.py holds a checksum of each load's source. Who must change one bumps
REFERENCE_VERSION; every stored baseline is then refused until it is made again.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import DeviceError

REFERENCE_VERSION = 1
SLICE_SECONDS = 0.25  # shorter ones flag differences that aren't there
FEWEST_SLICES = 3
MOST_UNITS = 2**20  # in a slice, should a clock stand still

Unit = Callable[[], object]


def matrix_product() -> Unit:
    """Arithmetic: a product of two 512 x 512 matrices in fp32, 268 MFLOP."""
    import torch

    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(512, 512, generator=random), torch.randn(512, 512, generator=random)
    out = torch.empty(512, 512)
    return lambda: torch.mm(a, b, out=out)


def memory_stream() -> Unit:
    """Memory: a copy of 256 MiB to another 256 MiB, together more than the caches of today's servers hold."""
    import torch

    source, target = torch.ones(2**26), torch.zeros(2**26)
    return lambda: target.copy_(source)


def python_dispatch() -> Unit:
    """The interpreter and torch's dispatcher: 500 times two operations on four numbers."""
    import torch

    x, y = torch.zeros(4), torch.ones(4)

    def unit() -> None:
        for _ in range(500):
            x.add_(y)
            x.mul(y)

    return unit


def training_step() -> Unit:
    """All of it together: a training step of a two-layer CNN on 64 images of 28 x 28, 5,072 weights, plain SGD."""
    import torch
    from torch.nn import functional as F

    random = torch.Generator().manual_seed(0)
    shapes = ((16, 1, 3, 3), (32, 16, 3, 3), (10, 32))
    weights = [torch.randn(shape, generator=random).mul_(0.1).requires_grad_() for shape in shapes]
    images = torch.randn(64, 1, 28, 28, generator=random)
    labels = torch.randint(0, 10, (64,), generator=random)

    def unit() -> None:
        x = F.relu(F.conv2d(images, weights[0], stride=1, padding=1))
        x = F.relu(F.conv2d(x, weights[1], stride=2, padding=1))
        loss = F.cross_entropy(F.linear(x.mean((2, 3)), weights[2]), labels)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():  # steps so small that the weights, and with them the work, stay alike
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(gradient, alpha=1e-4)

    return unit


REFERENCES: dict[str, Callable[[], Unit]] = {
    "matrix product": matrix_product,
    "memory stream": memory_stream,
    "Python dispatch": python_dispatch,
    "training step": training_step,
}


def time_references(
    now: Callable[[], float] = time.perf_counter,
    seconds_each: float = 2.5,
    threads: int = 1,
    references: Mapping[str, Callable[[], Unit]] = REFERENCES,
) -> dict[str, float]:
    """Seconds a unit of each reference takes now, with so many of torch's threads.

    Args:
        now: a monotonic clock, seconds.
        seconds_each: about how long each of them is timed; warming up comes on top.
    """
    import torch

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return interleaved({name: build() for name, build in references.items()}, now, seconds_each)
    finally:
        torch.set_num_threads(threads_before)


def interleaved(units: Mapping[str, Unit], now: Callable[[], float], seconds_each: float) -> dict[str, float]:
    """Seconds a unit: the median over slices, taken in turns so that an odd second hits all references alike."""
    slice_seconds = min(SLICE_SECONDS, seconds_each / FEWEST_SLICES)
    counts = {name: units_in(unit, now, slice_seconds) for name, unit in units.items()}
    times: dict[str, list[float]] = {name: [] for name in units}
    order = list(units)
    for _ in range(max(FEWEST_SLICES, round(seconds_each / slice_seconds))):
        for name in order:
            times[name].append(slice_of(units[name], counts[name], now) / counts[name])
        order.reverse()
    return {name: median(slices) for name, slices in times.items()}


def units_in(unit: Unit, now: Callable[[], float], seconds: float) -> int:
    """How many units take about `seconds`; finding out is the warm-up."""
    slice_of(unit, 1, now)  # allocates, chooses kernels
    count = 1
    while (taken := slice_of(unit, count, now)) < seconds / 2 and count < MOST_UNITS:
        count *= 2
    return max(1, min(MOST_UNITS, math.ceil(count * seconds / max(taken, 1e-9))))


def slice_of(unit: Unit, count: int, now: Callable[[], float]) -> float:
    """Seconds that `count` units take together."""
    start = now()
    for _ in range(count):
        unit()
    return now() - start


# The probe: in five seconds, how noisy this machine is now, and which slowdown a gate could tell on it.
#
# A child process, pinned like the gate's workers, times the reference matrix product and then Python's dispatch in
# slices of 60 ms. Every four neighbouring slices are an ABBA block of one and the same work, whose true ratio is 1:
# what it shows is noise. The parent loads no torch and sleeps meanwhile.
ROOT = Path(__file__).resolve().parents[2]
PROBED = ("matrix product", "Python dispatch")  # arithmetic, and the interpreter: what small models' steps consist of
PROBE_SLICE_SECONDS = 0.06
BLOCK = 4  # slices
START_SECONDS = 120  # that the child may take to load torch on a busy machine, on top of its slices
CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from bench.gate.reference import child;"
    "child(*map(float, sys.argv[2:]))"
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

    torch.set_num_threads(1)
    each = seconds / len(PROBED)
    slice_seconds = min(PROBE_SLICE_SECONDS, each / BLOCK)
    found = []
    for name in PROBED:
        unit = REFERENCES[name]()
        size = units_in(unit, time.perf_counter, slice_seconds)
        found.append([slice_of(unit, size, time.perf_counter) for _ in range(round(each / slice_seconds))])
    print(json.dumps(found))
