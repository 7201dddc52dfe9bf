"""This machine at this hour: what it is, how fast the reference work runs on it, and whether that can speak for a run.

A run has no reference work in it. It is timed afterwards, at once and on the same machine, and taken for what it would
have been during the run. So a run that ended more than an hour ago, or was made elsewhere, isn't taken.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.analysis.labels import records
from bench.analysis.summary import Tables
from bench.gate.reference import time_references

RECENT = timedelta(hours=1)  # after a run's end, how long the machine is taken to be as it was
SECONDS_EACH = 1.25  # of each of the four references, twice: about ten seconds in all, and a few for warming up
STEADY = 1.1  # the two timings agree within this factor, or the machine is too busy to say how fast it is


@dataclass(frozen=True)
class Machine:
    """A machine and an hour. `time_references` takes a number of threads and gives seconds a unit by reference."""

    cpu: str
    now: datetime
    time_references: Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Timed:
    """Seconds a unit by reference, and the factor by which they differed, all in all, from one timing to the next."""

    seconds: dict[str, float]
    moved: float

    @property
    def unsteady(self) -> str:
        """Why these figures say little, in a clause; "" where they are good."""
        return f"its speed moved by {100 * (self.moved - 1):.0f}% within seconds" if self.moved > STEADY else ""


def this_machine() -> Machine:
    """Loads torch, for the processor's name and the reference work."""
    from bench.system.device import cpu_name

    return Machine(cpu_name(), datetime.now(UTC), partial(time_references, time.perf_counter, SECONDS_EACH))


def time_twice(machine: Machine, threads: int) -> Timed:
    """Time the reference work twice, one after the other; about ten seconds."""
    first, second = machine.time_references(threads), machine.time_references(threads)
    logs = [math.log(second[name] / first[name]) for name in first]
    seconds = {name: math.sqrt(first[name] * second[name]) for name in first}
    return Timed(seconds, math.exp(abs(sum(logs) / len(logs))))


def why_stale(tables: Tables, machine: Machine) -> dict[str, str]:
    """Why the reference work, timed here and now, can't speak for a run: "machine" and "age" -> a clause each."""
    found = {}
    cpu = (tables.run.get("environment") or {}).get("cpu") or "an unknown CPU"
    if cpu != machine.cpu:
        found["machine"] = f"it was made on {cpu}, and this is {machine.cpu}"
    ended = _ended_at(tables)
    if ended is None:
        found["age"] = "it doesn't say when it was made"
    elif machine.now - ended > RECENT:
        found["age"] = f"it ended {_hours(machine.now - ended)} ago, and the machine may have changed since"
    return found


def _ended_at(tables: Tables) -> datetime | None:
    """The end of the last trial that says when it began."""
    ends = []
    for row in records(tables.trials):
        with suppress(ValueError):
            started = datetime.fromisoformat(row["started_at"])
            wall = row["wall_seconds"] if row["wall_seconds"] > 0 else 0.0
            ends.append(started.replace(tzinfo=started.tzinfo or UTC) + timedelta(seconds=wall))
    return max(ends, default=None)


def _hours(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"
