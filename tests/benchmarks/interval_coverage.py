"""Does a trial's 95% interval of throughput cover? Many trials of one configuration, one after the other.

    python tests/benchmarks/interval_coverage.py [--trials 40] [--set models.vit.patch_size=7 ...] [--write FILE.md]

It is the interval of trials that are timed as a whole (`timing: whole`, several processes, a GPU), from their blocks.
Each trial runs as a sweep runs it, in a process of its own. Counted are the intervals that contain the grand median,
which is the best that this machine can say of the true rate. Machines drift; a trial's own blocks show only what
happens within seconds, so that an interval has to allow for more than their scatter.
"""

import argparse
import json
import statistics
from datetime import date
from pathlib import Path

import torch

from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.execution.local import Subprocess
from bench.measure.stats import block_interval
from bench.result import Result
from bench.system.device import cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically

SMALL = [
    *("models.vit.patch_size=7", "models.vit.depth=2", "dtype=fp32", "epochs=2", "seeds=1"),
    *("timing=whole", "instrument_seconds=0"),
]


def run_trials(count: int, settings: list[str]) -> tuple[str, list[Result]]:
    trial = load_plan(read_suite(find_suite("mnist"), settings)).trials[0]
    executor = Subprocess()
    executor.run(trial, None, lambda message: None)  # the first fills the disk's cache
    results = []
    for index in range(count):
        result = executor.run(trial, None, lambda message: None)
        assert result.status == "ok", result.error
        results.append(result)
        print(f"{index + 1}/{count} {result.images_per_second:,.0f} images/s", flush=True)
    return f"{trial.label}, {trial.training.epochs} epochs, batch {trial.training.batch_size}", results


def report(name: str, blocks: list[list[tuple[float, float]]], options: argparse.Namespace) -> str:
    intervals = [block_interval([images for images, _ in one], [seconds for _, seconds in one]) for one in blocks]
    grand = statistics.median(interval.median for interval in intervals)
    inside = sum(interval.low <= grand <= interval.high for interval in intervals)
    width = statistics.median((interval.high - interval.low) / 2 / interval.median for interval in intervals)
    medians = sorted(interval.median / grand for interval in intervals)
    between = statistics.stdev(medians)
    n = statistics.median(interval.n for interval in intervals)
    return "\n".join(
        [
            f"`python tests/benchmarks/interval_coverage.py --trials {options.trials}`, {date.today()}, {cpu_name()}, "
            f"{usable_cores()} cores, torch {torch.__version__}. {name}; {n:g} timed blocks a trial.",
            "",
            "| trials | intervals that contain the grand median | median half-width | spread between trials (SD) | "
            "slowest and fastest trial |",
            "| --: | --: | --: | --: | --: |",
            f"| {len(intervals)} | {inside} ({inside / len(intervals):.0%}) | {width:.1%} | {between:.1%} | "
            f"{medians[0] - 1:+.1%}, {medians[-1] - 1:+.1%} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--blocks", type=Path, help="keep the raw blocks here as JSON, or read them if it exists")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.blocks and options.blocks.exists():
        name, blocks = json.loads(options.blocks.read_text())
    else:
        name, results = run_trials(options.trials, [*SMALL, *options.set])
        blocks = [[(block["images"], block["seconds"]) for block in result.blocks] for result in results]
        if options.blocks:
            write_atomically(options.blocks, json.dumps([name, blocks]))
    text = report(name, blocks, options)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


if __name__ == "__main__":
    main()
