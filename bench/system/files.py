"""Durability: what is on disk when a call returns is there after power loss, and never half of it.

A file's contents survive once the file is flushed (fsync), its name once its folder is (fsync(2), "Calling fsync()
does not necessarily ensure that the entry in the directory containing the file has also reached disk").
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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


def append(path: Path, data: bytes, flush: bool = True) -> None:
    """Append to a file in one write, and flush it; after a failure it is as long as before.

    Raises: OSError, with the file's name.
    """
    length = path.stat().st_size
    try:
        with open(path, "ab", buffering=0) as file:
            rest = memoryview(data)
            while rest:  # once, but for a disk that fills up in the middle: the second call then says so
                rest = rest[file.write(rest) :]
            if flush:
                os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):  # a file system that has become read-only: the next opening cuts it
            os.truncate(path, length)
        if isinstance(error, OSError):
            error.filename = str(path)  # a write alone doesn't know
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


@contextmanager
def new_folder(folder: Path, rest: str) -> Iterator[Path]:
    """A folder to be filled with files; it gets its name when they are flushed: it is there whole or not at all.

    Raises:
        StoreError: the disk takes no more; `rest` follows in its line.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    try:
        make_folder(folder.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for path in temporary.iterdir():
            sync_file(path)
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that nobody counts
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)  # leaves the disk room for what is finished
        raise unwritable(folder, error, rest) from error


def unwritable(path: Path, error: OSError, rest: str) -> StoreError:
    """One line: which file, why, and `rest`: what is kept and what would do."""
    return StoreError(f"{path}: can't be written ({error.strerror or error}); {rest}")


SUMS = "SHA256SUMS"  # the format of sha256sum, which checks it, too: sha256sum -c SHA256SUMS
_SUM = re.compile(r"([0-9a-f]{64}) [ *]([^/\\\0]+)")


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files in a folder."""
    lines = [f"{_file_digest(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.is_file()]
    write_atomically(folder / SUMS, "".join(lines))


def check_sums(folder: Path) -> Iterable[str]:
    """What is wrong with a folder's files, a line each; nothing where they are as when they were listed."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        yield f"{SUMS} can't be read ({error})"
        return
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=1):
        match = _SUM.fullmatch(line)
        path = folder / match[2] if match else None
        if match is None or path is None:
            yield f"{SUMS}, line {number}: is no checksum"
        elif path.is_symlink() or not path.is_file():
            yield f"{path.name} is missing"
        else:
            try:
                if _file_digest(path) != match[1]:
                    yield f"{path.name} isn't what was written"
            except OSError as error:
                yield f"{path.name} can't be read ({error.strerror})"


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
