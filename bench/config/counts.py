"""Counts: parameters and FLOPs of a trial's model, from a sketch of it, made once for every shape."""

import json
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from bench.data.catalog import DATASETS
from bench.measure.flops import forward_flops
from bench.trial import MatchedBy, Trial
from models import sketch_model


class _Counts(NamedTuple):
    params: int
    flops: int


def count_params(trial: Trial) -> int:
    """Parameters of a trial's model. Raises: ValueError, as models.sketch_model."""
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
    model = sketch_model(model_name, json.loads(settings), image_size, in_channels, num_classes)
    closed_form = getattr(model, "num_flops", None)
    flops = closed_form() if closed_form else forward_flops(model, (in_channels, image_size, image_size))
    return _Counts(sum(parameter.numel() for parameter in model.parameters()), flops)


# what is counted -> how, and what it is called
COUNTS: dict[MatchedBy, tuple[Callable[[Trial], int], str]] = {
    "params": (count_params, "parameters"),
    "flops": (count_flops, "FLOPs an image"),
}
