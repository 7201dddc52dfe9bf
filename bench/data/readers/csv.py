"""Images in a CSV as Kaggle has them: an image a row, a pixel a column, and perhaps a column of labels.

Pixels are whole numbers from 0 to 255 or fractions from 0 to 1, row by row: side x side columns are grey, side x side x
3 are RGB, with the three channels of a pixel side by side (as in HAM10000's hmnist_28_28_RGB.csv) or one colour after
the other (as in CIFAR-10's rows): the smoother reading is taken. A header may be missing, as in pjreddie's
mnist_train.csv; all numbers of an image may stand in one cell, as in FER2013. Messages count rows from the first row of
data, as 1.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.readers.base import (
    NO_LABEL,
    ROLES,
    ImageSet,
    Role,
    as_labels,
    one_line,
    open_maybe_gzipped,
    reading,
    refuse_too_large,
    shown,
)
from bench.data.readers.csv_columns import NUMBER, Columns, find_columns, form_of, is_header
from bench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from bench.data.spec import ColourOrder

CELLS_AT_ONCE = 6_000_000  # numbers arrive as int64, eight times what is kept
SAMPLE = 2_000  # rows, where only the values tell what a column is
LONGEST_LINE = 8 << 20  # characters: of an image of 256 x 256 x 3 numbers, 40 each
ENDINGS = (".csv", ".csv.gz")
# FER2013's words for its parts: the public test was for validating, the private one decided.
USAGES: dict[str, Role] = {"publictest": "val", "privatetest": "test"}


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def has_labels(path: Path, label_column: str | None = None) -> bool:
    """Whether a file's columns include a label; reads the first rows only. Raises: DataError."""
    return bool(_columns(path, label_column).labels)


def read_csv(path: Path, label_column: str | None = None, colour_order: ColourOrder = "auto") -> dict[Role, ImageSet]:
    """A file's images (N, C, H, W) and labels, by what they are for: all for training, unless a column says so.

    Args:
        label_column: its name, `first`, `last` or `none`; None finds it out.

    Raises: DataError naming file, row and column of the first cell that isn't what it should be.
    """
    columns = _columns(path, label_column)
    fractions = False
    try:
        if columns.packed:
            pixels, labels, usage = _read_packed(path, columns)
        else:
            usage = None
            try:
                pixels, labels = _read_rows(path, columns, fractions)
            except _Fractions:
                fractions = True
                pixels, labels = _read_rows(path, columns, fractions)
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, Warning) as error:  # pandas' own errors are ValueErrors
        raise _first_fault(path, columns) from error
    names = [label.strip() for label in labels]
    if not len(pixels) or any(_is_no_label(name) for name in names):
        raise _first_fault(path, columns)
    side, channels = form_of(pixels.shape[1]) or (0, 0)
    notes = [f"Columns that are neither pixels nor label were left out: {', '.join(columns.ignored)}."] * bool(
        columns.ignored
    )
    if channels == 3:
        chosen, note = _colour_order(pixels, side, colour_order)
        notes += note
    else:
        chosen = "interleaved"
    shape = (-1, side, side, channels) if chosen == "interleaved" else (-1, channels, side, side)
    images = pixels.reshape(shape)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2) if chosen == "interleaved" else images)
    known = as_labels(names, shown(path)) if columns.labels else None
    whole = ImageSet(images, known, shown(path), tuple(notes), columns.how, fractions, chosen == "planar")
    if usage is None:
        return {"train": whole}
    found: dict[Role, ImageSet] = {}
    for role in ("train", "val", "test"):
        if (rows := usage == role).any():
            found[role] = whole._replace(images=images[rows], labels=None if known is None else known[rows])
    return found


class _Fractions(Exception):  # noqa: N818 - a file is read again, as fractions
    """Numbers with a fraction, where all so far were 0 or 1."""


