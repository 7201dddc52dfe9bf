"""How large a model is, and the width and growth at which it is as large as another one.

Parameters and FLOPs are counted from a sketch of the model (no memory, no arithmetic), once for each shape.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
from torch import nn

from bench.data.catalog import DATASETS
from bench.measure.flops import NEEDS_NUMBERS, forward_flops, is_small
from bench.trial import MatchedBy, Trial
from models import MODELS, build_meta_model, build_model, starts_alike

USUAL_GROWTH = 2.0
GROWTHS_UP = [round(USUAL_GROWTH + step / 100, 2) for step in range(101)]  # to 3.0
GROWTHS_DOWN = [round(USUAL_GROWTH - step / 100, 2) for step in range(81)]  # to 1.2
LARGEST_WIDTH = 2**16
# Parameters of the largest model that is built twice with its numbers while a suite is checked: 0.8 GB in float32.
LARGEST_BUILT = 100_000_000

Size = Callable[[int, float], float]  # (width, growth) -> parameters or FLOPs


def solve(size: Size, target: float, tolerance: float) -> tuple[tuple[int, float, float], bool]:
    """The width and growth at which `size`, which never shrinks as they rise, is `target` to a share of `tolerance`.

    Of those that fit, the growth nearest to the usual one. Widths below the one that fits at the usual growth need a
    larger growth, the more so the further below, so the first that fits on either side is that side's best.

    Returns:
        (width, growth, size) and whether that fits; the nearest tried if none does.
    """
    size = cache(size)
    low, high = target * (1 - tolerance), target * (1 + tolerance)
    top = 1
    while size(top, USUAL_GROWTH) < target and top < LARGEST_WIDTH:
        top *= 2
    middle = bisect_left(range(1, top), target, key=lambda width: size(width, USUAL_GROWTH)) + 1
    tried = [
        *_until_one_fits(size, range(middle, 0, -1), GROWTHS_UP, low, high),
        *_until_one_fits(size, range(middle, LARGEST_WIDTH), GROWTHS_DOWN, low, high),
    ]
    fitting = [found for found in tried if low <= found[2] <= high]
    if fitting:
        return min(fitting, key=lambda found: (abs(found[1] - USUAL_GROWTH), abs(found[2] - target))), True
    return min(tried, key=lambda found: (abs(found[2] - target), abs(found[1] - USUAL_GROWTH))), False


def _until_one_fits(
    size: Size, widths: Sequence[int], growths: Sequence[float], low: float, high: float
) -> Iterator[tuple[int, float, float]]:
    """For each width the growth, counted from the usual one, at which it enters or jumps over [low, high].

    It ends with the first width that enters the range, or that no growth brings so far: those beyond need even more.
    """
    rising = growths[-1] > growths[0]
    for width in widths:

        def far_enough(growth: float, width: int = width) -> bool:
            return size(width, growth) >= low if rising else size(width, growth) <= high

        index = bisect_left(growths, True, key=far_enough)
        for growth in growths[max(0, index - 1) : index + 1]:
            yield width, growth, size(width, growth)
        if index == len(growths) or low <= size(width, growths[index]) <= high:
            return


Shape = tuple[
    int, int, int, str, str
]  # all that decides on a model's size: image size, channels, classes, model, settings
_params: dict[Shape, int] = {}  # kept, and not the models: one costs 300 KB, and a plan may have thousands of shapes


def count_params(trial: Trial) -> int:
    """Parameters of a trial's model. Raises: ValueError, as models.build_meta_model."""
    shape = _shape(trial)
    if shape not in _params:
        _sketch(*shape)
    return _params[shape]


def count_flops(trial: Trial) -> int:
    """FLOPs of one image's forward pass; a multiply-add is two. Raises: as count_params.

    Takes several times what counting parameters takes, which is all that most searches for a size need.
    """
    return _flops(*_shape(trial))


def ignores_seeds(trial: Trial) -> bool:
    """Whether a trial's model is a user's own that starts from equal weights whatever the seed.

    One of more than LARGEST_BUILT parameters isn't asked. Raises: ValueError, as models.starts_alike.
    """
    return count_params(trial) <= LARGEST_BUILT and _ignores_seeds(*_shape(trial))


def _shape(trial: Trial) -> Shape:
    spec = trial.data or DATASETS[trial.dataset]
    return spec.image_size, spec.in_channels, spec.num_classes, trial.model, json.dumps(trial.settings)


def _sketch(*shape: *Shape) -> nn.Module:
    image_size, in_channels, num_classes, name, settings = shape
    model = build_meta_model(name, json.loads(settings), image_size, in_channels, num_classes)
    _params[shape] = sum(parameter.numel() for parameter in model.parameters())
    return model


@cache
def _ignores_seeds(*shape: *Shape) -> bool:
    image_size, in_channels, num_classes, name, settings = shape
    return starts_alike(name, json.loads(settings), image_size, in_channels, num_classes)


@cache
def _flops(*shape: *Shape) -> int:
    model, (image_size, in_channels, num_classes, name, settings) = _sketch(*shape), shape
    closed_form, image = getattr(model, "num_flops", None), (in_channels, image_size, image_size)
    if closed_form:
        return int(closed_form())
    tensors = [*model.parameters(), *model.buffers()]
    if name in MODELS and is_small(tensors, image):  # ours look at no numbers, so any will do, and count sooner
        model.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.zero_()
    try:
        return forward_flops(model, image)
    except NEEDS_NUMBERS:  # of somebody's own, which makes tensors of numbers as it goes
        real = build_model(name, json.loads(settings), image_size, in_channels, num_classes)
    try:
        return forward_flops(real, image)
    except NEEDS_NUMBERS as error:
        raise ValueError(f"{name} can't take an image of this size: {' '.join(str(error).split())[:300]}") from None


# what is counted -> how, and what it is called
COUNTS: dict[MatchedBy, tuple[Callable[[Trial], int], str]] = {
    "params": (count_params, "parameters"),
    "flops": (count_flops, "FLOPs an image"),
}
