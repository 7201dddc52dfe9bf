"""A run folder that one process writes into: each finished trial is on disk, whole, before the next begins.

A finished trial is one line of `journal.jsonl`, written and flushed at once, and so is a launch of the speed rounds.
The CSV tables (`trials.csv`: a row a trial; `evaluations.csv`; what was timed, raw: `throughput.csv` of training and
`inference.csv`, with the blocks of trials and the slices of launches; `retried.csv`: rows of trials that were run
again) are views of the journal: appended after the line, and made anew from the journal where they differ when a
folder is opened. Lines that are damaged or foreign are moved to `set_aside/`, as they were, and the trials they
belonged to count as not run. What a trial that failed left is `failures/<trial_id>.txt`.
"""

import itertools
import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import StoreError, printable
from bench.result import SLICE_COLUMNS, SPLIT_COLUMNS, TABLES, Launch, Result
from bench.store.journal import BOM, append_line, as_line, as_written, digest_of
from bench.store.tables import (
    JOURNAL,
    OLD_TABLES,
    PART_COLUMNS,
    PARTS,
    PREVIOUS,
    RECORD,
    SCHEMA_VERSION,
    TRIALS,
    Entries,
    Entry,
    LaunchEntry,
    as_plain,
    failure_path,
    is_name,
    launch_entry,
    read_journal,
    read_run,
    record_digest,
    render,
    views,
)
from bench.system import process
from bench.system.files import SUMS, append, make_folder, sync_file, sync_folder, unwritable, write_atomically
from bench.system.redaction import redacted

LOCK, HOLDER, SET_ASIDE = ".lock", ".holder.json", "set_aside"


