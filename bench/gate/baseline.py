"""A stored baseline: what a run's configurations came to, on which machine, and how fast that machine was just then.

Making one times the reference work, right after the run and on the same machine (bench/gate/baseline.py says why);
so does every later check.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.analysis.labels import records
from bench.analysis.summary import Tables, read_tables, split_size
from bench.errors import StoreError
from bench.gate.reference import REFERENCE_VERSION, time_references
from bench.store.run_folder import write_atomically

# This machine at this hour: what it is, how fast the reference work runs on it, and whether that can speak for a run.
#
# A run has no reference work in it. It is timed afterwards, at once and on the same machine, and taken for what it
# would have been during the run. So a run that ended more than an hour ago, or was made elsewhere, isn't taken.
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


FORMAT = 1
REFERENCE_DEVICE = "cpu"  # what the reference work runs on, and all that it can speak for

Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Named = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Configuration(_Part):
    """One configuration's medians over `n` seeds; what wasn't measured is None. `num_threads` are those it ran with."""

    config_id: Named
    label: Named
    device: Named
    device_name: str
    num_threads: int | None
    n: Annotated[int, Field(ge=1)]
    images_per_second: Amount | None
    peak_memory_bytes: Amount | None
    test_accuracy: Share | None

    @property
    def key(self) -> tuple[str, str]:
        return self.config_id, self.device


class Provenance(_Part):
    """Where the figures come from. `made_at` and `run_at` are UTC; `threads` those of all configurations."""

    suite: str | None
    command: list[str]
    commit: str | None
    dirty: bool | None
    made_at: str
    run_at: str | None
    cpu: Named
    cores: int | None
    os: str | None
    python: str | None
    torch: Named
    threads: list[int]
    seeds: list[int]
    data_checksum: str | None
    num_test_images: Count | None


class References(_Part):
    """Seconds a unit of each reference took, with so many threads, when the baseline was made."""

    version: int
    threads: Annotated[int, Field(ge=1)]
    seconds: Annotated[dict[str, Amount], Field(min_length=1)]


class Baseline(_Part):
    """The file: indented JSON, a few hundred bytes a configuration."""

    format: Literal[1]
    provenance: Provenance
    references: References
    configurations: Annotated[list[Configuration], Field(min_length=1)]


def make_baseline(run_dir: Path, here: Machine | None = None) -> dict[str, Any]:
    """A baseline of a run that has just been made on this machine; times the reference work, for about ten seconds.

    Raises:
        StoreError: not a run, nothing in it ended well, or the reference work can't speak for it.
    """
    tables, here = read_tables(run_dir), here or this_machine()
    found = configurations(tables)
    if not found:
        raise StoreError(f"{run_dir}: no trial ended well, there is nothing to keep; its report says why")
    stale = why_stale(tables, here)
    if stale:
        raise StoreError(f"{run_dir}: {'; '.join(stale.values())}; run the suite here, and this right after")
    provenance = provenance_of(tables, here)
    threads = max(provenance.threads, default=1)
    timed = time_twice(here, threads)
    if timed.unsteady:
        raise StoreError(
            f"this machine is too busy for a baseline: {timed.unsteady}; run the suite again when it is quiet"
        )
    references = References(version=REFERENCE_VERSION, threads=threads, seconds=timed.seconds)
    made = Baseline(format=FORMAT, provenance=provenance, references=references, configurations=found)
    return made.model_dump(mode="json")


def write_baseline(run_dir: Path, path: Path, here: Machine | None = None) -> dict[str, Any]:
    """Make a baseline and put it in `path`, in place of what is there; its folder is made. Returns what was written.

    Raises:
        StoreError: as `make_baseline`, or `path` can't be written; what was there is then as it was.
    """
    content = make_baseline(run_dir, here)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error.strerror}); name another file") from None
    return content


def read_baseline(path: Path) -> Baseline:
    """A baseline from disk.

    Raises:
        StoreError: no such file, or not a baseline of this format.
    """
    again = "make it again with `run_bench.py check RUN --baseline FILE --update`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror}); {again}") from None
    except ValueError as error:
        raise StoreError(f"{path}: not JSON ({error}); {again}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        found = f"format {version!r}" if version is not None else "no format"
        raise StoreError(f"{path}: not a baseline of format {FORMAT} (it has {found}); {again}")
    try:
        return Baseline.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: damaged at {place} ({first['msg']}); {again}") from None


def configurations(tables: Tables) -> list[Configuration]:
    """Those of a run of which at least one trial ended well."""
    return [
        Configuration(
            config_id=row["config_id"],
            label=row["label"],
            device=row["device"],
            device_name=row["device_name"],
            num_threads=None if _unknown(row["num_threads"]) else int(row["num_threads"]),
            n=row["n"],
            **{key: _measured(row[key]) for key in ("images_per_second", "peak_memory_bytes", "test_accuracy")},
        )
        for row in records(tables.summary)
        if row["n"] > 0
    ]


def provenance_of(tables: Tables, here: Machine) -> Provenance:
    run, machine = tables.run, tables.run.get("environment") or {}
    size = split_size(run, "test")
    return Provenance(
        suite=run.get("suite"),
        command=[str(word) for word in run.get("command") or []],
        commit=machine.get("git_commit"),
        dirty=machine.get("git_dirty"),
        made_at=here.now.isoformat(timespec="seconds"),
        run_at=run.get("created_at"),
        cpu=machine.get("cpu") or "unknown",
        cores=machine.get("cores"),
        os=machine.get("os"),
        python=machine.get("python"),
        torch=machine.get("torch") or "unknown",
        threads=sorted({c.num_threads for c in configurations(tables) if c.num_threads}),
        seeds=sorted(int(seed) for seed in tables.trials["seed"].dropna().unique()),
        data_checksum=(run.get("dataset") or {}).get("checksum"),
        num_test_images=None if _unknown(size) else int(size),
    )


def _measured(value: float) -> float | None:
    return None if _unknown(value) else float(value)


def _unknown(value: Any) -> bool:
    return value is None or value != value
