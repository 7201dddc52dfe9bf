"""Runs to put faults into: a small suite, models that do harm, a driver to signal, and what must hold afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.result import TABLES
from bench.store.tables import read_rows
from bench.store.verify import verify_run

ROOT = Path(__file__).parents[2]
MARK = "FAULTS_MARK"  # variable by which each process that a driver led to is found again

SUITE = """
description: trials of less than a second
dataset: digits
models:
  - {model: vit, patch_size: [4], depth: 1, embed_dim: 16}
  - {model: cnn, depth: 1, width: 4}
batch_size: 100
num_threads: 1
timing: whole
instrument_seconds: 0
epochs: 1
evaluations_per_epoch: 2
seeds: 4
"""

# What a report is without its pictures: they take seconds, and no fault here is theirs.
PLAIN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from bench.report import figures
figures.RUN_PLOTS = figures.GALLERY_PLOTS = ()
import run_bench
if __name__ == "__main__":
    sys.exit(run_bench.main())
"""

TRAPS = '''
"""Models that do harm as soon as they are trained: never where a suite is planned, only in a trial's process."""

import ctypes, multiprocessing, os, resource, signal, subprocess, sys, time
import torch
from torch import nn

def family():
    """A child as image readers are, and one of its own program."""
    if os.fork() == 0:
        while True:
            time.sleep(1)
    subprocess.Popen(["sleep", "3600"])

def hoard():
    held = []
    while True:
        held.append(torch.empty(1 << 28, dtype=torch.uint8))

def hoard_within_a_limit():
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (1 << 29)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    hoard()

def hoard_objects():
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (1 << 28)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    held = []
    while True:
        held.append(bytes(1 << 24))

def chatter():
    for file in (1, 2):
        os.write(file, b"\\xff\\x00 not JSON \\x1b[31m {" * 1000)
    print("printed by a model")

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)

def close_all():
    os.closerange(3, 4096)
    time.sleep(3600)

def garble():
    """Write into each open file, the connection to the parent among them."""
    for file in range(3, 64):
        try:
            os.write(file, b"\\x00\\x00\\x00\\x05hello")
        except OSError:
            pass
    time.sleep(3600)

def in_the_second(deed):
    """Of several processes that train one model; the first waits for it."""
    if os.environ.get("RANK") == "1":
        deed()

SPRINGS = {
    "healthy": lambda: None,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "sys_exit": lambda: sys.exit("enough"),
    "raise": lambda: 1 / 0,
    "sleep": lambda: time.sleep(3600),
    "hang_in_c": lambda: ctypes.PyDLL(None).sleep(3600),  # PyDLL keeps the GIL
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "deaf": deaf,
    "close": close_all,
    "garble": garble,
    "chatter": chatter,
    "family_segfault": lambda: (family(), ctypes.string_at(0)),
    "family_hang": lambda: (family(), ctypes.PyDLL(None).sleep(3600)),
    "hoard": hoard,
    "rank_hang": lambda: in_the_second(deaf),
    "rank_stop": lambda: in_the_second(lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    "rank_kill": lambda: in_the_second(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "rank_segfault": lambda: in_the_second(lambda: ctypes.string_at(0)),
    "rank_raise": lambda: in_the_second(lambda: 1 / 0),
    "limited": hoard_within_a_limit,
    "objects": hoard_objects,
}

class Trap(nn.Module):
    def __init__(self, kind, pixels, num_classes):
        super().__init__()
        self.kind, self.head = kind, nn.Linear(pixels, num_classes)

    def forward(self, images):
        if self.training and images.device.type != "meta" and multiprocessing.parent_process():
            if self.kind == "diverge":
                return self.head(images.flatten(1)) * float("nan")
            SPRINGS[self.kind]()
        return self.head(images.flatten(1))

def trap(image_size, in_channels, num_classes, kind):
    return Trap(kind, in_channels * image_size**2, num_classes)
'''


def suite_of_traps(kinds: list[str], timeout_seconds: float, world_size: int = 1) -> str:
    """One healthy model of ours, then a trap of each kind, trained by so many processes."""
    listed = ", ".join(kinds)
    lines = [line for line in SUITE.splitlines() if "cnn" not in line and not line.startswith("seeds")]
    place = lines.index("batch_size: 100")
    lines.insert(place, f'  - {{model: "traps:trap", kind: [{listed}], world_size: {world_size}}}')
    return "\n".join([*lines, "seeds: 1", f"trial_timeout_seconds: {timeout_seconds}", ""])


