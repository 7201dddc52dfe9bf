"""Seconds of training to 98% and 99% on MNIST: our recipes and a published fast one.

    python tests/benchmarks/time_to_accuracy.py [--seeds 5] [--seconds 240] [--threads N]
        [--write results/reference/time_to_accuracy.md]

Time to a target is the images that training sees up to it, one figure a seed, times the seconds that an image takes.
The images need no quiet machine: trials of all seeds run side by side. Their seconds come from the speed rounds, where
steps of all recipes are timed in one process, in slices of some 45 ms in random order; a launch is a fresh process, and
the unit of the speeds' intervals. Targets are on our validation split, for all of them; nobody sees it in training.
Ours stop where their recipe stops, and what counts is the first evaluation at the target.

- train_mnist_fast: https://github.com/tuomaso/train_mnist_fast, its last notebook: two convolutions, two linear layers,
  Adam, one cycle, one epoch at batch 256; normalised floats in memory, in the order in which they lie; its accuracy is
  that at the end of the epoch. Written here from its description.
- the same, channels_last: nothing else changed. Not what was published, but quicker on a CPU, so that the comparison
  doesn't rest on a choice of layout.
- ours: trials with a recipe of bench/config/recipes.py, shuffling, augmentation, evaluations (off the clock) and all.
"""

import argparse
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from itertools import islice
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
from bench.execution.local import Subprocess
from bench.measure.speed_stats import Speeds
from bench.measure.stats import median_time_to_target
from bench.result import Launch, Result
from bench.speed.cells import PlainCell
from bench.speed.rounds import Entry, Setting, measure
from bench.system.device import cpu_name
from bench.system.environment import default_threads, usable_cores
from bench.system.files import write_atomically
from bench.system.precision import set_exact_arithmetic
from bench.trial import Trial
from models import find_model

TARGETS = (0.98, 0.99)
PUBLISHED = "train_mnist_fast"
LAYOUTS = {PUBLISHED: torch.contiguous_format, f"{PUBLISHED}, channels_last": torch.channels_last}
BATCH, PEAK = 256, 1e-2  # of the published recipe

# name -> family, recipe, settings that differ from the family's defaults, channels_last
OURS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "cnn": ("cnn", "cnn", {"width": 16}, False),
    "cnn, channels_last": ("cnn", "cnn", {"width": 16}, True),
    "cnn-99, channels_last": ("cnn", "cnn-99", {"width": 16}, True),
    "vit": ("vit", "vit", {}, False),
    "vit-98": ("vit", "vit-98", {}, False),
    "vit-99": ("vit", "vit-99", {"embed_dim": 64, "num_heads": 4}, False),
}


@dataclass(frozen=True)
class Run:
    """One training: images it saw, those up to each of TARGETS (None: not reached), accuracies at its end."""

    images: int
    to_target: tuple[int | None, ...]
    val_accuracy: float
    test_accuracy: float


@cache
def dataset() -> Dataset:
    return load_dataset("mnist")


def published_steps(name: str, seed: int) -> Iterator[nn.Module]:
    """The published recipe, epoch upon epoch, each with the cycle of its learning rate; the model after each step."""
    data, memory_format = dataset(), LAYOUTS[name]
    images = _normalised(data, data.train)  # before the clock, as there
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    ).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.7, 0.9))
    batches = list(zip(images.split(BATCH), data.train.labels.split(BATCH), strict=True))
    while True:
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=len(batches), cycle_momentum=False)
        for batch, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(batch.contiguous(memory_format=memory_format)), labels).backward()
            optimizer.step()
            cycle.step()
            yield model


def published_cells(name: str) -> list[PlainCell]:
    steps = published_steps(name, seed=0)
    return [PlainCell("train", BATCH, lambda: next(steps))]


