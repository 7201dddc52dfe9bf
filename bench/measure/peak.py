"""The device's fastest matrix product in a numeric mode: what achieved FLOP/s are held against."""

import math
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from bench.system.device import CPU
from bench.system.precision import Precision

PRODUCT_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # sides of the square matrices; large ones only on fast devices
PRODUCT_BLOCKS = 3
PRODUCT_BLOCK_SECONDS = 5e-3


def matmul_peak(
    device: CPU, precision: Precision, seconds: float = 0.3, now: Callable[[], float] = time.perf_counter
) -> float | None:
    """FLOP/s of this device's fastest square matrix product in a numeric mode, measured now.

    The matrices are in the type that the mode computes in before the clock starts: autocast would otherwise cast them
    for every product, and the peak would be that of the cast. Threads and TF32 are as they were set for the trial.

    Args:
        seconds: about how long it may take.
        now: a monotonic clock, seconds.

    Returns:
        The highest median over sizes from 256 up; None where the device has no product of that type.
    """
    random = torch.Generator(device.torch_device).manual_seed(0)  # its own: the trial's numbers stay as they are
    side = PRODUCT_SIZES[0]
    tile = torch.randn(side, side, generator=random, device=device.torch_device).to(precision.compute_dtype)

    factors: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def product_seconds(size: int, repeats: int) -> float:
        if size not in factors:
            a, b = tile.repeat(size // side, size // side), tile.t().repeat(size // side, size // side)
            factors[size] = a, b, torch.empty_like(a)
        a, b, out = factors[size]
        device.synchronize()
        start = now()
        for _ in range(repeats):
            torch.mm(a, b, out=out)  # into memory that is there: pages from the system would be timed too
        device.synchronize()
        return now() - start

    try:
        with torch.no_grad(), precision.context(device):
            return fastest_product(product_seconds, seconds)
    except NotImplementedError:
        return None


def fastest_product(product_seconds: Callable[[int, int], float], seconds: float) -> float | None:
    """Highest median FLOP/s over sizes; what time is left then goes to the best size, for a steadier median.

    Args:
        product_seconds: (size, repeats) -> seconds that so many products of that size took.
        seconds: stop before a size that wouldn't fit into the rest of this time.

    Returns:
        None where a product takes no time that the clock can tell.
    """
    rates: dict[int, list[float]] = {}
    repeats: dict[int, int] = {}
    spent = once = 0.0

    def timed(size: int, count: int) -> float:
        nonlocal spent
        taken = product_seconds(size, count)
        spent += taken
        return taken

    def rate(size: int) -> float:
        return 2 * size**3 * repeats[size] / timed(size, repeats[size])

    for size in PRODUCT_SIZES:
        if spent + once * 8 * (2 + PRODUCT_BLOCKS) > seconds and rates:  # twice the side, eight times the work
            break
        timed(size, 1)  # chooses a kernel, touches the memory
        once = timed(size, 1)
        if once <= 0:
            return None  # a clock too coarse to tell
        repeats[size] = math.ceil(PRODUCT_BLOCK_SECONDS / once)
        rates[size] = [rate(size) for _ in range(PRODUCT_BLOCKS)]
    best = max(rates, key=lambda size: median(rates[size]))
    while spent + PRODUCT_BLOCK_SECONDS <= seconds:
        rates[best].append(rate(best))
    return median(rates[best])