@dataclass
class Run:
    """A run folder and the drivers that were let loose on it, one at a time.

    Attributes:
        work: folder to run in; holds the suite and the traps.
        kept: rows of trials.csv that have been seen, as bytes; each has to stay as it was, where it was.
        environment: variables for drivers.
    """

    work: Path
    suite: str = SUITE
    name: str = "run"
    environment: dict[str, str] = field(default_factory=dict)
    kept: bytes = b""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / f"{self.name}.yaml").write_text(self.suite)
        (self.work / "traps.py").write_text(TRAPS)
        self.folder = self.work / self.name

    def start(self, *words: str, before: str = "") -> "subprocess.Popen[str]":
        """A driver: a new run where there is none, else one that goes on. `before`: shell words, such as a limit."""
        place = ["--resume"] if (self.folder / "run.json").exists() else ["--suite", f"{self.name}.yaml", "--out"]
        command = [sys.executable, "-c", PLAIN, *place, str(self.folder), *words]
        if before:
            command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
        paths = os.pathsep.join([str(self.work), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).strip(os.pathsep)
        variables = {**os.environ, "PYTHONPATH": paths, MARK: self.mark, **self.environment}
        with (self.work / f"{self.name}.log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.work, env=variables, text=True, errors="replace", start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def log(self) -> str:
        return (self.work / f"{self.name}.log").read_text(errors="replace")

    def go_on(self, *words: str, seconds: float = 300, before: str = "") -> int:
        """A driver to its end: exit status."""
        process = self.start(*words, before=before)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"a driver hangs; its log ends\n{self.log()[-2000:]}") from None
        return process.returncode

    def processes(self) -> dict[int, str]:
        """Living processes that a driver of this run led to: pid -> command line."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def fork_server(self, driver: int) -> int | None:
        servers = [pid for pid in children(driver) if "forkserver import main" in command_line(pid)]
        return servers[0] if servers else None

    def worker(self, driver: int) -> int | None:
        server = self.fork_server(driver)
        workers = children(server) if server else []
        return workers[0] if workers else None

    def rows(self) -> bytes:
        """Whole lines of trials.csv."""
        path = self.folder / "trials.csv"
        data = path.read_bytes() if path.exists() else b""
        return data[: data.rfind(b"\n") + 1]

    def plan(self) -> list[str]:
        return json.loads((self.folder / "run.json").read_text())["plan"]

    def statuses(self) -> dict[str, str]:
        return {row["trial_id"]: row["status"] for row in read_rows(self.folder)}

    def check(self) -> None:
        """After a fault: what was finished is there as it was, once, readable by pandas; no process is left."""
        self.check_nothing_lives()
        rows = self.rows()
        assert rows.startswith(self.kept), "a finished trial's row was lost or changed"
        self.kept = rows
        for name in TABLES:
            if (self.folder / name).exists():
                frame = pd.read_csv(self.folder / name)
                if name == "trials.csv":
                    assert frame.trial_id.is_unique

    def check_nothing_lives(self, seconds: float = 20) -> None:
        assert wait_until(lambda: not self.processes(), seconds), f"orphans: {self.processes()}"

    def check_whole(self) -> Counter[str]:
        """After the last resume: each trial of the plan once, in every file, and a report. Returns statuses."""
        self.check()
        frame = pd.read_csv(self.folder / "trials.csv")
        assert sorted(frame.trial_id) == sorted(self.plan()), "a trial is missing or stands twice"
        evaluations = pd.read_csv(self.folder / "evaluations.csv")
        assert not evaluations.duplicated(["trial_id", "step"]).any()
        assert set(frame[frame.status == "ok"].trial_id) <= set(evaluations.trial_id) <= set(frame.trial_id)
        assert (problems := verify_run(self.folder).problems) == [], problems
        assert (self.folder / "report.html").is_file()
        return Counter(frame.status)

    def wait_for_rows(self, count: int, seconds: float = 120) -> None:
        there = wait_until(lambda: self.rows().count(b"\n") > count, seconds, 0.01)
        assert there, f"no {count} rows within {seconds} s: {self.log()[-1000:]}"


def wait_until(true: Callable[[], object], seconds: float, pause: float = 0.05) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            _, parent, *_ = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(parent) == pid:
                found.append(int(path.name))
    return sorted(found)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def kill(pid: int | None, number: int = signal.SIGKILL) -> bool:
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)
            return True
    return False
