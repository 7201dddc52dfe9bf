"""Cache of the arrays read from a user's files, so that each trial's process opens them within milliseconds.

A folder for each checksum, filled under another name and renamed; digests of the arrays lie beside them, and what
doesn't agree with them isn't used. Losing the cache costs nothing but the time to read the files again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.data.download import cache_folder
from bench.system.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

DIGESTS = "digests.json"
VERSION = 1  # of how files are read: raised when the same files would become other arrays


def root() -> Path:
    """The folder that holds all of it."""
    return cache_folder() / f"user-data-{VERSION}"


def load(key: str) -> dict[str, np.ndarray] | None:
    """Arrays by name, writable; None if they aren't there, or not as they were written."""
    import numpy as np

    folder = root() / key
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        arrays = {}
        for name, digest in digests.items():
            stored = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            arrays[name] = np.array(stored)
            if _digest(arrays[name]) != digest:
                return None
    except (OSError, ValueError, EOFError, AttributeError):
        return None
    return arrays


def save(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays under a key, all or nothing; a full disk is a warning, since the files can be read again."""
    import numpy as np

    try:
        root().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root(), prefix=f".{key}.", suffix=".partial", ignore_cleanup_errors=True) as work:
            ready = Path(work, "ready")
            ready.mkdir()
            for name, array in arrays.items():
                np.save(ready / f"{name}.npy", array, allow_pickle=False)
            digests = {name: _digest(array) for name, array in arrays.items()}
            (ready / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
            with suppress(OSError):  # as a rule there's nothing, else something damaged
                (root() / key).rename(Path(work, "former"))
            with suppress(OSError):  # another process was quicker
                ready.rename(root() / key)
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


def _digest(array: np.ndarray) -> str:
    import numpy as np

    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
