"""The journal of a gate: raw slices in an append-only file, from which everything else is derived.

A JSON object a line: `gate` (what was asked, on what), `work` (what a step of each arm does), `launch` (two fresh
processes), `slice` (a timed run of steps of one arm), `failure`, `end`. A torn last line is left out on reading.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.errors import StoreError

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
    """An open journal: what is appended is on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b")
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)  # a line that the last process died in would swallow the next one

    def append(self, kind: str, content: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, **content}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def launch(self, launch: int, phase: Phase, core: int | None, slices: list[Slice], wall_seconds: float) -> None:
        """A finished launch with all its slices, in one write: half a launch is none."""
        rows = [{key: value for key, value in asdict(s).items() if key not in ("launch", "phase")} for s in slices]
        wall = round(wall_seconds, 3)
        self.append("launch", {"launch": launch, "phase": phase, "core": core, "wall_seconds": wall, "slices": rows})

    def failure(self, failure: Failure) -> None:
        self.append("failure", {"failure": asdict(failure)})

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Record:
    """All of a journal that was written whole.

    Raises:
        StoreError: no such file, or not a journal of this version.
    """
    record: Record | None = None
    for number, line in _lines(path):
        kind = line.pop("kind", None)
        if record is None:
            if kind != "gate" or line.get("format") != FORMAT:
                raise StoreError(
                    f"{path}:{number}: not a gate's journal of format {FORMAT}; name one that `gate` wrote"
                )
            record = Record(line)
            continue
        try:
            _take(record, str(kind), line)
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}:{number}: not a line of a gate's journal ({error}); remove it") from None
    if record is None:
        raise StoreError(f"{path}: is empty; name a journal that `gate` wrote")
    return record


def _take(record: Record, kind: str, line: dict[str, Any]) -> None:
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


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror}); name a journal that `gate` wrote") from None
    lines = content.split(b"\n")
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except ValueError:
            if number == len(lines):  # torn: the process died while writing it
                return
            raise StoreError(f"{path}:{number}: not JSON; remove the line") from None
        if not isinstance(line, dict):
            raise StoreError(f"{path}:{number}: not a line of a gate's journal; remove it")
        yield number, line
