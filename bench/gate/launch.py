"""A launch: two source trees measured in alternation, each in a fresh process.

Noise of a shared machine changes from second to second and from process to process. So both arms, base and head, are
timed within the same seconds, on the same core, in slices ordered ABBA or BAAB by chance, and the launch is the unit
of whatever is said.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from bench.gate.journal import Arm, Failure, Phase, Slice
from bench.speed.process import ANSWER_SECONDS, PROTOCOL, SliceWorker, WorkerError

ARMS: tuple[Arm, Arm] = ("base", "head")
# A neighbour slows a shared core down for some tenths of a second at a time, and the finer the arms alternate within
# that, the better it cancels: 4 slices of 250 ms scattered by 5.6%, 16 of 62 ms by 1.6%
# (tests/benchmarks/alternation.py).
SLICE_SECONDS = 0.06
BLOCKS = 4  # of four slices, a launch and cell, a second in all
DISCARDED_SECONDS = 0.01  # at the start of a slice, a step at least, while the caches are the other arm's


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
        self.workers: dict[Arm, SliceWorker] = {}

    def __enter__(self) -> "Launch":
        try:
            for arm in self.dice.sample(ARMS, 2):
                setting = self.setting
                self.workers[arm] = SliceWorker(
                    arm, setting.trees[arm], self.dice, _variables(setting.threads), setting.answer_seconds
                )
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
                if error.kind != "missing":  # that leaves the workers fit for other cells
                    raise
                failures.append(failure_of(error))
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
                raise WorkerError(failure.kind, failure.arm, failure.cell, failure.reason)
        return launch.measure(number, phase, cells, core)


def failure_of(error: WorkerError, launch: int | None = None) -> Failure:
    """As the journal has it."""
    return Failure(error.kind, cast(Arm, error.who), error.cell, error.reason, launch)


def _variables(threads: int) -> dict[str, str]:
    """So many threads, which don't spin when idle."""
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
