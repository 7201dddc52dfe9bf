"""Durability: what is on disk when a call returns is there after power loss, and never half of it.

A file's contents survive once the file is flushed (fsync), its name once its folder is (fsync(2), "Calling fsync()
does not necessarily ensure that the entry in the directory containing the file has also reached disk").
"""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bench.errors import StoreError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's contents; a reader, or a crash, sees the old or the new, never a mixture.

    Raises: OSError; the file is then as before, and nothing lies beside it.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()  # on a full disk it would take the place that the next one needs
        raise
    sync_folder(path.parent)


def append_together(texts: Mapping[Path, bytes]) -> None:
    """Append to several files in their order, each in one write; after a failure all are as long as before.

    Raises: OSError.
    """
    lengths: dict[Path, int] = {}
    try:
        for path, data in texts.items():
            lengths[path] = path.stat().st_size
            _append(path, data)
    except BaseException:
        for path, length in lengths.items():
            with suppress(OSError):  # a file system that has become read-only: the next opening cuts it
                os.truncate(path, length)
        raise


def _append(path: Path, data: bytes) -> None:
    try:
        with open(path, "ab", buffering=0) as file:
            rest = memoryview(data)
            while rest:  # once, but for a disk that fills up in the middle: the second call then says so
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # for whoever tells of it: a write alone doesn't know
        raise


def sync_file(path: Path) -> None:
    """Flush a file that somebody else has written."""
    with open(path, "r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder: names made, replaced and removed in it."""
    if os.name == "nt":
        return  # has no such call
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """A folder with all above it, there after power loss."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(new):
        sync_folder(path.parent)


def unwritable(path: Path, error: OSError, rest: str) -> StoreError:
    """One line: which file, why, and `rest`: what is kept and what would do."""
    return StoreError(f"{path}: can't be written ({error.strerror or error}); {rest}")
