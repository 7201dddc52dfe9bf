"""Mending: a run folder's tables brought back to whole rows of finished trials, whatever tore them.

What is cut away is kept as it was in `mended/<UTC time>-<name of the table>`: nothing that was measured goes unseen.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.result import COLUMNS, TABLES
from bench.store.seals import failure_path, is_name
from bench.store.tables import Table, again, as_lines, read_lines, read_rows
from bench.system.files import append_together, make_folder, sync_folder, write_atomically

TRIALS, RETRIED, MENDED = "trials.csv", "retried.csv", "mended"


def mend(folder: Path, plan: Collection[str]) -> set[str]:
    """Make each table what a reader expects, and return the ids of the finished trials.

    A trial has one row, the first; it is one of `plan`, where that is known. What is in the other tables belongs to a
    finished trial: its row is the commit. Tables of earlier versions get the columns that they lack.

    Raises: OSError, where something can't be read or written.
    """
    planned = set(plan)
    finished: set[str] = set()
    seen: set[bytes] = set()

    def is_first(trial_id: str, raw: bytes) -> bool:
        new = trial_id not in finished and (not planned or trial_id in planned)
        if new:
            finished.add(trial_id)
        return new

    def belongs(trial_id: str, raw: bytes) -> bool:
        new = trial_id in finished and raw not in seen
        seen.add(raw)
        return new

    for name, columns in TABLES.items():
        seen.clear()
        _mend_table(folder / name, columns, is_first if name == TRIALS else belongs)
    if (folder / RETRIED).exists():
        _mend_table(folder / RETRIED, TABLES[TRIALS], lambda trial_id, raw: True)
    return finished


def set_aside(folder: Path) -> None:
    """Move the rows of trials that didn't end well to `retried.csv`, so that those trials run again.

    Raises: OSError.
    """
    rows = read_rows(folder / TRIALS)
    again_due = [row for row in rows if row["status"] != "ok"]
    if not again_due:
        return
    path = folder / RETRIED
    if not path.exists():
        write_atomically(path, as_lines([list(COLUMNS)]))
    known = read_rows(path)  # of an attempt that died between the two writes below
    append_together({path: _text(row for row in again_due if row not in known)})
    write_atomically(folder / TRIALS, as_lines([list(COLUMNS)]) + _text(row for row in rows if row["status"] == "ok"))
    for row in again_due:
        _keep_failure(folder, row["trial_id"])


def cut_torn(path: Path) -> None:
    """Cut off what stands after the last newline: the next row begins a line of its own. Raises: OSError."""
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END) or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n":
            return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    _keep(path, [data[end:]])
    os.truncate(path, end)


def _mend_table(path: Path, columns: Sequence[str], wanted: Callable[[str, bytes], bool]) -> None:
    """Rewrite a table without what isn't wanted, unless it is as it should be."""
    existing = path.exists()
    table = read_lines(path) if existing else Table(columns)
    same = existing and list(table.layout) == list(columns) and not table.header_problem and not table.blank
    place = list(table.layout).index("trial_id")
    places = [list(table.layout).index(name) if name in table.layout else None for name in columns]
    kept, cut = [], [table.header] if table.header else []
    for line in table.lines:
        if line.cells is None or not wanted(line.cells[place], line.raw):
            cut.append(line.raw)
        elif same and line.plain:
            kept.append(line.raw + b"\n")
        else:
            same_cells = ("" if at is None else again(line.cells[at]) for at in places)
            kept.append(as_lines([list(same_cells)]))
    if same and not cut and all(line.plain for line in table.lines):
        return
    _keep(path, cut)
    write_atomically(path, as_lines([list(columns)]) + b"".join(kept))


def _keep(path: Path, lines: Sequence[bytes]) -> None:
    """Lines that are cut away, as they were."""
    if not any(lines):
        return
    folder = path.parent / MENDED
    make_folder(folder)
    stem = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    write_atomically(_free(folder, stem, f"-{path.name}"), b"".join(line + b"\n" for line in lines))


def _keep_failure(folder: Path, trial_id: str) -> None:
    """Put away what a failure left, so that the next one doesn't take its place."""
    path = failure_path(folder, trial_id)
    if is_name(trial_id) and path.is_file():
        path.rename(_free(path.parent, trial_id, ".txt", always=True))
        sync_folder(path.parent)


def _free(folder: Path, stem: str, suffix: str, always: bool = False) -> Path:
    """A name that nothing has yet: STEM, or STEM.1, STEM.2, and so on."""
    number = 1 if always else 0
    while (path := folder / f"{stem}{f'.{number}' if number else ''}{suffix}").exists():
        number += 1
    return path


def _text(rows: Iterable[dict[str, str]]) -> bytes:
    return as_lines([again(row[name]) for name in COLUMNS] for row in rows)
