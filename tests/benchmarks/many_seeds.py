"""Seeds for their accuracy: one-thread trials side by side against one trial after the other, on the same machine.

    python tests/benchmarks/many_seeds.py [--rounds 6] [--epochs 1] [--write results/reference/many_seeds.md]

Side by side is how trials run on a CPU unless `timing: whole` is asked for; here is what that is worth. A round trains
as many seeds as the machine has cores, once one after the other as timed trials run (torch's own number of threads,
instruments left out), once side by side, in random order; the ratio is taken within the round, since the speed rounds
time slices of one process and no whole trials. The accuracies of both ways are compared seed by seed, and as
distributions.
"""

import argparse
import random
import time
from datetime import date
from pathlib import Path

import torch
from scipy.stats import ks_2samp

from bench.config.recipes import RECIPES
from bench.execution.local import Subprocess
from bench.measure.stats import log_mean_interval, mean_interval
from bench.result import Result
from bench.system.device import cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.system.precision import DTYPES
from bench.trial import Trial
from models import MODELS

# The notebook's ViT of 14,410 parameters, with its recipe.
SETTINGS = {"patch_size": 7, "embed_dim": 16, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0, "pool": "class"}


def trial(seed: int, epochs: int) -> Trial:
    return Trial(
        suite="many-seeds",
        dataset="mnist",
        model="vit",
        settings=MODELS["vit"][0](**SETTINGS).model_dump(),
        recipe="notebook",
        training=RECIPES["notebook"].model_copy(update={"epochs": epochs}),
        dtype=next(iter(DTYPES)),
        device="cpu",
        seed=seed,
        instrument_seconds=0.0,
    )


def one_after_the_other(executor: Subprocess, trials: list[Trial]) -> list[Result]:
    return [executor.run(each, None, lambda message: None) for each in trials]


def side_by_side(executor: Subprocess, trials: list[Trial]) -> list[Result]:
    found = executor.run_together([each.model_copy(update={"timed": False}) for each in trials], lambda each: None)
    return sorted(found, key=lambda result: result.seed or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    executor, cores, dice = Subprocess(), usable_cores(), random.Random(0)
    ways = {"one after the other": one_after_the_other, "side by side": side_by_side}
    one_after_the_other(executor, [trial(0, 1)])  # the first fills the disk's cache
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    accuracies: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(options.rounds):
        trials = [trial(index * cores + seed, options.epochs) for seed in range(cores)]
        for name in dice.sample(list(ways), len(ways)):
            start = time.perf_counter()
            results = ways[name](executor, trials)
            seconds[name].append(time.perf_counter() - start)
            assert all(result.status == "ok" for result in results), [result.error for result in results]
            accuracies[name] += [result.test_accuracy or 0.0 for result in results]
        print({name: round(values[-1], 2) for name, values in seconds.items()}, flush=True)
    text = report(seconds, accuracies, cores, options)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


def report(
    seconds: dict[str, list[float]], accuracies: dict[str, list[float]], cores: int, options: argparse.Namespace
) -> str:
    alone, together = seconds.values()
    ratio = log_mean_interval([a / b for a, b in zip(alone, together, strict=True)])
    first, second = accuracies.values()
    gap = mean_interval([100 * (b - a) for a, b in zip(first, second, strict=True)])
    lines = [
        f"`python tests/benchmarks/many_seeds.py --rounds {options.rounds} --epochs {options.epochs}`, {date.today()}, "
        f"{cpu_name()}, {cores} cores, torch {torch.__version__}. The ViT of 14,410 parameters, batch 64, "
        f"{cores} seeds a round; n = {options.rounds} rounds.",
        "",
        "| way | seeds an hour | test accuracy, mean | lowest | highest |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name in seconds:
        pace = 3600 * cores / log_mean_interval(seconds[name]).amount
        found = sorted(accuracies[name])
        lines.append(
            f"| {name} | {pace:,.0f} | {100 * mean_interval(found).amount:.2f}% | {100 * found[0]:.2f}% | "
            f"{100 * found[-1]:.2f}% |"
        )
    lines += [
        "",
        f"Side by side trains {ratio.amount:.2f} times the seeds an hour (95% interval {ratio.low:.2f} to "
        f"{ratio.high:.2f}). Accuracy seed by seed differs by {gap.amount:+.3f} points ({gap.low:+.3f} to "
        f"{gap.high:+.3f}); the two distributions: Kolmogorov-Smirnov p = {ks_2samp(first, second).pvalue:.2f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
