"""Kill nodes and drivers of a Ray cluster at random moments; after each, every trial is there once, where it belongs.

    python tests/benchmarks/cluster_faults.py [--nodes 10] [--drivers 5] [--out FILE.json]

Two nodes on loopback, one core each. `--nodes` times one of them is killed at a random moment of a sweep, and a fresh
one joins; `--drivers` times the driver is killed instead, and resumed until its run is whole. SIGINT and SIGTERM reach
the program, and last of all the head dies: each leaves a report, and a run that `--resume` finishes. A third node says
that it has a card called H100: it has none, but a stand-in class in its own start-up file that is a processor
under that name (rows call it "stand-in H100"), so this proves where trials go, and nothing about cards. Last comes what
the driver itself costs: trials that do nothing but go there and back.
"""

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from made_up_cluster import DRIVER, NODE, Killer, ended_early, resumed, rows_of, trial, wait_until_gone

from bench.execution.base import Options
from bench.execution.cluster import executor
from bench.execution.cluster.connection import import_ray, say
from bench.execution.progress import Progress
from bench.execution.sweep import run_sweep
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.trial import Trial

TRIALS = 6
STAND_IN = """
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "bench.system.device":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            class StandIn(module.CPU):
                type = "cuda"
                name = "stand-in H100"
                def __init__(self, index=0):
                    module.CPU.__init__(self)
                    import torch
                    self.torch_device = torch.device("cpu")
            StandIn.__init__.__doc__ = None
            module.DEVICES["cuda"] = StandIn
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


class TimedKiller(Killer):
    """Kills the node at a moment that dice chose, counted from when the first trial is sent."""

    def __init__(self, cluster: Any, node: Any, seconds: float) -> None:
        self.timer = threading.Timer(seconds, cluster.remove_node, [node, False])

    def begin(self, trial: Trial, position: int, count: int) -> None:
        if position == 0:
            self.timer.start()

    def end(self, trial: Trial, result: Result) -> None:
        pass


def sweep(folder: Path, trials: list[Trial], address: str, progress: Progress) -> list[dict[str, str]]:
    from bench.execution.cluster.executor import RayExecutor, connect

    connect(address)  # nodes have told what they have before the first trial is sent, as in the program
    working, store = RayExecutor(Options(timeout_seconds=300, address=address)), RunFolder.create(folder, {})
    try:
        run_sweep(trials, {}, store, working, [progress])
    finally:
        working.close()
        store.close()
    return rows_of(folder)


def whole(rows: list[dict[str, str]], trials: list[Trial]) -> bool:
    """Every trial once, and ok; what isn't is printed."""
    bad = [
        f"{row['trial_id']}: {row['status']} on {row['node']}: {row['error']}" for row in rows if row["status"] != "ok"
    ]
    missing = {each.trial_id for each in trials} - {row["trial_id"] for row in rows}
    print(*bad, *(f"{name}: no row" for name in missing), sep="\n", end="", file=sys.stderr, flush=True)
    return not bad and sorted(row["trial_id"] for row in rows) == sorted(each.trial_id for each in trials)


def kill_nodes(cluster: Any, add: dict[str, Any], work: Path, count: int, dice: random.Random) -> dict[str, Any]:
    trials, good, moments, lost = [trial(seed) for seed in range(TRIALS)], 0, [], []
    executor.say = lambda line: lost.append(line) if "was lost" in line else say(line)
    node = cluster.add_node(**add, node_name="b0")
    for index in range(count):
        moments.append(round(dice.uniform(0.0, 6.0), 2))
        killer = TimedKiller(cluster, node, moments[-1])
        good += whole(sweep(work / f"node-{index}", trials, cluster.address, killer), trials)
        killer.timer.join()
        node = cluster.add_node(**add, node_name=f"b{index + 1}")
        done = f"node killed {index + 1}/{count} after {moments[-1]} s: {good} whole, {len(lost)} trials lost so far"
        print(done, file=sys.stderr, flush=True)
    cluster.remove_node(node, False)
    executor.say = say
    reasons = Counter(re.findall(r"was lost \((?:node \w+:? )?(.*?)\);", "\n".join(lost)))
    return {
        "injected": count, "trials_each": TRIALS, "whole": good, "moments_s": moments,
        "trials_lost_and_run_again": reasons,
    }  # fmt: skip


def kill_drivers(cluster: Any, work: Path, count: int, dice: random.Random) -> dict[str, Any]:
    good, moments = 0, []
    for index in range(count):
        folder = work / f"driver-{index}"
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(folder), cluster.address]
        moments.append(round(dice.uniform(0.0, 3.0), 2))  # after its first row
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as driver:
            while not rows_of(folder) and driver.poll() is None:
                time.sleep(0.05)
            time.sleep(moments[-1])
            driver.kill()
        before = rows_of(folder)
        wait_until_gone(f"VIT_CNN_BENCH_CACHE={work / 'cache'}", "multiprocessing.forkserver")
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=200, check=True)
        rows = rows_of(folder)
        good += rows[: len(before)] == before and whole(rows, [trial(seed) for seed in range(3)])
        print(f"driver killed {index + 1}/{count}: {len(before)} rows then; {good} whole", file=sys.stderr, flush=True)
    return {
        "injected": count,
        "trials_each": 3,
        "whole": good,
        "moments_after_first_row_s": moments,
        "processes_left": 0,
    }


