"""Seconds of training to 98% and 99% on MNIST: our recipes and a published fast one, in alternation.

    python tests/benchmarks/time_to_accuracy.py [--seeds 5] [--write results/reference/time_to_accuracy.md]

A round trains each once, with a seed and in an order of its own; a ratio is taken within the round, over the seconds
that the published recipe takes for its one epoch. Targets are on our validation split, for all of them; nobody sees it
in training. Ours stop where their recipe stops, and what counts is the first evaluation at the target.

- train_mnist_fast: https://github.com/tuomaso/train_mnist_fast, its last notebook: two convolutions, two linear layers,
  Adam, one cycle, one epoch at batch 256; normalised floats in memory, in the order in which they lie; its accuracy is
  that at the end of the epoch. Written here from its description.
- the same, channels_last: nothing else changed. Not what was published, but quicker on a CPU, so that the comparison
  doesn't rest on a choice of layout.
- ours: `bench.training.run.run_trial` with a recipe of bench/config/recipes.py, shuffling, evaluations (off the
clock) and all.
"""

import argparse
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config.recipes import RECIPES
from bench.data.dataset import Dataset, load_dataset
from bench.data.splits import Split, StreamedSplit
from bench.measure.stats import median_time_to_target
from bench.system.device import cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.system.precision import set_exact_arithmetic
from bench.training.run import run_trial
from bench.trial import Trial
from models import find_model

TARGETS = (0.98, 0.99)
PUBLISHED = "train_mnist_fast"
BATCH, PEAK = 256, 1e-2  # of the published recipe

# name -> family, recipe, settings that differ from the family's defaults, channels_last
OURS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "cnn": ("cnn", "cnn", {"width": 16}, False),
    "cnn, channels_last": ("cnn", "cnn", {"width": 16}, True),
    "vit": ("vit", "vit", {}, False),
    "vit-99": ("vit", "vit-99", {"embed_dim": 64, "num_heads": 4}, False),
}


@dataclass(frozen=True)
class Run:
    """One training: its seconds, the seconds to each of TARGETS (None: not reached), accuracies at its end."""

    train_seconds: float
    to_target: tuple[float | None, ...]
    val_accuracy: float
    test_accuracy: float


def published(data: Dataset, seed: int, memory_format: torch.memory_format = torch.contiguous_format) -> Run:
    """The published recipe's epoch; a few steps of another model go before, as our trials warm up before theirs."""
    images = _normalised(data, data.train)  # before the clock, as there
    for steps in (20, None):
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
        ).to(memory_format=memory_format)
        optimizer = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.7, 0.9))
        batches = list(zip(images.split(BATCH), data.train.labels.split(BATCH), strict=True))
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=len(batches), cycle_momentum=False)
        start = time.perf_counter()
        for batch, labels in batches[:steps]:
            optimizer.zero_grad()
            F.cross_entropy(model(batch.contiguous(memory_format=memory_format)), labels).backward()
            optimizer.step()
            cycle.step()
        seconds = time.perf_counter() - start
    accuracy = _accuracy(model, data, data.val)
    reached = tuple(seconds if accuracy >= target else None for target in TARGETS)
    return Run(seconds, reached, accuracy, _accuracy(model, data, data.test))


def ours(name: str, seed: int) -> Run:
    family, recipe, settings, channels_last = OURS[name]
    trial = Trial(
        suite="time-to-accuracy",
        dataset="mnist",
        model=family,
        settings=find_model(family)[0](**settings).model_dump(),
        recipe=recipe,
        training=RECIPES[recipe],
        dtype="fp32",
        device="cpu",
        channels_last=channels_last,
        seed=seed,
        instrument_seconds=0,
    )
    result = run_trial(trial)
    if result.status != "ok" or result.train_seconds is None or result.test_accuracy is None:
        raise SystemExit(f"{name}, seed {seed}: {result.status}: {result.error}")
    looks = result.evaluations
    reached = (next((e["train_seconds"] for e in looks if e["val_accuracy"] >= target), None) for target in TARGETS)
    return Run(result.train_seconds, tuple(reached), looks[-1]["val_accuracy"], result.test_accuracy)


def _normalised(data: Dataset, split: Split | StreamedSplit) -> Tensor:
    return split.pick(torch.arange(len(split))).float().sub_(data.mean).div_(data.std)


@torch.inference_mode()
def _accuracy(model: nn.Module, data: Dataset, split: Split | StreamedSplit) -> float:
    hits = [
        (model(images).argmax(1) == labels).sum()
        for images, labels in zip(_normalised(data, split).split(250), split.labels.split(250), strict=True)
    ]
    return int(sum(hits)) / len(split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=OURS, default=list(OURS), help="which of ours to run")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    set_exact_arithmetic()
    data = load_dataset("mnist")
    runners: dict[str, Callable[[int], Run]] = {
        PUBLISHED: lambda seed: published(data, seed),
        f"{PUBLISHED}, channels_last": lambda seed: published(data, seed, torch.channels_last),
    }
    runners |= {name: partial(ours, name) for name in options.only}
    runs: dict[str, list[Run]] = {name: [] for name in runners}
    dice = random.Random(0)
    for seed in range(options.seeds):
        for name in dice.sample(list(runners), len(runners)):
            run = runners[name](seed)
            runs[name].append(run)
            print(f"seed {seed}  {name}: {run}", flush=True)
    text = report(runs, options.seeds)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


def report(runs: dict[str, list[Run]], seeds: int) -> str:
    epochs = [run.train_seconds for run in runs[PUBLISHED]]
    lines = [
        f"`python tests/benchmarks/time_to_accuracy.py --seeds {seeds}`, {date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. MNIST, 55,000 training images, targets on the 5,000 of validation, fp32;",
        f"n = {seeds} seeds; median, and lowest to highest. A seed that didn't reach a target counts as the longest.",
        f"The ratio is to {PUBLISHED}'s epoch in the same round.",
        "",
        "| recipe | all of its training, s | validation accuracy at its end | test accuracy |",
        "| :-- | --: | --: | --: |",
    ]
    for name, trainings in runs.items():
        columns = (
            _spread([run.train_seconds for run in trainings], "{:.1f}"),
            _spread([100 * run.val_accuracy for run in trainings], "{:.2f}%"),
            _spread([100 * run.test_accuracy for run in trainings], "{:.2f}%"),
        )
        lines.append(f"| {name} | {' | '.join(columns)} |")
    lines += [
        "",
        "| recipe | target | seeds that reached it | seconds to it | ratio to the published epoch |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name, trainings in runs.items():
        for index, target in enumerate(TARGETS):
            seconds = [run.to_target[index] for run in trainings]
            ratios = [s and s / epoch for s, epoch in zip(seconds, epochs, strict=True)]
            reached = f"{sum(s is not None for s in seconds)} of {seeds}"
            columns = (reached, _spread(seconds, "{:.1f}"), _spread(ratios, "{:.2f}"))
            lines.append(f"| {name} | {100 * target:.0f}% | {' | '.join(columns)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float | None], form: str) -> str:
    """Median (lowest to highest); an empty cell where half or more are missing, whose median isn't known."""
    middle, reached, count = median_time_to_target(values)
    if middle is None:
        return ""
    known = [value for value in values if value is not None]
    highest = form.format(max(known)) if reached == count else "never"
    return f"{form.format(middle)} ({form.format(min(known))} to {highest})"


if __name__ == "__main__":
    main()
