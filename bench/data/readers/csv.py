"""Images in a CSV as Kaggle has them: an image a row, a pixel a column, and perhaps a column of labels.

Pixels are whole numbers from 0 to 255, row by row: side x side columns are grey, side x side x 3 are RGB with the three
channels of a pixel side by side (as in HAM10000's hmnist_28_28_RGB.csv). A header may be missing, as in pjreddie's
mnist_train.csv. Messages count rows from the first row of data, as 1.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.data.readers.base import ImageSet, as_labels, one_line, open_maybe_gzipped, reading, refuse_too_large, shown
from bench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "labels", "class", "target", "y")
NUMBERS = ("imageid", "image_id", "id", "index", "")  # columns that say nothing about the image
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
CELLS_AT_ONCE = 6_000_000  # numbers arrive as int64, eight times what is kept
LONGEST_LINE = 8 << 20  # characters: of an image of 256 x 256 x 3 numbers, 40 each
ENDINGS = (".csv", ".csv.gz")


class Columns(NamedTuple):
    """Columns of a file: all names, indices of pixels and of the label, side and channels of the images."""

    names: list[str]
    pixels: list[int]
    label: int | None
    side: int
    channels: int
    header: bool


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def has_labels(path: Path) -> bool:
    """Whether a file's columns include a label; reads the first line only. Raises: DataError."""
    with _opened(path) as stream:
        return _columns(path, stream).label is not None


def read_csv(path: Path) -> ImageSet:
    """A file's images (N, C, H, W) and labels.

    Raises: DataError naming file, row and column of the first cell that isn't what it should be.
    """
    pixels, labels = [], []
    with _opened(path) as stream:
        columns = _columns(path, stream)
        if not columns.header:
            stream.seek(0)
        try:
            with warnings.catch_warnings(action="error"):  # pandas warns of a long line, and cuts it
                for rows in _chunks(stream, columns):
                    if (levels := _levels(rows, columns)) is None:
                        raise _first_fault(path, columns)
                    pixels.append(levels)
                    refuse_too_large(sum(array.nbytes for array in pixels), path)
                    if columns.label is not None:
                        labels.extend(rows[columns.label].tolist())
        except UnicodeDecodeError:
            raise
        except (ValueError, OverflowError, Warning) as error:  # pandas' own errors are ValueErrors
            raise _first_fault(path, columns) from error
    if not pixels or "" in labels:
        raise _first_fault(path, columns)
    shape = (-1, columns.side, columns.side, columns.channels)
    images = np.concatenate(pixels).reshape(shape).transpose(0, 3, 1, 2)
    return ImageSet(np.ascontiguousarray(images), as_labels(labels, shown(path)) if labels else None, shown(path))


