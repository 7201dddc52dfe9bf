"""The journal of a gate: raw slices in an append-only log (bench.store.journal), from which all else is derived.

A JSON object a line: `gate` (what was asked, on what), `work` (what a step of each arm does), `launch` (two fresh
processes, with the timed runs of steps of either arm), `failure`, `end`. Lines of earlier gates have no digest.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.errors import StoreError
from bench.store.journal import append_line, read_lines
from bench.system.files import sync_folder

FORMAT = 1
Arm = Literal["base", "head"]
Phase = Literal["screen", "confirm"]


@dataclass(frozen=True)
class Slice:
    """`steps` steps of one arm of a cell, timed as a whole; `slot` is its place in the block's ABBA or BAAB.

    `seconds` are the wall's; `own_seconds` leave out what other processes took of the worker's core while it was ready
    to run, or are None where the system doesn't tell.
    """

    launch: int
    phase: Phase
    cell: str
    block: int
    slot: int
    arm: Arm
    steps: int
    seconds: float
    own_seconds: float | None = None

    @property
    def step_seconds(self) -> float:
        return (self.seconds if self.own_seconds is None else self.own_seconds) / self.steps


@dataclass(frozen=True)
class Failure:
    """What kept a cell, or with `cell` None a whole arm, from being measured.

    `kind` is "missing" (this tree doesn't have it, or not this protocol), "crash" or "timeout" (the worker's end).
    """

    kind: Literal["missing", "crash", "timeout"]
    arm: Arm
    cell: str | None
    reason: str
    launch: int | None = None


@dataclass
class Record:
    """A journal as read.

    Attributes:
        header: `cells` (names, in order), `margin`, `promise` (shares, 0.03 and 0.10), `base`, `head` (dicts with
            `name` and `commit`), `command`, `started_at`, `environment`, `threads`, ...
        work: cell -> arm -> what a step does (bench.gate.step_work.count_work).
        launches: finished ones of each phase.
        wall_seconds: of each launch, in the order of the file.
        ended: whether the gate came to its end, and after how many seconds (of the last sitting, if it was resumed).
    """

    header: dict[str, Any]
    work: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    launches: dict[str, list[int]] = field(default_factory=lambda: {"screen": [], "confirm": []})
    wall_seconds: list[float] = field(default_factory=list)
    ended: bool = False
    seconds: float | None = None


class Journal:
    """A journal to append to: what is appended is on disk before `append` returns.

    Raises: StoreError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("a+b") as file:
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)  # a torn line would swallow the next one
        except OSError as error:
            raise StoreError(f"{path}: can't be written ({error.strerror}); name another --journal") from None
        sync_folder(path.parent)

    def append(self, kind: str, content: dict[str, Any]) -> None:
        append_line(self.path, {"kind": kind, **content})

    def launch(self, launch: int, phase: Phase, core: int | None, slices: list[Slice], wall_seconds: float) -> None:
        """A finished launch with all its slices, in one write: half a launch is none."""
        rows = [{key: value for key, value in asdict(s).items() if key not in ("launch", "phase")} for s in slices]
        wall = round(wall_seconds, 3)
        self.append("launch", {"launch": launch, "phase": phase, "core": core, "wall_seconds": wall, "slices": rows})

    def failure(self, failure: Failure) -> None:
        self.append("failure", {"failure": asdict(failure)})


def read_journal(path: Path) -> Record:
    """All of a journal that was written whole.

    Raises: StoreError: no such file, or not a journal of this version.
    """
    record: Record | None = None
    for number, line in _contents(path):
        kind = line.pop("kind", None)
        if record is None:
            if kind != "gate" or line.get("format") != FORMAT:
                raise StoreError(
                    f"{path}:{number}: not a gate's journal of format {FORMAT}; name one that `gate` wrote"
                )
            record = Record(line)
        try:
            if kind == "work":
                record.work.setdefault(line["cell"], {})[line["arm"]] = line["counts"]
            elif kind == "launch":
                launch, phase = line["launch"], line["phase"]
                record.slices += [Slice(launch=launch, phase=phase, **row) for row in line["slices"]]
                record.launches[phase].append(launch)
                record.wall_seconds.append(line["wall_seconds"])
            elif kind == "failure":
                record.failures.append(Failure(**line["failure"]))
            elif kind == "end":
                record.ended, record.seconds = True, line.get("seconds")
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}:{number}: not a line of a gate's journal ({error}); remove it") from None
    if record is None:
        raise StoreError(f"{path}: is empty; name a journal that `gate` wrote")
    return record


def _contents(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and contents of each line; the torn end of a process that died while writing is left out."""
    try:
        for line in read_lines(path):
            if line.content is not None:
                yield line.number, line.content
            elif line.whole and line.raw.strip():
                raise StoreError(f"{path}:{line.number}: not a line of a gate's journal ({line.problem}); remove it")
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror}); name a journal that `gate` wrote") from None
