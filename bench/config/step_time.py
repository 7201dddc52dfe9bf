"""How long a training step takes: two configurations timed against each other, so that a busy machine tells no lies."""

import time
from collections.abc import Callable
from statistics import median

import torch

from bench.data.catalog import DATASETS
from bench.system.device import open_device
from bench.system.precision import DTYPES, set_exact_arithmetic
from bench.training.compilation import compiled
from bench.training.loop import Learner, cross_entropy
from bench.training.optim import build_optimizer
from bench.trial import Trial
from models import build_model

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
