"""Worker: one arm's process in the gate. A script, not a module of the tree that it measures.

It is started by the comparing program's interpreter with a source tree as its argument, puts that tree first on the
path, and takes orders as JSON, a line each, on standard input; answers go, likewise, to standard output. While it waits
it is blocked in a read. Nothing is imported from the tree but its cells and what counts the work of a step.
"""

import gc
import importlib
import importlib.util
import json
import math
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

# Where a tree keeps its cells, and what counts the work of a step: as it is today, and as it was in earlier revisions.
PLACES = (
    ("bench.speed.cells", "bench.gate.step_work"),
    ("bench.gate.cells", "bench.gate.step_work"),
    ("bench.cells", "bench.invariants"),
)
SETTLED = 0.05  # two neighbouring warm-up blocks that agree within this share: warm
WARM_UP_BLOCKS = 12
WARM_UP_SECONDS = 0.1


class Worker:
    """Cells by name, and what may be asked of them."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.code: ModuleType | None = None  # the tree's module of cells
        self.counting = ""  # the name of its module that counts the work of a step
        self.cells: dict[str, Any] = {}
        self.every: dict[str, int] = {}  # cell -> each so many steps, one is done twice: a known slowdown, for tests
        self.done: dict[str, int] = {}

    def start(self, protocol: int) -> dict[str, Any]:
        """Load the tree's code."""
        if (self.tree / "bench").is_dir():
            # An installed program's own finder would lend the tree the modules that it lacks.
            sys.meta_path[:] = [
                finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")
            ]
            root = self.tree.resolve()
        else:  # a user's repository: then it is the program's, as it is installed
            spec = importlib.util.find_spec("bench")
            assert spec
            root = Path(spec.origin or "").resolve().parents[1]
        place = next((place for place in PLACES if (root / _file(place[0])).is_file()), None)
        if place is None:
            return {"missing": f"its source has no {_file(PLACES[0][0])}, which the gate measures by"}
        name, self.counting = place
        code = importlib.import_module(name)
        here = Path(code.__file__ or "").resolve()
        if root not in here.parents:
            raise RuntimeError(f"{name} was imported from {here}, not from {root}")
        if protocol != code.PROTOCOL:
            return {"missing": f"its {_file(name)} speaks protocol {code.PROTOCOL}, the gate {protocol}"}
        self.code = code
        return {}

    def open(
        self, name: str, content: dict[str, Any], work: Any, threads: int, data_dir: str | None, every: int = 0
    ) -> dict[str, Any]:
        """Make a cell ready. A person's mistake here is one that only this tree makes: it doesn't know the cell."""
        from bench.errors import UserError

        assert self.code
        try:
            cell = self.code.open_cell(content, work, threads, Path(data_dir) if data_dir else None)
        except UserError as error:
            return {"missing": " ".join(str(error).split())}
        self.cells[name], self.every[name], self.done[name] = cell, every, 0
        return {}

    def count(self, name: str) -> dict[str, Any]:
        """What a step of the cell does; its weights and its batches move on."""
        try:
            counting = importlib.import_module(self.counting)
        except ModuleNotFoundError:
            return {"counts": {}}
        return {"counts": counting.count_work(self.cells[name])}

    def pin(self, core: int) -> dict[str, Any]:
        """Stay on one core, the same as the other arm's, where the system can do that."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        return {}

    def warm(self, name: str) -> dict[str, Any]:
        """Steps until two neighbouring blocks agree; says how many fill a slice."""
        per_step = self._seconds(name, 2) / 2
        for _ in range(WARM_UP_BLOCKS):
            size = max(1, math.ceil(WARM_UP_SECONDS / max(per_step, 1e-7)))
            before, per_step = per_step, self._seconds(name, size) / size
            if abs(per_step - before) <= SETTLED * before:
                break
        gc.collect()
        gc.freeze()  # what lives now stays; no later collection walks through it
        gc.disable()
        return {"step_seconds": per_step}

    def slice(self, name: str, steps: int, discard: int) -> dict[str, Any]:
        """Time `steps` steps as a whole, after some that bring the caches back from the other arm."""
        self._seconds(name, discard)
        waited, busy = _waited(), time.process_time()
        seconds = self._seconds(name, steps)
        busy = time.process_time() - busy
        after = _waited()
        own = None if waited is None or after is None else max(seconds - (after - waited), busy)
        return {"seconds": seconds, "own_seconds": own}

    def collect(self) -> dict[str, Any]:
        """Between blocks, off the clock."""
        gc.collect()
        return {}

    def _seconds(self, name: str, steps: int) -> float:
        cell, every, step = self.cells[name], self.every[name], self.cells[name].step
        cell.synchronize()
        start = time.perf_counter()
        if not every:
            for _ in range(steps):
                step()
        else:
            for _ in range(steps):
                step()
                self.done[name] += 1
                if self.done[name] % every == 0:
                    step()
        cell.synchronize()
        return time.perf_counter() - start


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _waited() -> float | None:
    """Seconds that this thread was ready to run while another process had its core; None where the system can't tell.

    It is no part of the code's time: sleep, input and output, and waiting for a device are. Linux counts it (proc(5),
    /proc/PID/schedstat). A machine's owner can take the core away, too; that isn't seen from inside.
    """
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def main() -> None:
    tree = Path(sys.argv[1])
    sys.path.insert(0, str(tree))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    worker = Worker(tree)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("do"))(**order)
        except Exception as error:  # noqa: BLE001 - the driver tells a person what happened, in one line
            answer = {"crashed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
