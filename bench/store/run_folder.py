"""The store: how a trial reaches the disk whole.

A run folder holds `run.json`, `trials.csv` (a row a trial), `evaluations.csv`, and raw timed blocks: `throughput.csv`
of training and `inference.csv`. A trial's evaluations and blocks are written before its row: the row is the commit.
What has no row is cut away when the folder is opened again, and kept under `mended/`. What a trial that failed left is
`failures/<trial_id>.txt`; rows of trials that were run again are in `retried.csv`.
"""

import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from bench.errors import StoreError
from bench.result import TABLES, Result
from bench.store.repair import cut_torn, mend, set_aside
from bench.store.seals import contents_for_seal, failure_path, is_name, record_seal, seal_of
from bench.store.tables import PREVIOUS, SCHEMA_VERSION, as_cell, as_lines, parse, read_run
from bench.system import process
from bench.system.files import (
    append_together,
    make_folder,
    unwritable,
    write_atomically,  # known here to all that write into a run
)
from bench.system.redaction import redacted

# Owner: the one driver that a run folder has, held by the system's lock, and named beside it for whoever comes second.
#
# The lock ends with its process, however that ends; the file `.owner.json` doesn't. One that lies there while the
# lock is free tells that the last driver died.
LOCK, OWNER = ".lock", ".owner.json"


Short = Annotated[str, StringConstraints(max_length=300)]


class Owner(BaseModel):
    """A driver: its process, its machine, since when (UTC), and what was typed, without secrets."""

    model_config = ConfigDict(frozen=True)

    pid: int
    host: Short
    started: Short
    command: Short

    @classmethod
    def me(cls) -> "Owner":
        command = redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(pid=os.getpid(), host=socket.gethostname()[:300], started=started, command=command[:300])

    def __str__(self) -> str:
        text = f"process {self.pid} on {self.host}, since {self.started}: {self.command}"
        return "".join(sign if sign.isprintable() else "?" for sign in text)


class Hold:
    """The right to write into a run folder; one process has it at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)

    def take(self) -> Owner | None:
        """Take it, and return the driver that died with it, if one did.

        Raises:
            StoreError: another process has it, or the file system gives no locks.
        """
        try:
            with warnings.catch_warnings():
                # Where the system has no locks, filelock warns and takes one that outlives its holder.
                warnings.simplefilter("error", UserWarning)
                self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{self.folder}: {self._who()}; wait for it, or start a new run with --out") from None
        except (OSError, NotImplementedError, UserWarning) as error:
            why = getattr(error, "strerror", None) or "its file system has no locks"
            raise StoreError(
                f"{self.folder}: can't be locked ({why}); mend that, or name a folder elsewhere with --out"
            ) from None
        before = read_owner(self.folder)
        try:
            write_atomically(self.folder / OWNER, Owner.me().model_dump_json() + "\n")
        except OSError as error:
            self._lock.release()
            raise unwritable(self.folder / OWNER, error, "what was finished is kept; mend that and go on") from None
        return before

    def release(self) -> None:
        if self._lock.is_locked:
            with suppress(OSError):
                (self.folder / OWNER).unlink()
            self._lock.release()

    def _who(self) -> str:
        owner = read_owner(self.folder)
        if owner is None or (owner.host == socket.gethostname() and not _lives(owner.pid)):  # it hasn't signed yet
            return "another process is running here"
        return f"another process is running here ({owner})"


def read_owner(folder: Path) -> Owner | None:
    """Who has signed for a run folder; None where nobody has, or nobody can read it."""
    try:
        return Owner.model_validate(json.loads((folder / OWNER).read_bytes()[:10_000]))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None


def _lives(pid: int) -> bool:
    if os.name == "nt" or pid <= 0:
        return True  # nobody can be asked without harm
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


class RunFolder:
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
        with process.held():
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