def published(name: str, seed: int) -> Run:
    """Its one epoch."""
    data = dataset()
    images = len(data.train)
    *_, model = islice(published_steps(name, seed), -(-images // BATCH))
    accuracy = _accuracy(model, data, data.val)
    reached = tuple(images if accuracy >= target else None for target in TARGETS)
    return Run(images, reached, accuracy, _accuracy(model, data, data.test))


def our_trial(name: str, seed: int = 0) -> Trial:
    family, recipe, settings, channels_last = OURS[name]
    return Trial(
        suite="time-to-accuracy",
        dataset="mnist",
        model=family,
        settings=find_model(family)[0](**settings).model_dump(),
        recipe=recipe,
        training=RECIPES[recipe].model_copy(update={"evaluations_per_epoch": 8}),
        dtype="fp32",
        device="cpu",
        channels_last=channels_last,
        seed=seed,
        timed=False,
    )


def our_run(name: str, result: Result) -> Run:
    if result.status != "ok" or result.batch_size is None or result.test_accuracy is None:
        raise SystemExit(f"{name}, seed {result.seed}: {result.status}: {result.error}")
    looks, batch = result.evaluations, result.batch_size
    reached = (next((e["step"] * batch for e in looks if e["val_accuracy"] >= target), None) for target in TARGETS)
    return Run(looks[-1]["step"] * batch, tuple(reached), looks[-1]["val_accuracy"], result.test_accuracy)


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
    parser.add_argument("--seconds", type=float, default=240.0, help="of the speed rounds, at most")
    parser.add_argument("--threads", type=int, default=default_threads(torch.get_num_threads()), help="of the speeds")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    set_exact_arithmetic()
    runs = {name: [published(name, seed) for seed in range(options.seeds)] for name in LAYOUTS}
    trials = [our_trial(name, seed) for seed in range(options.seeds) for name in options.only]
    names = {our_trial(name).config_id: name for name in options.only}
    for result in Subprocess().run_together(trials, lambda trial: None):
        name = names[result.config_id or ""]
        runs.setdefault(name, []).append(our_run(name, result))
        print(f"seed {result.seed}  {name}: {runs[name][-1]}", flush=True)
    threads = (options.threads,)
    entries = [Entry(name, code="time_to_accuracy:published_cells", arguments={"name": name}) for name in LAYOUTS]
    entries += [Entry(name, our_trial(name)) for name in options.only]
    setting = Setting([replace(entry, threads=threads) for entry in entries], cpu_name(), precision=0.01)
    text = report(runs, [*measure(setting, [], 0, options.seconds)], options)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


def report(runs: dict[str, list[Run]], launches: Sequence[Launch], options: argparse.Namespace) -> str:
    speeds, threads = Speeds(launches), options.threads
    cells = {cell.config_id: cell for cell in speeds.cells if cell.work == "train"}
    if missing := runs.keys() - cells.keys():
        raise SystemExit(f"no undisturbed slice, of {', '.join(sorted(missing))}: {launches[-1].missing or 'too busy'}")
    pace = {name: 1 / speeds.speed(cells[name]).amount for name in runs}  # seconds an image
    epoch = runs[PUBLISHED][0].images * pace[PUBLISHED]
    lines = [
        f"`python tests/benchmarks/time_to_accuracy.py --seeds {options.seeds} --seconds {options.seconds:g} --threads "
        f"{threads} --only {' '.join(map(shlex.quote, options.only))}`, {date.today()},",
        f"{cpu_name()}, {usable_cores()} cores, {threads} threads, torch {torch.__version__}, Python "
        f"{platform.python_version()}. MNIST, 55,000 training images, targets on the 5,000 of validation, fp32;",
        f"n = {options.seeds} seeds; median, and lowest to highest. A seed that didn't reach a target counts as the "
        "longest.",
        f"Seconds are images times the seconds of one, from {len(launches)} launches, of whose slices "
        f"{speeds.clean_share(threads):.0%} were undisturbed. The ratio is to {PUBLISHED}'s epoch.",
        "",
        "| recipe | images/s | times as fast an image as the published, 95% interval | all of its training, s "
        "| validation accuracy at its end | test accuracy |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for name, trainings in runs.items():
        ratio = speeds.ratio(cells[name], cells[PUBLISHED])
        columns = (
            f"{1 / pace[name]:,.0f}",
            "1" if name == PUBLISHED else f"{ratio.amount:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
            f"{trainings[0].images * pace[name]:.1f}",
            _spread([100 * run.val_accuracy for run in trainings], "{:.2f}%"),
            _spread([100 * run.test_accuracy for run in trainings], "{:.2f}%"),
        )
        lines.append(f"| {name} | {' | '.join(columns)} |")
    lines += [
        "",
        "| recipe | target | seeds that reached it | images to it | seconds to it | ratio to the published epoch |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for name, trainings in runs.items():
        for index, target in enumerate(TARGETS):
            images = [run.to_target[index] for run in trainings]
            seconds = [count and count * pace[name] for count in images]
            reached = (
                f"{sum(count is not None for count in images)} of {options.seeds}",
                _spread(images, "{:,.0f}"),
                _spread(seconds, "{:.1f}"),
                _spread([each and each / epoch for each in seconds], "{:.2f}"),
            )
            lines.append(f"| {name} | {100 * target:.0f}% | {' | '.join(reached)} |")
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
