"""Speed rounds: how fast all configurations of a run are, measured in turns.

A launch is a fresh process in which the configurations of one device are open. Slices of some 45 ms go to its cells
(training, inference by batch size, the latency of one image) in random order, round by round, with one thread and with
all, so that whatever the machine does in these seconds it does to all of them. Launches follow each other until the
ratios between configurations are known well enough, or the time for it is spent; only widths are looked at, never who
leads.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure.speed_stats import Panel, Speeds
from bench.result import Launch
from bench.speed.process import PROTOCOL, SliceWorker, WorkerError
from bench.system.contention import machine_state
from bench.trial import Trial

SLICE_SECONDS = 0.045
DISCARDED_SECONDS = 0.008  # at the start of a slice, a step at least, while the caches are another cell's
LOOP_SECONDS = 0.2  # a stretch of the training loop as it is, a launch and configuration
SPLIT_SECONDS = 0.02
PEAK_SECONDS = 0.2
ROUNDS = (3, 8)  # a launch: at least and at most; as many as take about as long as opening the process does
FEWEST_LAUNCHES, MOST_LAUNCHES = 5, 40
OTHER_SIZES = (8, 512)  # images of an inference, besides one and the configuration's own batch; once a launch
FREE_SHARE = 0.3  # of the device's free memory at the start: what a group of open configurations leaves alone
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """A configuration to be timed.

    Attributes:
        name: that slices have as config_id; of no other entry.
        trial: any one of the configuration's.
        every: r, to have each r-th training step done twice: a slowdown of known size, for proofs; 0 for none.
    """

    name: str
    trial: Trial
    every: int = 0


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

    Args:
        launches: of this device so far.
        number: the first free one.
        seconds: that may be spent; the first launch is never left out.
    """
    known, start, took = [*launches], now(), 0.0
    missing: dict[str, str] = {}
    for launch_number in count(number):
        spent = now() - start
        if is_enough(known, setting.precision) or len(known) >= MOST_LAUNCHES or (took and spent + took > seconds):
            return
        before = now()
        launch = _launch(setting, launch_number, missing)
        took = now() - before
        known.append(launch)
        yield launch
        if not launch.slices:  # it says why
            return


def is_enough(launches: Sequence[Launch], precision: float) -> bool:
    """Whether in each panel (work, threads) half of the ratios are known to `precision`, and all to twice that."""
    if len(launches) < FEWEST_LAUNCHES:
        return False
    return all(middle <= precision and worst <= 2 * precision for middle, worst in reached(launches).values())


def reached(launches: Sequence[Launch]) -> dict[Panel, tuple[float, float]]:
    """Panel -> median and largest half-width of the ratios between its cells, as shares; of those with a ratio."""
    speeds = Speeds(launches)
    widths = {panel: speeds.half_widths(panel) for panel in speeds.panels}
    return {panel: (median(own), max(own)) for panel, own in widths.items() if own}


def thread_counts(trial: Trial, most: int) -> list[int]:
    """Threads that a configuration is measured with: what it asks for, or one and as many as there are."""
    if trial.num_threads or trial.device != "cpu":
        return [trial.num_threads or most]
    return sorted({1, most})


def _launch(setting: Setting, launch_number: int, missing: dict[str, str]) -> Launch:
    """One launch; configurations that can't be opened are named in it as missing, and not tried again."""
    launch = Launch(
        launch=launch_number,
        device=setting.entries[0].trial.device,
        device_name=setting.device_name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=0.0,
        machine=machine_state(),
        slices=[],
        splits=[],
        peaks={},
        missing={},
    )
    start, todo = time.monotonic(), [entry for entry in setting.entries if entry.name not in missing]
    anchor: list[Entry] = []  # stands in every group, for what sets processes apart
    group_number = 0
    while todo:
        try:
            with _Group(setting, group_number) as group:
                done = group.open([*anchor, *todo], missing)
                group.time_all(launch)
        except WorkerError as error:
            culprits = [error.cell] if error.cell else [entry.name for entry in todo]
            missing |= dict.fromkeys(culprits, error.reason)
            return _launch(setting, launch.launch, missing)  # without it
        todo = todo[done - len(anchor) :]
        anchor, group_number = anchor or [cell.entry for cell in group.cells[:1]], group_number + 1
    launch.missing, launch.wall_seconds = dict(missing), round(time.monotonic() - start, 3)
    return launch


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
        return self.work == "train" or self.batch_size in (1, self.entry.trial.training.batch_size)


