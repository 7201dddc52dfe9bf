"""Lines: a table's rows as they lie on disk, there and back, whatever else lies between them.

A cell never holds a line break, so that a line is a row, and what is wrong with one line is never wrong with the next:
a quote that was never closed swallows nothing.
"""

import csv
import gc
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.result import COLUMNS, STATUSES, TABLES, TEXT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


# Formula: text that a spreadsheet would run as one, made harmless in a CSV file and read back as it was.
#
# Excel, LibreOffice and Google Sheets take a cell for a formula that begins with one of the signs which OWASP lists
# ("CSV Injection": equals, plus, minus, at, tab, carriage return, line feed, and the full-width forms of the first
# four, which some languages' versions take for them); its ASVS adds the null character (v5.0, 1.2.10). White space
# and a byte order mark before such a sign are ours to add: programs that trim a cell on opening bare what follows. A
# quote before the cell makes it text.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: full-width
_RISKY = re.compile(rf"'*(?:[\s\0\ufeff]*[{_SIGNS}]|[\t\r\n\0])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def guarded(text: str) -> str:
    """`text` as it may stand in a cell; a number is harmless with its sign.

    What is risky stays so behind one more quote, so no two texts become the same cell.
    """
    return f"'{text}" if _is_risky(text) else text


def unguarded(cell: str) -> str:
    """What `guarded` was given; a cell that it can't have made stays as it is."""
    return cell[1:] if cell.startswith("'") and _is_risky(cell[1:]) else cell


def _is_risky(text: str) -> bool:
    return bool(_RISKY.match(text)) and not _NUMBER.fullmatch(text)


BOM = b"\xef\xbb\xbf"  # what some editors put before UTF-8
_ODD = re.compile(rb"[\0\r\"'\x80-\xff]")  # what a line of numbers and names has none of
LONGEST_CELL = 100_000  # characters; csv reads no more than 131,072


@dataclass(slots=True)  # frozen would take twice the time, and a run has hundreds of thousands
class Line:
    """A line after the header.

    Attributes:
        number: from 1, the header's.
        cells: in the order of the table's layout; None where it is no row.
        problem: why it is none.
        plain: written as we write it; another one is a row, too, and is written again when the table is mended.
    """

    number: int
    raw: bytes
    cells: list[str] | None
    problem: str = ""
    plain: bool = True


@dataclass(frozen=True)
class Table:
    """A table's file.

    Attributes:
        layout: the columns that its rows have.
        header_problem: what is wrong with the first line, "" for nothing.
        header: that line, where it is wrong.
        blank: an editor's mark before all, or nothing in the file at all.
    """

    layout: Sequence[str]
    header_problem: str = ""
    header: bytes = b""
    lines: list[Line] = field(default_factory=list)
    blank: bool = False

    @property
    def rows(self) -> Iterator[dict[str, str]]:
        return (dict(zip(self.layout, line.cells, strict=True)) for line in self.lines if line.cells is not None)


def parse(
    data: bytes, columns: Sequence[str], earlier: Sequence[Sequence[str]] = (), states: set[str] | None = None
) -> Table:
    """A table's bytes, line by line.

    Args:
        columns: of this version; a header with fewer of them is an earlier version's.
        earlier: layouts of earlier versions, for files whose header is lost.
        states: what the column `status` may hold.
    """
    *whole, torn = data.removeprefix(BOM).split(b"\n")
    first, *rest = whole or [b""]
    header, plain = _cells(first)
    start, problem = 2, ""
    if header and "trial_id" in header and set(header) <= set(columns) and len(set(header)) == len(header):
        layout: Sequence[str] = header
    else:
        problem = "not the table's header" if data else "nothing in it"
        layout = _layout_of(rest, [columns, *earlier])
        if whole and len(set(header or ()) & set(columns)) * 2 < len(layout):  # no header at all: a row perhaps
            start, rest = 1, whole
    table = Table(layout, problem, first if problem and start == 2 else b"", blank=data.startswith(BOM) or not plain)
    index = {name: place for place, name in enumerate(layout)}
    with _no_collection():
        table.lines.extend(_line(number, raw, layout, index, states) for number, raw in enumerate(rest, start))
    if torn:
        table.lines.append(Line(start + len(rest), torn, None, "torn: it has no end"))
    return table


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without looking for cycles: lines have none, and beside torch's objects looking takes as long as reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _line(number: int, raw: bytes, layout: Sequence[str], index: Mapping[str, int], states: set[str] | None) -> Line:
    cells, plain = _cells(raw)
    if cells is None:
        problem = "holds bytes that are no text" if b"\0" in raw else "is no row"
    elif len(cells) != len(layout):
        problem = f"has {len(cells)} cells, the table {len(layout)} columns" if raw else "is empty"
    elif cells == layout:
        problem = "is the header again"
    elif not cells[index["trial_id"]]:
        problem = "names no trial"
    elif states and (status := index.get("status")) is not None and cells[status] not in states:
        problem = f"has the unknown status {cells[status][:40]!r}"
    else:
        return Line(number, raw, cells, plain=plain)
    return Line(number, raw, None, problem)


def _cells(raw: bytes) -> tuple[list[str] | None, bool]:
    """The cells of a line, and whether it is written as we write it. Zeros before a row are a power loss's."""
    if not _ODD.search(raw):
        return raw.decode("ascii").split(","), True
    body = raw.removesuffix(b"\r").lstrip(b"\0")
    plain = len(body) == len(raw)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text, plain = body.decode(errors="replace"), False
    if "\0" in text or "\r" in text:
        return None, False
    cells = text.split(",")
    if '"' in text:
        try:
            (cells,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError):
            return None, False
    return ([unguarded(cell) for cell in cells] if "'" in text else cells), plain


def _layout_of(lines: Sequence[bytes], known: Sequence[Sequence[str]]) -> Sequence[str]:
    """Of the layouts known, the one with as many columns as most lines have cells."""
    lengths = Counter(len(cells) for cells, _ in map(_cells, lines) if cells is not None)
    return max(known, key=lambda columns: lengths[len(columns)])


def as_cell(value: Any) -> str:
    """A value as it stands in a cell, on one line: "" for what wasn't measured; text can't be taken for a formula."""
    if value is None or value != value:  # NaN: not measured either
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(float(value))  # NumPy's own kind of float would name its type
    return guarded(one_line(value)) if isinstance(value, str) else str(value)


def one_line(text: str) -> str:
    """Text that fits a cell: what no line of UTF-8 can hold is spelled out, and a novel is cut."""
    if "\n" in text or "\r" in text:
        text = " ".join(text.split())
    text = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def as_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows of cells, as `as_cell` or `again` makes them."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def again(cell: str) -> str:
    """A cell that was read, as it stands in a file; -inf is a number, too."""
    if cell[:1] not in "'=+-@\t":
        return cell
    try:
        float(cell)
    except ValueError:
        return guarded(cell)
    return cell


SCHEMA_VERSION = 4
READABLE = (2, 3, 4)  # earlier ones have fewer columns, and nothing else that differs


# Columns that versions brought; a file whose header is lost is told by how many its rows have.
_NEW_IN_3 = {"data_wait_seconds"}


_NEW_IN_4 = {"world_size", "global_batch", "node", "node_cpu", "node_cores", "load", "seal"}
EARLIER = tuple(tuple(name for name in COLUMNS if name not in new) for new in (_NEW_IN_4, _NEW_IN_4 | _NEW_IN_3))
PREVIOUS = ".run.json.previous"  # run.json as it was before it was last written


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder.

    Raises:
        StoreError: no run there, or one of another schema version.
    """
    path = folder / "run.json"
    try:
        run = json.loads(path.read_bytes())
        version = run["schema_version"]
        if type(version) is not int:
            raise ValueError("its schema_version is no number")
    except FileNotFoundError:
        raise StoreError(f"{folder}: not a run (it has no run.json); runs are results/<suite>/<run_id>") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        copy = f"; {PREVIOUS} beside it is an earlier copy: put it in its place" if (folder / PREVIOUS).exists() else ""
        raise StoreError(f"{path}: can't be read as a run's record ({why}){copy}") from None
    if version > READABLE[-1]:
        raise StoreError(
            f"{path}: written by a newer version of this program (schema {str(version)[:20]}, this one reads "
            f"{READABLE[0]} to {READABLE[-1]}); update the program"
        )
    if version not in READABLE:
        raise StoreError(f"{path}: schema version {version}, this program reads {READABLE[0]} to {READABLE[-1]}")
    return run


def read_lines(path: Path) -> Table:
    """One of the store's tables line by line, also what is no row. Raises: OSError, where it can't be read."""
    if path.name not in TABLES:  # rows of trials, kept elsewhere
        return parse(path.read_bytes(), TABLES["trials.csv"], EARLIER, {*STATUSES, ""})
    trials = path.name == "trials.csv"
    return parse(path.read_bytes(), TABLES[path.name], EARLIER if trials else (), {*STATUSES, ""} if trials else None)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Whole rows of one of the store's tables as text; a torn or foreign row is passed over.

    A line counts when it ends in a newline and has a cell for each column, so a reader never sees half a row. Columns
    that an earlier version didn't have are empty.
    """
    empty = dict.fromkeys(TABLES.get(path.name, tuple(COLUMNS)), "")
    return [empty | row for row in read_lines(path).rows]


def read_table(folder: Path, name: str) -> "pd.DataFrame":
    """A table of the store (`trials.csv`, `evaluations.csv`, `throughput.csv`) as a data frame with numbers.

    Text columns hold "" where the cell is empty; number columns hold NaN.

    Raises:
        StoreError: there is no such file, or it can't be read.
    """
    import pandas as pd

    try:
        table = read_lines(folder / name)
    except OSError as error:
        raise StoreError(f"{folder / name}: can't be read ({error.strerror}); --resume makes a missing table") from None
    cells = [line.cells for line in table.lines if line.cells is not None]
    frame = pd.DataFrame(cells, columns=list(table.layout), dtype=object).reindex(
        columns=list(TABLES[name]), fill_value=""
    )
    for key in frame.columns:
        if key not in TEXT_COLUMNS:
            frame[key] = pd.to_numeric(frame[key], errors="coerce").astype(float)
    return frame
