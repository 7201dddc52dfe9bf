"""Put faults into real runs, one kind after the other, and show that nothing is lost.

    python tests/benchmarks/faults.py [--only NAME] [--kills 100] [--seed 0] [--out DIR] [--merge DIR]

After each fault: every row that was there is there as it was and once, plain pandas reads all files, no process is
left, `--resume` completes the rest and nothing else, and the report says what failed. Any of it failing ends in an
AssertionError. Writes faults.json and README.md into DIR as each kind ends; kinds that DIR has of earlier runs stay,
and `--merge` adds those of other folders. With `--merge` and no `--only`, nothing is run.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fault_kills import kills_of_everything, signals
from fault_places import clock_set_back, damaged_cache, foreign_bytes, small_disks, two_drivers
from fault_trials import memory_limits, ranks_that_fail, trials_that_end_badly, trials_that_hang

from bench.system.environment import git_state

Fault = Callable[[Path, random.Random, int], list[tuple[str, str, int, str]]]

FAULTS: dict[str, Fault] = {
    "kills": kills_of_everything,
    "signals": signals,
    "trials": trials_that_end_badly,
    "hangs": trials_that_hang,
    "ranks": ranks_that_fail,
    "memory": memory_limits,
    "drivers": two_drivers,
    "bytes": foreign_bytes,
    "clock": clock_set_back,
    "cache": damaged_cache,
    "disk": small_disks,
}


Kinds = dict[str, dict[str, Any]]  # name of a kind -> what was done when, where, and found


def tried(name: str, kills: int, seed: int) -> dict[str, Any]:
    """Put one kind of fault in. Raises: AssertionError: something was lost."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as work:
        lines = FAULTS[name](Path(work), random.Random(seed), kills)
    count = f" --kills {kills}" if name == "kills" else ""
    commit, dirty = git_state()
    return {
        "command": f"python tests/benchmarks/faults.py --only {name}{count} --seed {seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": f"{(commit or 'unknown')[:12]}{' and changes' if dirty else ''}",
        "machine": f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - start, 1),
        "faults": [dict(zip(("fault", "how", "times", "lost"), line, strict=True)) for line in lines],
    }


def as_markdown(kinds: Kinds) -> str:
    lines = [fault for kind in kinds.values() for fault in kind["faults"]]
    whole = sum(fault["times"] for fault in lines)
    seconds = sum(kind["seconds"] for kind in kinds.values())
    text = [
        "# Faults put into real runs, and what was lost",
        "",
        f"{whole} faults in {seconds:.0f} s."
        " After each, finished rows are there as they were, once, and plain pandas reads"
        " all tables; no process is left (not asked where a disk was the fault). Resumed, a run has the rest and"
        " nothing else, and `verify` finds no problem.",
        "",
        "| fault | how | times | lost |",
        "|---|---|---:|---|",
        *(f"| {each['fault']} | {each['how']} | {each['times']} | {each['lost']} |" for each in lines),
        "",
        "Each kind was put in by a command of its own:",
        "",
        "| command | date | commit | machine | faults | seconds |",
        "|---|---|---|---|---:|---:|",
        *(
            f"| `{kind['command']}` | {kind['date']} | {kind['commit']} | {kind['machine']} "
            f"| {sum(fault['times'] for fault in kind['faults'])} | {kind['seconds']:.0f} |"
            for kind in kinds.values()
        ),
    ]
    return "\n".join(text) + "\n"


def read(folder: Path) -> Kinds:
    path = folder / "faults.json"
    return json.loads(path.read_text())["kinds"] if path.exists() else {}


def write(kinds: Kinds, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(as_markdown(kinds))
    (folder / "faults.json").write_text(json.dumps({"kinds": kinds}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=FAULTS, help="this kind; as often as you like")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--merge", type=Path, action="append", default=[], help="a folder written by --out")
    options = parser.parse_args()
    found: Kinds = {}
    for folder in ([options.out] if options.out else []) + options.merge:
        found |= read(folder)
    for name in options.only or ([] if options.merge else FAULTS):
        found[name] = tried(name, options.kills, options.seed)
        for each in found[name]["faults"]:
            print(f"{each['fault']}: {each['how']}, {each['times']} times, lost: {each['lost']}", flush=True)
        if options.out:
            write({name: found[name] for name in FAULTS if name in found}, options.out)
    found = {name: found[name] for name in FAULTS if name in found}
    if options.out:
        write(found, options.out)
    print(f"\n{as_markdown(found)}")


if __name__ == "__main__":
    main()
