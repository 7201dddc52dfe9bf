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
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.readers.base import (
    NO_LABEL,
    ImageSet,
    Role,
    as_labels,
    one_line,
    open_maybe_gzipped,
    reading,
    refuse_too_large,
    shown,
)
from bench.data.readers.csv_columns import NUMBER, Columns, find_columns, form_of, is_header, is_lost_row, role_of
from bench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from bench.data.spec import ColourOrder

CELLS_AT_ONCE = 6_000_000  # numbers arrive as int64, eight times what is kept
OPAQUE = 255  # a pixel's alpha
SAMPLE = 2_000  # rows, where only the values tell what a column is
LONGEST_LINE = 8 << 20  # characters: of an image of 256 x 256 x 3 numbers, 40 each
ENDINGS = (".csv", ".csv.gz")


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
            try:
                pixels, labels, usage = _read_rows(path, columns, fractions)
            except _Fractions:
                fractions = True
                pixels, labels, usage = _read_rows(path, columns, fractions)
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, Warning) as error:  # pandas' own errors are ValueErrors
        raise _first_fault(path, columns) from error
    names = [label.strip() for label in labels]
    if not len(pixels) or any(_is_no_label(name) for name in names):
        raise _first_fault(path, columns)
    side, channels = form_of(pixels.shape[1]) or (0, 0)
    left_out = ", ".join(columns.ignored[:5]) + (" ..." if len(columns.ignored) > 5 else "")
    notes = [f"Columns that are neither pixels nor label were left out: {left_out}."] if left_out else []
    if columns.lost:
        notes.append(
            "The header is a row of data, whose numbers pandas made names of (0, 0.1, 0.2 ...): it was left out; read "
            "the original with header=None."
        )
    if columns.usage is not None:
        notes.append("A column of the table says which of its images are for training, validation and test.")
    if columns.unlike:
        notes.append(
            f"Are {', '.join(columns.unlike[:3])} ... pixels? They became images of {side} x {side}; measured values "
            "make no image."
        )
    if columns.sorted:
        notes.append("The columns of pixels were put into the order of the numbers in their names.")
    if channels == 1 and (rgb := _without_alpha(pixels, side, shown(path))) is not None:
        pixels, side, channels, chosen = rgb, side // 2, 3, "interleaved"
        notes.append(f"Each fourth number is {OPAQUE}, the alpha of RGBA: it was left out, and colours were read.")
    elif columns.order:
        chosen = columns.order
    elif channels == 3:
        chosen, note = _colour_order(pixels, side, colour_order)
        notes += note
    else:
        chosen = "interleaved"
    shape = (-1, side, side, channels) if chosen == "interleaved" else (-1, channels, side, side)
    images = pixels.reshape(shape)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2) if chosen == "interleaved" else images)
    known = as_labels(names, shown(path)) if columns.labels else None
    whole = ImageSet(images, known, shown(path), tuple(notes), columns.how, fractions, chosen == "planar")
    if columns.usage is None:
        return {"train": whole}
    found: dict[Role, ImageSet] = {}
    for role in ("train", "val", "test"):
        if (rows := usage == role).any():
            found[role] = whole._replace(images=images[rows], labels=None if known is None else known[rows])
    return found


class _Fractions(Exception):  # noqa: N818 - a file is read again, as fractions
    """Numbers with a fraction, where all so far were 0 or 1."""


