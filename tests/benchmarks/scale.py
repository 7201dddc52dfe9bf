"""Scale: what a plan of 10,000 trials costs to make, run, go on with, verify and report; and each trial's bookkeeping.

    python tests/benchmarks/scale.py [--trials 10000] [--json FILE] [--keep FOLDER] [--no-report]

Each line is a process of its own, the program as people call it, with its seconds, CPU seconds and peak of memory. Only
`run` has an executor that trains nothing: plan, session, sweep, progress display on a terminal, store (with its fsyncs)
and report are the real ones. Each of its trials has 15 evaluations, 8 timed blocks and 16 of inference. The bookkeeping
of a trial is what passes between one trial's end and the next one's beginning, so that the tenths of a run show whether
it grows.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

MOST_SECONDS = {"plan: seeds": 5.0, "plan: settings": 5.0, "resume": 5.0, "report": 60.0}
MOST_BYTES = 2e9  # of any of the processes
SHAPES = 2048  # of the plan that has very many of them
RATES = [round(1e-4 * 1.01**step, 9) for step in range(1000)]
PROGRAM = [sys.executable, str(ROOT / "run_bench.py")]
Figures = dict[str, Any]


def suites(trials: int) -> dict[str, dict[str, Any]]:
    """Three ways to come to about so many trials: by seeds, by settings of training, by shapes of models."""
    few = [{"model": "vit", "patch_size": [2, 4], "depth": 2}, {"model": "cnn", "depth": [1, 2], "width": 8}]
    some = [
        {"model": "vit", "patch_size": [2, 4], "depth": [1, 2, 3, 4, 5], "embed_dim": [16, 32, 48, 64, 96]},
        {"model": "cnn", "depth": [1, 2, 3, 4, 5], "width": [4, 6, 8, 10, 12, 14, 16, 20, 24, 32]},
    ]
    many = [
        {"model": "vit", "patch_size": [1, 2, 4, 8], "depth": [*range(1, 9)], "embed_dim": [*range(16, 513, 16)]},
        {"model": "cnn", "depth": [*range(1, 9)], "width": [*range(1, 129)]},
    ]
    both = {"dataset": "digits", "epochs": 3, "targets": [0.9, 0.95, 0.97]}
    axes = {"dtype": ["fp32", "amp-bf16"], "batch_size": [16, 32, 64, 128, 256]}
    rounds = max(1, round(trials / SHAPES))
    return {
        "seeds": both | axes | {"models": few, "learning_rate": RATES[: max(1, trials // 400)], "seeds": 10},
        "settings": both | {"models": some, "dtype": axes["dtype"], "learning_rate": RATES[: max(1, trials // 200)]},
        "shapes": both | {"models": many, "seeds": rounds, "num_threads": 1},
    }


def measured(command: Sequence[str], folder: Path, **environment: str) -> Figures:
    """A process: seconds, CPU seconds and peak of memory of it and of those that it has waited for."""
    start = time.perf_counter()
    with open(folder / "said.txt", "w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder, env=os.environ | environment)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}\n{(folder / 'said.txt').read_text()[-2000:]}")
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": memory}


class Untrained:
    """An executor that makes its results up, and notes when each trial came and went."""

    exclusive = False

    def __init__(self) -> None:
        self.came: list[tuple[float, float]] = []  # on the wall, of the processor
        self.went: list[tuple[float, float]] = []

    def run(self, trial: Any, folder: Path | None, report: Any) -> Any:
        from made_up_measured import look_closer, measure

        from bench.data.catalog import DATASETS
        from bench.result import Result

        self.came.append((time.perf_counter(), time.process_time()))
        result = Result(**trial.row(), status="ok", device_name="none")
        result.dataset_checksum = DATASETS[trial.dataset].checksum
        result.num_params, result.num_flops, result.num_train_flops = 10_000, 400_000, 1_200_000
        noise = random.Random(trial.trial_id)
        measure(result, noise.uniform(0.01, 0.04), noise.uniform(5e3, 2e4), 50e6, noise)
        look_closer(result, noise, joules=False)
        report(result.evaluations[-1] | {"images_per_second": result.images_per_second})  # one is drawn, not all 15
        self.went.append((time.perf_counter(), time.process_time()))
        return result

    def close(self) -> None:
        pass


def run(suite: Path, out: Path, report: bool) -> Figures:
    """A session in this process; without the report, it ends as a session does whose report can't be made."""
    from unittest.mock import patch

    from bench.execution import EXECUTORS
    from bench.session import Request, run_session

    executor = Untrained()
    unreported = contextlib.nullcontext() if report else patch("bench.session._summarise_and_report", return_value=[])
    with unreported, patch.dict(EXECUTORS, {"untrained": lambda options: executor}):
        run_session(Request(suite=str(suite), out=out, executor="untrained", yes=True))
    gaps = [
        (after[0] - before[0], after[1] - before[1])
        for before, after in zip(executor.went, executor.came[1:], strict=False)
    ]
    tenth = max(1, len(gaps) // 10)
    parts = [gaps[start : start + tenth] for start in range(0, tenth * 10, tenth)]
    return {
        "trials": len(executor.went),
        "bookkeeping_median_seconds": [statistics.median(wall for wall, _ in part) for part in parts],
        "bookkeeping_cpu_seconds": [statistics.fmean(cpu for _, cpu in part) for part in parts],
    }


def everything(trials: int, folder: Path, report: bool) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    run_dir = folder / "run"
    for name, content in suites(trials).items():
        suite = folder / f"{name}.yaml"
        suite.write_text(json.dumps(content), encoding="utf-8")
        figures[f"plan: {name}"] = measured([*PROGRAM, "--suite", str(suite), "--yes", "--dry-run"], folder)
        _show(f"plan: {name}", figures[f"plan: {name}"])
    out = folder / "bookkeeping.json"
    own = [sys.executable, __file__, "--run", str(folder / "seeds.yaml"), "--keep", str(run_dir), "--json", str(out)]
    # Rich believes FORCE_COLOR that it is on a terminal, and draws the live line.
    figures["run"] = measured([*own, "--no-report"], folder, FORCE_COLOR="1", COLUMNS="120", PYTHONPATH=str(ROOT))
    figures["run"] |= json.loads(out.read_text(encoding="utf-8"))
    _show("run", figures["run"])
    later: dict[str, list[str]] = {"verify": ["verify", str(run_dir)]}
    if report:
        later |= {"report": ["report", str(run_dir)], "resume": ["--resume", str(run_dir)]}
    for name, command in later.items():
        figures[name] = measured([*PROGRAM, *command], folder)
        _show(name, figures[name])
    figures["run"]["bytes"] = sum(path.stat().st_size for path in run_dir.iterdir() if path.is_file())
    return figures


def _show(name: str, figures: Figures) -> None:
    most = MOST_SECONDS.get(name)
    limit = f"  (promised: {most:.0f} s)" if most else ""
    cost = (
        f"{figures['seconds']:7.1f} s  {figures['cpu_seconds']:7.1f} s CPU  {figures['peak_bytes'] / 2**20:6,.0f} MiB"
    )
    print(f"{name:16}{cost}{limit}", flush=True)
    if "bookkeeping_cpu_seconds" in figures:
        for kind in ("median", "cpu"):
            tenths = " ".join(f"{1e3 * seconds:.2f}" for seconds in figures[f"bookkeeping_{kind}_seconds"])
            print(f"  a trial's bookkeeping by tenths of the run, ms ({kind}): {tenths}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it")
    parser.add_argument("--no-report", action="store_true", help="leave out the report, and the resume, which needs it")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)  # the part that is this script in its own process
    options = parser.parse_args()
    if options.run:
        options.json.write_text(json.dumps(run(options.run, options.keep, not options.no_report)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = everything(options.trials, folder.resolve(), not options.no_report)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    slow = [name for name, most in MOST_SECONDS.items() if name in figures and figures[name]["seconds"] > most]
    large = [name for name, each in figures.items() if each["peak_bytes"] > MOST_BYTES]
    if slow or large:
        sys.exit(f"over what is promised for 10,000 trials: {', '.join([*slow, *large])}")


if __name__ == "__main__":
    main()
