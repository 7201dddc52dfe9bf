"""The sizes at which a model has as much of something as another one: counted exactly, or measured step times."""

import json
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from statistics import median
from typing import NamedTuple

import torch

from bench.data.catalog import DATASETS
from bench.measure.flops import forward_flops
from bench.system.device import open_device
from bench.system.precision import DTYPES, set_exact_arithmetic
from bench.training.compilation import compiled
from bench.training.loop import Learner, cross_entropy
from bench.training.optim import build_optimizer
from bench.trial import MatchedBy, Trial
from models import build_meta_model, build_model

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


# How long a training step takes: two configurations timed against each other, so that a busy machine tells no lies.
UNTIMED_STEPS = 5  # the first ones allocate, and may compile
GROUP_SECONDS = 0.02  # steps between two looks at the clock take at least so long
GROUPS = 15  # of each of the two, in turn


def time_pair(a: Trial, b: Trial, now: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """How many times as long as a training step of `b` one of `a` takes, and the seconds of one of `b`.

    Both are medians over groups of steps that alternate; the ratio is taken between neighbours in time. Batch size,
    numeric mode, layout and threads are the trials' own; images are noise, and no weight changes.
    """
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            groups = [_group(trial, now) for trial in (a, b)]
        seconds = [[group() for group in groups] for _ in range(GROUPS)]
    finally:
        torch.set_num_threads(threads)
    return median(of_a / of_b for of_a, of_b in seconds), median(of_b for _, of_b in seconds)


def _group(trial: Trial, now: Callable[[], float]) -> Callable[[], float]:
    """A function that runs a group of steps, and gives the seconds of one."""
    step, synchronize = _stepper(trial)

    def per_step(steps: int) -> float:
        set_exact_arithmetic(DTYPES[trial.dtype])
        if trial.num_threads:
            torch.set_num_threads(trial.num_threads)
        synchronize()
        start = now()
        for _ in range(steps):
            step()
        synchronize()
        return (now() - start) / steps

    per_step(UNTIMED_STEPS)
    steps = max(1, round(GROUP_SECONDS / max(per_step(UNTIMED_STEPS), 1e-6)))
    return lambda: per_step(steps)


def _stepper(trial: Trial) -> tuple[Callable[[], object], Callable[[], None]]:
    """One training step of a trial on a batch of noise, and what waits for its device."""
    device, precision, training = open_device(trial.device), DTYPES[trial.dtype], trial.training
    spec = trial.data or DATASETS[trial.dataset]
    model = build_model(trial.model, trial.settings, spec.image_size, spec.in_channels, spec.num_classes)
    model.to(device.torch_device, precision.weights)
    images = torch.randn(training.batch_size, spec.in_channels, spec.image_size, spec.image_size)
    images = images.to(device.torch_device, precision.image_dtype)
    labels = torch.randint(spec.num_classes, (training.batch_size,)).to(device.torch_device)
    if trial.channels_last:
        model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    learner = Learner(
        model,
        build_optimizer(model, training),
        lambda step: 0.0,
        precision,
        device,
        training.label_smoothing,
        training.clip_norm,
        compiled(cross_entropy, trial.compile),
    )
    return lambda: learner.step(images, labels), device.synchronize


# Counts: parameters and FLOPs of a trial's model, from a sketch of it, made once for every shape.
class _Counts(NamedTuple):
    params: int
    flops: int


def count_params(trial: Trial) -> int:
    """Parameters of a trial's model. Raises: ValueError, as models.build_meta_model."""
    return _counts_of(trial).params


def count_flops(trial: Trial) -> int:
    """FLOPs of one image's forward pass; a multiply-add is two."""
    return _counts_of(trial).flops


def _counts_of(trial: Trial) -> _Counts:
    spec = trial.data or DATASETS[trial.dataset]
    return _counts(spec.image_size, spec.in_channels, spec.num_classes, trial.model, json.dumps(trial.settings))


@cache
def _counts(image_size: int, in_channels: int, num_classes: int, model_name: str, settings: str) -> _Counts:
    """Both numbers at once: a model kept to be asked again costs 300 KB, and a plan may have thousands of shapes."""
    model = build_meta_model(model_name, json.loads(settings), image_size, in_channels, num_classes)
    closed_form = getattr(model, "num_flops", None)
    flops = closed_form() if closed_form else forward_flops(model, (in_channels, image_size, image_size))
    return _Counts(sum(parameter.numel() for parameter in model.parameters()), flops)


# what is counted -> how, and what it is called
COUNTS: dict[MatchedBy, tuple[Callable[[Trial], int], str]] = {
    "params": (count_params, "parameters"),
    "flops": (count_flops, "FLOPs an image"),
}
