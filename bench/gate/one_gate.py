"""One gate at a time: two on one machine would disturb each other's measurement."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UserError


@contextmanager
def only_one() -> Iterator[None]:
    """Hold this machine's gate until the end of the block; the system lets go of it when the process dies.

    Raises:
        UserError: another process of this user holds it.
    """
    folder = _folder()
    lock, note = FileLock(folder / "gate.lock"), folder / "gate.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(_refusal(note)) from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; free some space, or set TMPDIR to another folder") from None
    try:
        with suppress(OSError):  # a full disk: the second then isn't told who the first is
            note.write_text(json.dumps({"pid": os.getpid(), "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _folder() -> Path:
    """The user's own in the system's temporary folder, closed to others."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"vit-cnn-bench-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        mine = not hasattr(os, "getuid") or (folder.lstat().st_uid == user and not folder.is_symlink())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; set TMPDIR to another folder") from None
    if not mine:
        raise UserError(f"{folder}: belongs to another user; set TMPDIR to another folder")
    return folder


def _refusal(note: Path) -> str:
    disturb = "two at once would disturb each other's measurement"
    try:
        first = json.loads(note.read_text())
        who = f"another gate is running since {first['started']} (process {first['pid']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or couldn't write its note
        return f"another gate is running; {disturb}: wait for its end"
    return f"{who}; {disturb}: wait for its end, or stop it with `kill -INT {first['pid']}`"
