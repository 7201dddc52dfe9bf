"""Verify: a run folder held against its own record; what is wrong is named, and nothing is changed.

Damage to what was sealed is found by the seals: trials' rows in all tables, their files, what failures left, run.json.
Rows of earlier versions have no seals; of them, too, all is checked that can be told from the rows themselves.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.result import STATUSES, TABLES, TEXT_COLUMNS
from bench.store.repair import RETRIED
from bench.store.seals import broken_parts, contents_for_seal, is_name, record_seal, seal_of
from bench.store.tables import Table, read_lines, read_run
from bench.system.files import SUMS, check_sums

TRIALS = "trials.csv"
KEYS = {"suite": str, "plan": list, "dataset": dict, "environment": dict, "created_at": str}
SHARES = ("val_accuracy", "val_accuracy_best", "test_accuracy", "test_accuracy_best", "target_accuracy")
_PROCESS, _PARTIAL = re.compile(r"\.\d+$"), re.compile(r"\.partial$")  # ends of temporary names
NOTES_SHOWN = 3  # names in a note; as many as there are would be a page


@dataclass
class Verification:
    """What was found.

    Attributes:
        trials: rows of trials.csv that can be read.
        problems: what is wrong, a line each: file, row, what was found.
        notes: what is worth knowing and no fault: trials that haven't run yet, rows without a seal.
    """

    trials: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"trials": self.trials, "problems": self.problems, "notes": self.notes}


def verify_run(folder: Path) -> Verification:
    """Check a run folder.

    Raises:
        StoreError: the folder is no run, or its run.json can't be read.
    """
    run = read_run(folder)
    found = Verification()
    found.problems += _of_record(run)
    tables = {name: _read(folder, name, found) for name in TABLES}
    if (folder / RETRIED).exists():
        _read(folder, RETRIED, found)
    planned = run.get("plan") if isinstance(run.get("plan"), list) else []
    _check_trials(folder, run, {str(name) for name in planned or []}, tables, found)
    found.notes += _leftovers(folder)
    for lines in (found.problems, found.notes):
        lines[:] = ["".join(sign if sign.isprintable() else "?" for sign in line)[:500] for line in lines]
    return found


def _of_record(run: dict[str, Any]) -> Iterator[str]:
    for key, kind in KEYS.items():
        if not isinstance(run.get(key), kind):
            yield f"run.json: '{key}' is missing, or isn't what it should be"
    if "seal" in run and run["seal"] != record_seal(run):
        yield "run.json: isn't what was written"


def _read(folder: Path, name: str, found: Verification) -> Table:
    """A table, with a problem for each line that is no row and each cell that can't be right."""
    columns = TABLES.get(name, TABLES[TRIALS])
    try:
        table = read_lines(folder / name)
    except OSError as error:
        found.problems.append(f"{name}: can't be read ({error.strerror})")
        return Table(columns)
    if table.header_problem:
        found.problems.append(f"{name}, line 1: {table.header_problem}")
    if table.blank:
        found.problems.append(f"{name}, line 1: holds bytes before or after the header that aren't part of it")
    numbers = [(place, key) for place, key in enumerate(table.layout) if key not in TEXT_COLUMNS and key != "trial_id"]
    for line in table.lines:
        where = f"{name}, line {line.number}"
        if line.cells is None:
            found.problems.append(f"{where}: {line.problem}")
            continue
        if not line.plain:
            found.problems.append(f"{where}: holds bytes that weren't written there")
        for place, key in numbers:
            cell = line.cells[place]
            if cell and (wrong := _wrong(key, cell)):
                found.problems.append(f"{where}: {key} is {cell[:40]!r}, {wrong}")
    return table


def _wrong(key: str, cell: str) -> str:
    try:
        value = float(cell)
    except ValueError:
        return "no number"
    if key in SHARES and not 0 <= value <= 1:
        return "not within 0 and 1"
    if (key.endswith(("_seconds", "_bytes", "_joules")) or key == "seconds") and value < 0:
        return "less than 0"
    return ""


