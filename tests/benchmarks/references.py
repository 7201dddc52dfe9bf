"""Rebuild the committed reference reports, each in a fresh clone of the last commit, with the command that docs name.

    python tests/benchmarks/references.py [NAME ...]

A run takes both cores, so let nothing else run. What a run leaves goes to results/reference/NAME without its weights,
submissions and predictions. How long each takes on two shared CPU cores (AMD EPYC, 2026-11-30) stands beside it.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from os import environ
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
LEFT_OUT = shutil.ignore_patterns("trials", "submissions", "answer.json", "*.lock", "*.previous")
KAGGLE = "examples/make_kaggle_csv.py kaggle"  # the CSVs, made of MNIST
COMMANDS = {  # name -> what to run, the last of them the suite
    "mnist-cpu": ["run_bench.py mnist"],  # 18 minutes
    "mnist-data-efficiency": ["run_bench.py mnist-data-efficiency"],  # 13
    "notebook-vit": ["run_bench.py notebook-vit --set compile=false"],  # 10
    "kaggle-vit": [KAGGLE, "run_bench.py kaggle-vit --set dtype=fp32"],  # 28
    "scaling-laws": ["run_bench.py scaling-laws"],  # 17
    "fashion-mnist": ["run_bench.py fashion-mnist"],  # 34, beside light work
}


def rebuild(name: str) -> None:
    """Run the commands of one reference and put the run in its place; should that fail, it stays where it is."""
    place = Path(tempfile.mkdtemp(prefix=f"reference-{name}-"))
    clone, start = place / "clone", time.monotonic()
    print(f"{name}: in {place}", flush=True)
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    for command in COMMANDS[name]:
        print(f"{name}: python {command}", flush=True)
        environment = environ | {"PYTHONPATH": str(clone)}
        subprocess.run([sys.executable, *command.split()], cwd=clone, env=environment, check=True)
    (run,) = runs_in(clone / "results")
    shutil.rmtree(REFERENCE / name, ignore_errors=True)
    shutil.copytree(run, REFERENCE / name, ignore=LEFT_OUT)
    shutil.rmtree(place)
    print(f"{name}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def runs_in(results: Path) -> list[Path]:
    """Folders of runs, without `latest`, which is another name of one, and without references."""
    folders = (path.parent for path in results.glob("*/*/run.json"))
    return [each for each in folders if not each.is_symlink() and each.parent.name != REFERENCE.name]


def main() -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain", "bench", "models", "run_bench.py"], cwd=ROOT, capture_output=True, check=True
    )
    if changed.stdout:
        sys.exit("commit first: a reference is of a revision that others can have")
    for name in sys.argv[1:] or COMMANDS:
        rebuild(name)


if __name__ == "__main__":
    main()
