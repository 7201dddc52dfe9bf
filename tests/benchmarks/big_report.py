"""The report of a big run: seconds by part, memory, and the sizes of what is written.

    python tests/benchmarks/big_report.py [--trials 2000] [--keep FOLDER] [--profile FILE]

The run is made up: 400 configurations (both families, matched pairs, numeric modes, layouts) of five seeds, each with
its learning curve and its timed blocks; more trials add shares of the training images. `report` runs as a process, as
people call it; the parts are timed in this process, in the order in which a report is made.
"""

import argparse
import cProfile
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

from made_up import make_run, read_table

from bench.analysis.picks import picks
from bench.analysis.summary import read_tables
from bench.analysis.verdict import decide
from bench.report.build import write_pages
from bench.report.figures import HERO, MAIN_PLOTS, RUN_PLOTS, draw_run
from bench.store.tables import read_run

CONFIGURATIONS, SEEDS = 400, 5
SHARES = (1.0, 0.5, 0.2, 0.1, 0.05)  # of the training images
LIMITS = {  # trials -> seconds of processor time, bytes of report.html, bytes of memory
    2_000: (30.0, 15e6, 2e9),
    10_000: (60.0, 30e6, 2e9),
}
DEPTHS, PATCHES = (2, 4, 6, 8), (4, 7, 14)
Made = TypeVar("Made")


def big_run(folder: Path, trials: int) -> Path:
    """A run with about `trials` trials: 2,000, or up to five times as many."""
    configs: list[tuple[str, int | None, int]] = [("vit", patch, depth) for depth in DEPTHS for patch in PATCHES]
    configs += [("cnn", None, depth) for depth in DEPTHS]
    speeds: dict[str, dict[str, Any]] = {
        f"{model}-{f'p{patch}-' if patch else ''}d{depth}-": {"speed": 4 / depth} for model, patch, depth in configs
    }
    speeds |= {"vit-p7-d8-bf16": {"status": "diverged", "error": "the loss became NaN"}}
    shares = SHARES[: max(1, round(trials / (CONFIGURATIONS * SEEDS)))]
    dtypes = ("fp32", "amp-bf16", "amp-fp16", "tf32", "bf16")
    how: dict[str, Any] = {"configs": configs, "matches": ("params", "flops"), "layouts": (False, True)}
    return make_run(folder, seeds=range(SEEDS), dtypes=dtypes, fractions=shares, overrides=speeds, joules=True, **how)


def timed(seconds: dict[str, float], part: str, work: Callable[[], Made]) -> Made:
    start = time.perf_counter()
    made = work()
    seconds[part] = time.perf_counter() - start
    return made


def by_part(folder: Path) -> dict[str, float]:
    """Seconds of each part of a report; the page is everything else, with comparisons that the verdict made before."""
    seconds: dict[str, float] = {}
    timed(seconds, "reading", lambda: (read_run(folder), read_table(folder, "trials.csv"), _other_tables(folder)))
    tables = timed(seconds, "summary", lambda: read_tables(folder))
    seconds["summary"] -= seconds["reading"]
    timed(seconds, "verdict", lambda: decide(tables))
    timed(seconds, "picks", lambda: picks(tables))
    every = (HERO, MAIN_PLOTS, RUN_PLOTS)
    drawn = timed(
        seconds, "pictures", lambda: {plots: draw_run(tables, plots, plots is not RUN_PLOTS) for plots in every}
    )
    with patch("bench.report.build.draw_run", lambda tables, plots, inline=False: drawn[plots]):
        timed(seconds, "page", lambda: write_pages(tables))
    return seconds


def _other_tables(folder: Path) -> list[Any]:
    return [read_table(folder, name) for name in ("evaluations.csv", "inference.csv")]


def as_process(folder: Path) -> tuple[float, float, float]:
    """Wall seconds of `report`, its seconds of processor time (other programs don't count), its peak of memory."""
    command = [sys.executable, str(ROOT / "run_bench.py"), "report", str(folder)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    scale = 1 if sys.platform == "darwin" else 1024
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="make the run here, or report on the one that is here")
    parser.add_argument("--profile", type=Path, help="write a profile of the parts here, for pstats")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "run"
        if not (folder / "run.json").exists():
            big_run(folder, options.trials)
        wall, busy, memory = as_process(folder)
        profile = cProfile.Profile()
        seconds = profile.runcall(by_part, folder) if options.profile else by_part(folder)
        if options.profile:
            profile.dump_stats(options.profile)
        sizes = {name: (folder / name).stat().st_size for name in ("report.html", "report.md", "summary.csv")}
        count = len(read_table(folder, "trials.csv"))
    print(f"report of {count:,} trials: {wall:.1f} s ({busy:.1f} s of processor), peak {memory / 2**20:,.0f} MiB")
    print("; ".join(f"{part} {value:.2f} s" for part, value in seconds.items()))
    print("; ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
    limits = next((limit for trials, limit in LIMITS.items() if count <= trials), None)
    if limits and any(found > most for found, most in zip((busy, sizes["report.html"], memory), limits, strict=True)):
        sys.exit("over the limit of {:.0f} s, {:,.0f} bytes of page or {:,.0f} bytes of memory".format(*limits))


if __name__ == "__main__":
    main()
