"""Speed rounds: how fast all configurations of a run are, measured in turns.

A launch is a fresh process in which the configurations of one device are open. Slices of some 30 ms go to its cells
(training, inference by batch size, the latency of one image) in random order, round by round, with one thread and with
all, so that whatever the machine does in these seconds it does to all of them. Launches follow each other until the
ratios between configurations are known well enough, or the time for it is spent; only widths are looked at, never who
leads.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure.speed_stats import Panel, Speeds, is_clean
from bench.result import Launch
from bench.speed.process import PROTOCOL, SliceWorker, WorkerError
from bench.system.contention import machine_state
from bench.system.environment import usable_cores
from bench.trial import Trial

# A neighbour on the same core comes and goes within tenths of a second, and a slice of 12 ms scatters hardly more than
# one of 60 ms: many short ones tell more. Below some 30 ms the hand-over takes too large a part.
SLICE_SECONDS = 0.03
DISCARDED_SECONDS = 0.006  # at the start of a slice, a step at least, while the caches are another cell's
LOOP_SECONDS = 0.15  # a stretch of the training loop as it is, and as much of plain steps beside it
SPLIT_SECONDS = 0.02
PEAK_SECONDS = 0.2
ROUNDS = (4, 8)  # of a launch: at least and at most
# That time the training loop, other batch sizes and parts of a step, too: as many as tell an interval, and not in a
# row, since where time is short the speeds need it more.
WHOLE_LAUNCHES = (0, 2, 4)
FEWEST_LAUNCHES, MOST_LAUNCHES = 5, 40
# Beside other work slices with all threads may take ten times as long, and tell nothing: so many without an undisturbed
# one, and a process leaves the rest of their time to those with one thread, but for a whole launch's first round.
TRIES = 12
OTHER_SIZES = (8, 512)  # images of an inference, besides one and the configuration's own batch; once a launch
FREE_SHARE = 0.3  # of the free memory when the first entry was open: what a process leaves alone
SMALL_SHARE = 0.75  # what one leaves that may stand beside others
MOST_READY = 4  # processes that are opened side by side
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """A configuration to be timed; or, for comparisons with other programs, any code.

    Attributes:
        name: that slices have as config_id; of no other entry.
        trial: any one of the configuration's.
        every: r, to have each r-th training step done twice: a slowdown of known size, for proofs; 0 for none.
        code: in place of a trial, "module:function" that returns a list of bench.speed.cells.PlainCell.
        arguments: of that function.
        threads: numbers of them to time it with; (): what the trial asks for, or one and as many as there are.
    """

    name: str
    trial: Trial | None = None
    every: int = 0
    code: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: Sequence[int] = ()

    @property
    def device(self) -> str:
        return self.trial.device if self.trial else "cpu"

    def thread_counts(self, most: int) -> Sequence[int]:
        """Threads to time it with; `most`: as many as there are."""
        asked = self.trial.num_threads if self.trial else None
        if self.threads or asked or self.device != "cpu":
            return self.threads or [asked or most]
        return sorted({1, most})


@dataclass(frozen=True)
class Setting:
    """What all launches of a device have in common.

    Attributes:
        entries: all of one device, and of trials of one process.
        precision: half-width of the ratios' intervals to reach, as a share; the worst may be twice as wide.
    """

    entries: Sequence[Entry]
    device_name: str
    data_dir: Path | None = None
    precision: float = 0.03
    dice: random.Random = field(default_factory=random.Random)


def measure(
    setting: Setting,
    launches: Sequence[Launch],
    number: int,
    seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Launch]:
    """Launches, as they come, until the ratios are known as well as asked for or the time is spent.

    Processes load and open what they time side by side, as many as there are cores; slices are timed in one of them at
    a time, while all others wait in a read.

    Args:
        launches: of this device so far.
        number: the first free one.
        seconds: that may be spent; the first launch is never left out.
    """
    known, missing, start, mark = [*launches], dict[str, str](), now(), now()
    names = [entry.name for entry in setting.entries]
    with ExitStack() as stack:
        ready: list[_Process] = []
        at_once = 1  # until it is known how much memory a process takes
        for done in count():
            spent = now() - start
            late = done and spent * (done + 1) / done > seconds  # another one would end too late
            if late or is_enough(known, names, setting.precision) or len(known) >= MOST_LAUNCHES:
                return
            if not ready:
                ready = [stack.enter_context(each) for each in _opened(setting, setting.entries, missing, at_once)]
                at_once = min(usable_cores(), MOST_READY) if ready and ready[0].is_small else 1
            process = ready.pop(0) if ready else None
            whole = len(known) in WHOLE_LAUNCHES
            launch = _launch(setting, number + done, process, missing, seconds - spent, whole)
            launch.wall_seconds, mark = round(now() - mark, 3), now()
            known.append(launch)
            yield launch
            if not launch.slices:  # it says why
                return


def is_enough(launches: Sequence[Launch], names: Sequence[str], precision: float) -> bool:
    """Whether in each panel (work, threads) half of the ratios are known to `precision`, and all to twice that.

    Args:
        names: entries of which each has to be there; but for those that the last launch couldn't time.
    """
    if len(launches) < FEWEST_LAUNCHES:
        return False
    speeds = Speeds(launches)
    timed = {cell.config_id for cell in speeds.cells if cell.work == "train"}
    if not {*names} <= timed | launches[-1].missing.keys():
        return False
    return all(middle <= precision and worst <= 2 * precision for middle, worst in _reached(speeds).values())


def reached(launches: Sequence[Launch]) -> dict[Panel, tuple[float, float]]:
    """Panel -> median and largest half-width of the ratios between its cells, as shares; of those with a ratio."""
    return _reached(Speeds(launches))


def _reached(speeds: Speeds) -> dict[Panel, tuple[float, float]]:
    widths = {panel: speeds.half_widths(panel) for panel in speeds.panels}
    return {panel: (median(own), max(own)) for panel, own in widths.items() if own}


def _launch(
    setting: Setting,
    number: int,
    process: "_Process | None",
    missing: dict[str, str],
    seconds: float,
    whole: bool,
) -> Launch:
    """One launch, in a process that is open, and in more where memory doesn't hold all entries together.

    Entries that fail are named in it as missing, and not tried again.

    Args:
        process: None: there is nothing to open.
        seconds: that are left for it.
        whole: time what needs no more than a few launches, too.
    """
    launch = Launch(
        launch=number,
        device=setting.entries[0].device,
        device_name=setting.device_name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=0.0,
        machine=machine_state(),
        slices=[],
        splits=[],
        peaks={},
        missing={},
    )
    start = time.monotonic()
    if process:
        process.leave_out(missing)  # one that was opened ahead has what failed since
    anchor, group = process.entries[:1] if process else [], 0  # stands in every group, for what sets processes apart
    while process:
        with process:
            try:
                process.time_all(launch, group, seconds, whole)
            except WorkerError as error:
                missing |= dict.fromkeys(
                    [error.cell] if error.cell else [entry.name for entry in process.entries], error.reason
                )
                again = _opened(setting, setting.entries, missing, 1)
                left = seconds - (time.monotonic() - start)
                return _launch(setting, number, next(iter(again), None), missing, left, whole)
        rest = _opened(setting, [*anchor, *process.rest], missing, 1, first=1) if process.rest else []
        process, group = next(iter(rest), None), group + 1
    launch.missing = dict(missing)
    return launch


def _number_of_rounds(opening: float, of_a_round: float, left: float) -> int:
    """As many as take about twice as long as opening the process did, in the seconds that are left for both."""
    return min(ROUNDS[1], max(ROUNDS[0], round(min(2 * opening, left - opening) / of_a_round)))


def _opened(
    setting: Setting, entries: Sequence[Entry], missing: dict[str, str], how_many: int, first: int = 0
) -> "list[_Process]":
    """So many processes with these entries, opened side by side; [] where all are missing.

    Args:
        first: so many of the entries are opened before the others.
    """
    while todo := [entry for entry in entries if entry.name not in missing]:
        with ExitStack() as stack:
            processes = [stack.enter_context(_Process(setting)) for _ in range(how_many)]
            # What is opened early gets other memory than what is opened late, and the next process gets the same pages:
            # each draws its own order, or all launches would favour the same ones.
            orders = [[*todo[:first], *setting.dice.sample(todo[first:], len(todo) - first)] for _ in processes]
            try:
                for process in processes:
                    process.worker.send("start", protocol=PROTOCOL, paths=[path for path in sys.path if path])
                for process in processes:
                    process.worker.answer()
                for position, own in enumerate(zip(*orders, strict=True), 1):
                    for process, entry in zip(processes, own, strict=True):
                        process.begin_to_open(entry)
                    for process, entry in zip(processes, own, strict=True):
                        process.end_to_open(entry, missing)
                    if position > 1 and any(process.is_full for process in processes):
                        break
            except WorkerError as error:
                missing |= dict.fromkeys([error.cell] if error.cell else [entry.name for entry in todo], error.reason)
                continue  # without it
            for process, order in zip(processes, orders, strict=True):
                process.rest = order[position:]
                process.opening_seconds = (time.monotonic() - process.start) / how_many
            stack.pop_all()
            return processes
    return []


@dataclass(frozen=True)
class _Open:
    """A cell that is open in a worker under `name`."""

    name: str
    entry: Entry
    work: str
    batch_size: int

    @property
    def is_main(self) -> bool:
        """Training, and inference at the configuration's own batch size and of one image."""
        trial = self.entry.trial
        return trial is None or self.work == "train" or self.batch_size in (1, trial.training.batch_size)