class _Text(io.TextIOWrapper):
    """Text of a plain or gzipped file; a line above LONGEST_LINE is an error before it fills the memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(open_maybe_gzipped(path), encoding="utf-8-sig", newline="")
        self.path, self.length = path, 0

    def read(self, size: int | None = -1) -> str:
        """Called by pandas, for some 100,000 characters at a time."""
        text = super().read(size)
        last = max(text.rfind("\n"), text.rfind("\r"))
        self.length = self.length + len(text) if last < 0 else len(text) - last
        self._refuse_endless(self.length)
        return text

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        """Called by the csv module."""
        line = super().readline(LONGEST_LINE + 1)
        self._refuse_endless(len(line))
        return line

    def _refuse_endless(self, length: int) -> None:
        if length > LONGEST_LINE:
            raise DataError(f"{shown(self.path)}: a line has more than {LONGEST_LINE:,} characters; is it a CSV?")


@contextmanager
def _opened(path: Path) -> Iterator[_Text]:
    """Open a file as text; errors of reading inside the block become DataErrors that name it."""
    with reading(path), _Text(path) as stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            raise DataError(f"{shown(path)}: isn't text in UTF-8 (byte {error.object[error.start]:#04x})") from None
        except csv.Error as error:
            raise DataError(f"{shown(path)}: can't be read ({error})") from error


def _columns(path: Path, stream: _Text) -> Columns:
    """What the first line says. Raises: DataError if the number of columns is that of no square image."""
    cells = next((row for row in csv.reader(stream) if row), None)
    if cells is None:
        raise DataError(f"{shown(path)}: is empty")
    header = _is_header(cells)
    names = [one_line(cell.strip()) for cell in cells] if header else []
    lower = [name.lower() for name in names]
    label = next((lower.index(name) for name in LABELS if name in lower), None)
    pixels = [i for i in range(len(cells)) if i != label and not (header and lower[i] in NUMBERS)]
    if label is None and not _form(len(pixels)) and _form(len(pixels) - 1):
        label = pixels.pop(0)
    form = _form(len(pixels))
    if form is None:
        hint = "; are its cells divided by commas?" if len(cells) == 1 else ""
        raise DataError(
            f"{shown(path)}: {len(pixels):,} columns of pixels are no square image, grey (784 is 28 x 28) "
            f"or RGB (3,072 is 32 x 32 x 3){hint}"
        )
    if not header:
        places = {place: f"pixel{number}" for number, place in enumerate(pixels)}
        names = [places.get(place, "label") for place in range(len(cells))]
    return Columns(names, pixels, label, *form, header)


def _is_header(cells: list[str]) -> bool:
    """Whether a file's first line names its columns: words, or numbers in order (0, 1, 2 ...) as pandas writes them."""
    words = sum(not NUMBER.fullmatch(cell) for cell in cells)
    named = [place for place, cell in enumerate(cells) if cell.strip().lower() in LABELS]
    rest = [cell for place, cell in enumerate(cells) if place not in named]
    counted = len(rest) > 1 and any(rest == [str(k + i) for i in range(len(rest))] for k in (0, 1))
    return 2 * words > len(cells) or (counted and (bool(named) or len(rest) > 256))


def _form(count: int) -> tuple[int, int] | None:
    """Side and channels of an image of so many numbers; no number is both a square and three squares."""
    for channels in (1, 3):
        side = math.isqrt(max(count, 0) // channels)
        if side > 1 and side * side * channels == count:
            return side, channels
    return None


def _chunks(stream: _Text, columns: Columns) -> pd.io.parsers.TextFileReader:
    """pandas' reader over the rows of data, labels as text. A short line has empty cells; a long one is an error."""
    import pandas as pd

    return pd.read_csv(
        stream,
        header=None,
        names=list(range(len(columns.names))),
        index_col=False,
        dtype={columns.label: str} if columns.label is not None else None,
        keep_default_na=False,
        low_memory=False,
        chunksize=max(1, CELLS_AT_ONCE // len(columns.names)),
    )


def _levels(rows: pd.DataFrame, columns: Columns) -> np.ndarray | None:
    """Grey levels (N, columns), uint8; None if a cell holds anything but a whole number from 0 to 255."""
    pixels = rows[columns.pixels]
    if any(kind.kind not in "iuf" for kind in set(pixels.dtypes)):
        return None
    numbers = pixels.to_numpy()
    if not ((numbers >= 0) & (numbers <= 255)).all():
        return None
    levels = numbers.astype(np.uint8)
    return levels if numbers.dtype.kind != "f" or (levels == numbers).all() else None


def _first_fault(path: Path, columns: Columns) -> DataError:
    """Where a file goes wrong first, found by reading it again slowly, cell by cell."""
    pixels = set(columns.pixels)
    with _opened(path) as stream:
        lines = (line for line in csv.reader(stream) if line and (len(line) > 1 or line[0].strip()))
        if columns.header:
            next(lines)
        row = 0
        for row, line in enumerate(lines, start=1):
            place = f"{shown(path)}, row {row}"
            for column, name in enumerate(columns.names[: len(line)]):
                cell = line[column]
                if column == columns.label and not cell:
                    return DataError(f"{place}, column {name}: is empty, expected a label")
                if column in pixels and not _is_level(cell):
                    found = f"found '{one_line(cell[:40])}'" if cell else "is empty"
                    return DataError(f"{place}, column {name}: {found}, expected a whole number from 0 to 255")
            if len(line) != len(columns.names):
                return DataError(f"{place}: has {len(line):,} columns, expected {len(columns.names):,}")
        if not row:
            return DataError(f"{shown(path)}: has no row of data")
    return DataError(f"{shown(path)}: can't be read as rows of whole numbers from 0 to 255")


def _is_level(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell)) and 0 <= float(cell) <= 255 and float(cell).is_integer()
