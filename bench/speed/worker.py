"""Worker: a process that times slices, for the gate and for the speed rounds. A script, not a module of the tree that
it measures.

It is started by the comparing program's interpreter with a source tree as its argument, puts that tree first on the
path, and takes orders as JSON, a line each, on standard input; answers go, likewise, to standard output. While it waits
it is blocked in a read. For the gate nothing is imported from the tree but its cells and what counts the work of a
step; the speed rounds measure the program's own tree.
"""

import gc
import importlib
import importlib.util
import itertools
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
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
STREAMED_SECONDS = 0.5  # of the loop over images that are read meanwhile: once unseen, once timed
PAUSE = 2.0  # medians of plain steps: the most that one of them counts
EXCHANGES = 8  # of which the fastest counts: others may have woken a thread
EXCHANGED = 2**15  # values for each thread: fewer, and torch would leave all of them to one
SLOW = 0.1  # seconds of a step from which on a hand-over costs nothing that shows, and no step is left out


class Worker:
    """Cells by name, and what may be asked of them."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.code: ModuleType | None = None  # the tree's module of cells
        self.counting = ""  # the name of its module that counts the work of a step
        self.cells: dict[str, Any] = {}
        self.every: dict[str, int] = {}  # cell -> each so many steps, one is done twice: a known slowdown, for tests
        self.done: dict[str, int] = {}
        self.data: dict[str, Any] = {}  # of the speed rounds: what trials of one dataset share
        self.paces: dict[tuple[str, int], float] = {}  # cell, threads -> seconds of a step
        self.meter: Any = None  # of what disturbs a slice
        self.probes: Any = None  # of how fast the cores are meanwhile
        self.passed: dict[int, list[Any]] = {}  # threads -> what they pass to each other, forth and back
        self.threads = 1  # of a trial that doesn't say how many

    def start(self, protocol: int, paths: list[str] | None = None) -> dict[str, Any]:
        """Load the tree's code. `paths`: where else modules are looked for, such as a person's own models."""
        sys.path += [path for path in paths or [] if path not in sys.path]
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

    # What the speed rounds ask for, of the program's own tree.

    def open_trial(
        self, name: str, trial: str, sizes: list[int], data_dir: str | None, every: int = 0
    ) -> dict[str, Any]:
        """Make the cells of a trial ready, and do a step of each; says which there are, and what memory is left."""
        from bench.trial import Trial

        assert self.code
        asked, where, code = Trial.model_validate_json(trial), Path(data_dir) if data_dir else None, self.code
        shared = asked.model_dump_json(include={"dataset", "data", "split_seed", "device"})
        key = f"{shared} {asked.training.normalization}"

        def cells() -> list[Any]:
            if key not in self.data:
                self.data[key] = code.open_data(asked, where)
            return code.open_trial(asked, where, self.data[key], sizes)

        return self._open(name, cells, every)

    def open_code(self, name: str, code: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The same with cells that a function of another program's makes."""
        module, _, function = code.partition(":")
        return self._open(name, lambda: getattr(importlib.import_module(module), function)(**arguments))

    def _open(self, name: str, make: Callable[[], list[Any]], every: int = 0) -> dict[str, Any]:
        import torch

        from bench.errors import UserError
        from bench.system.contention import Meter, machine_state
        from bench.system.device import CPU
        from bench.system.environment import default_threads

        if self.meter is None:
            self.meter, self.threads = Meter(), default_threads(torch.get_num_threads())
            CPU().keep_freed_memory()  # as trials do
        try:
            opened = make()
            for cell in opened:
                cell.enter(None)
                cell.step()
                cell.synchronize()
        except UserError as error:
            return {"missing": " ".join(str(error).split())}
        except (RuntimeError, MemoryError) as error:  # of torch: out of memory, no such kernel
            return {"missing": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
        cells = {f"{name} {cell.work} {cell.images}": cell for cell in opened}
        self.cells |= cells
        self.every |= {key: every if cell.work == "train" else 0 for key, cell in cells.items()}
        # From anywhere in the count: of a launch's few dozens of steps, a last tenth that isn't whole would be lost.
        self.done |= {key: random.randrange(every) if every else 0 for key in cells}  # noqa: S311 - no secret
        works = [{"cell": key, "work": cell.work, "batch_size": cell.images} for key, cell in cells.items()]
        setup = getattr(opened[0], "setup", None)
        free = setup.device.free_memory_bytes() if setup else machine_state()["available_memory_bytes"]
        return {"cells": works, "free_bytes": free}

    def settle(self) -> dict[str, Any]:
        """What lives now stays; no later collection walks through it. Says how many threads a trial has by default."""
        gc.collect()
        gc.freeze()
        gc.disable()
        if any(getattr(cell, "setup", None) is None or cell.setup.device.type == "cpu" for cell in self.cells.values()):
            from bench.system.core_probe import CoreProbes
            from bench.system.environment import cores, usable_cores

            self.probes = CoreProbes(cores() if usable_cores() == len(cores()) else [])
        return {"threads": self.threads}

    def stretch(self, name: str, threads: int, seconds: float, discard: float) -> dict[str, Any]:
        """Time as many steps as take about `seconds`, after some that bring the caches back from other cells."""
        cell = self.cells[name]
        cell.enter(threads)
        exchange = self._exchange(cell, threads)
        steps = self._steps_in(name, threads, seconds, discard)
        if cell.work == "infer" and cell.images == 1:
            found = self._calls(name, steps, threads)
        else:
            before = self._before()
            took = self._seconds(name, steps)
            found = {"steps": steps, "images": steps * cell.images, "seconds": took}
            found |= self._meanwhile(before, threads)
        return found | {"exchange_seconds": exchange and max(exchange, self._exchange(cell, threads) or 0.0)}

    def loop(self, name: str, threads: int, seconds: float, discard: float) -> dict[str, Any]:
        """A stretch as the training loop has it: with garbage collection, and batches from where they lie.

        Plain steps come just before and just after it, so that whatever the machine does meets both alike.
        """
        cell = self.cells[name]
        cell.enter(threads)
        self._steps_in(name, threads, seconds, discard)  # leaves out what follows a hand-over
        loop, streamed = cell.loop or cell.step, cell.loop is not None
        first = self._stretch(cell, cell.step, seconds / 2, threads, without_pauses=True)
        if streamed:  # the first batches are read ahead, and nobody waits for them
            seconds = max(seconds, STREAMED_SECONDS)
            self._steps_for(cell, loop, seconds)
        gc.enable()
        looped = self._stretch(cell, loop, seconds, threads)
        gc.disable()
        if streamed:  # what its own readers took from it is its own
            looped |= {"waited_seconds": None, "probe_seconds": None}
        cell.loop = loop = None  # ends the processes that read
        last = self._stretch(cell, cell.step, seconds / 2, threads, without_pauses=True)
        both = {key: None if None in (first[key], last[key]) else first[key] + last[key] for key in first}
        if both["probe_seconds"]:
            both["probe_seconds"] /= 2
        return {work: found | {"exchange_seconds": None} for work, found in (("loop", looped), ("steps", both))}

    def _stretch(
        self, cell: Any, step: Any, seconds: float, threads: int, without_pauses: bool = False
    ) -> dict[str, Any]:
        """A stretch of steps. Without its pauses, what they lose now and then shows where the loop has them."""
        before = self._before()
        steps, took, paused = self._steps_for(cell, step, seconds)
        meanwhile = self._meanwhile(before, threads)
        if without_pauses and getattr(cell, "at_once", True):
            taken = sum(meanwhile[f"{kind}_seconds"] or 0.0 for kind in ("waited", "stolen", "throttled"))
            took -= max(0.0, paused - taken)  # what others took is subtracted anyway
        return {"steps": steps, "images": steps * cell.images, "seconds": took, **meanwhile}

    def _steps_for(self, cell: Any, step: Any, seconds: float) -> tuple[int, float, float]:
        """Steps until so many seconds have passed, how long they took, and what went beyond PAUSE medians of each.

        The last means something where a step has ended when its call returns.
        """
        cell.synchronize()
        edges = [time.perf_counter()]
        while len(edges) == 1 or edges[-1] - edges[0] < seconds:
            step()
            edges.append(time.perf_counter())
        cell.synchronize()
        took, each = time.perf_counter() - edges[0], sorted(b - a for a, b in itertools.pairwise(edges))
        longest = PAUSE * each[len(each) // 2]
        return len(each), took, sum(max(0.0, seconds - longest) for seconds in each)

    def split(self, name: str, threads: int, seconds: float) -> dict[str, Any]:
        """Where a training step's time goes."""
        from bench.training.profiling import split_step

        cell = self.cells[name]
        cell.enter(threads)
        synchronize = cell.setup.device.synchronize

        def edge() -> float:
            synchronize()
            return time.perf_counter()

        return split_step(cell.learner, iter(cell.setup.batches), edge, seconds)

    def peak(self, name: str, threads: int, seconds: float) -> dict[str, Any]:
        """The device's best matrix product in a cell's numeric mode."""
        from bench.measure.flops import matmul_peak

        cell = self.cells[name]
        cell.enter(threads)
        return {"flops_per_second": matmul_peak(cell.setup.device, cell.setup.precision, seconds)}

    def _exchange(self, cell: Any, threads: int) -> float | None:
        """Seconds in which the CPU's threads pass data to each other, each a part to each; None of a single thread.

        It takes a multiple of that where they run on cores without a common cache.
        """
        import torch

        if threads == 1 or not getattr(cell, "at_once", True):
            return None
        if threads not in self.passed:
            self.passed[threads] = [torch.zeros(threads, threads, EXCHANGED // threads) for _ in range(2)]
        here, there = self.passed[threads]
        times = []
        for _ in range(EXCHANGES):
            start = time.perf_counter()
            there.copy_(here.transpose(0, 1))  # what one thread wrote is what the others read next
            times.append(time.perf_counter() - start)
            here, there = there, here
        return min(times)

    def _steps_in(self, name: str, threads: int, seconds: float, discard: float) -> int:
        """How many steps fill a slice, by the fastest of those that are left out before it.

        Of a slow one, which other work held up, the slice would have too few.
        """
        if (name, threads) not in self.paces:  # compiled code is made anew for another number of threads
            self._seconds(name, 1)
        pace = self.paces.get((name, threads), 0.0)
        if pace < SLOW:
            start, paces = time.perf_counter(), list[float]()
            while not paces or time.perf_counter() - start < discard:
                paces.append(self._seconds(name, 1))
            pace = self.paces[name, threads] = min(paces)
        return max(1, round(seconds / max(pace, 1e-7)))

    def _calls(self, name: str, steps: int, threads: int) -> dict[str, Any]:
        """Single calls: their sum, and percentiles."""
        before = self._before()
        times = sorted(self._seconds(name, 1) for _ in range(steps))
        ranks = {"p50_seconds": 0.50, "p95_seconds": 0.95, "p99_seconds": 0.99}
        enough = {key: rank for key, rank in ranks.items() if rank == 0.5 or steps * (1 - rank) >= 1}
        told = {key: times[math.ceil(rank * steps) - 1] for key, rank in enough.items()}
        return {"steps": steps, "images": steps, "seconds": sum(times), **told, **self._meanwhile(before, threads)}

    def _before(self) -> Any:
        if self.probes:
            self.probes.clear()
        return self.meter.read()

    def _meanwhile(self, before: Any, threads: int) -> dict[str, float | None]:
        """What disturbed a slice, and how fast the cores were."""
        disturbed = self.meter.read().since(before)._asdict()
        if not self.probes:
            return disturbed | {"probe_seconds": None}
        mean, taken = self.probes.since_clear(one_core=threads == 1)
        if disturbed["waited_seconds"] is not None:  # for probes it waited, too
            disturbed["waited_seconds"] = max(0.0, disturbed["waited_seconds"] - taken)
        return disturbed | {"probe_seconds": mean}

    def _timed(self, cell: Any, step: Any, steps: int) -> float:
        cell.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        cell.synchronize()
        return time.perf_counter() - start

    def _seconds(self, name: str, steps: int) -> float:
        cell, every = self.cells[name], self.every[name]
        if not every:
            return self._timed(cell, cell.step, steps)

        def step() -> None:
            cell.step()
            self.done[name] += 1
            if self.done[name] % every == 0:
                cell.step()

        return self._timed(cell, step, steps)


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
