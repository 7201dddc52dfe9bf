"""A launch: two source trees measured in alternation, each in a fresh process.

Noise of a shared machine changes from second to second and from process to process. So both arms, base and head, are
timed within the same seconds, on the same core, in slices ordered ABBA or BAAB by chance, and the launch is the unit
of whatever is said. The driver sends a worker (worker.py) orders, a JSON object a line, and reads its answers likewise.
"""

import json
import math
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench import speed
from bench.gate.journal import Arm, Failure, Phase, Slice

PROTOCOL = 1
ARMS: tuple[Arm, Arm] = ("base", "head")
# A neighbour slows a shared core down for some tenths of a second at a time, and the finer the arms alternate within
# that, the better it cancels: 4 slices of 250 ms scattered by 5.6%, 16 of 62 ms by 1.6%
# (tests/benchmarks/alternation.py).
SLICE_SECONDS = 0.06
BLOCKS = 4  # of four slices, a launch and cell, a second in all
DISCARDED_SECONDS = 0.01  # at the start of a slice, a step at least, while the caches are the other arm's
ANSWER_SECONDS = 120.0  # a worker that says nothing for so long hangs
WORKER = Path(speed.__file__).with_name("worker.py")
MOST_PADDING = 4096  # bytes of environment, which move the stack: a layout is luck, so each launch draws its own


