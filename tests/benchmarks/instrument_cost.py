"""What the clock costs the loop: `train` with stopwatch, blocks and energy meter against the same steps without.

    python tests/benchmarks/instrument_cost.py [--seconds 240] [--threads N]
        [--write results/reference/instrument_cost.md]

The clock runs in every trial, and is read in those that are timed as a whole (`timing: whole`, several processes, a
GPU). Both sides are open in one process and timed in slices of some 45 ms in random order; a launch is a fresh process,
and the unit of the interval. What is timed is eight steps: a block, and a stop of `train`, where a trial has a block in
250 ms and a stop in a quarter of an epoch. So the figure is a bound. The bar is 1%.
"""

import argparse
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path

from bench.execution.local import set_environment

set_environment()  # as a trial has it; before torch loads

import torch

from bench.config.recipes import RECIPES
from bench.data.dataset import TrainingBatches, load_dataset
from bench.measure.speed_stats import Cell, Speeds
from bench.measure.stopwatch import Stopwatch
from bench.speed.cells import PlainCell
from bench.speed.rounds import Entry, Setting, measure
from bench.system.device import cpu_name, open_device
from bench.system.environment import default_threads, usable_cores
from bench.system.files import write_atomically
from bench.system.precision import DTYPES
from bench.training.loop import Learner, Score, train
from bench.training.optim import build_optimizer, learning_rate
from models import build_model

SHAPES = {
    "vit": {"patch_size": 14, "depth": 2},  # the quickest step of the suites: a fixed cost weighs most
    "cnn": {"depth": 2, "width": 16},
}
STEPS = 8  # that are timed as one
NOTHING = Score(0.0, 0.0, torch.zeros(1), torch.zeros(1))


def cells(family: str, clock: bool) -> list[PlainCell]:
    """`STEPS` steps, with the clock or without."""
    data, training, device = load_dataset("mnist"), RECIPES[family], open_device("cpu")
    torch.manual_seed(0)
    model = build_model(family, SHAPES[family], 28, 1, 10)
    rate = partial(learning_rate, training, num_steps=10**6)
    learner = Learner(model, build_optimizer(model, training), rate, DTYPES["fp32"], device)
    source = iter(TrainingBatches(data, training.batch_size, seed=0))
    watch = Stopwatch(device.synchronize, energy=device.energy_joules)

    def measured() -> None:
        for _ in train(learner, source, lambda: NOTHING, [STEPS], STEPS, STEPS, 1e9, watch):
            pass

    def plain() -> None:
        loss = torch.zeros(())
        for images, labels in islice(source, STEPS):
            loss = learner.step(images, labels) + loss
        float(loss)

    return [PlainCell("train", STEPS * training.batch_size, measured if clock else plain)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="at most")
    parser.add_argument("--threads", type=int, default=default_threads(torch.get_num_threads()))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    threads = options.threads
    entries = [
        Entry(
            f"{family} {clock}",
            code="instrument_cost:cells",
            arguments={"family": family, "clock": clock},
            threads=(threads,),
        )
        for family in SHAPES
        for clock in (True, False)
    ]
    launches = [*measure(Setting(entries, cpu_name(), precision=0.005), [], 0, options.seconds)]
    speeds = Speeds(launches)
    lines = [
        f"`python tests/benchmarks/instrument_cost.py --seconds {options.seconds:g} --threads {threads}`, "
        f"{date.today()}, {cpu_name()}, {usable_cores()} cores, torch {torch.__version__}; n = {len(launches)} "
        f"launches, {speeds.clean_share(threads):.0%} of the slices undisturbed.",
        "",
        "| model | ms a step | time with over time without | 95% interval |",
        "| :-- | --: | --: | --: |",
    ]
    for family, shape in SHAPES.items():
        batch = RECIPES[family].batch_size
        plain, clocked = (Cell(f"{family} {clock}", "train", STEPS * batch, threads) for clock in (False, True))
        ratio, step = speeds.ratio(plain, clocked), 1000 * batch / speeds.speed(plain).amount
        lines.append(f"| {family} {shape} | {step:.2f} | {ratio.amount:.4f} | {ratio.low:.4f} to {ratio.high:.4f} |")
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


if __name__ == "__main__":
    main()
