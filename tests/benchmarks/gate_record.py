"""Record launches of the gate for its proof: of identical code, or of head slowed by a known share.

    python tests/benchmarks/gate_record.py aa quiet --launches 60
    python tests/benchmarks/gate_record.py slow10 hog --launches 30

writes results/reference/gate/journals/aa-quiet.jsonl, or goes on with it. `slow10` has head's worker do every tenth
step twice: work in proportion, which a busy machine slows down like any other, and no sleep, which it doesn't. Read
them with tests/benchmarks/gate_replay.py.
"""

import argparse
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gate_noise import NOISES, noise

from bench.config.suite_file import find_suite, read_suite
from bench.data.download import fetch
from bench.gate.journal import FORMAT, Journal, read_journal
from bench.gate.launch import BLOCKS, GateCell, Setting, run_launch
from bench.gate.request import configurations

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "reference" / "gate" / "journals"
EVERY = {"aa": 0, "slow03": 33, "slow05": 20, "slow10": 10, "slow20": 5}  # each so many steps, one is done twice


def cells_of(suite: str) -> list[GateCell]:
    """Training and inference of each configuration."""
    text = read_suite(find_suite(suite))
    fetch(text.content["dataset"], None)
    works: tuple[Literal["train"], Literal["infer"]] = ("train", "infer")
    return [GateCell(f"{name} {work}", content, work) for name, content in configurations(text) for work in works]


def describe(args: argparse.Namespace, cells: list[GateCell]) -> dict[str, Any]:
    from bench.system.device import cpu_name
    from bench.system.environment import git_state

    every = EVERY[args.what]
    return {
        "format": FORMAT,
        "cells": [cell.name for cell in cells],
        "margin": 0.03,
        "promise": 0.10,
        "base": {"name": "this tree", "commit": git_state()[0]},
        "head": {"name": "this tree", "commit": git_state()[0]},
        "slowed": 1 / every if every else 0.0,
        "slowed_cells": [cell.name for cell in cells] if every else [],
        "noise": args.noise,
        "blocks": args.blocks,
        "threads": 1,
        "cpu": cpu_name(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"gate_record.py {args.what} {args.noise} --launches {args.launches}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=EVERY)
    parser.add_argument("noise", choices=[*NOISES, "others"], help="others: whatever else runs on this machine")
    parser.add_argument("--launches", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--core", type=int, help="always this one; else they take turns")
    parser.add_argument("--suffix", default="")
    args = parser.parse_args()
    cells, every = cells_of("gate"), EVERY[args.what]
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{args.what}-{args.noise}{args.suffix}.jsonl"
    done = len(read_journal(path).launches["screen"]) if path.is_file() else 0
    journal = Journal(path)
    if not done:
        journal.append("gate", describe(args, cells))
    setting = Setting(
        {"base": ROOT, "head": ROOT}, blocks=args.blocks, slowed={cell.name: every for cell in cells} if every else {}
    )
    with noise("quiet" if args.noise == "others" else args.noise):
        for number in range(done, args.launches):
            start = time.monotonic()
            core = args.core if args.core is not None else number % 2
            slices = run_launch(number, "screen", cells, core, setting, random.Random())
            journal.launch(number, "screen", core, slices, time.monotonic() - start)
            print(f"{path.name}: {number + 1} of {args.launches}, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
