"""Images and labels in numpy's .npz: Keras's names, MedMNIST's, or just `images` and `labels`. Nothing is unpickled."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from bench.data.readers.base import (
    Part,
    as_labels,
    from_layout,
    one_line,
    open_maybe_gzipped,
    open_plain,
    refuse_giants,
    shown,
)
from bench.errors import DataError, printable

if TYPE_CHECKING:
    import numpy as np

# role -> names that its images and its labels may have, `{}` being the role's own word
WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGES = ("{}_images", "x_{}", "{}_x", "{}_data", "images_{}")
LABELS = ("{}_labels", "y_{}", "{}_y", "{}_targets", "labels_{}")
ONLY_IMAGES, ONLY_LABELS = ("images", "x", "data", "imgs"), ("labels", "y", "targets", "label")

MOST_ARRAYS = 1_000
# What zipfile and numpy raise on damaged files; numpy reads a header with Python's own tokenizer and parser.
DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError),
    *(NotImplementedError, RuntimeError, SyntaxError, struct.error, tokenize.TokenError),
)


class Contents(NamedTuple):
    """The parts of a file by role (train, val, test), and what was done to their numbers, as sentences."""

    parts: dict[str, Part]
    notes: list[str]


def read_npz(path: Path) -> Contents:
    """The images and labels in a file.

    Numbers may be whole from 0 to 255, or fractions from 0 to 1, which are multiplied by 255 and rounded.

    Raises:
        DataError: not an .npz, damaged, pickled objects inside, arrays without a known name, or of odd shape or range.
    """
    arrays = _arrays(path)
    lower = {name.lower(): name for name in arrays}
    pairs = {role: (_named(lower, IMAGES, words), _named(lower, LABELS, words)) for role, words in WORDS.items()}
    if pairs["train"][0] is None:
        images = next((lower[name] for name in ONLY_IMAGES if name in lower), None)
        pairs["train"] = (images, next((lower[name] for name in ONLY_LABELS if name in lower), pairs["train"][1]))
    used = {role: (images, labels) for role, (images, labels) in pairs.items() if images is not None}
    if not used:
        holds = printable(", ".join(arrays), 200) or "nothing"
        raise DataError(
            f"{shown(path)}: holds {holds}; expected arrays named images and labels, x_train, y_train, x_test, y_test, "
            "or train_images, train_labels, test_images, test_labels"
        )
    scale = _scale({images: arrays[images] for images, _ in used.values()}, path)
    parts = {}
    for role, (images, labels) in used.items():
        named = f"{shown(path)}, array {images}"
        levels = from_layout(_levels(arrays[images], scale), named)
        found = None if labels is None else _labels(arrays[labels], len(levels), f"{shown(path)}, array {labels}")
        parts[role] = Part(levels, found, shown(path))
    notes = ["Numbers from 0 to 1 were multiplied by 255 and rounded to whole grey levels."] if scale else []
    return Contents(parts, notes)


def _named(lower: dict[str, str], forms: tuple[str, ...], words: tuple[str, ...]) -> str | None:
    names = (form.format(word) for form in forms for word in words)
    return next((lower[name] for name in names if name in lower), None)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, once each has shown that it is as long as it says and holds no objects."""
    import numpy as np

    try:
        with open_plain(path) as stream:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if len(members) > MOST_ARRAYS:
                    raise DataError(f"{shown(path)}: holds {len(members):,} arrays; at most {MOST_ARRAYS:,} are read")
                refuse_giants(sum(member.file_size for member in members), path)
                for member in members:
                    _refuse_liars(archive, member, path)
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                return {one_line(name): file[name] for name in file.files}
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{shown(path)}: isn't an .npz, or is damaged ({printable(str(error), 120)})") from error
    except (*DAMAGED, MemoryError) as error:
        said = printable(str(error), 120) or type(error).__name__
        raise DataError(f"{shown(path)}: can't be read as an .npz ({said})") from error


def _refuse_liars(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """numpy makes room for what a header claims before it reads on; so the claim is checked first."""
    from numpy.lib import format as npy

    where = f"{shown(path)}, array {one_line(member.filename.removesuffix('.npy'))}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: is packed in a way that numpy doesn't write; save the arrays again")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read_header(stream)
        if kind.hasobject:
            raise DataError(f"{where}: holds Python objects, whose reading could run code; save plain numbers or text")
        claim, there = math.prod(shape) * kind.itemsize, member.file_size - stream.tell()
    if min(shape, default=0) < 0 or kind.itemsize == 0 or claim != there:
        raise DataError(f"{where}: says that it holds {claim:,} bytes, but {there:,} follow (damaged?)")


def _scale(images: dict[str, np.ndarray], path: Path) -> bool:
    """Whether the images, all together, run from 0 to 1. Raises: DataError where that, or 0 to 255, isn't plain."""
    import numpy as np

    fractions = []
    for name, array in images.items():
        where = f"{shown(path)}, array {name}"
        if array.dtype.kind not in "buif" or array.size == 0:
            raise DataError(f"{where}: holds {array.dtype} of shape {array.shape}; expected images as numbers")
        low, high = array.min(), array.max()
        if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 255):
            raise DataError(f"{where}: runs from {low:g} to {high:g}; expected 0 to 255, or fractions from 0 to 1")
        floats = array.dtype.kind in "bf"
        if floats and high > 1 and not bool((array == np.round(array)).all()):
            raise DataError(f"{where}: holds fractions and runs to {high:g}; expected 0 to 255, or fractions up to 1")
        fractions.append((floats, bool(high <= 1)))
    if all(floats for floats, _ in fractions):
        return all(small for _, small in fractions)
    if any(floats and small for floats, small in fractions):
        raise DataError(f"{shown(path)}: some images run from 0 to 1 and others to 255; save all of them alike")
    return False


def _levels(array: np.ndarray, scale: bool) -> np.ndarray:
    import numpy as np

    return np.rint(array.astype(np.float32) * 255).astype(np.uint8) if scale else array.astype(np.uint8)


def _labels(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """One label an image, as whole numbers or text; a second axis of one, as in MedMNIST, is taken away."""
    import numpy as np

    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.shape != (count,):
        raise DataError(f"{where}: has shape {array.shape}; expected one label for each of {count:,} images")
    if labels.dtype.kind in "buif" and not bool((np.abs(labels.astype(np.float64)) < 2**62).all()):
        raise DataError(
            f"{where}: holds numbers that are too large, or none; expected whole numbers or names as labels"
        )
    if labels.dtype.kind in "bui" or (labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all())):
        return labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind not in "UT":
        raise DataError(f"{where}: holds {labels.dtype}; expected whole numbers or names as labels")
    if labels.dtype.kind == "U":
        codes = np.ascontiguousarray(labels).view(np.dtype(np.uint32).newbyteorder(labels.dtype.byteorder))
        if codes.max(initial=0) > 0x10FFFF or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise DataError(f"{where}: holds what is no text (damaged?)")
    return as_labels([str(label) for label in labels], where)


# The IDX format of MNIST's files: a header of sizes, then bytes.
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
