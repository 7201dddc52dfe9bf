"""The IDX format of MNIST's files: a header of sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """A file in the IDX format (bytes, 1 to 4 dimensions), plain or gzipped, as a writable uint8 array of its shape.

    Raises: DataError naming the file unless header and length agree exactly; a header is never trusted with memory.
    """
    import numpy as np

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = bytearray(stream.read())  # a bytearray: torch warns of arrays that can't be written to
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({error})") from error
    if data[:3] != b"\0\0\x08" or not 1 <= (ndim := (data[3:4] or b"\0")[0]) <= 4:
        raise DataError(f"{path} isn't an IDX file of bytes (it begins with '{data[:4].hex(' ')}')")
    header = 4 + 4 * ndim
    if len(data) < header:
        raise DataError(f"{path} ends within its header ({len(data)} of {header} bytes; cut short?)")
    shape = struct.unpack_from(f">{ndim}I", data, 4)
    if 0 in shape or math.prod(shape) != len(data) - header:
        claim = " x ".join(f"{size:,}" for size in shape)
        raise DataError(f"{path} says that it holds {claim} bytes, but {len(data) - header:,} follow (cut short?)")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file."""
    assert array.dtype == "uint8"
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
