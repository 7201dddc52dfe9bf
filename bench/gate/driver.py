"""The gate: has this change made training slower? From two revisions to a journal, stage by stage.

Work is counted, then all cells are screened, then fresh launches go to the cells that were flagged or left open. How
many launches there are depends on the time alone, never on what they found, so that looking early decides nothing.
"""

import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout
from pydantic import ValidationError

from bench.data.download import fetch
from bench.errors import UserError
from bench.gate.decision import FEWEST_LAUNCHES, flagged, unsettled
from bench.gate.journal import Arm, Journal, Phase, Record, read_journal
from bench.gate.launch import GateCell, Launch, Setting, failure_of, run_launch
from bench.gate.launch_stats import forecast
from bench.gate.request import GateRequest, gate_cells, journal_header
from bench.gate.worktrees import Tree, checked_out, find_repository, given, is_dirty
from bench.speed.process import WorkerError
from bench.system.environment import cores

MOST_LAUNCHES = 30  # of a phase; more would only tell differences that aren't worth telling
SECONDS_PER_CELL = 40.0  # of the default budget, which is 2 minutes at least
SCREEN_SHARE = 0.6  # of the time; the rest is for confirming, mostly fewer cells

Say = Callable[[str], None]


def run_gate(request: GateRequest, say: Say, now: Callable[[], float] = time.monotonic) -> Record:
    """Measure and write the journal; bench.gate.decision says what it means.

    Raises: UserError: wrong usage; nothing has been written then.
    """
    cells = gate_cells(request)
    with only_one(), _trees(request, say) as trees:
        if request.journal.exists():
            raise UserError(f"{request.journal}: exists already; name another --journal, or go on with --resume")
        request.journal.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(request.journal)
        journal.append("gate", journal_header(request, cells, trees))
        return _Gate(request, cells, trees, journal, say, now).run()


def resume_gate(path: Path, say: Say, now: Callable[[], float] = time.monotonic) -> Record:
    """Go on where a gate was stopped, with the same two sources.

    Raises: UserError: not a gate's journal, or its sources are no longer to be had.
    """
    record = read_journal(path)
    if record.ended:
        return record
    try:
        request = GateRequest.model_validate(record.header.get("request")).model_copy(update={"journal": path})
    except ValidationError:
        raise UserError(f"{path}: doesn't say what was asked; start a new gate") from None
    cells = gate_cells(request)
    if [cell.name for cell in cells] != record.header["cells"]:
        raise UserError(f"{path}: suite '{request.suite}' no longer means the same cells; start a new gate")
    with only_one(), _trees(request, say, record) as trees:
        return _Gate(request, cells, trees, Journal(path), say, now).run()


@contextmanager
def _trees(request: GateRequest, say: Say, before: Record | None = None) -> Iterator[dict[Arm, Tree]]:
    """Both sources, side by side; a resumed gate asks for the commits that it began with."""
    with ExitStack() as stack:
        trees: dict[Arm, Tree] = {}
        if request.base_dir and request.head_dir:
            trees = {"base": given(request.base_dir, "base"), "head": given(request.head_dir, "head")}
        else:
            repository = find_repository()
            for arm, revision in (("base", request.base or "HEAD"), ("head", request.head)):
                revision = before.header[arm]["commit"] if before else revision
                trees[cast(Arm, arm)] = stack.enter_context(checked_out(repository, revision, arm))
            if request.head == "HEAD" and is_dirty(repository) and before is None:
                say("uncommitted changes are left out; --head 'working tree' takes them in")
        for arm, tree in trees.items():
            if before and tree.commit != before.header[arm]["commit"]:
                raise UserError(f"{tree.folder}: is no longer what the gate began with; start a new gate")
        yield trees


