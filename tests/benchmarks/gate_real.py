"""Run whole gates of a tree against itself, end to end, beside each kind of noise; any "regression" is a false alarm.

    python tests/benchmarks/gate_real.py --hog 5 --bursts 4 --stream 4 --quiet 8

Journals go to results/reference/gate/journals/real-NOISE-NUMBER.jsonl; those that are there already, as they are or
compressed (.xz), are kept, so a stopped series goes on. Their launches are recorded launches of identical code, too:
gate_replay.py resamples them.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from gate_noise import NOISES, noise

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "reference" / "gate" / "journals"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in NOISES:
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"how many gates beside {name}")
    parser.add_argument("--budget", default="", help="of a gate [its own default]")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in NOISES:
        for number in range(getattr(args, name)):
            journal = FOLDER / f"real-{name}-{number:02d}.jsonl"
            if journal.exists() or journal.with_suffix(".jsonl.xz").exists():
                continue
            # As seen from the root: a journal names its own place.
            command = [sys.executable, "run_bench.py", "gate", "--aa", "--journal", str(journal.relative_to(ROOT))]
            start = time.monotonic()
            with noise(name):
                done = subprocess.run(
                    [*command, *(["--budget", args.budget] if args.budget else [])],
                    cwd=ROOT, capture_output=True, text=True, check=False,
                )  # fmt: skip
            spent = time.monotonic() - start
            print(f"{journal.name}: exit {done.returncode}, {spent:.0f} s\n{done.stdout}{done.stderr}", flush=True)


if __name__ == "__main__":
    main()
