"""The sizes at which a model has as much of something as another one: counted exactly, or measured step times."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

USUAL_GROWTH = 2.0
GROWTHS_UP = [round(USUAL_GROWTH + step / 100, 2) for step in range(101)]  # to 3.0
GROWTHS_DOWN = [round(USUAL_GROWTH - step / 100, 2) for step in range(81)]  # to 1.2
LARGEST_WIDTH = 2**16
MOST_MEASUREMENTS = 10  # of step times for one pair

Amount = Callable[[int, float], float]  # of the whole dial and the fine one


def solve(amount: Amount, target: float, tolerance: float) -> tuple[tuple[int, float, float], bool]:
    """The dials at which `amount`, which falls with neither, is `target` within a share of `tolerance`.

    Of those that fit, the growth nearest to the usual one. Widths below the one that fits at the usual growth need a
    larger growth, the more so the further below, so the first that fits on either side is that side's best.

    Returns:
        (width, growth, amount) and whether that fits; the nearest tried if none does.
    """
    amount = cache(amount)
    low, high = target * (1 - tolerance), target * (1 + tolerance)
    top = 1
    while amount(top, USUAL_GROWTH) < target and top < LARGEST_WIDTH:
        top *= 2
    middle = bisect_left(range(1, top), target, key=lambda width: amount(width, USUAL_GROWTH)) + 1
    tried = [
        *_until_one_fits(amount, range(middle, 0, -1), GROWTHS_UP, low, high),
        *_until_one_fits(amount, range(middle, LARGEST_WIDTH), GROWTHS_DOWN, low, high),
    ]
    fitting = [size for size in tried if low <= size[2] <= high]
    if fitting:
        return min(fitting, key=lambda size: (abs(size[1] - USUAL_GROWTH), abs(size[2] - target))), True
    return min(tried, key=lambda size: (abs(size[2] - target), abs(size[1] - USUAL_GROWTH))), False


def _until_one_fits(
    amount: Amount, widths: Sequence[int], growths: Sequence[float], low: float, high: float
) -> Iterator[tuple[int, float, float]]:
    """Where each width comes into the range, or jumps over it, as its growth leaves the usual one.

    It ends with the first width that comes inside, or that no growth brings so far: those beyond need even more.
    """
    rising = growths[-1] > growths[0]
    for width in widths:

        def far_enough(growth: float, width: int = width) -> bool:
            return amount(width, growth) >= low if rising else amount(width, growth) <= high

        index = bisect_left(growths, True, key=far_enough)
        for growth in growths[max(0, index - 1) : index + 1]:
            yield width, growth, amount(width, growth)
        if index == len(growths) or low <= amount(width, growths[index]) <= high:
            return


def solve_time(ratio: Callable[[int], float], start: int, tolerance: float) -> tuple[int, float]:
    """The width at which a measured `ratio` of step times is 1, by the secant method on logarithms.

    It ends within half of `tolerance`, since a measurement is a little off, or when no width between is left.

    Returns:
        The width measured nearest to 1, and its ratio.
    """
    measured: dict[int, float] = {}
    width = start
    for _ in range(MOST_MEASUREMENTS):
        measured[width] = ratio(width)
        if abs(measured[width] - 1) <= tolerance / 2:
            break
        quick = max((w for w, r in measured.items() if r < 1), default=0)
        slow = min((w for w, r in measured.items() if r > 1 and w > quick), default=2 * LARGEST_WIDTH)
        if slow - quick <= 1:
            break
        width = min(max(_secant(measured, width, quick, slow), quick + 1), slow - 1, LARGEST_WIDTH)
        if width in measured:
            break
    best = min(measured, key=lambda width: abs(math.log(measured[width])))
    return best, measured[best]


def _secant(measured: Mapping[int, float], width: int, quick: int, slow: int) -> int:
    """Where the line through the two nearest measurements crosses 1; time grows with width at first guess."""
    near = [w for w in (quick, slow) if w in measured]
    slope = 1.0
    if len(measured) > 1:
        a, b = near if len(near) == 2 else sorted(measured, key=lambda w: abs(math.log(measured[w])))[:2]
        slope = math.log(measured[a] / measured[b]) / math.log(a / b)
    reach = math.log(1 / measured[width]) / max(slope, 0.25)  # a flat start says little of what comes
    return max(1, round(width * math.exp(min(max(reach, -2.0), 2.0))))