def _read_rows(path: Path, columns: Columns, fractions: bool) -> tuple[np.ndarray, list[str]]:
    """Grey levels (N, pixels), uint8, and labels, empty where there are none."""
    pixels, labels, highest = [], list[str](), 0
    with _opened(path) as stream, warnings.catch_warnings(action="error"):  # pandas warns of a long line, and cuts it
        for rows in _chunks(stream, columns):
            levels = _levels(rows, columns, fractions)
            if levels is None:
                if not fractions and highest <= 1 and _levels(rows, columns, True) is not None:
                    raise _Fractions
                raise _first_fault(path, columns, fractions)
            pixels.append(levels)
            highest = max(highest, int(levels.max(initial=0)))
            refuse_too_large(sum(array.nbytes for array in pixels), path)
            if len(columns.labels) == 1:
                labels.extend(rows[columns.labels[0]].tolist())
            elif columns.labels:
                places = rows[columns.labels].to_numpy(dtype=float)
                if not ((places == 0) | (places == 1)).all() or (places.sum(axis=1) != 1).any():
                    raise DataError(f"{shown(path)}: {columns.how}, but some row has none, or several")
                labels.extend(columns.names[columns.labels[place]] for place in places.argmax(axis=1))
    return np.concatenate(pixels) if pixels else np.empty((0, 0), np.uint8), labels


def _read_packed(path: Path, columns: Columns) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """As _read_rows, of images whose numbers stand in one cell; and the role of each row, where a column says it."""
    rows, labels, usage = list[np.ndarray](), list[str](), list[Role]()
    with _opened(path) as stream:
        lines = (line for line in csv.reader(stream) if line)
        next(lines)
        for number, line in enumerate(lines, start=1):
            place = f"{shown(path)}, row {number}"
            if len(line) != len(columns.names):
                raise DataError(f"{place}: has {len(line):,} columns, expected {len(columns.names):,}")
            cells = line[columns.pixels[0]].replace(",", " ").strip(" []").split()
            if wrong := next((cell for cell in cells if not _is_level(cell)), None):
                raise DataError(f"{place}, column {columns.names[columns.pixels[0]]}: found '{one_line(wrong[:40])}', "
                                "expected whole numbers from 0 to 255")  # fmt: skip
            levels = np.array([float(cell) for cell in cells]).astype(np.uint8)
            if form_of(len(levels)) is None or (rows and len(levels) != len(rows[0])):
                before = f", those before {len(rows[0]):,}" if rows else ""
                raise DataError(f"{place}: has {len(levels):,} pixels{before}: no square image, or not as the others")
            rows.append(levels)
            labels += [line[column] for column in columns.labels]
            if columns.usage is not None:
                usage.append(_role_of(line[columns.usage], place))
    pixels = np.stack(rows) if rows else np.empty((0, 0), np.uint8)
    return pixels, labels, np.array(usage, dtype=object) if columns.usage is not None else None


def _role_of(cell: str, place: str) -> Role:
    word = re.sub(r"[\W_]+", "", cell.lower())
    role = USAGES.get(word) or ROLES.get(word)
    if role is None:
        raise DataError(f"{place}: '{one_line(cell[:40])}' names no split; expected training, validation or test")
    return role


