"""What a run folder holds, read: its record (run.json), its journal, and the CSV tables that the journal gives.

`journal.jsonl` has a line for each finished trial: its row, its evaluations, its timed blocks, and digests of its
files. The tables are views of it, for people and other programs; nothing here reads them.
"""

import csv
import gc
import io
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.result import COLUMNS, STATUSES, TABLES, TEXT_COLUMNS
from bench.store.journal import Line, digest_of, read_lines

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 5
RECORD, JOURNAL, TRIALS, RETRIED = "run.json", "journal.jsonl", "trials.csv", "retried.csv"
PREVIOUS = ".run.json.previous"  # run.json as it was before it was last written
PARTS = {"evaluations.csv": "evaluations", "throughput.csv": "blocks", "inference.csv": "inference_blocks"}
LONGEST_CELL = 100_000  # characters; csv reads no more than 131,072
_SCALARS = {type(None), bool, int, float, str}

# Text that a spreadsheet would run as a formula is made harmless in a CSV file, and read back as it was.
#
# Excel, LibreOffice and Google Sheets take a cell for a formula that begins with one of the signs which OWASP lists
# ("CSV Injection": equals, plus, minus, at, tab, carriage return, line feed, and the full-width forms of the first
# four, which some languages' versions take for them); its ASVS adds the null character (v5.0, 1.2.10). White space
# and a byte order mark before such a sign are ours to add: programs that trim a cell on opening bare what follows. A
# quote before the cell makes it text.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: full-width
_RISKY = re.compile(rf"'*(?:[\s\0\ufeff]*[{_SIGNS}]|[\t\r\n\0])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.ASCII | re.IGNORECASE)


@dataclass(slots=True)
class Entry:
    """A finished trial, as its line in the journal tells it.

    Attributes:
        attempt: how many times it had been finished before, and was then asked for again.
        row: of trials.csv, with the line's digest as `seal`; what wasn't measured is left out.
        parts: by the name of another table, its columns there: lists of the same length.
        sums, failure: digests of its SHA256SUMS and of what its failure left; None where there was no such file.
    """

    attempt: int
    row: dict[str, Any]
    parts: dict[str, dict[str, list[Any]]]
    sums: str | None = None
    failure: str | None = None

    @property
    def trial_id(self) -> str:
        return str(self.row["trial_id"])

    def rows(self, name: str) -> Iterable[tuple[Any, ...]]:
        """Its rows of a table, in the order of the columns."""
        if name in PARTS:
            return zip(itertools.repeat(self.trial_id), *map(self.parts[name].get, TABLES[name][1:]))
        return [tuple(map(self.row.get, COLUMNS))]


@dataclass
class Entries:
    """A run's journal.

    Attributes:
        trials: the finished ones by trial_id, in the order in which they ended.
        retried: those that were run again, or are to be.
        attempts: how many times each of those had been finished.
        bad: lines that are damaged or foreign; `problem` says what is wrong.
    """

    trials: dict[str, Entry] = field(default_factory=dict)
    retried: list[Entry] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    bad: list[Line] = field(default_factory=list)

    def retry(self, trial_id: str) -> None:
        """Count a finished trial as not run."""
        entry = self.trials.pop(trial_id)
        self.retried.append(entry)
        self.attempts[trial_id] = entry.attempt + 1


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder. Raises: StoreError: no run there, or one of another schema version."""
    path = folder / RECORD
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
    if version > SCHEMA_VERSION:
        newer = f"written by a newer version of this program (schema {str(version)[:20]}, this one reads"
        raise StoreError(f"{path}: {newer} {SCHEMA_VERSION}); update the program")
    if version != SCHEMA_VERSION:
        how = f"; convert it: python tests/benchmarks/convert_store.py {folder}" if version == 4 else ""
        raise StoreError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}{how}")
    return run


def record_digest(record: dict[str, Any]) -> str:
    """The digest of run.json's contents, its own left out."""
    content = {key: value for key, value in record.items() if key != "digest"}
    return digest_of(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def read_journal(folder: Path) -> Entries:
    """The journal of a run; damaged and foreign lines are passed over, and listed.

    Raises: StoreError: the folder is no run. OSError: the journal can't be read.
    """
    plan = read_run(folder).get("plan")
    planned = {name for name in plan if isinstance(name, str)} if isinstance(plan, list) else set()
    found = Entries()
    collects = gc.isenabled()
    gc.disable()  # JSON has no cycles, and beside torch's objects looking for some takes as long as reading
    try:
        for line in read_lines(folder / JOURNAL):
            line.problem = line.problem or _take(line, planned, found)
            if line.problem:
                found.bad.append(line)
    finally:
        if collects:
            gc.enable()
    return found


def read_rows(folder: Path, name: str = TRIALS) -> list[dict[str, str]]:
    """The rows of a table as text: "" for what wasn't measured.

    Raises: StoreError, OSError: as `read_journal`.
    """
    rows = (row for entry in read_journal(folder).trials.values() for row in entry.rows(name))
    return [dict(zip(TABLES[name], map(as_text, row), strict=True)) for row in rows]


def read_frames(folder: Path, names: Sequence[str] = tuple(TABLES)) -> "dict[str, pd.DataFrame]":
    """Tables of a run as data frames, by name. Text columns hold "" for what wasn't measured; number columns hold NaN.

    Raises: StoreError: the folder is no run, or its journal can't be read.
    """
    import pandas as pd

    try:
        trials = read_journal(folder).trials.values()
    except OSError as error:
        missing = "; --resume makes a missing one" if isinstance(error, FileNotFoundError) else ""
        raise StoreError(f"{folder / JOURNAL}: can't be read ({error.strerror}){missing}") from None
    frames = {}
    for name in names:
        rows = itertools.chain.from_iterable(entry.rows(name) for entry in trials)
        columns = [*zip(*rows, strict=True)] or [()] * len(TABLES[name])
        frames[name] = pd.DataFrame(
            {
                key: pd.Series([*map(as_text, cells)], dtype=object)
                if key in TEXT_COLUMNS
                else pd.Series([*map(as_number, cells)], dtype=float)
                for key, cells in zip(TABLES[name], columns, strict=True)
            }
        )
    return frames


def render(entries: Iterable[Entry], name: str) -> bytes:
    """The lines that trials have in a CSV table."""
    text = io.StringIO(newline="")
    rows = itertools.chain.from_iterable(entry.rows(name) for entry in entries)
    if name not in PARTS:  # those hold numbers, which csv writes as we do: in full, and nothing for None
        rows = (map(as_cell, row) for row in rows)  # type: ignore[assignment]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def views(folder: Path, entries: Entries) -> dict[str, bytes]:
    """The CSV tables that a journal gives: name -> contents; retried.csv only where there is a use for it."""
    headers = {name: ",".join(columns).encode() + b"\n" for name, columns in TABLES.items()}
    found = {name: headers[name] + render(entries.trials.values(), name) for name in TABLES}
    if entries.retried or (folder / RETRIED).exists():
        found[RETRIED] = headers[TRIALS] + render(entries.retried, TRIALS)
    return found


def is_name(text: str) -> bool:
    """Whether a trial's id is a name for a file, and leads nowhere else."""
    return 0 < len(text) < 200 and text.isprintable() and text not in (".", "..") and not set(text) & set("/\\:")


def failure_path(folder: Path, trial_id: str) -> Path:
    """What a trial that failed left: where in the program it was."""
    return folder / "failures" / f"{trial_id}.txt"


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


def as_cell(value: Any) -> str:
    """A value as it stands in a cell, on one line: "" for what wasn't measured; text can't be taken for a formula."""
    return guarded(one_line(value)) if type(value) is str else as_text(value)


def as_text(value: Any) -> str:
    """A value as text on one line, "" for what wasn't measured."""
    if value is None or value != value:  # NaN: not measured either
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return one_line(value) if isinstance(value, str) else str(value)


def as_number(value: Any) -> float:
    """A value of a number's column; NaN for what is no number."""
    if value is None:
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def as_plain(value: Any) -> Any:
    """A value as the journal keeps it: None, a number, true or false, or text on one line; infinity is text, too."""
    if isinstance(value, str):
        return one_line(value)
    if hasattr(value, "item"):
        value = value.item()  # NumPy's own kind of number
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return float(value) if isinstance(value, float) else value


def one_line(text: str) -> str:
    """Text that fits a cell: what no line of UTF-8 can hold is spelled out, and a novel is cut."""
    if text.isascii() and text.isprintable() and len(text) <= LONGEST_CELL:
        return text
    if "\n" in text or "\r" in text:
        text = " ".join(text.split())
    text = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _take(line: Line, planned: Collection[str], found: Entries) -> str:
    """Put a line into what was found, or say why it can't be."""
    content = line.content or {}
    kind, trial_id = content.get("kind"), content.get("trial_id")
    if not line.digest:
        return "has no digest"
    if kind not in ("trial", "retried"):
        return f"has the unknown kind {str(kind)[:40]!r}"
    if not isinstance(trial_id, str) or not is_name(trial_id):
        return "has a trial_id that can't be the name of a file"
    if planned and trial_id not in planned:
        return f"trial {trial_id} isn't in the plan of run.json"
    before = found.trials.get(trial_id)
    if kind == "retried":
        if before is None:
            return f"trial {trial_id} is to run again, and hasn't finished"
        found.retry(trial_id)
        return ""
    entry = _entry(line, content)
    if isinstance(entry, str):
        return entry
    if entry.attempt < found.attempts.get(trial_id, 0) or (before and entry.attempt <= before.attempt):
        return f"trial {trial_id} is there more than once"
    if before:  # the line that asked for this attempt is lost
        found.retry(trial_id)
    found.trials[trial_id] = entry
    return ""


def _entry(line: Line, content: dict[str, Any]) -> Entry | str:
    """The trial of a line, or why it is none."""
    row, attempt, sums, failure = (content.get(key) for key in ("row", "attempt", "sums", "failure"))
    parts: dict[str, Any] = {name: content.get(key) for name, key in PARTS.items()}
    digests = all(isinstance(digest, str | None) for digest in (sums, failure))
    if not isinstance(row, dict) or not set(map(type, row.values())) <= _SCALARS or not digests:
        return "isn't a trial's line"
    if type(attempt) is not int:
        return "has no number of its attempt"
    if not all(_is_table(part, TABLES[name][1:]) for name, part in parts.items()):
        return "has rows that are none"
    if row.get("status") not in STATUSES:
        return f"has the unknown status {str(row.get('status'))[:40]!r}"
    own = {**row, "trial_id": content["trial_id"], "seal": line.digest}
    return Entry(attempt, own, parts, sums, failure)


def _is_table(part: Any, columns: Collection[str]) -> bool:
    """Whether it has the columns of a table, all of the same length."""
    if not isinstance(part, dict) or part.keys() != set(columns):
        return False
    cells = list(part.values())
    return all(type(each) is list and len(each) == len(cells[0]) and set(map(type, each)) <= _SCALARS for each in cells)
