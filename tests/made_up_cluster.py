"""Clusters for tests: made-up nodes, trials for them, and a Ray cluster of two nodes on loopback."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.config.recipes import RECIPES
from bench.data.spec import UserData, UserDataOptions
from bench.data.user_data import describe
from bench.execution.cluster.connection import import_ray
from bench.execution.cluster.nodes import Node
from bench.execution.progress import Progress
from bench.result import Result
from bench.store.tables import read_rows
from bench.trial import Trial
from models import MODELS

ROOT = Path(__file__).parents[1]

# A model of a user's own, which says when it was alive: (process, first sign of life, last one), a line each.
WITNESS = """
import os, time
from pathlib import Path
from torch import nn

class Witness(nn.Module):
    def __init__(self, image_size, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
        self.log = Path(os.environ["VIT_CNN_BENCH_CACHE"], "witness.log")
        self.say()

    def say(self):
        if self.log.parent.is_dir():
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {time.monotonic()}\\n")

    def forward(self, images):
        if not self.training:
            self.say()
        return self.layers(images)
"""


def trial(seed: int = 0, **changes: Any) -> Trial:
    settings = MODELS["vit"][0](patch_size=4, depth=1, embed_dim=16, num_heads=2).model_dump()
    recipe = RECIPES["vit"].model_copy(update={"epochs": 1, "batch_size": 50})
    asked = {
        "suite": "x", "dataset": "digits", "model": "vit", "settings": settings, "recipe": "vit", "training": recipe,
        "dtype": "fp32", "device": "cpu", "instrument_seconds": 0.0, "seed": seed,
    }  # fmt: skip
    return Trial(**(asked | changes))


def node(name: str, cpus: float = 8, **devices: list[str]) -> Node:
    found = Node(name, name, cpus, len(devices.get("cuda", ())))
    found.devices, found.lacks = {"cpu": ["Xeon"], **devices}, {"cpu": {"tf32": "a CPU has no TF32"}}
    return found


def own_images(folder: Path) -> UserData:
    dice = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int64), 40)
    images = dice.integers(0, 60, (80, 8, 8), dtype=np.uint8) + (90 * labels).astype(np.uint8)[:, None, None]
    np.savez(folder / "own.npz", images=images, labels=labels)
    return describe(UserDataOptions(path=str(folder / "own.npz")), folder)


NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


class Nodes(NamedTuple):
    cluster: Any
    second: Any
    folder: Path


@contextmanager
def two_nodes(folder: Path) -> Iterator[Nodes]:
    """Two nodes of one core each; each has a cache of its own, the user's model on its path, and a broken program."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    (folder / "witness.py").write_text(WITNESS)
    (folder / "bench").mkdir()
    (folder / "bench" / "__init__.py").write_text("raise SystemExit('the source that is installed on the node')")
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - Ray notes a cluster's address there, and makes no such folder
    session = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the name of a socket in it has to be short
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    quick["worker_niceness"] = 0  # Ray's 15 would leave trials next to nothing of a busy machine
    cluster = Cluster()
    try:
        cluster.add_node(
            **NODE, temp_dir=session, _system_config=quick, node_name="a", env_vars=environment_of(folder, "a")
        )
        second = cluster.add_node(**NODE, node_name="b", env_vars=environment_of(folder, "b"))
        yield Nodes(cluster, second, folder)
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
        wait_until_gone(session)
        shutil.rmtree(session, ignore_errors=True)


def environment_of(folder: Path, name: str) -> dict[str, str]:
    (folder / name).mkdir(exist_ok=True)
    return {"VIT_CNN_BENCH_CACHE": str(folder / name), "PYTHONPATH": str(folder)}


class Killer(Progress):
    """Kills a node in the middle of a trial: some time after its first row."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.killed = nodes, False

    def end(self, trial: Trial, result: Result) -> None:
        if result.node == "b" and not self.killed:
            self.killed = True
            threading.Timer(0.5, self.nodes.cluster.remove_node, [self.nodes.second, False]).start()


def witnessed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Trials of the user's model on images that lie nowhere any more but in the driver's cache."""
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(folder / "driver"))
    monkeypatch.syspath_prepend(folder)
    from models import source_of

    data = own_images(folder)
    (folder / "own.npz").unlink()
    recipe = RECIPES["vit"].model_copy(update={"epochs": 40, "batch_size": 8})
    settings: dict[str, Any] = {}
    named = {"model": "witness:Witness", "source": source_of("witness:Witness"), "settings": settings}
    return [trial(seed, dataset="own", data=data, training=recipe, **named) for seed in range(5)]


DRIVER = """
    import sys
    from pathlib import Path
    from bench.execution.cluster.executor import RayExecutor
    from bench.execution.base import Options
    from bench.store.run_folder import RunFolder
    from bench.execution.sweep import run_sweep
    from tests.made_up_cluster import trial

    folder, address = Path(sys.argv[1]), sys.argv[2]
    store = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder, {})
    todo = [t for t in map(trial, range(3)) if t.trial_id not in store.finished()]
    print(len(todo), flush=True)
    executor = RayExecutor(Options(timeout_seconds=300, address=address))
    run_sweep(todo, {}, store, executor)
    executor.close()
"""


PROGRAM = [sys.executable, "run_bench.py", "--quiet", "--suite", "smoke", "--seeds", "2", "--epochs", "2"]


def ended_early(folder: Path, address: str, end: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str, int]:
    """The program itself on a cluster, until `end` has done something to it after its first row.

    Returns:
        Its exit status, what it said, and how many rows were there.
    """
    command = [*PROGRAM, "--out", str(folder), "--executor", "ray", "--address", address]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as program:
        deadline = time.monotonic() + 300
        while not rows_of(folder) and time.monotonic() < deadline and program.poll() is None:
            time.sleep(0.05)
        end(program)
        try:
            said = program.communicate(timeout=300)[1]
        finally:
            program.kill()
    assert (folder / "report.html").is_file(), said
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["interrupted"], said
    return program.returncode, said, len(rows_of(folder))


def resumed(folder: Path, *options: str) -> None:
    """What was missing ran, once; what was there stayed."""
    before = rows_of(folder)
    command = [sys.executable, "run_bench.py", "--quiet", "--resume", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    rows = rows_of(folder)
    assert rows[: len(before)] == before
    assert len(rows) == len({row["trial_id"] for row in rows}) == 8
    assert {row["status"] for row in rows} == {"ok"}


def rows_of(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder) if (folder / "journal.jsonl").exists() else []


def wait_until_gone(in_environment: str, in_command: str = "") -> None:
    """No process is left that was started with this in its environment (or its command) and that in its command."""
    deadline = time.monotonic() + 300
    while left := [*_processes(in_environment, in_command)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes(in_environment: str, in_command: str) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            about = command + (process / "environ").read_text(errors="replace")
        except OSError:
            continue
        if in_environment in about and in_command in command and int(process.name) != os.getpid():
            yield f"{process.name} {command[:100]}"