def _read_rows(path: Path, columns: Columns, fractions: bool) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Grey levels (N, pixels), uint8; labels and the role of each row (N,), empty where no column says them."""
    pixels, labels, usage, highest = [], list[str](), list[Role](), 0
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
            if columns.usage is not None:
                cells = enumerate(rows[columns.usage].astype(str), start=len(usage) + 1)
                usage += [_role_of(cell, f"{shown(path)}, row {number}") for number, cell in cells]
            if len(columns.labels) == 1:
                labels.extend(rows[columns.labels[0]].tolist())
            elif columns.labels:
                places = rows[columns.labels].to_numpy(dtype=float)
                if not ((places == 0) | (places == 1)).all() or (places.sum(axis=1) != 1).any():
                    raise DataError(f"{shown(path)}: {columns.how}, but some row has none, or several")
                labels.extend(columns.names[columns.labels[place]] for place in places.argmax(axis=1))
    levels = np.concatenate(pixels) if pixels else np.empty((0, 0), np.uint8)
    return levels, labels, np.array(usage, dtype=object)


def _read_packed(path: Path, columns: Columns) -> tuple[np.ndarray, list[str], np.ndarray]:
    """As _read_rows, of images whose numbers stand in one cell."""
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
    return pixels, labels, np.array(usage, dtype=object)


def _role_of(cell: str, place: str) -> Role:
    if (role := role_of(cell)) is None:
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


def _without_alpha(pixels: np.ndarray, side: int, where: str) -> np.ndarray | None:
    """RGB images (N, 3 * pixels) of RGBA ones, whose numbers are as many as those of grey images of twice the side.

    They are RGBA if each fourth number is opaque and neighbours among the others differ less than those of the grey
    image would. Returns: None if they are grey. Raises: DataError: RGBA with some pixels transparent.
    """
    if side % 2 or side <= 4:  # of 4 x 4, each fourth number is the edge of a grey image
        return None
    some = pixels[:: max(1, len(pixels) // 500)].astype(np.int16)
    colours = some.reshape(-1, side // 2, side // 2, 4)
    grey = np.abs(np.diff(some.reshape(-1, side, side), axis=2)).mean()
    coloured = np.abs(np.diff(colours[..., :3], axis=2)).mean()
    if (pixels[:, 3::4] == OPAQUE).all():
        is_grey = coloured >= grey
    else:
        extreme = (colours == 0) | (colours == OPAQUE)  # as alpha is nearly everywhere, unlike colours
        is_grey = extreme[..., 3].mean() < 0.9 or extreme[..., :3].mean() > 0.9 or coloured >= 0.75 * grey
        if not is_grey:
            raise DataError(
                f"{where}: each fourth number looks like the alpha of RGBA images with transparent pixels; lay them "
                "over a ground and save RGB"
            )
    return None if is_grey else pixels.reshape(len(pixels), -1, 4)[..., :3].reshape(len(pixels), -1)


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
    if first[0].lstrip().startswith("#") and len(first) != len(second):
        raise DataError(f"{shown(path)}: begins with a comment ('{one_line(first[0][:40])}'); remove that line")

    def sample() -> np.ndarray:
        with _opened(path) as stream:
            rows = islice((row for row in csv.reader(stream) if len(row) == len(first)), SAMPLE)
            cells = np.array([*rows], dtype=object).reshape(-1, len(first))
        return cells[1:] if is_lost_row(first) or is_header(first, second) else cells

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
                    if NUMBER.fullmatch(cell):
                        low, high, (off, off_fractions), count = _range(path, columns)
                        if off_fractions < off and not fractions:  # all but few are fractions
                            return _first_fault(path, columns, fractions=True)
                        if min(off, off_fractions) > max(1, count / 1_000):
                            found += f", and the numbers run from {low:g} to {high:g}"
                            expected = "0 to 255, or fractions from 0 to 1"
                    return DataError(f"{place}, column {name}: {found}, expected {expected}")
            if len(line) != len(columns.names):
                return DataError(f"{place}: has {len(line):,} columns, expected {len(columns.names):,}")
        if not row:
            return DataError(f"{shown(path)}: has no row of data")
    return DataError(f"{shown(path)}: can't be read as rows of whole numbers from 0 to 255")


def _range(path: Path, columns: Columns) -> tuple[float, float, tuple[int, int], int]:
    """Of all pixels that are numbers: the lowest, the highest, how many are no whole numbers from 0 to 255, and how
    many not from 0 to 1; and how many there are.
    """
    low, high, off, off_fractions, count = math.inf, -math.inf, 0, 0, 0
    with _opened(path) as stream:
        lines = islice((line for line in csv.reader(stream) if line), int(columns.header), None)
        for line in lines:
            cells = (line[place] for place in columns.pixels if place < len(line))
            numbers = np.array([float(cell) for cell in cells if NUMBER.fullmatch(cell)])
            low, high = min(low, numbers.min(initial=low)), max(high, numbers.max(initial=high))
            off += int(((numbers < 0) | (numbers > 255) | (numbers != np.rint(numbers))).sum())
            off_fractions += int(((numbers < 0) | (numbers > 1)).sum())
            count += len(numbers)
    return low, high, (off, off_fractions), count


def _is_no_label(cell: str) -> bool:
    """Whether nothing stands there, or pandas' word for it."""
    return cell.lower() in NO_LABEL


def _is_level(cell: str, fractions: bool = False) -> bool:
    if not NUMBER.fullmatch(cell):
        return False
    number = float(cell)
    return 0 <= number <= 1 if fractions else 0 <= number <= 255 and number.is_integer()