def _colour_order(pixels: np.ndarray, side: int, asked: ColourOrder) -> tuple[str, list[str]]:
    """How the numbers of RGB images follow each other, by which reading has neighbours that differ less; and a note."""
    if asked != "auto":
        return asked, []
    some = pixels[:: max(1, len(pixels) // 500)].astype(np.int16)
    interleaved = np.abs(np.diff(some.reshape(-1, side, side, 3), axis=2)).mean()
    planar = np.abs(np.diff(some.reshape(-1, 3, side, side), axis=3)).mean()
    if planar < interleaved:
        said = "Colours were read one after the other (planar), which makes smoother images than pixel by pixel"
        return "planar", [f"{said}; --set dataset.colour_order=interleaved takes the other."]
    return "interleaved", []


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


def _columns(path: Path, asked: str | None) -> Columns:
    """What the first lines say. Raises: DataError if the number of columns is that of no square image."""
    with _opened(path) as stream:
        first, second = ([*islice((row for row in csv.reader(stream) if row), 2), [], []])[:2]
    if not first:
        raise DataError(f"{shown(path)}: is empty")

    def sample() -> np.ndarray:
        with _opened(path) as stream:
            rows = islice((row for row in csv.reader(stream) if len(row) == len(first)), SAMPLE)
            cells = np.array([*rows], dtype=object)
        return cells[1:] if is_header(first, second) else cells

    return find_columns(first, second, asked, sample, shown(path))


def _chunks(stream: _Text, columns: Columns) -> pd.io.parsers.TextFileReader:
    """pandas' reader over the rows of data, labels as text. A short line has empty cells; a long one is an error."""
    import pandas as pd

    if columns.header:
        next(row for row in csv.reader(stream) if row)
    return pd.read_csv(
        stream,
        header=None,
        names=list(range(len(columns.names))),
        index_col=False,
        dtype=dict.fromkeys(columns.labels, str) if len(columns.labels) == 1 else None,
        keep_default_na=False,
        low_memory=False,
        chunksize=max(1, CELLS_AT_ONCE // len(columns.names)),
    )


def _levels(rows: pd.DataFrame, columns: Columns, fractions: bool) -> np.ndarray | None:
    """Grey levels (N, columns), uint8; None if a cell holds anything but a whole number from 0 to 255.

    Of `fractions` numbers from 0 to 1, times 255.
    """
    pixels = rows[columns.pixels]
    if any(kind.kind not in "iuf" for kind in set(pixels.dtypes)):
        return None
    numbers = pixels.to_numpy()
    if not ((numbers >= 0) & (numbers <= (1 if fractions else 255))).all():
        return None
    if fractions:
        return np.rint(255 * numbers).astype(np.uint8)
    levels = numbers.astype(np.uint8)
    return levels if numbers.dtype.kind != "f" or (levels == numbers).all() else None


def _first_fault(path: Path, columns: Columns, fractions: bool = False) -> DataError:
    """Where a file goes wrong first, found by reading it again slowly, cell by cell."""
    pixels = set(columns.pixels)
    expected = "a number from 0 to 1" if fractions else "a whole number from 0 to 255"
    with _opened(path) as stream:
        lines = (line for line in csv.reader(stream) if line and (len(line) > 1 or line[0].strip()))
        if columns.header:
            next(lines)
        row = 0
        for row, line in enumerate(lines, start=1):
            place = f"{shown(path)}, row {row}"
            for column, name in enumerate(columns.names[: len(line)]):
                cell = line[column]
                if columns.labels == [column] and _is_no_label(cell.strip()):
                    found = f"found '{one_line(cell)}'" if cell.strip() else "is empty"
                    return DataError(f"{place}, column {name}: {found}, expected a label")
                if column in pixels and not columns.packed and not _is_level(cell, fractions):
                    found = f"found '{one_line(cell[:40])}'" if cell else "is empty"
                    return DataError(f"{place}, column {name}: {found}, expected {expected}")
            if len(line) != len(columns.names):
                return DataError(f"{place}: has {len(line):,} columns, expected {len(columns.names):,}")
        if not row:
            return DataError(f"{shown(path)}: has no row of data")
    return DataError(f"{shown(path)}: can't be read as rows of whole numbers from 0 to 255")


def _is_no_label(cell: str) -> bool:
    """Whether nothing stands there, or pandas' word for it."""
    return cell.lower() in NO_LABEL


def _is_level(cell: str, fractions: bool = False) -> bool:
    if not NUMBER.fullmatch(cell):
        return False
    number = float(cell)
    return 0 <= number <= 1 if fractions else 0 <= number <= 255 and number.is_integer()
