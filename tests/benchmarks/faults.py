"""Put faults into real runs, one kind after the other, and show that nothing is lost.

    python tests/benchmarks/faults.py [--only NAME] [--kills 100] [--seed 0] [--out DIR]

After each fault: every row that was there is there as it was and once, plain pandas reads all files, no process is
left, `--resume` completes the rest and nothing else, and the report says what failed. Any of it failing ends in an
AssertionError. Writes faults.json and README.md into DIR.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fault_kills import kills_of_everything, signals
from fault_places import clock_set_back, damaged_cache, disk_full, foreign_bytes, two_drivers
from fault_trials import memory_limits, trials_that_end_badly, trials_that_hang


@dataclass
class Found:
    """One line of the table."""

    fault: str
    how: str
    times: int
    lost: str
    seconds: float


Fault = Callable[[Path, random.Random, int], list[tuple[str, str, int, str]]]

FAULTS: dict[str, Fault] = {
    "kills": kills_of_everything,
    "signals": signals,
    "trials": trials_that_end_badly,
    "hangs": trials_that_hang,
    "memory": memory_limits,
    "drivers": two_drivers,
    "bytes": foreign_bytes,
    "clock": clock_set_back,
    "cache": damaged_cache,
    "disk": disk_full,
}


def as_markdown(found: list[Found], command: str) -> str:
    lines = [
        "# Faults put into real runs, and what was lost",
        "",
        f"    {command}",
        "",
        "| fault | how | times | lost |",
        "|---|---|---:|---|",
        *(f"| {each.fault} | {each.how} | {each.times} | {each.lost} |" for each in found),
        "",
        f"{sum(each.times for each in found)} faults in {sum(each.seconds for each in found):.0f} s.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=FAULTS, help="this kind; as often as you like")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: list[Found] = []
    for name in options.only or FAULTS:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as work:
            lines = FAULTS[name](Path(work), random.Random(options.seed), options.kills)
        share = (time.monotonic() - start) / len(lines)
        for line in lines:
            found.append(Found(*line, seconds=round(share, 1)))
            print(f"{line[0]}: {line[1]}, {line[2]} times, lost: {line[3]}", flush=True)
    words = [word for only in options.only or () for word in ("--only", only)]
    command = " ".join(["python tests/benchmarks/faults.py", *words, f"--kills {options.kills} --seed {options.seed}"])
    text = as_markdown(found, command)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "README.md").write_text(text)
        record = {"command": command, "faults": [asdict(each) for each in found]}
        (options.out / "faults.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
