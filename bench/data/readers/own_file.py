"""Somebody's files, opened with care: ordinary files only, and never more of what they hold than memory takes."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench.errors import DataError, printable

LARGEST_SHARE = 0.5  # of the machine's memory that the contents of one file may take


def shown(path: Path) -> str:
    """A path as messages name it: short where it lies below the working folder, and never more than a line."""
    with suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return one_line(str(path))


def one_line(text: str) -> str:
    """Text from a file or of a file's name, for a message: without line breaks or what a terminal acts on."""
    return printable(" ".join(text.encode("utf-8", "replace").decode().split()), 300)


def located(given: str | Path, base: Path | None = None) -> Path:
    """A path as a person writes it, `~` and all; relative ones start at `base`. Raises: DataError: `~` of nobody."""
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise DataError(f"{one_line(str(given))}: nobody of that name has a home folder here") from None
    return path if base is None else Path(os.path.abspath(base / path))


def open_plain(path: Path) -> IO[bytes]:
    """A file, for reading.

    Raises:
        DataError: not there, or a pipe, a device or a folder: reading a pipe would wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    except (OSError, ValueError) as error:  # a ValueError: a zero in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{shown(path)}: can't be read ({why})") from None
    raise DataError(f"{shown(path)}: can't be read (it is no file)")


def open_maybe_gzipped(path: Path) -> IO[bytes]:
    """As open_plain; what a name that ends in .gz holds is unpacked on the way."""
    stream = open_plain(path)
    if not path.name.lower().endswith(".gz"):
        return stream
    unpacked: Any = gzip.GzipFile(fileobj=stream)
    unpacked.myfileobj = stream  # to be closed together
    return unpacked


def machine_memory() -> int:
    """Bytes; all of it, not what is free at the moment, so that two runs come to the same answer."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 << 30


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Where memory does run out inside the block, it is a DataError that names the file or folder."""
    try:
        yield
    except MemoryError:
        raise DataError(f"{shown(path)}: doesn't fit into memory") from None


def refuse_giants(num_bytes: int, path: Path) -> None:
    """Raises: DataError, before there is room made, where the contents of a file take too much of the memory."""
    if num_bytes > LARGEST_SHARE * machine_memory():
        raise DataError(
            f"{shown(path)}: unpacks to {num_bytes:,} bytes or more, and the machine has {machine_memory():,} of "
            "memory (damaged, or made to fill it?)"
        )
