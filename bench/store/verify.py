"""Verify: a run folder held against its own record; what is wrong is named, and nothing is changed.

Damage is found by digests: of run.json, of each line in the journal (a trial's, a launch's), of a trial's files and of
what its failure left. The tables have to be what the journal gives, with the columns of the run's schema version.
"""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.result import TABLES, TEXT_COLUMNS
from bench.store.journal import as_written, digest_of
from bench.store.tables import (
    JOURNAL,
    OLD_TABLES,
    PREVIOUS,
    RECORD,
    SCHEMA_VERSION,
    TUNED,
    TUNING,
    Entries,
    Entry,
    LaunchEntry,
    count_test_images,
    failure_path,
    read_journal,
    read_rows,
    read_run,
    record_digest,
    unpacked,
    views,
)
from bench.system.files import SUMS, check_sums

KEYS = {"suite": str, "plan": list, "dataset": dict, "environment": dict, "created_at": str}
SHARES = (
    "val_accuracy",
    "val_accuracy_best",
    "test_accuracy",
    "test_accuracy_best",
    "target_accuracy",
    "test_balanced_accuracy",
    "calibration_error",
    "accuracy_at_90_coverage",
    "commonest_share",
)
COPIED_BY_TUNING = ("model", "status", "val_accuracy", "wall_seconds")
NO_NUMBERS = (None, "inf", "-inf")  # not measured; what JSON has no numbers for
NOTES_SHOWN = 3  # names in a note; as many as there are would be a page


@dataclass
class Verification:
    """What was found.

    Attributes:
        trials: finished ones that can be read.
        problems: what is wrong, a line each: file, row, what was found.
        notes: what is worth knowing and no fault, such as trials that haven't run yet.
        launches: those that can be read.
    """

    trials: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    launches: int = 0


def verify_run(folder: Path) -> Verification:
    """Check a run folder. Raises: StoreError: the folder is no run, or its run.json can't be read."""
    run = read_run(folder)
    found = Verification(problems=[*_of_record(run), *_of_copy(folder / PREVIOUS)])
    entries = Entries()
    try:
        entries = read_journal(folder)
        found.problems += [f"{JOURNAL}, line {line.number}: {line.problem}" for line in entries.bad]
        if as_written(folder / JOURNAL, ()) != (folder / JOURNAL).read_bytes():
            found.problems.append(f"{JOURNAL}: holds bytes that weren't written there")
    except OSError as error:
        found.problems.append(f"{JOURNAL}: can't be read ({error.strerror})")
    tables = TABLES if run["schema_version"] == SCHEMA_VERSION else OLD_TABLES
    for name, text in views(folder, entries, tables).items():
        found.problems += _of_table(folder / name, text)
    found.trials, found.launches = len(entries.trials), len(entries.launches)
    dataset, plan = run.get("dataset"), run.get("plan")
    checksum = dataset.get("checksum") if isinstance(dataset, dict) else None
    images = count_test_images(run)
    for trial_id, entry in entries.trials.items():
        problems = (*_of_values(entry, checksum, images), *_of_files(folder, entry))
        found.problems += [f"trial {trial_id}: {problem}" for problem in problems]
    found.problems += _of_tuning(folder)
    for number, launch in entries.launches.items():
        found.problems += [f"launch {number}: {problem}" for problem in _of_launch(launch)]
    for entry in entries.retried:
        found.problems += _of_earlier_failure(folder, entry)
    planned = set(map(str, plan)) if isinstance(plan, list) else set()
    left = [path.name for path in folder.glob(".*") if re.search(r"\.\d+$", path.name)]  # by writers that were killed
    left += [path.name for path in (folder / "trials").glob(".*.partial")]
    for what, names in (("not run yet", planned - entries.trials.keys()), ("leftover temporary files", left)):
        if names:
            more = f" and {len(names) - NOTES_SHOWN:,} more" if len(names) > NOTES_SHOWN else ""
            found.notes.append(f"{what}: {', '.join(sorted(names)[:NOTES_SHOWN])}{more}")
    for lines in (found.problems, found.notes):
        lines[:] = ["".join(sign if sign.isprintable() else "?" for sign in line)[:500] for line in lines]
    return found


def _of_record(run: dict[str, Any]) -> Iterator[str]:
    for key, kind in KEYS.items():
        if not isinstance(run.get(key), kind):
            yield f"{RECORD}: '{key}' is missing, or isn't what it should be"
    if run.get("digest") != record_digest(run):
        yield f"{RECORD}: isn't what was written"


def _of_copy(path: Path) -> Iterator[str]:
    """The record as it was before: nothing reads it, until somebody needs it."""
    try:
        copy = json.loads(path.read_bytes())
        whole = copy["digest"] == record_digest(copy)
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        yield f"{path.name}: isn't what was written"