def _check_trials(
    folder: Path, run: dict[str, Any], plan: set[str], tables: dict[str, Table], found: Verification
) -> None:
    """Each trial's row, against the plan, its rows in the other tables, and its files."""
    rows: dict[str, dict[str, str]] = {}
    for row in tables[TRIALS].rows:
        name = row["trial_id"]
        if name in rows:
            found.problems.append(f"{TRIALS}: trial {name} is there more than once")
        rows.setdefault(name, row)
    found.trials = len(rows)
    others = {name: _by_trial(table) for name, table in tables.items() if name != TRIALS}
    for name, parts in others.items():
        for trial_id in parts.keys() - rows.keys():
            found.problems.append(f"{name}: trial {trial_id} has {len(parts[trial_id])} rows, and none in {TRIALS}")
    dataset = run.get("dataset")
    checksum = dataset.get("checksum") if isinstance(dataset, dict) else None
    unsealed = []
    for trial_id, row in rows.items():
        own = {name: parts.get(trial_id, []) for name, parts in others.items()}
        problems = [*_of_row(row, own, plan, checksum), *_of_files(folder, trial_id)]
        if row.get("seal"):
            problems += _of_seal(folder, trial_id, row, own)
        else:
            unsealed.append(trial_id)
        found.problems += [f"trial {trial_id}: {problem}" for problem in problems]
    found.notes += _note("not run yet", sorted(plan - rows.keys()))
    found.notes += _note("not sealed, as in earlier versions", unsealed)


def _by_trial(table: Table) -> dict[str, list[dict[str, str]]]:
    rows = defaultdict(list)
    for row in table.rows:
        rows[row["trial_id"]].append(row)
    return rows


def _of_row(row: dict[str, str], own: dict[str, list[dict[str, str]]], plan: set[str], checksum: Any) -> Iterator[str]:
    if plan and row["trial_id"] not in plan:
        yield "isn't in the plan of run.json"
    if row.get("status") not in STATUSES:
        yield f"has no status that is known ({row.get('status', '')!r})"
    if row.get("status") == "ok" and not own["evaluations.csv"]:
        yield "ended ok, and has no rows in evaluations.csv"
    if checksum and row.get("dataset_checksum") not in (None, "", checksum):
        yield "was measured on other contents of the dataset than run.json names"
    for name, rows in own.items():
        twice = [count for count in Counter(tuple(each.items()) for each in rows).values() if count > 1]
        if twice:
            yield f"{len(twice)} of its rows in {name} are there more than once"


def _of_files(folder: Path, trial_id: str) -> Iterator[str]:
    if not is_name(trial_id):
        yield "has a name that can't be a file's"
        return
    try:
        files = folder / "trials" / trial_id
        if (files / SUMS).exists():
            yield from (f"trials/{trial_id}: {problem}" for problem in check_sums(files))
    except (OSError, ValueError) as error:
        yield f"its files can't be read ({error})"


def _of_seal(folder: Path, trial_id: str, row: dict[str, str], own: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    try:
        sums, failure = contents_for_seal(folder, trial_id)
    except (OSError, ValueError) as error:
        yield f"its files can't be read ({error})"
        return
    for part in broken_parts(row["seal"], seal_of(row, own, sums, failure)):
        gone = (part == "files" and sums is None) or (part == "failure" and failure is None)
        what = f"failures/{trial_id}.txt" if part == "failure" else f"trials/{trial_id}/{SUMS}"
        yield f"{what} is missing" if gone else f"{part}: not what was sealed"


def _leftovers(folder: Path) -> Iterator[str]:
    """What writers left that were killed; it is never read."""
    names = []
    for place, is_left in ((folder, _PROCESS.search), (folder / "trials", _PARTIAL.search)):
        with suppress(OSError), os.scandir(place) as entries:
            names += [entry.name for entry in entries if entry.name.startswith(".") and is_left(entry.name)]
    yield from _note("leftover temporary files", sorted(names))


def _note(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NOTES_SHOWN:,} more" if len(names) > NOTES_SHOWN else ""
    return [f"{what}: {', '.join(names[:NOTES_SHOWN])}{more}"]