def place_by_kind(cluster: Any, add: dict[str, Any], work: Path) -> dict[str, Any]:
    (work / "stand-in").mkdir()
    (work / "stand-in" / "sitecustomize.py").write_text(STAND_IN)
    env = add["env_vars"] | {"PYTHONPATH": str(work / "stand-in")}
    node = cluster.add_node(
        **(add | {"env_vars": env}), num_gpus=1, node_name="h", resources={"accelerator_type:H100": 1}
    )
    trials = [trial(seed, device=device) for seed in range(2) for device in ("cpu", "cuda:H100")]
    rows = sweep(work / "kinds", trials, cluster.address, Progress())
    cluster.remove_node(node, False)
    found = [{key: row[key] for key in ("device", "device_name", "node", "status", "error")} for row in rows]
    right = all((row["node"] == "h") == (row["device"] == "cuda:H100") for row in rows)
    return {"rows": found, "each_where_its_device_is": right, "whole": whole(rows, trials)}


def _send(number: signal.Signals, program: subprocess.Popen[str]) -> None:
    program.send_signal(number)


def send_signals(cluster: Any, work: Path) -> dict[str, Any]:
    """To the program in the middle of a run: it ends with a report and status 130, and `--resume` has the rest."""
    found = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = work / number.name
        status, _, rows = ended_early(folder, cluster.address, partial(_send, number))
        wait_until_gone(f"VIT_CNN_BENCH_CACHE={work / 'cache'}", "multiprocessing.forkserver")
        resumed(folder, "--executor", "ray", "--address", cluster.address)
        found[number.name] = {
            "exit_status": status,
            "rows_then": rows,
            "report": True,
            "rows_in_the_end": len(rows_of(folder)),
        }
    return found


def lose_head(cluster: Any, work: Path) -> dict[str, Any]:
    """The cluster's state dies in the middle of a run; what was missing then runs without a cluster."""
    died = []

    def end(program: subprocess.Popen[str]) -> None:
        died.append(time.monotonic())
        cluster.head_node.kill_gcs_server()

    status, said, rows = ended_early(work / "head", cluster.address, end)
    seconds = time.monotonic() - died[0]
    resumed(work / "head")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return {
        "exit_status": status, "seconds_until_the_program_ended": round(seconds, 1), "rows_then": rows, "report": True,
        "error_lines": len(errors), "lines": len(said.splitlines()), "rows_in_the_end": len(rows_of(work / "head")),
    }  # fmt: skip


def cost(cluster: Any, count: int = 300) -> dict[str, Any]:
    """Driver's time for tasks that the node refuses at once: what a trial costs beside its own seconds."""
    from bench.execution.cluster.nodes import Claim, Cluster

    start = time.perf_counter()
    joined = Cluster(cluster.address)
    node = joined.meet()[0]
    met = time.perf_counter() - start
    seconds, busy = [], time.process_time()
    joined.source = "another"  # than the node's
    for _ in range(count):
        begin = time.perf_counter()
        joined.ray.get(joined.start(node, Claim(1, 0), trial(), 1.0, None, []), timeout=60)
        seconds.append(time.perf_counter() - begin)
    busy = time.process_time() - busy
    joined.close()
    return {
        "tasks": count, "join_and_meet_s": met, "there_and_back_ms": 1e3 * statistics.median(seconds),
        "driver_cpu_ms_per_task": 1e3 * busy / count,
    }  # fmt: skip


@click.command()
@click.option("--nodes", default=10)
@click.option("--drivers", default=5)
@click.option("--seed", default=0)
@click.option("--out", type=click.Path(path_type=Path))
def main(nodes: int, drivers: int, seed: int, out: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored, and so would the program
    import_ray()
    from ray.cluster_utils import Cluster

    dice = random.Random(seed)
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as session, tempfile.TemporaryDirectory() as folder:
        work, cluster = Path(folder), Cluster()
        env = {"VIT_CNN_BENCH_CACHE": str(work / "cache")}
        add: dict[str, Any] = NODE | {"env_vars": env}
        Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - Ray notes a cluster's address there, and makes no such folder
        cluster.add_node(**add, temp_dir=session, _system_config=quick, node_name="a")
        try:
            report: dict[str, Any] = {
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "cores": os.cpu_count(),
                "seed": seed,
            }
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "driver": lambda: cost(cluster),
                "kinds": lambda: place_by_kind(cluster, add, work),
                "nodes_killed": lambda: kill_nodes(cluster, add, work, nodes, dice),
                "drivers_killed": lambda: kill_drivers(cluster, work, drivers, dice),
                "signals": lambda: send_signals(cluster, work),
                "head_killed": lambda: lose_head(cluster, work),
            }
            for name, part in parts.items():
                report[name] = part()
                text = json.dumps(report, indent=2) + "\n"
                if out:
                    out.write_text(text)
        finally:
            cluster.shutdown()
            wait_until_gone(session)
    print(text)


if __name__ == "__main__":
    main()
