"""The IDX format of MNIST's files: a header of sizes, then bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.readers.base import is_gzipped, open_maybe_gzipped, reading, refuse_too_large
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

GZIP_FACTOR = 1_040  # nothing is packed more tightly than 1,032 bytes into one


def read_idx(path: Path) -> np.ndarray:
    """A file in the IDX format (bytes, 1 to 4 dimensions), plain or gzipped, as a writable uint8 array of its shape.

    Raises: DataError naming the file unless header and length agree exactly. Memory is taken for what the file's length
        allows, whatever its header says, and a gzipped file is unpacked no further than that.
    """
    import numpy as np

    with reading(path), open_maybe_gzipped(path) as stream:
        start = stream.read(4)
        if start[:3] != b"\0\0\x08" or not 1 <= (ndim := (start[3:4] or b"\0")[0]) <= 4:
            raise DataError(f"{path} isn't an IDX file of bytes (it begins with '{start.hex(' ')}')")
        sizes = stream.read(4 * ndim)
        if len(sizes) < 4 * ndim:
            length = len(start) + len(sizes)
            raise DataError(f"{path} ends within its header ({length} of {4 + 4 * ndim} bytes; cut short?)")
        shape = struct.unpack(f">{ndim}I", sizes)
        size, claim = path.stat().st_size, math.prod(shape)
        most = GZIP_FACTOR * size if is_gzipped(path) else size
        room = min(claim or most, most)
        refuse_too_large(room, path)
        array = np.empty(room, dtype=np.uint8)
        found = stream.readinto(array.data)
        more = bool(stream.read(1))
    if more or found != claim or claim == 0:
        sides, follow = " x ".join(f"{side:,}" for side in shape), f"{found + more:,}{' or more' if more else ''}"
        raise DataError(f"{path} says that it holds {sides} bytes, but {follow} follow (cut short?)")
    return array.reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file."""
    assert array.dtype == "uint8"
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
