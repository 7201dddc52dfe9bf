"""The store: how a trial reaches the disk whole.

A run folder holds `run.json`, `trials.csv` (a row a trial), `evaluations.csv`, and raw timed blocks: `throughput.csv`
of training and `inference.csv`. A trial's evaluations and blocks are written before its row: the row is the commit.
What has no row is cut away when the folder is opened again, and kept under `mended/`. What a trial that failed left is
`failures/<trial_id>.txt`; rows of trials that were run again are in `retried.csv`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.result import TABLES, Result
from bench.store.owner import Hold, Owner
from bench.store.repair import cut_torn, mend, set_aside
from bench.store.seals import contents_for_seal, failure_path, is_name, record_seal, seal_of
from bench.store.tables import PREVIOUS, SCHEMA_VERSION, as_cell, as_lines, parse, read_run
from bench.system import interrupts
from bench.system.files import (
    append_together,
    make_folder,
    unwritable,
    write_atomically,  # known here to all that write into a run
)


class Store:
    """A run folder, held by one process at a time.

    Attributes:
        previous_owner: the driver that died while it held the folder; None if none did.

    Raises:
        StoreError: the folder isn't a run, is of another version, or is in use by another process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.previous_owner: Owner | None = None
        self._hold = Hold(folder)
        self._finished: set[str] = set()

    @classmethod
    def create(cls, folder: Path, run: dict[str, Any]) -> "Store":
        """A new run in `folder`, which is made; an existing folder has to be empty."""
        refuse_used(folder)
        store = cls(folder)
        try:
            make_folder(folder)
        except OSError as error:
            raise unwritable(folder, error, "name another folder with --out") from None
        store._begin(run)
        return store

    @classmethod
    def open(cls, folder: Path, retry: bool = False) -> "Store":
        """An existing run, mended: rows torn by a crash, and rows of trials that never finished, are cut away.

        Args:
            retry: trials that didn't end well count as not run; their rows go to `retried.csv`.
        """
        read_run(folder)
        store = cls(folder)
        store._begin(None, retry)
        return store

    def close(self) -> None:
        self._hold.release()

    def append(self, result: Result) -> None:
        """Put a finished trial on disk; when this returns, it survives anything short of a lost disk.

        An interrupt waits until it is there.

        Raises:
            StoreError: it can't be written, or the trial failed since its files couldn't be; nothing of it is there.
        """
        if result.unsaved:
            raise StoreError(f"{str(result.error).removeprefix('StoreError: ')}; {self._kept()}")
        with interrupts.held():
            try:
                append_together(self._texts(result))
            except OSError as error:
                raise unwritable(Path(error.filename or self.folder), error, self._kept()) from None
            self._finished.add(str(result.trial_id))

    def finished(self) -> set[str]:
        return set(self._finished)

    def write_run(self, run: dict[str, Any]) -> None:
        """Replace run.json; what it was lies beside it, should somebody damage it."""
        record = {"schema_version": SCHEMA_VERSION, **run} | {"schema_version": SCHEMA_VERSION}
        record["seal"] = record_seal(json.loads(json.dumps(record)))
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        path = self.folder / "run.json"
        try:
            if path.exists():
                write_atomically(self.folder / PREVIOUS, path.read_bytes())
            write_atomically(path, text)
        except OSError as error:
            raise unwritable(path, error, self._kept()) from None

    def _begin(self, run: dict[str, Any] | None, retry: bool = False) -> None:
        """Take the folder and bring its files into order; give it back if that fails."""
        self.previous_owner = self._hold.take()
        try:
            if run is not None:
                self.write_run(run)  # first: with it the folder is a run, and opening it makes what else is missing
            planned = read_run(self.folder).get("plan")
            plan = [name for name in planned if isinstance(name, str)] if isinstance(planned, list) else []
            self._finished = mend(self.folder, plan)
            if retry:
                set_aside(self.folder)
                self._finished = mend(self.folder, plan)
        except OSError as error:
            self.close()
            raise unwritable(self.folder, error, "nothing was changed; mend that and go on with --resume") from None
        except BaseException:
            self.close()
            raise

    def _texts(self, result: Result) -> dict[Path, bytes]:
        """What goes to the end of which file, the trial's row last. Its failure is written at once."""
        trial_id = str(result.trial_id)
        if result.trace and is_name(trial_id):
            path = failure_path(self.folder, trial_id)
            make_folder(path.parent)
            write_atomically(path, result.trace.encode(errors="backslashreplace"))
        parts = (result.evaluations, result.blocks, result.inference_blocks)
        names = [name for name in TABLES if name != "trials.csv"]
        texts = {
            name: _lines(name, [{"trial_id": trial_id, **row} for row in rows])
            for name, rows in zip(names, parts, strict=True)
        }
        others = {name: _read(name, text) for name, text in texts.items()}
        own = result.row() | {"seal": None}
        (row,) = _read("trials.csv", _lines("trials.csv", [own | {"trial_id": trial_id}]))
        own["seal"] = seal_of(row, others, *contents_for_seal(self.folder, trial_id))
        texts["trials.csv"] = _lines("trials.csv", [own])
        for name in texts:
            self._make_ready(name)
        return {self.folder / name: text for name, text in texts.items() if text}

    def _make_ready(self, name: str) -> None:
        """A table that a row can be appended to, whatever somebody else has done to it meanwhile."""
        path = self.folder / name
        if not path.exists() or not path.stat().st_size:
            write_atomically(path, as_lines([TABLES[name]]))
        cut_torn(path)

    def _kept(self) -> str:
        count = len(self._finished)
        kept = (
            f"{count:,} finished trial{' is' if count == 1 else 's are'} kept" if count else "no trial had finished yet"
        )
        return f"{kept}; when that is mended, go on with --resume {self.folder}"


def refuse_used(folder: Path) -> None:
    """A new run never enters a folder that holds something; what one that was killed at birth left is nothing.

    Raises:
        StoreError: it does.
    """
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise StoreError(f"{folder}: already holds something; use --resume for a run, or name a new folder")


def _lines(name: str, rows: Sequence[dict[str, Any]]) -> bytes:
    return as_lines([as_cell(row.get(column)) for column in TABLES[name]] for row in rows)


def _read(name: str, text: bytes) -> list[dict[str, str]]:
    """Rows as a reader will see them."""
    return list(parse(as_lines([TABLES[name]]) + text, TABLES[name]).rows)
