"""What a trial, a node and a plan cost on a cluster, each measured alone, for docs/cluster.md to multiply.

    python tests/benchmarks/cluster_paper.py [--out FILE.json]

Needs no Ray. Times are of whatever else the machine is doing, so they are upper bounds; sizes aren't.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT)]

from bench.config.recipes import RECIPES
from bench.execution.cluster.connection import PACKAGES, SOURCE
from bench.execution.cluster.nodes import Claim, Node, best_node
from bench.execution.cluster.transfer import pack
from bench.store.tables import read_rows
from bench.trial import Trial
from models import MODELS


def trial(seed: int, dataset: str = "digits", device: str = "cpu") -> Trial:
    return Trial(
        suite="x", dataset=dataset, model="vit", settings=MODELS["vit"][0](depth=1).model_dump(), recipe="vit",
        training=RECIPES["vit"], dtype="fp32", device=device, instrument_seconds=0.0, seed=seed,
    )  # fmt: skip


def run_of_smoke() -> dict[str, Any]:
    """Bytes of a trial's files and of its share of the tables; the report isn't looked at."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "run_bench.py", "--suite", "smoke", "--epochs", "2", "--quiet", "--out", str(run)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        count = len(read_rows(run))
        files = [
            sum(file.stat().st_size for file in one.iterdir()) for one in (run / "trials").iterdir() if one.is_dir()
        ]
        tables = {path.name: path.stat().st_size for path in run.glob("*.csv") if path.name != "summary.csv"}
    return {
        "trials": count, "epochs": 2, "files_bytes_least": min(files), "files_bytes_most": max(files),
        "rows_bytes_per_trial": round(sum(tables.values()) / count), "tables": tables,
    }  # fmt: skip


def hundred_nodes() -> list[Node]:
    """All in use but the last one, which has the card that is asked for."""
    nodes = []
    for index in range(100):
        card = "H100" if index == 99 else "A100"
        one = Node(str(index), f"n{index}", 64.0, 8)
        one.devices = {"cpu": ["x"], "cuda": [card] * 8}
        one.taken = [Claim(8, 1)] * 7
        nodes.append(one)
    return nodes


def milliseconds(work: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        work()
    return round(1e3 * (time.perf_counter() - start) / count, 4)


@click.command()
@click.option("--out", type=click.Path(path_type=Path))
def main(out: Path | None) -> None:
    nodes, asked = hundred_nodes(), trial(0, device="cuda:H100")
    assert best_node(asked, nodes) == (nodes[99], Claim(8, 1))
    start = time.perf_counter()
    files = pack(trial(0, "mnist"), None)
    packed = time.perf_counter() - start
    seeds = iter(range(10**6))
    report = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_a_core": round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        "source_bytes": sum(
            path.stat().st_size for name in PACKAGES for path in (SOURCE / name).rglob("*.*") if path.suffix != ".pyc"
        ),
        "mnist_packed_bytes": sum(len(content) for content in files.values()),
        "mnist_pack_seconds": round(packed, 2),
        "place_among_100_nodes_ms": milliseconds(lambda: best_node(asked, nodes), 500),
        "trial_made_and_identified_ms": milliseconds(lambda: trial(next(seeds)).trial_id, 500),
        "smoke": run_of_smoke(),
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