class _Group:
    """Configurations that are open in one process; use it in a `with`."""

    def __init__(self, setting: Setting, number: int) -> None:
        self.setting, self.number, self.dice = setting, number, setting.dice
        self.cells: list[_Open] = []
        self.start = time.monotonic()
        # OpenMP threads that wait spin for milliseconds by default; here, as in trials, they soon stop that.
        variables = {"GOMP_SPINCOUNT": "10000"}
        self.worker = SliceWorker("speeds", ROOT, setting.dice, variables, folder=Path.cwd())

    def __enter__(self) -> "_Group":
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()

    def open(self, entries: Sequence[Entry], missing: dict[str, str]) -> int:
        """Open entries until the memory is full; returns how many of them were dealt with."""
        self.worker.ask("start", protocol=PROTOCOL, paths=[path for path in sys.path if path])
        at_first: int | None = None
        for position, entry in enumerate(entries, 1):
            free = self._open(entry, missing)
            at_first = at_first or free
            if at_first and free and free < FREE_SHARE * at_first and position > 1:
                return position
        return len(entries)

    def _open(self, entry: Entry, missing: dict[str, str]) -> int | None:
        """Returns the bytes that are left then; None where that isn't known."""
        name, trial = entry.name, entry.trial
        sizes = [1, trial.training.batch_size, *(() if trial.compile else OTHER_SIZES)]  # each size would compile anew
        where = self.setting.data_dir and str(self.setting.data_dir)
        about = {"trial": trial.model_dump_json(), "sizes": sizes, "every": entry.every}
        try:
            answer = self.worker.ask("open_trial", name, name=name, data_dir=where, **about)
        except WorkerError as error:
            if error.kind != "missing":
                raise
            missing[name] = error.reason
            return None
        self.cells += [_Open(cell["cell"], entry, cell["work"], cell["batch_size"]) for cell in answer["cells"]]
        free: int | None = answer["free_bytes"]
        return free

    def time_all(self, launch: Launch) -> None:
        """All slices of the group, in rounds; then what needs no repeats."""
        most = self.worker.ask("settle")["threads"]
        todo = [(cell, threads) for cell in self.cells for threads in thread_counts(cell.entry.trial, most)]
        main = [(cell, threads) for cell, threads in todo if cell.is_main]
        of_a_round = max(1e-3, len(main) * (SLICE_SECONDS + DISCARDED_SECONDS))
        rounds = min(ROUNDS[1], max(ROUNDS[0], round((time.monotonic() - self.start) / of_a_round)))
        for number in range(rounds):
            order = self.dice.sample(main if number else todo, len(main if number else todo))
            launch.slices += [self._slice("stretch", *each, number, slot) for slot, each in enumerate(order)]
        train = [cell for cell in self.cells if cell.work == "train"]
        for slot, cell in enumerate(self.dice.sample(train, len(train))):
            threads = thread_counts(cell.entry.trial, most)[-1]
            launch.slices.append(self._slice("loop", cell, threads, rounds, slot, LOOP_SECONDS))
            parts = self._ask("split", cell, threads, seconds=SPLIT_SECONDS)
            launch.splits.append({"config_id": cell.entry.name, "num_threads": threads, **parts})
            if cell.entry.trial.dtype not in launch.peaks:
                peak = self._ask("peak", cell, threads, seconds=PEAK_SECONDS)["flops_per_second"]
                launch.peaks |= {cell.entry.trial.dtype: peak} if peak else {}

    def _slice(
        self, do: str, cell: _Open, threads: int, number: int, slot: int, seconds: float = SLICE_SECONDS
    ) -> dict[str, Any]:
        about = {
            "config_id": cell.entry.name,
            "num_threads": threads,
            "work": "loop" if do == "loop" else cell.work,
            "batch_size": cell.batch_size,
            "group": self.number,
            "round": number,
            "slot": slot,
        }
        return about | self._ask(do, cell, threads, seconds=seconds, discard=DISCARDED_SECONDS)

    def _ask(self, do: str, cell: _Open, threads: int, **order: float) -> dict[str, Any]:
        return self.worker.ask(do, cell.entry.name, name=cell.name, threads=threads, **order)


def one_of_each(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Device -> a trial of each configuration that speed rounds can time: those of one process."""
    found: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        if trial.world_size == 1:
            found.setdefault(trial.device, {}).setdefault(trial.config_id, trial)
    return {device: [*own.values()] for device, own in found.items()}