class _Process:
    """A process in which entries are open; use it in a `with`.

    Attributes:
        rest: entries that it has no memory for.
        opening_seconds: what it cost to open it.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.dice = setting, setting.dice
        self.cells: list[_Open] = []
        self.rest: Sequence[Entry] = []
        self.start, self.opening_seconds = time.monotonic(), 0.0
        self._free: list[int] = []  # bytes, after each entry
        self._tried, self._undisturbed = Counter[int](), Counter[int]()  # slices by number of threads
        # OpenMP threads that wait spin for milliseconds by default; here, as in trials, they soon stop that.
        variables = {"GOMP_SPINCOUNT": "10000"}
        self.worker = SliceWorker("speeds", ROOT, setting.dice, variables, folder=Path.cwd())

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()

    @property
    def entries(self) -> list[Entry]:
        return list({cell.entry.name: cell.entry for cell in self.cells}.values())

    @property
    def is_full(self) -> bool:
        """So little memory is left that the rest needs another process."""
        return bool(self._free) and self._free[-1] < FREE_SHARE * self._free[0]

    @property
    def is_small(self) -> bool:
        """Several of its kind may be open at once."""
        return bool(self._free) and self._free[-1] > SMALL_SHARE * self._free[0]

    def begin_to_open(self, entry: Entry) -> None:
        trial = entry.trial
        if trial is None:
            self.worker.send("open_code", name=entry.name, code=entry.code, arguments=entry.arguments)
            return
        sizes = [1, trial.training.batch_size, *(() if trial.compile else OTHER_SIZES)]  # each size would compile anew
        where = self.setting.data_dir and str(self.setting.data_dir)
        about = {"trial": trial.model_dump_json(), "sizes": sizes, "data_dir": where, "every": entry.every}
        self.worker.send("open_trial", name=entry.name, **about)

    def end_to_open(self, entry: Entry, missing: dict[str, str]) -> None:
        try:
            answer = self.worker.answer(entry.name)
        except WorkerError as error:
            if error.kind != "missing":
                raise
            missing[entry.name] = error.reason
            return
        self.cells += [_Open(cell["cell"], entry, cell["work"], cell["batch_size"]) for cell in answer["cells"]]
        self._free += [answer["free_bytes"]] if answer["free_bytes"] else []

    def leave_out(self, missing: Container[str]) -> None:
        """Time nothing of entries with these names."""
        self.cells = [cell for cell in self.cells if cell.entry.name not in missing]

    def time_all(self, launch: Launch, group: int, seconds: float, whole: bool) -> None:
        """All its slices, in rounds; then, in a whole launch, what needs no repeats."""
        most = self.worker.ask("settle")["threads"]
        todo = [(cell, threads) for cell in self.cells for threads in cell.entry.thread_counts(most)]
        main = [(cell, threads) for cell, threads in todo if cell.is_main]
        train = [(cell, cell.entry.trial) for cell in self.cells if cell.work == "train" and whole]
        largest = max((number for entry in self.setting.entries for number in entry.thread_counts(most)), default=most)
        of_a_round = max(1e-3, len(main) * (SLICE_SECONDS + DISCARDED_SECONDS))
        rounds = _number_of_rounds(self.opening_seconds, of_a_round, seconds - 2 * LOOP_SECONDS * len(train))
        for number in range(rounds):
            complete = whole and number == 0
            own = todo if complete else main
            order = self.dice.sample(own, len(own))
            launch.slices += [
                self._slice(cell, threads, group, number, slot)
                for slot, (cell, threads) in enumerate(order)
                if complete or not self._is_hopeless(threads)
            ]
        for slot, (cell, trial) in enumerate(self.dice.sample(train, len(train))):
            counts = cell.entry.thread_counts(most)
            threads = max((each for each in counts if not self._is_hopeless(each)), default=counts[-1])
            found = self._ask("loop", cell, threads, seconds=LOOP_SECONDS, discard=DISCARDED_SECONDS)
            about = self._about(cell, threads, group, rounds, slot)
            launch.slices += [about | {"work": work} | figures for work, figures in found.items()]
            if trial is None:
                continue
            parts = self._ask("split", cell, threads, seconds=SPLIT_SECONDS)
            launch.splits.append({"config_id": cell.entry.name, "num_threads": threads, **parts})
            if trial.dtype not in launch.peaks:
                peak = self._ask("peak", cell, largest, seconds=PEAK_SECONDS)["flops_per_second"]
                launch.peaks |= {trial.dtype: peak} if peak else {}

    def _slice(self, cell: _Open, threads: int, group: int, number: int, slot: int) -> dict[str, Any]:
        found = self._ask("stretch", cell, threads, seconds=SLICE_SECONDS, discard=DISCARDED_SECONDS)
        piece = self._about(cell, threads, group, number, slot) | found
        self._tried[threads] += 1
        self._undisturbed[threads] += is_clean(piece)
        return piece

    def _is_hopeless(self, threads: int) -> bool:
        """Whether no slice with so many threads was undisturbed, and there are fewer to time with."""
        return self._tried[threads] >= TRIES and not self._undisturbed[threads] and threads > min(self._tried)

    def _about(self, cell: _Open, threads: int, group: int, number: int, slot: int) -> dict[str, Any]:
        return {
            "config_id": cell.entry.name,
            "num_threads": threads,
            "work": cell.work,
            "batch_size": cell.batch_size,
            "group": group,
            "round": number,
            "slot": slot,
        }

    def _ask(self, do: str, cell: _Open, threads: int, **order: float) -> dict[str, Any]:
        return self.worker.ask(do, cell.entry.name, name=cell.name, threads=threads, **order)


def one_of_each(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Device -> a trial of each configuration that speed rounds can time: those of one process."""
    found: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        if trial.world_size == 1:
            found.setdefault(trial.device, {}).setdefault(trial.config_id, trial)
    return {device: [*own.values()] for device, own in found.items()}
