"""Images that somebody brings, as arrays: their layout, their fit to a square of a given size, and who is tested."""

from __future__ import annotations

import gzip
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from bench.errors import DataError, printable

if TYPE_CHECKING:
    import numpy as np

LONGEST_LABEL = 200  # characters: file systems allow no more in the name of a folder, which may be one
WHOLE = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*", re.ASCII)


class Part(NamedTuple):
    """What one file, pair of files or folder holds.

    Attributes:
        images: (N, C, H, W) uint8, or the image files of a folder, not yet read.
        labels: (N,) int64, or text as objects; None where there are none.
        source: the file or folder, for messages.
    """

    images: np.ndarray | list[Path]
    labels: np.ndarray | None
    source: str


class Division(NamedTuple):
    """Class names, and rows and labels (int64) of training and of test; a test set of its own has its own rows."""

    class_names: tuple[str, ...]
    train_rows: np.ndarray
    train_labels: np.ndarray
    test_rows: np.ndarray
    test_labels: np.ndarray


def natural(text: str) -> tuple[Any, ...]:
    """Sort key that puts "img2" before "img10", as people and file managers do."""
    parts = re.split(r"(\d+)", text)
    numbers = (part.lstrip("0") for part in parts[1::2])  # by length, then as text: no number is too long for it
    sized = [(len(number), number) for number in numbers]
    words = [(0, part.casefold()) for part in parts[::2]]
    return (*(key for pair in zip_longest(words, sized) for key in pair if key), (0, text))


def as_labels(values: Sequence[str], source: str) -> np.ndarray:
    """Labels from text: whole numbers (int64) where all are, else the text itself (objects). Raises: DataError."""
    import numpy as np

    if longest := next((value for value in values if len(value) > LONGEST_LABEL), ""):
        raise DataError(
            f"{source}: has the label '{printable(longest, 40)}' of {len(longest):,} characters; at most "
            f"{LONGEST_LABEL} are read"
        )
    if all(WHOLE.fullmatch(value) for value in values):
        return np.array([int(value.partition(".")[0]) for value in values], dtype=np.int64)
    return np.array(values, dtype=object)


def from_layout(array: np.ndarray, source: str) -> np.ndarray:
    """Images as (N, C, H, W), from (N, H, W), (N, H, W, C) or (N, C, H, W). Raises: DataError on any other shape."""
    shape = array.shape
    said = f"{source}: holds an array of {' x '.join(str(side) for side in shape)}"
    if array.ndim not in (3, 4) or 0 in shape:
        raise DataError(f"{said}; expected (images, height, width), with 1 or 3 channels at the end or after the first")
    if array.ndim == 3:
        return array[:, None]
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first and last:  # such as 3 x 3 x 1: the square one is meant
        first, last = shape[2] == shape[3], shape[1] == shape[2]
        if first == last:
            raise DataError(f"{said}: which axis is that of the channels can't be told from it")
    if not first and not last:
        raise DataError(f"{said}; expected 1 or 3 channels, at the end or after the first axis")
    return array if first else array.transpose(0, 3, 1, 2)


def has_colour(images: np.ndarray) -> bool:
    """Whether any pixel's channels differ. Shape: (N, C, H, W)."""
    return bool(images.shape[1] == 3 and (images[:, 1:] != images[:, :1]).any())


def fit(images: np.ndarray, image_size: int, in_channels: int) -> np.ndarray:
    """Padded with black to a square, resized, grey or RGB. Shape: (N, C, H, W) -> (N, in_channels, image_size, same).

    Arrays are padded, not cropped, since their makers framed them already: nothing that they drew is lost.
    """
    import numpy as np
    from PIL import Image

    if images.shape[1] == 3 and in_channels == 1:
        images = to_grey(images)
    height, width = images.shape[2:]
    side = max(height, width)
    if height != width:
        top, left = (side - height) // 2, (side - width) // 2
        edges = ((top, side - height - top), (left, side - width - left))
        images = np.pad(images, ((0, 0), (0, 0), *edges))
    if side != image_size:
        whole = (image_size, image_size)
        planes = images.reshape(-1, side, side)
        resized = [Image.fromarray(plane).resize(whole, Image.Resampling.BILINEAR) for plane in planes]
        images = np.stack([np.asarray(plane) for plane in resized]).reshape(*images.shape[:2], *whole)
    if images.shape[1] < in_channels:
        images = images.repeat(in_channels, axis=1)
    return np.ascontiguousarray(images)


def to_grey(images: np.ndarray) -> np.ndarray:
    """Luma of ITU-R BT.601, with the weights and rounding of PIL's convert("L"). (N, 3, H, W) -> (N, 1, H, W)."""
    import numpy as np

    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # of 65,536: equal channels keep their level
    total = sum(images[:, channel].astype(np.uint32) * weight for channel, weight in enumerate(weights))
    return ((total + 0x8000) >> 16).astype(np.uint8)[:, None]


def divide(
    train: np.ndarray, test: np.ndarray | None, test_fraction: float, source: str, test_source: str = ""
) -> Division:
    """Number the classes; without a test set, take a fixed share of each class for one.

    The draw is that of numpy's RandomState(0), whose stream never changes between versions.

    Args:
        train, test: labels (N,), whole numbers or text.

    Raises:
        DataError: one class only, a class with too few images for its shares, a class that only the test set has.
    """
    import numpy as np

    everything = train if test is None else np.concatenate([train, test])
    names, indices = _numbered(everything)
    labels, counts = indices[: len(train)], np.bincount(indices[: len(train)], minlength=len(names))
    if test is not None and not counts.all():
        unknown = printable(names[int(counts.argmin())], 60)
        raise DataError(f"{test_source}: holds class '{unknown}', of which {source} has no image to learn from")
    if len(names) < 2:
        only = printable(names[0], 60)
        raise DataError(f"{source}: all {len(train):,} images are of one class, '{only}'; two at least are needed")
    parts = ["training", "validation", *(["test"] if test is None else [])]
    if counts.min() < len(parts):
        rare = int(counts.argmin())
        raise DataError(
            f"{source}: class '{printable(names[rare], 60)}' has too few images ({counts[rare]}): "
            f"{', '.join(parts[:-1])} and {parts[-1]} need one each at least"
        )
    if test is not None:
        return Division(names, np.arange(len(train)), labels, np.arange(len(test)), indices[len(train) :])
    chosen = np.zeros(len(train), dtype=bool)
    draw = np.random.RandomState(0)
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        share = min(max(1, round(test_fraction * count)), count - 2)
        chosen[draw.permutation(members)[:share]] = True
    rows, tested = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    return Division(names, rows, labels[rows], tested, labels[tested])


def _numbered(labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names in order, numbers by size and text as people sort it, and each label's place among them."""
    import numpy as np

    if labels.dtype != object:
        classes, indices = np.unique(labels, return_inverse=True)
        return tuple(str(number) for number in classes), indices.astype(np.int64)
    names = tuple(sorted({str(label) for label in labels}, key=natural))
    places = {name: place for place, name in enumerate(names)}
    return names, np.array([places[str(label)] for label in labels], dtype=np.int64)


def num_val_of(num_train: int, fraction: float) -> int:
    """Images set aside for validation, one at least."""
    return max(1, math.floor(fraction * num_train + 0.5))


# Somebody's files, opened with care: ordinary files only, and never more of what they hold than memory takes.
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