class RunFolder:
    """A run folder, held by one process at a time.

    Attributes:
        notices: what a person should know of opening it, a line each: a driver that had died, lines set aside, a run
            of schema version 5 that has become one of version 6.

    Raises: StoreError: the folder isn't a run, is of another version, or is in use by another process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notices: list[str] = []
        self._lock = FileLock(folder / LOCK)
        self._statuses: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._launches = 0
        self._sizes: dict[str, int | None] = {}

    @classmethod
    def create(cls, folder: Path, run: dict[str, Any]) -> "RunFolder":
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
    def open(cls, folder: Path, retry: bool = False) -> "RunFolder":
        """An existing run; damaged and foreign lines are set aside, tables that differ from the journal made anew.

        A run of schema version 5 becomes one of this version.

        Args:
            retry: trials that didn't end well count as not run; their rows go to `retried.csv`.
        """
        read_run(folder)
        store = cls(folder)
        store._begin(None, retry)
        return store

    def close(self) -> None:
        for name in TABLES:
            with suppress(OSError):  # the journal has it all
                sync_file(self.folder / name)
        if self._lock.is_locked:
            with suppress(OSError):
                (self.folder / HOLDER).unlink()
            self._lock.release()

    def append(self, result: Result) -> None:
        """Put a finished trial on disk; when this returns, it survives anything short of a lost disk.

        An interrupt waits until it is there.

        Raises:
            StoreError: it can't be written, or the trial failed since its files couldn't be; or it is in the journal,
                and a table can't be written.
        """
        if result.unsaved:
            raise StoreError(f"{str(result.error).removeprefix('StoreError: ')}; {self._kept()}")
        if not is_name(str(result.trial_id)):
            raise StoreError(f"{result.trial_id}: can't be the name of a trial's files")
        with self._writing():
            self._append(result)

    def append_launch(self, launch: Launch) -> None:
        """Put a launch on disk, as `append` does with a trial.

        Raises:
            StoreError: it can't be written; or it is in the journal, and a table can't be written.
            ValueError: its number is taken, or it holds what couldn't be read again, such as an infinity.
        """
        with self._writing():
            self._append_launch(launch)

    @property
    def launches(self) -> int:
        """How many launches the run had, lost ones before the last counted: the number of the next."""
        return self._launches

    def finished(self) -> set[str]:
        return set(self._statuses)

    def statuses(self) -> dict[str, str]:
        """trial_id -> status, of all finished trials."""
        return dict(self._statuses)

    def write_run(self, run: dict[str, Any]) -> None:
        """Replace run.json; what it was lies beside it, should somebody damage it."""
        record = {"schema_version": SCHEMA_VERSION, **run} | {"schema_version": SCHEMA_VERSION}
        record["digest"] = record_digest(json.loads(json.dumps(record)))
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        path = self.folder / RECORD
        try:
            if path.exists():
                write_atomically(self.folder / PREVIOUS, path.read_bytes())
            write_atomically(path, text)
        except OSError as error:
            raise unwritable(path, error, self._kept()) from None

    def _begin(self, run: dict[str, Any] | None, retry: bool = False) -> None:
        """Take the folder and bring its files into order; give it back if that fails."""
        before = _take(self._lock, self.folder)
        if before:
            self.notices.append(f"its last driver died ({before}); what it had finished is kept")
        try:
            if run is not None:
                self.write_run(run)  # first: with it the folder is a run, and opening it makes what else is missing
            found = self._restore()
            self._renew_record()
            again = [name for name, entry in found.trials.items() if entry.row["status"] != "ok"]
            if retry and again:
                lines = (as_line({"kind": "retried", "trial_id": name}) for name in again)
                append(self.folder / JOURNAL, b"".join(lines))
                self._restore()
        except OSError as error:
            self.close()
            raise unwritable(self.folder, error, "nothing was changed; mend that and go on with --resume") from None
        except BaseException:
            self.close()
            raise

    def _renew_record(self) -> None:
        """Make a run of an earlier schema version one of this, so that no earlier program meets lines unknown to it.

        Raises: StoreError: its record can't be written again.
        """
        record = read_run(self.folder)
        if (version := record["schema_version"]) == SCHEMA_VERSION:
            return
        try:
            self.write_run(record)
        except (ValueError, RecursionError) as error:  # NaN, half a character: somebody changed it
            raise StoreError(f"{self.folder / RECORD}: can't be written again ({printable(str(error), 200)})") from None
        self.notices.append(
            f"it was of schema version {version} and is now of {SCHEMA_VERSION}: older programs refuse it"
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Interrupts wait meanwhile, and the tables are as the journal has them. Raises: StoreError for OSError."""
        with process.held():
            try:
                if self._sizes != self._measured():  # somebody else was here, or a table couldn't be written
                    self._restore()
                yield
            except OSError as error:
                raise unwritable(Path(error.filename or self.folder), error, self._kept()) from None

    def _append(self, result: Result) -> None:
        trial_id = str(result.trial_id)
        sums, failure = self.folder / "trials" / trial_id / SUMS, failure_path(self.folder, trial_id)
        if result.trace:
            make_folder(failure.parent)
            write_atomically(failure, result.trace.encode(errors="backslashreplace"))
        cells = {key: as_plain(value) for key, value in result.row().items() if key not in ("trial_id", "seal")}
        row = {key: value for key, value in cells.items() if value is not None}
        parts = {name: _by_columns(getattr(result, key), PART_COLUMNS[name]) for name, key in PARTS.items()}
        content = {
            "kind": "trial",
            "trial_id": trial_id,
            "attempt": self._attempts.get(trial_id, 0),
            "row": row,
            **{key: parts[name] for name, key in PARTS.items()},
            "sums": digest_of(sums.read_bytes()) if sums.is_file() else None,
            "failure": digest_of(failure.read_bytes()) if failure.is_file() else None,
        }
        if result.correct is not None:
            content["correct"] = result.correct
        digest = append_line(self.folder / JOURNAL, content)
        self._statuses[trial_id] = str(result.status)
        self._append_to_tables(Entry(0, 0, row | {"trial_id": trial_id, "seal": digest}, parts))

    def _append_launch(self, launch: Launch) -> None:
        if launch.launch < self._launches:
            raise ValueError(f"launch {launch.launch} comes after launch {self._launches - 1}")
        content = {
            "kind": "launch",
            **{key: as_plain(value) for key, value in vars(launch).items()},
            "slices": _by_columns(launch.slices, SLICE_COLUMNS),
            "splits": _by_columns(launch.splits, SPLIT_COLUMNS),
        }
        entry = launch_entry(0, content)
        if isinstance(entry, str):
            raise ValueError(f"launch {launch.launch} {entry}")
        append_line(self.folder / JOURNAL, content)
        self._launches = launch.launch + 1
        self._append_to_tables(entry)

    def _append_to_tables(self, entry: Entry | LaunchEntry) -> None:
        self._sizes = {}  # until it is in all of them
        for name, columns in TABLES.items():
            append(self.folder / name, render([entry], name, columns), flush=False)
        self._sizes = self._measured()

    def _restore(self) -> Entries:
        """Set aside what is no line of the journal, and make the tables that differ from it anew. Raises: OSError."""
        path = self.folder / JOURNAL
        if not path.exists():
            write_atomically(path, b"")
        found = read_journal(self.folder)
        if found.bad:
            self._set_aside(JOURNAL, [line.raw for line in found.bad])
        whole = as_written(path, (line.number for line in found.bad))
        if whole != path.read_bytes():
            write_atomically(path, whole)
        for trial_id in found.attempts.keys() - found.trials.keys():
            left = failure_path(self.folder, trial_id)  # put away, so that the next one doesn't take its place
            if left.is_file():
                left.rename(_free(left.parent, trial_id, ".txt", first=1))
                sync_folder(left.parent)
        old: dict[str, bytes] = {}
        for name, text in views(self.folder, found).items():
            view = self.folder / name
            before = view.read_bytes() if view.exists() else b""
            if before != text or not view.exists():
                old = old or views(self.folder, found, OLD_TABLES)  # of an earlier version isn't foreign
                like = name if name in TABLES else TRIALS
                gone = render(found.retried, like, TABLES[like])  # nor is what is tried again
                known = {*text.split(b"\n"), *old[name].split(b"\n"), *gone.split(b"\n")}
                lines = [line.rstrip(b"\r") for line in before.removeprefix(BOM).split(b"\n")]
                self._set_aside(name, [line for line in lines if line not in known])
                write_atomically(view, text)
        self._statuses = {name: str(entry.row["status"]) for name, entry in found.trials.items()}
        self._attempts = found.attempts
        self._launches = found.next_launch()
        self._sizes = self._measured()
        return found

    def _set_aside(self, name: str, lines: Sequence[bytes]) -> None:
        """Keep lines that don't belong where they were, as they were."""
        if not any(lines):
            return
        folder = self.folder / SET_ASIDE
        make_folder(folder)
        path = _free(folder, datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"), f"-{name}")
        write_atomically(path, b"".join(line + b"\n" for line in lines))
        count = f"{len(lines):,} line{'s' if len(lines) > 1 else ''}"
        what = "trials that lost theirs run again" if name == JOURNAL else "the table is as the journal has it"
        self.notices.append(f"{name}: {count} damaged or foreign, now in {SET_ASIDE}/{path.name}; {what}")

    def _measured(self) -> dict[str, int | None]:
        """Sizes of the journal and of the tables."""
        paths = {name: self.folder / name for name in (JOURNAL, *TABLES)}
        return {name: path.stat().st_size if path.exists() else None for name, path in paths.items()}

    def _kept(self) -> str:
        count = len(self._statuses)
        kept = (
            f"{count:,} finished trial{' is' if count == 1 else 's are'} kept" if count else "no trial had finished yet"
        )
        return f"{kept}; when that is mended, go on with --resume {self.folder}"


def _by_columns(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Rows as the journal keeps them, so that no name is there for each row; None for what a row doesn't have."""
    return {column: [as_plain(row.get(column)) for row in rows] for column in columns}


def _take(lock: FileLock, folder: Path) -> str | None:
    """Take a folder's lock, sign for it, and return who died with it, if a driver did.

    The lock is the system's and ends with its process, however that ends. The note beside it, of who holds it, doesn't:
    one that lies there while the lock is free tells that the last driver died.

    Raises: StoreError: another process has it, or the file system gives no locks.
    """
    try:
        with warnings.catch_warnings():
            # Where the system has no locks, filelock warns and takes one that outlives its holder.
            warnings.simplefilter("error", UserWarning)
            lock.acquire(timeout=0)
    except Timeout:
        who = f" ({_described(note)})" if (note := read_note(folder)) else ""
        raise StoreError(
            f"{folder}: another process is running here{who}; wait for it, or start a new run with --out"
        ) from None
    except (OSError, NotImplementedError, UserWarning) as error:
        why = getattr(error, "strerror", None) or "its file system has no locks"
        raise StoreError(
            f"{folder}: can't be locked ({why}); mend that, or name a folder elsewhere with --out"
        ) from None
    before = read_note(folder)
    command = redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))[:300]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "started": started, "command": command}
    try:
        write_atomically(folder / HOLDER, json.dumps(note) + "\n")
    except OSError as error:
        lock.release()
        raise unwritable(folder / HOLDER, error, "what was finished is kept; mend that and go on") from None
    return _described(before) if before else None


def read_note(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder: pid, host, started (UTC) and command; None where nobody has signed, or not legibly."""
    try:
        note = json.loads((folder / HOLDER).read_bytes()[:10_000])
        texts = [note[key] for key in ("host", "started", "command")]
        return note if type(note["pid"]) is int and all(isinstance(text, str) for text in texts) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def refuse_used(folder: Path) -> None:
    """A new run never enters a folder that holds something; what one that was killed at birth left is nothing.

    Raises: StoreError: it does.
    """
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise StoreError(f"{folder}: already holds something; use --resume for a run, or name a new folder")


def _described(note: dict[str, Any]) -> str:
    text = f"process {note['pid']} on {note['host']}, since {note['started']}: {note['command']}"
    return printable(text, 400)


def _free(folder: Path, stem: str, suffix: str, first: int = 0) -> Path:
    """A name that nothing has yet: STEM, or STEM.1, STEM.2, and so on."""
    names = (f"{stem}{f'.{number}' if number else ''}{suffix}" for number in itertools.count(first))
    return next(folder / name for name in names if not (folder / name).exists())