@dataclass
class _Gate:
    """A gate in progress. What it knows is in the journal; this only says what comes next."""

    request: GateRequest
    cells: Sequence[GateCell]
    trees: dict[Arm, Tree]
    journal: Journal
    say: Say
    now: Callable[[], float]
    dice: random.Random = field(default_factory=random.Random)
    launch: int | None = None  # that runs, or ran last; None before the first

    def __post_init__(self) -> None:
        request = self.request
        fetch(self.cells[0].content["dataset"], request.data_dir)  # before the clock starts, and once for all workers
        budget = request.budget_seconds or max(120.0, SECONDS_PER_CELL * len(self.cells))
        self.start = self.now()
        self.end = self.start + budget
        self.cores = cores() if request.threads == 1 else []  # taken in turn, since each has neighbours of its own
        folders = {arm: tree.folder for arm, tree in self.trees.items()}
        self.setting = Setting(folders, request.threads, request.data_dir)

    @property
    def record(self) -> Record:
        return read_journal(self.journal.path)

    def run(self) -> Record:
        """All stages, until the end or a failure that leaves nothing to go on with."""
        try:
            self._count_work()
            if not self.request.only_work:
                self._screen()
                self._confirm()
        except WorkerError as error:
            self.journal.failure(failure_of(error, self.launch))
        self.journal.append("end", {"seconds": round(self.now() - self.start, 1)})
        return self.record

    def _comparable(self) -> list[GateCell]:
        """Cells that both trees have."""
        missing = {failure.cell for failure in self.record.failures}
        return [cell for cell in self.cells if cell.name not in missing and None not in missing]

    def _count_work(self) -> None:
        """What a step does in each arm: exact, so once is enough."""
        counted = self.record.work
        todo = [cell for cell in self._comparable() if cell.name not in counted]
        if not todo:
            return
        with Launch(self.setting, self.dice) as launch:
            for cell in todo:
                self.say(f"counting the work of {cell.name}")
                failures = launch.open(cell)
                for failure in failures:
                    self.journal.failure(failure)
                for arm, counts in launch.count(cell).items() if not failures else ():
                    self.journal.append("work", {"cell": cell.name, "arm": arm, "counts": counts})

    def _screen(self) -> None:
        """All cells, for a share of the time, and so that a confirmation of all of them would fit into the rest."""
        share = self.now() + SCREEN_SHARE * (self.end - self.now())
        self._measure(
            "screen", self._comparable(), lambda took: min(share, self.end - FEWEST_LAUNCHES * took), self.end
        )

    def _confirm(self) -> None:
        """Suspects, even if that takes longer than the budget; cells that were left open, if it doesn't."""
        suspects, doubtful = flagged(self.record), unsettled(self.record)
        cells = [cell for cell in self._comparable() if cell.name in (*suspects, *doubtful)]
        self._measure("confirm", cells, lambda took: self.end, math.inf if suspects else self.end)

    def _measure(
        self, phase: Phase, cells: Sequence[GateCell], until: Callable[[float], float], at_last: float
    ) -> None:
        """Launches as long as the next one would end in time.

        Args:
            until: from the seconds of a launch to the end of the phase.
            at_last: its end as long as it has fewer launches than any answer needs.
        """
        took = 0.0
        done = len(self.record.launches[phase])
        while cells and done < MOST_LAUNCHES:
            start = self.now()
            if took and start + took > (until(took) if done >= FEWEST_LAUNCHES else at_last):
                break
            core = self.cores[done % len(self.cores)] if self.cores else None
            number = sum(map(len, self.record.launches.values()))
            self.launch = number
            slices = run_launch(number, phase, cells, core, self.setting, self.dice)
            took = self.now() - start
            self.journal.launch(number, phase, core, slices, took)
            done += 1
            self.say(f"{phase}: launch {done}, {self.now() - self.start:.0f} s of {self.end - self.start:.0f} s")
            if number == 0:  # nothing depends on what is said here
                launches = 1 + min(MOST_LAUNCHES - 1, int(max(0.0, until(took) - self.now()) / took))
                noise, slowdown = forecast(slices, launches, self.request.margin)
                told = f"with {launches} launch{'es' * (launches != 1)} a slowdown of about {100 * slowdown:.0f}%"
                self.say(f"this machine's noise: {100 * noise:.1f}% a block; {told} can be told")


@contextmanager
def only_one() -> Iterator[None]:
    """Keep other gates off this machine until the end of the block, since two would disturb each other's measurement.

    The system lets go of the lock when the process dies.

    Raises: UserError: another process of this user holds it.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"vit-cnn-bench-{user}"
    lock, note = FileLock(folder / "gate.lock"), folder / "gate.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and (folder.is_symlink() or folder.stat().st_uid != user):
            raise UserError(f"{folder}: belongs to another user; set TMPDIR to another folder")
        lock.acquire(timeout=0)
    except Timeout:
        who = way = ""
        with suppress(OSError, ValueError, KeyError, TypeError):  # it has only just begun, or couldn't write its note
            first = json.loads(note.read_text())
            who = f" since {first['started']} (process {first['pid']})"
            way = f", or stop it with `kill -INT {first['pid']}`"
        two = "two at once would disturb each other's measurement"
        raise UserError(f"another gate is running{who}; {two}: wait for its end{way}") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; free some space, or set TMPDIR to another folder") from None
    try:
        with suppress(OSError):  # a full disk: the second gate then isn't told who the first is
            note.write_text(json.dumps({"pid": os.getpid(), "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()
