"""The IDX format of MNIST's files: a header of sizes, then bytes."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.data.readers.own_file import open_maybe_gzipped, refuse_giants
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

CHUNK = 1 << 20
GZIP_FACTOR = 1_040  # nothing is packed more tightly than 1,032 bytes into one


def read_idx(path: Path) -> np.ndarray:
    """A file in the IDX format (bytes, 1 to 4 dimensions), plain or gzipped, as a writable uint8 array of its shape.

    Raises: DataError naming the file unless header and length agree exactly; a header is never trusted with memory,
        nor is a gzipped file unpacked any further than its header says.
    """
    import numpy as np

    try:
        with open_maybe_gzipped(path) as stream:
            shape = _shape(stream, path)
            data = _contents(stream, math.prod(shape), path)
            more = bool(stream.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({error})") from error
    except MemoryError:
        raise DataError(f"{path} can't be read (it doesn't fit into memory)") from None
    if 0 in shape or math.prod(shape) != len(data):
        claim = " x ".join(f"{size:,}" for size in shape)
        found = f"{len(data):,}{' or more' if more else ''}"
        raise DataError(f"{path} says that it holds {claim} bytes, but {found} follow (cut short?)")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _shape(stream: IO[bytes], path: Path) -> tuple[int, ...]:
    start = stream.read(4)
    if start[:3] != b"\0\0\x08" or not 1 <= (ndim := (start[3:4] or b"\0")[0]) <= 4:
        raise DataError(f"{path} isn't an IDX file of bytes (it begins with '{start.hex(' ')}')")
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(
            f"{path} ends within its header ({len(start) + len(sizes)} of {4 + 4 * ndim} bytes; cut short?)"
        )
    return struct.unpack(f">{ndim}I", sizes)


def _contents(stream: IO[bytes], claim: int, path: Path) -> bytearray:
    """What follows the header, up to a little more than it claims; torch warns of bytes, which nobody may write to."""
    most = GZIP_FACTOR * path.stat().st_size
    if claim > most and path.suffix == ".gz":
        raise DataError(f"{path} says that it holds {claim:,} bytes, but can't unpack to more than {most:,}")
    if claim <= most:  # else it is a liar, whose length will be named
        refuse_giants(claim, path)
    data = bytearray()
    while len(data) <= claim and (chunk := stream.read(CHUNK)):
        data += chunk
        refuse_giants(len(data), path)
    return data


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file."""
    assert array.dtype == "uint8"
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
