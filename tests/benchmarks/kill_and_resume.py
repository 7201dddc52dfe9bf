"""Kill a run at random moments, resume it each time, and see that no trial is lost or repeated.

    python tests/benchmarks/kill_and_resume.py [--kills 10] [--seed 0]

Each kill is SIGKILL to the whole process group, so nothing gets to say goodbye.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from bench.results import TABLES

ROOT = Path(__file__).parents[2]
SMALL = ["--suite", "smoke", "--epochs", "6", "--seeds", "4"]


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "run_bench.py"), *arguments, "--quiet"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)


def rows(run: Path) -> list[str]:
    path = run / "trials.csv"
    return pd.read_csv(path, on_bad_lines="skip").trial_id.tolist() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder, run = Path(name), Path(name) / "run"
        arguments = [*SMALL, "--out", str(run)]
        seen: list[str] = []
        for kill in range(options.kills):
            process = start(arguments, folder)
            moment = dice.uniform(0.5, 10.0)
            time.sleep(moment)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            now = rows(run)
            assert now[: len(seen)] == seen, "a finished trial was lost"
            print(f"kill {kill + 1} after {moment:.2f} s: {len(now)} trials finished", flush=True)
            seen = now
            if (run / "run.json").exists():
                arguments = ["--resume", str(run)]
        status = start(arguments, folder).wait()
        plan = json.loads((run / "run.json").read_text())["plan"]
        final = rows(run)
        assert status == 0, f"the last resume ended with {status}"
        assert sorted(final) == sorted(plan), "a trial is missing or stands twice"
        assert final[: len(seen)] == seen
        for table, columns in TABLES.items():
            frame = pd.read_csv(run / table)
            assert list(frame.columns) == list(columns)
            assert set(frame.trial_id) == set(plan)
        assert not pd.read_csv(run / "evaluations.csv").duplicated(["trial_id", "step"]).any()
        print(f"{options.kills} kills, {len(final)} trials: none lost, none repeated, all files readable")


if __name__ == "__main__":
    main()