class WorkerError(Exception):
    """A worker that can't go on; what it says is for a person."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True)
class GateCell:
    """One thing to time: a configuration as a suite would say it, and which work."""

    name: str
    content: dict[str, Any]
    work: Literal["train", "infer"]


@dataclass(frozen=True)
class Setting:
    """What all launches of a gate have in common.

    Attributes:
        trees: arm -> folder of its source.
        slowed: cell -> r, to have head do every r-th step twice: a slowdown of known size, for proofs.
    """

    trees: dict[Arm, Path]
    threads: int = 1
    data_dir: Path | None = None
    blocks: int = BLOCKS
    slice_seconds: float = SLICE_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    slowed: dict[str, int] = field(default_factory=dict)


class Launch:
    """A pair of fresh workers; use it in a `with`, so that none is left behind. A worker that fails: WorkerError."""

    def __init__(self, setting: Setting, dice: random.Random) -> None:
        self.setting, self.dice = setting, dice
        self.workers: dict[Arm, ArmProcess] = {}

    def __enter__(self) -> "Launch":
        try:
            for arm in self.dice.sample(ARMS, 2):
                self.workers[arm] = ArmProcess(arm, self.setting, self.dice)
                self.workers[arm].send("start", protocol=PROTOCOL)
            for worker in self.workers.values():
                worker.answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def open(self, cell: GateCell) -> list[Failure]:
        """Make a cell ready in both arms, at the same time; what is missing in either."""
        where = self.setting.data_dir
        for arm, worker in self.workers.items():
            every = self.setting.slowed.get(cell.name, 0) if arm == "head" else 0
            about = {"name": cell.name, "content": cell.content, "work": cell.work, "every": every}
            worker.send("open", **about, threads=self.setting.threads, data_dir=where and str(where))
        failures = []
        for worker in self.workers.values():
            try:
                worker.answer(cell.name)
            except WorkerError as error:
                if error.failure.kind != "missing":  # that leaves the workers fit for other cells
                    raise
                failures.append(error.failure)
        return failures

    def count(self, cell: GateCell) -> dict[Arm, dict[str, Any]]:
        """What a step does, by arm."""
        for worker in self.workers.values():
            worker.send("count", name=cell.name)
        return {arm: worker.answer(cell.name)["counts"] for arm, worker in self.workers.items()}

    def measure(self, number: int, phase: Phase, cells: Sequence[GateCell], core: int | None) -> list[Slice]:
        """All slices of a launch whose cells are open."""
        for worker in self.workers.values() if core is not None else ():
            worker.ask("pin", core=core)
        steps = {cell.name: self._warm(cell) for cell in cells}
        slices = []
        for block in range(self.setting.blocks):
            for cell in self.dice.sample(list(cells), len(cells)):
                first, second = self.dice.sample(ARMS, 2)
                for slot, arm in enumerate((first, second, second, first)):
                    count, discard = steps[cell.name]
                    answer = self.workers[arm].ask("slice", cell.name, name=cell.name, steps=count, discard=discard)
                    times = answer["seconds"], answer["own_seconds"]
                    slices.append(Slice(number, phase, cell.name, block, slot, arm, count, *times))
            for worker in self.workers.values():
                worker.ask("collect")
        return slices

    def _warm(self, cell: GateCell) -> tuple[int, int]:
        """Steps that fill a slice in the quicker arm, and those to leave out after a hand-over."""
        seconds = min(worker.ask("warm", cell.name, name=cell.name)["step_seconds"] for worker in self.workers.values())
        return max(1, math.ceil(1.05 * self.setting.slice_seconds / seconds)), math.ceil(DISCARDED_SECONDS / seconds)


def run_launch(
    number: int, phase: Phase, cells: Sequence[GateCell], core: int | None, setting: Setting, dice: random.Random
) -> list[Slice]:
    """One launch from start to end. Raises: WorkerError: a worker that failed."""
    with Launch(setting, dice) as launch:
        for cell in cells:
            for failure in launch.open(cell):
                raise WorkerError(failure)
        return launch.measure(number, phase, cells, core)


class ArmProcess:
    """A process of one arm, and the lines that pass between."""

    def __init__(self, arm: Arm, setting: Setting, dice: random.Random) -> None:
        self.arm, self.limit, tree = arm, setting.answer_seconds, setting.trees[arm]
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._last_words, text=True, encoding="utf-8",
            cwd=tree, env=_environment(setting.threads, dice), start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._told = self._process.stdin, self._process.stdout
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Pass on lines until the worker's end, which is an empty one."""
        with suppress(ValueError):  # closed by `close`
            for line in self._told:
                self._answers.put(line)
        self._answers.put("")

    def send(self, do: str, **order: Any) -> None:
        with suppress(OSError):  # it has died; the answer will say so
            self._orders.write(json.dumps({"do": do, **order}) + "\n")
            self._orders.flush()

    def answer(self, cell: str | None = None) -> dict[str, Any]:
        """What it has to say. Raises: WorkerError: it died, hangs, or says that it can't."""
        worker = f"{self.arm}'s worker"
        try:
            line = self._answers.get(timeout=self.limit)
        except queue.Empty:
            reason = f"{worker} gave no answer within {self.limit:g} s"
            raise WorkerError(Failure("timeout", self.arm, cell, reason)) from None
        if not line:
            raise WorkerError(Failure("crash", self.arm, cell, f"{worker} {self._death()}"))
        answer: dict[str, Any] = json.loads(line)
        if "crashed" in answer:
            raise WorkerError(Failure("crash", self.arm, cell, f"{worker}: {answer['crashed']}"))
        if "missing" in answer:
            raise WorkerError(Failure("missing", self.arm, cell, f"{self.arm}: {answer['missing']}"))
        return answer

    def ask(self, do: str, cell: str | None = None, **order: Any) -> dict[str, Any]:
        self.send(do, **order)
        return self.answer(cell)

    def close(self) -> None:
        """End it now; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for stream in (self._orders, self._told, self._last_words):
            with suppress(OSError):  # an order that a dead worker never took
                stream.close()

    def _death(self) -> str:
        status = self._process.wait()
        self._last_words.seek(0, os.SEEK_END)
        self._last_words.seek(max(0, self._last_words.tell() - 2000))
        words = self._last_words.read().decode(errors="replace").strip().splitlines()
        how = f"died of signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{how}{': ' + words[-1].strip()[:300] if words else ''}"


def _environment(threads: int, dice: random.Random) -> dict[str, str]:
    """The user's own variables, a hash seed and a padding by chance, and threads that don't spin when idle."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return variables | {
        "PYTHONHASHSEED": str(dice.randrange(2**32)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "VIT_CNN_BENCH_PADDING": "x" * dice.randrange(MOST_PADDING),
    }
