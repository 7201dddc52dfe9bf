"""The store: how a trial reaches the disk whole.

A run folder holds `run.json`, `trials.csv` (a row a trial), `evaluations.csv`, and raw timed blocks: `throughput.csv`
of training and `inference.csv`. A trial's evaluations and blocks are written before its row: the row is the commit.
What has no row is cut away when the folder is opened again.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import StoreError
from bench.results import SCHEMA_VERSION, TABLES, Result, read_rows, read_run


class Store:
    """A run folder, held by one process at a time.

    Raises:
        StoreError: the folder isn't a run, is of another version, or is in use by another process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / ".lock")

    @classmethod
    def create(cls, folder: Path, run: dict[str, Any]) -> "Store":
        """A new run in `folder`, which is made; an existing folder has to be empty."""
        refuse_used(folder)
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder)
        store._acquire()
        store.write_run(run)  # first: with it the folder is a run, and opening it makes what else is missing
        store._mend()
        return store

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """An existing run, mended: rows torn by a crash, and rows of trials that never finished, are cut away."""
        read_run(folder)
        store = cls(folder)
        store._acquire()
        store._mend()
        return store

    def close(self) -> None:
        self._lock.release()

    def append(self, result: Result) -> None:
        """Put a finished trial on disk; when this returns, it survives anything short of a lost disk."""
        named = ({"trial_id": result.trial_id, **row} for row in result.evaluations)
        self._append_rows("evaluations.csv", named)
        self._append_rows("throughput.csv", ({"trial_id": result.trial_id, **row} for row in result.blocks))
        self._append_rows("inference.csv", ({"trial_id": result.trial_id, **row} for row in result.inference_blocks))
        self._append_rows("trials.csv", [result.row()])

    def finished(self) -> set[str]:
        return {row["trial_id"] for row in read_rows(self.folder / "trials.csv")}

    def write_run(self, run: dict[str, Any]) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **run}, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.folder / "run.json", text + "\n")

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{self.folder}: another process is running here; wait for it, or use --out") from None

    def _append_rows(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        text = _csv_text(rows, TABLES[name])
        if not text:
            return
        with open(self.folder / name, "ab") as file:  # one write, so that a crash can tear one row and no more
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _mend(self) -> None:
        trials = self.folder / "trials.csv"
        finished = {row["trial_id"]: row for row in (read_rows(trials) if trials.exists() else ())}
        for name, columns in TABLES.items():
            path = self.folder / name
            found = read_rows(path) if path.exists() else []
            rows = list(finished.values()) if name == "trials.csv" else found
            header = dict(zip(columns, columns, strict=True))
            text = _csv_text([header, *(row for row in rows if row["trial_id"] in finished)], columns)
            if not path.exists() or path.read_bytes() != text.encode():
                write_atomically(path, text)


def refuse_used(folder: Path) -> None:
    """A new run never enters a folder that holds something; the lock of one that was killed at birth is nothing.

    Raises:
        StoreError: it does.
    """
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise StoreError(f"{folder}: already holds something; use --resume for a run, or name a new folder")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's contents; a reader, or a crash, sees the old or the new, never a mixture."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _csv_text(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value != value:  # NaN: not measured either
        return ""
    return " ".join(value.split()) if isinstance(value, str) and ("\n" in value or "\r" in value) else value
