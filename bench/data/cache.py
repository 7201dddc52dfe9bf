"""Cache of the arrays read from a user's files, so that each trial's process opens them within milliseconds.

A folder for each checksum with one .npz, whose own checksums (CRC-32 of each array) are verified when it is read.
Losing the cache costs nothing but the time to read the files again.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.data.download import cache_folder
from bench.data.readers.npz import DAMAGED
from bench.system.files import write_atomically

ARRAYS = "arrays.npz"
VERSION = 5  # of how files are read and kept: raised when the same files would become other arrays


def root() -> Path:
    """The folder that holds all of it."""
    return cache_folder() / f"user-data-{VERSION}"


def load(key: str) -> dict[str, np.ndarray] | None:
    """Arrays by name, writable; None if they aren't there, or not as they were written."""
    try:
        with np.load(root() / key / ARRAYS, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except DAMAGED:
        return None


def save(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays under a key, all or nothing; a full disk is a warning, since the files can be read again."""
    try:
        (root() / key).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root(), prefix=f".{key}.", suffix=".partial", ignore_cleanup_errors=True) as work:
            np.savez(Path(work, ARRAYS), **arrays)  # type: ignore[arg-type]
            Path(work, ARRAYS).replace(root() / key / ARRAYS)
    except OSError as error:
        why = error.strerror or "the disk is full"  # NumPy says only how many numbers it has written
        print(f"warning: {root()}: can't keep what was read ({why})", file=sys.stderr, flush=True)


def load_text(key: str) -> str | None:
    """The text stored under a key; None if there is none."""
    with suppress(OSError, ValueError):
        return (root() / f"{key}.json").read_text(encoding="utf-8")
    return None


def save_text(key: str, text: str) -> None:
    """Store a text under a key; where nothing can be written, nothing is said."""
    with suppress(OSError):
        root().mkdir(parents=True, exist_ok=True)
        write_atomically(root() / f"{key}.json", text)
