"""Reference work: four fixed loads that tell how fast a machine is at this hour, so that figures of two days compare.

What stands here never changes from commit to commit: a stored baseline is worth nothing once it does. So nothing of
models/ is used, and tests/test_reference_work.py holds a checksum of each load's source. Who must change one bumps
REFERENCE_VERSION; every stored baseline is then refused until it is made again.
"""

import math
import time
from collections.abc import Callable, Mapping
from statistics import median

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
