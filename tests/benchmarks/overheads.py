"""What the harness costs around the training: `--help`, a trial's process, a whole `--suite smoke`.

    python tests/benchmarks/overheads.py [--trials 10] [--write results/reference/overheads.md]

A trial's overhead is everything but training, evaluation and warm-up: process, data, model, saving. Only a trial that
is timed as a whole tells these apart; one of those that run side by side does the same.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from bench.config.plan import load_plan
from bench.config.suite_file import find_suite, read_suite
from bench.execution.local import Subprocess
from bench.system.device import cpu_name
from bench.system.environment import usable_cores
from bench.system.files import write_atomically

ROOT = Path(__file__).parents[2]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def program(folder: Path, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "run_bench.py"), *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def trial_overheads(folder: Path, count: int) -> list[float]:
    """Seconds that trials of MNIST take beyond training, evaluation and warm-up; the first trial is left out."""
    settings = ["models.vit.patch_size=14", "models.vit.depth=2", "epochs=1", "seeds=1", "timing=whole"]
    trial = load_plan(read_suite(find_suite("mnist"), settings)).trials[0]
    executor = Subprocess()
    found = []
    for index in range(count + 1):
        start = time.perf_counter()
        result = executor.run(trial, folder / str(index), lambda message: None)
        elapsed = time.perf_counter() - start
        assert result.status == "ok", result.error
        measured = (result.train_seconds, result.eval_seconds, result.warm_up_seconds)
        found.append(elapsed - sum(part or 0.0 for part in measured))
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "`run_bench.py --help`": [seconds(lambda: program(folder, "--help")) for _ in range(options.trials)],
            "a trial of MNIST, without training, evaluation, warm-up": trial_overheads(folder, options.trials),
            "`run_bench.py --suite smoke`": [seconds(lambda: program(folder, "--suite", "smoke")) for _ in range(3)],
        }
    lines = [
        f"`python tests/benchmarks/overheads.py --trials {options.trials}`, {date.today()}, {cpu_name()}, "
        f"{usable_cores()} cores, torch {torch.__version__}.",
        "",
        "| what | n | median s | lowest | highest |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for what, values in figures.items():
        lines.append(
            f"| {what} | {len(values)} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
        )
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_atomically(options.write, text + "\n")


if __name__ == "__main__":
    main()
