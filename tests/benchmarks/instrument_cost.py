"""What the clock costs the loop: `train` with stopwatch, blocks and energy meter against the same steps without.

    python tests/benchmarks/instrument_cost.py [--rounds 60] [--write results/reference/instrument_cost.md]

Both sides take the same learner, the same batches and as many steps, in random order within a round; the ratio is
taken within the round. The bar is 1%.
"""

import argparse
import random
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads

import torch

from bench.config.recipes import RECIPES
from bench.data.dataset import TrainingBatches, load_dataset
from bench.measure.stats import log_mean_interval
from bench.measure.stopwatch import BLOCK_SECONDS, Stopwatch
from bench.system.device import cpu_name, open_device
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.system.precision import DTYPES, set_exact_arithmetic
from bench.training.loop import Learner, Score, train
from bench.training.optim import build_optimizer, learning_rate
from models import build_model

SHAPES = {
    "vit": {"patch_size": 14, "depth": 2},  # the quickest step of the suites: a fixed cost weighs most
    "cnn": {"depth": 2, "width": 16},
}
NOTHING = Score(0.0, 0.0, torch.zeros(1), torch.zeros(1))


def sides(family: str, steps: int) -> dict[str, Callable[[], float]]:
    """Seconds for `steps` steps, with and without."""
    data, training, device = load_dataset("mnist"), RECIPES[family], open_device("cpu")
    torch.manual_seed(0)
    model = build_model(family, SHAPES[family], 28, 1, 10)
    rate = lambda step: learning_rate(training, step, 10**6)  # noqa: E731
    learner = Learner(model, build_optimizer(model, training), rate, DTYPES["fp32"], device)
    batches = TrainingBatches(data, training.batch_size, seed=0)
    source = iter(batches)
    pace = [1e-2]

    def measured() -> float:
        watch = Stopwatch(device.synchronize, energy=device.energy_joules)
        block_steps = max(1, int(1.25 * BLOCK_SECONDS / pace[0]))  # as a warm-up chooses it
        start = time.perf_counter()
        for _ in train(learner, source, lambda: NOTHING, [steps], steps, block_steps, 1e9, watch):
            pass
        return time.perf_counter() - start

    def plain() -> float:
        start = time.perf_counter()
        loss = torch.zeros(())
        for _ in range(steps):
            loss = learner.step(*next(source)) + loss
        float(loss)
        seconds = time.perf_counter() - start
        pace[0] = seconds / steps
        return seconds

    plain()
    return {"with": measured, "without": plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    set_exact_arithmetic()
    lines = [
        f"`python tests/benchmarks/instrument_cost.py --rounds {options.rounds} --steps {options.steps}`, "
        f"{date.today()}, {cpu_name()}, {usable_cores()} cores, torch {torch.__version__}; n = {options.rounds} "
        "rounds.",
        "",
        "| model | ms a step | time with over time without | 95% interval |",
        "| :-- | --: | --: | --: |",
    ]
    for family in SHAPES:
        runs, dice = sides(family, options.steps), random.Random(0)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name in dice.sample(list(runs), len(runs)):
                seconds[name].append(runs[name]())
        ratio = log_mean_interval([a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)])
        step = 1000 * log_mean_interval(seconds["without"]).amount / options.steps
        lines.append(
            f"| {family} {SHAPES[family]} | {step:.2f} | {ratio.amount:.4f} | {ratio.low:.4f} to {ratio.high:.4f} |"
        )
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


if __name__ == "__main__":
    main()