def _of_table(path: Path, text: bytes) -> Iterator[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        yield f"{path.name}: can't be read ({error.strerror}); --resume makes it again"
        return
    if data != text:
        lines = zip(data.split(b"\n"), text.split(b"\n"), strict=False)
        number = next((number for number, (own, right) in enumerate(lines, 1) if own != right), data.count(b"\n") + 1)
        yield f"{path.name}, line {number}: isn't what {JOURNAL} gives; --resume makes the table again"


def _of_values(entry: Entry, checksum: Any, images: int) -> Iterator[str]:
    if entry.row["status"] == "ok" and not entry.parts["evaluations.csv"]["step"]:
        yield "ended ok, and has no evaluations"
    if checksum and entry.row.get("dataset_checksum") not in (None, checksum):
        yield "was measured on other contents of the dataset than run.json names"
    if entry.correct is not None and images and unpacked(entry.correct, images) is None:
        yield f"which test images it got right: isn't {images:,} bits, as many as run.json names"
    row = {key: [value] for key, value in entry.row.items()}
    for name, part in (("its row", row), *entry.parts.items()):
        yield from _of_columns(name, part)
    for name, part in entry.parts.items():
        yield from _of_repeated(name, part)


def _of_launch(launch: LaunchEntry) -> Iterator[str]:
    facts = {key: [value] for key, value in launch.facts.items() if isinstance(value, int | float)}
    for name, part in (("its line", facts), ("its slices", launch.slices), ("its splits", launch.splits)):
        yield from _of_columns(name, part)
    yield from _of_repeated("the slices", launch.slices)


def _of_tuning(folder: Path) -> Iterator[str]:
    """The run in which settings of recipes were tried, and the table that was made of it."""
    if (folder / TUNED / RECORD).exists():
        yield from (f"{TUNED}/: {problem}" for problem in verify_run(folder / TUNED).problems)
    if not (folder / TUNING).exists():
        return
    try:
        tried = {row["trial_id"]: row for row in read_rows(folder / TUNED)}
        with (folder / TUNING).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if (was := tried.get(row["trial_id"])) is None:
                    yield f"{TUNING}, {row['trial_id'][:80]}: is no trial of {TUNED}/"
                elif wrong := [key for key in COPIED_BY_TUNING if row[key] != was[key]]:
                    yield f"{TUNING}, {row['trial_id'][:80]}: {', '.join(wrong)} isn't what {TUNED}/ has"
    except (OSError, ValueError, KeyError, StoreError, csv.Error) as error:
        yield f"{TUNING}: can't be held against {TUNED}/ ({error})"


def _of_columns(name: str, part: dict[str, list[Any]]) -> Iterator[str]:
    for key in part.keys() - TEXT_COLUMNS:
        if wrong := _wrong(key, part[key]):
            yield f"{name}: {key[:40]} is {wrong}"


def _of_repeated(name: str, part: dict[str, list[Any]]) -> Iterator[str]:
    rows = [*zip(*part.values(), strict=True)]
    if len(set(rows)) < len(rows):
        yield f"{len(rows) - len(set(rows))} of its rows in {name} are there more than once"


def _wrong(key: str, values: list[Any]) -> str:
    """What is wrong with numbers of a column."""
    numbers = [value for value in values if type(value) in (int, float)]
    others = [] if len(numbers) == len(values) else set(values).difference(numbers, NO_NUMBERS)
    for other in others:
        return f"{str(other)[:40]!r}, no number"
    least, most = min(numbers, default=0), max(numbers, default=0)
    if key in SHARES and not 0 <= least <= most <= 1:
        return f"{least if least < 0 else most}, not within 0 and 1"
    if least < 0 and (key.endswith(("_seconds", "_bytes", "_joules")) or key == "seconds"):
        return f"{least}, less than 0"
    return ""


def _of_files(folder: Path, entry: Entry) -> Iterator[str]:
    files, failure = folder / "trials" / entry.trial_id, failure_path(folder, entry.trial_id)
    try:
        for path, digest in ((files / SUMS, entry.sums), (failure, entry.failure)):
            there = digest_of(path.read_bytes()) if path.is_file() else None
            if there != digest:
                wrong = "is missing" if there is None else "isn't what was written"
                yield f"{path.relative_to(folder)} {wrong}"
        if (files / SUMS).exists():
            yield from (f"trials/{entry.trial_id}: {problem}" for problem in check_sums(files))
    except (OSError, ValueError) as error:
        yield f"its files can't be read ({error})"


def _of_earlier_failure(folder: Path, entry: Entry) -> Iterator[str]:
    """What a failure left is put away under another name when its trial is run again."""
    kept = (folder / "failures").glob("*.txt") if entry.failure else ()
    names = [path for path in kept if path.name.startswith(f"{entry.trial_id}.")]
    with suppress(OSError):
        if entry.failure and entry.failure not in [digest_of(path.read_bytes()) for path in names]:
            yield f"trial {entry.trial_id}: what an earlier failure left under failures/ is missing or changed"
