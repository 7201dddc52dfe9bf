"""Owner: the one driver that a run folder has, held by the system's lock, and named beside it for whoever comes second.

The lock ends with its process, however that ends; the file `.owner.json` doesn't. One that lies there while the lock is
free tells that the last driver died.
"""

import json
import os
import shlex
import socket
import sys
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from bench.errors import StoreError
from bench.system.files import unwritable, write_atomically
from bench.system.redaction import redacted

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
