"""What several processes are worth: one model trained by 1, 2 and more of them, in turns, on one machine.

    python tests/benchmarks/data_parallel.py [--sizes 1 2 4] [--rounds 5] [--epochs 1] [--device cpu]
        [--write results/reference/data_parallel.md]

A round trains each family by every number of processes, with the batch fixed (shared out) and scaled (that of each), in
random order. Scaling efficiency is images a second over those of one process times the number of processes, taken
within the round; a CPU's processes share its cores, so one process has all of them to itself there and there is little
to gain. The table says besides how far the losses of a fixed batch are from those of one process, what a reading of the
common clock costs, and how much of a core a process takes that waits for an evaluation.

The speed rounds (bench/speed/rounds.py) time slices within one process, and so can't time processes that train one
model together: each way is timed here by whole trials, and what a round of them shares is minutes, not seconds.
"""

import argparse
import random
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.config.recipes import RECIPES
from bench.execution.local import Subprocess
from bench.measure.stats import mean_interval
from bench.result import Result
from bench.system.device import open_device
from bench.system.environment import usable_cores
from bench.system.files import write_atomically
from bench.training.data_parallel import Replicas
from bench.training.launcher import train_together
from bench.training.loop import Score
from bench.trial import Trial
from models import MODELS

SETTINGS: dict[str, dict[str, Any]] = {"vit": {"patch_size": 7, "depth": 4}, "cnn": {"depth": 4, "width": 16}}
READINGS = 2_000
WAIT_SECONDS = 1.0

Way = tuple[str, int, str]  # family, processes, whose batch


def trial(way: Way, seed: int, options: argparse.Namespace) -> Trial:
    family, world_size, global_batch = way
    more = {"epochs": options.epochs, "augment": {}, "evaluations_per_epoch": 8}
    return Trial(
        suite="data-parallel",
        dataset="mnist",
        model=family,
        settings=MODELS[family][0](**SETTINGS[family]).model_dump(),
        recipe=family,
        training=RECIPES[family].model_copy(update=more),
        dtype="fp32",
        device=options.device,
        world_size=world_size,
        global_batch=global_batch,
        seed=seed,
        targets=(options.target,),
        instrument_seconds=0.0,
    )


def costs(asked: Trial, *_: object, replicas: Replicas) -> Result:
    """Seconds that a reading of the common clock takes, and of CPU that a process takes that is told a score."""
    clock = replicas.clock(time.perf_counter)
    start = clock()
    for _index in range(READINGS):
        clock()
    reading = (clock() - start) / READINGS

    def score() -> Score:
        time.sleep(WAIT_SECONDS)
        return Score(0.0, 0.0, torch.zeros(0), torch.zeros(0))

    before = time.process_time()
    replicas.first(score)
    waiting = replicas.mean(torch.tensor(time.process_time() - before)) / WAIT_SECONDS
    return Result(**asked.row(), status="ok", evaluations=[{"reading": reading, "waiting": waiting}])


def loss_difference(one: Result, other: Result) -> float:
    """The largest relative one, over all evaluations and both losses."""
    pairs = zip(one.evaluations, other.evaluations, strict=True)
    return max(abs(b[key] / a[key] - 1) for a, b in pairs for key in ("train_loss", "val_loss"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    executor, dice = Subprocess(), random.Random(0)
    ways: list[Way] = [(family, 1, "fixed") for family in SETTINGS]
    ways += [(f, n, g) for f in SETTINGS for n in options.sizes if n > 1 for g in ("fixed", "scaled")]
    results: dict[Way, list[Result]] = {way: [] for way in ways}
    for seed in range(options.rounds):
        for way in dice.sample(ways, len(ways)):
            result = executor.run(trial(way, seed, options), None, lambda message: None)
            assert result.status == "ok", (way, result.error)
            results[way].append(result)
            print(seed, *way, f"{result.images_per_second:,.0f} images/s", flush=True)
    pair = trial(("vit", 2, "fixed"), 0, options).model_copy(update={"device": "cpu", "num_threads": 1})
    found = train_together(costs, pair, None, None, lambda message: None).evaluations[0]
    text = report(results, found, options)
    print(text)
    if options.write:
        write_atomically(options.write, text)


def report(results: dict[Way, list[Result]], found: dict[str, float], options: argparse.Namespace) -> str:
    device = open_device(options.device)
    lines = [
        "# Several processes that train one model",
        "",
        f"`python tests/benchmarks/data_parallel.py --sizes {' '.join(map(str, options.sizes))} --rounds "
        f"{options.rounds} --epochs {options.epochs} --device {options.device}`, "
        f"{date.today()}, {device.name}, {usable_cores()} cores, torch {torch.__version__}; {options.rounds} rounds in "
        "random order. Median over rounds; efficiency with a 95% interval.",
        "",
        "| model | processes | batch | images of an update | threads each | images/s | efficiency "
        f"| seconds to {100 * options.target:g}% | losses differ from one process by | validation accuracy |",
        "| :-- | --: | :-- | --: | --: | --: | :-- | :-- | --: | --: |",
    ]
    for way, rows in results.items():
        family, size, batch = way
        ones = results[family, 1, "fixed"]
        shares = [speed(row) / speed(one) / size for row, one in zip(rows, ones, strict=True)]
        reached = [row.time_to_accuracy_seconds for row in rows if row.time_to_accuracy_seconds is not None]
        differences = (
            [loss_difference(one, row) for one, row in zip(ones, rows, strict=True)] if batch == "fixed" else []
        )
        cells = [
            *(family, str(size), batch if size > 1 else "", str(rows[0].batch_size), str(rows[0].num_threads)),
            f"{middle(rows, speed):,.0f}",
            efficiency(shares) if size > 1 else "1",
            f"{median(reached):.2f} ({len(reached)} of {len(rows)})" if reached else f"0 of {len(rows)}",
            f"{max(differences):.1e}" if differences and size > 1 else "",
            f"{100 * middle(rows, lambda row: row.val_accuracy or 0.0):.2f}%",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"A reading of the common clock of two processes takes {1e6 * found['reading']:.0f} microseconds (n = "
        f"{READINGS:,}), twice for each block of at least 250 ms. A process that waits while the first evaluates takes "
        f"{100 * found['waiting']:.1f}% of a core.",
        "",
    ]
    return "\n".join(lines)


def speed(result: Result) -> float:
    return result.images_per_second or 0.0


def middle(rows: list[Result], of: Callable[[Result], float]) -> float:
    return median(of(row) for row in rows)


def efficiency(shares: list[float]) -> str:
    if len(shares) < 3:
        return f"{median(shares):.2f}"
    interval = mean_interval(shares)
    return f"{median(shares):.2f} ({interval.low:.2f} to {interval.high:.2f})"


if __name__ == "__main__":
    main()
