"""What a run folder holds, read: its record (run.json), its journal, and the CSV tables that the journal gives.

`journal.jsonl` has a line for each finished trial (its row, its evaluations, its timed blocks, and digests of its
files) and for each launch of the speed rounds. The tables are views of it, for people and other programs; nothing here
reads them. A journal of schema version 5 is one without launches, whose tables had other columns.
"""

import base64
import csv
import gc
import io
import itertools
import json
import math
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.result import (
    BLOCK_COLUMNS,
    COLUMNS,
    EVALUATION_COLUMNS,
    INFERENCE_COLUMNS,
    SLICE_COLUMNS,
    SPLIT_COLUMNS,
    STATUSES,
    TABLES,
    TEXT_COLUMNS,
    Launch,
)
from bench.store.journal import Line, digest_of, read_lines
from bench.system.csv_cells import guarded

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA_VERSION = 6
READABLE = (5, SCHEMA_VERSION)
RECORD, JOURNAL, TRIALS, RETRIED = "run.json", "journal.jsonl", "trials.csv", "retried.csv"
PREVIOUS = ".run.json.previous"  # run.json as it was before it was last written
THROUGHPUT, INFERENCE = "throughput.csv", "inference.csv"
PARTS = {"evaluations.csv": "evaluations", THROUGHPUT: "blocks", INFERENCE: "inference_blocks"}
PART_COLUMNS: dict[str, Sequence[str]] = {  # of a trial's line
    "evaluations.csv": EVALUATION_COLUMNS[1:],
    THROUGHPUT: BLOCK_COLUMNS[1:],
    INFERENCE: INFERENCE_COLUMNS[1:],
}
TUNED = "tuning"  # a run of its own in the run's folder: the trials that settings of recipes were tried in
TUNING = "tuning.csv"  # what was tried before the comparison, a row a trial; those that `chosen` says became recipes
TUNING_COLUMNS = (
    *("trial_id", "model", "label", "setting", "share", "learning_rate", "weight_decay", "label_smoothing"),
    *("translation", "epochs", "status", "val_accuracy", "wall_seconds", "chosen"),
)
NEW_COLUMNS = (
    *("images_to_accuracy", "test_balanced_accuracy", "commonest_class", "commonest_share"),
    *("pause_share", "test_loss", "calibration_error", "accuracy_at_90_coverage"),
)
OLD_TABLES: dict[str, Sequence[str]] = TABLES | {  # of schema version 5
    TRIALS: tuple(key for key in COLUMNS if key not in NEW_COLUMNS),
    THROUGHPUT: BLOCK_COLUMNS,
    INFERENCE: INFERENCE_COLUMNS,
}
LONGEST_CELL = 100_000  # characters; csv reads no more than 131,072
_SCALARS = {type(None), bool, int, float, str}
_NUMBERS = {type(None), int, float}
_FACTS = [each.name for each in fields(Launch) if each.name not in ("slices", "splits")]


@dataclass(slots=True)
class Entry:
    """A finished trial, as its line in the journal tells it.

    Attributes:
        number: of the line.
        attempt: how many times it had been finished before, and was then asked for again.
        row: of trials.csv, with the line's digest as `seal`; what wasn't measured is left out.
        parts: by the name of another table, the line's columns for it: lists of the same length.
        sums, failure: digests of its SHA256SUMS and of what its failure left; None where there was no such file.
        correct: as in Result.
    """

    number: int
    attempt: int
    row: dict[str, Any]
    parts: dict[str, dict[str, list[Any]]]
    sums: str | None = None
    failure: str | None = None
    correct: str | None = None

    @property
    def trial_id(self) -> str:
        return str(self.row["trial_id"])

    def cells(self, name: str, columns: Sequence[str]) -> list[list[Any]]:
        """Its rows of a table, by columns; None in columns that a trial doesn't have."""
        if name == TRIALS:
            return [[self.row.get(key)] for key in columns]
        part = self.parts[name]
        length = len(next(iter(part.values())))
        own = part | {"slot": part.get("block", [])}
        whole = self.row | {"work": "train"}  # the same in each row
        return [own[key] if key in own else [whole.get(key)] * length for key in columns]


@dataclass(slots=True)
class LaunchEntry:
    """A launch, as its line in the journal tells it.

    Attributes:
        number: of the line.
        facts: all of Launch but its slices and splits, by name.
        slices, splits: by columns: lists of the same length.
    """

    number: int
    facts: dict[str, Any]
    slices: dict[str, list[Any]]
    splits: dict[str, list[Any]]

    def cells(self, name: str, columns: Sequence[str]) -> list[list[Any]]:
        """Its rows of a table, by columns; None in columns that a slice doesn't have."""
        infers = [work == "infer" for work in self.slices["work"]]
        its = {INFERENCE: infers, THROUGHPUT: [not infer for infer in infers]}.get(name, [])
        length = sum(its)
        slices = {key: [*itertools.compress(cells, its)] for key, cells in self.slices.items() if key in columns}
        return [slices[key] if key in slices else [self.facts.get(key)] * length for key in columns]

    def launch(self) -> Launch:
        slices, splits = (
            [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            for table in (self.slices, self.splits)
        )
        return Launch(**self.facts, slices=slices, splits=splits)


@dataclass
class Entries:
    """A run's journal.

    Attributes:
        trials: the finished ones by trial_id, in the order in which they ended.
        launches: by their numbers, in the order in which they ended.
        retried: those that were run again, or are to be.
        attempts: how many times each of those had been finished.
        bad: lines that are damaged or foreign; `problem` says what is wrong.
    """

    trials: dict[str, Entry] = field(default_factory=dict)
    launches: dict[int, LaunchEntry] = field(default_factory=dict)
    retried: list[Entry] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    bad: list[Line] = field(default_factory=list)

    def retry(self, trial_id: str) -> None:
        """Count a finished trial as not run."""
        entry = self.trials.pop(trial_id)
        self.retried.append(entry)
        self.attempts[trial_id] = entry.attempt + 1

    def finished(self) -> list[Entry | LaunchEntry]:
        """Trials and launches, as they follow one another in the journal and in its tables."""
        return sorted([*self.trials.values(), *self.launches.values()], key=lambda entry: entry.number)

    def next_launch(self) -> int:
        """The number after the highest: what a lost line had isn't given twice."""
        return max(self.launches, default=-1) + 1


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
    if version not in READABLE:
        how = f"; convert it: python tests/benchmarks/convert_store.py {folder}" if version == 4 else ""
        reads = " and ".join(map(str, READABLE))
        raise StoreError(f"{path}: schema version {version}, this program reads {reads}{how}")
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
    columns = TABLES[name]
    rows = (zip(*entry.cells(name, columns), strict=True) for entry in read_journal(folder).finished())
    return [dict(zip(columns, map(as_text, row), strict=True)) for row in itertools.chain.from_iterable(rows)]


def read_frames(folder: Path, names: Sequence[str] = tuple(TABLES)) -> "dict[str, pd.DataFrame]":
    """Tables of a run as data frames, by name. Text columns hold "" for what wasn't measured; number columns hold NaN.

    Raises: StoreError: the folder is no run, or its journal can't be read.
    """
    import numpy as np
    import pandas as pd

    finished = _readable(folder).finished()
    frames = {}
    for name in names:
        columns = TABLES[name]
        cells = [entry.cells(name, columns) for entry in finished]
        by_column = {key: [*itertools.chain.from_iterable(own)] for key, *own in zip(columns, *cells, strict=True)}
        texts = {key: [*map(as_text, own)] for key, own in by_column.items() if key in TEXT_COLUMNS}
        numbers = {key: [*map(as_number, own)] for key, own in by_column.items() if key not in TEXT_COLUMNS}
        # Two blocks of one type each: of a Series a column, pandas takes several times as long.
        parts = [
            pd.DataFrame(np.array([*part.values()], dtype=kind).T, columns=[*part], dtype=kind)
            for part, kind in ((texts, object), (numbers, float))
        ]
        frames[name] = pd.concat(parts, axis=1)[list(columns)]
    return frames


def read_launches(folder: Path) -> list[Launch]:
    """The launches of a run, in the order in which they ended; none in a run of schema version 5.

    Raises: StoreError: the folder is no run, or its journal can't be read.
    """
    return [entry.launch() for entry in _readable(folder).launches.values()]


def read_correct(folder: Path) -> "dict[str, NDArray[np.bool_]]":
    """trial_id -> for each image of the test split, in its order, whether the trial's final weights got it right.

    A trial of which that isn't known isn't there, nor is one whose bits aren't as many as `split` of run.json has test
    images.

    Raises: StoreError: the folder is no run, or its journal can't be read.
    """
    images = count_test_images(read_run(folder))
    found = {name: unpacked(entry.correct, images) for name, entry in _readable(folder).trials.items()}
    return {name: right for name, right in found.items() if right is not None}


def count_test_images(run: Mapping[str, Any]) -> int:
    """What run.json says; 0 where it doesn't."""
    split = run.get("split")
    images = split.get("test") if isinstance(split, dict) else None
    return images if type(images) is int and images > 0 else 0


def unpacked(correct: str | None, images: int) -> "NDArray[np.bool_] | None":
    """The bits of `Result.correct`: a truth value an image; None where they aren't of so many images."""
    import numpy as np

    if correct is None or not images:
        return None
    size = (images + 7) // 8
    stream = zlib.decompressobj()
    try:
        packed = stream.decompress(base64.b64decode(correct, validate=True), size + 1)
    except (ValueError, zlib.error, OverflowError):
        return None
    if len(packed) != size or not stream.eof:
        return None
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=images).astype(bool)


def render(entries: Iterable[Entry | LaunchEntry], name: str, columns: Sequence[str]) -> bytes:
    """The lines that trials and launches have in a CSV table."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for entry in entries:
        cells: list[Iterable[Any]] = [*entry.cells(name, columns)]
        for place, key in enumerate(columns):
            if name == TRIALS or key in TEXT_COLUMNS:  # else numbers, which csv writes as we do, and nothing for None
                cells[place] = map(as_cell, cells[place])
        writer.writerows(zip(*cells, strict=True))
    return text.getvalue().encode(errors="backslashreplace")


def views(folder: Path, entries: Entries, tables: Mapping[str, Sequence[str]] = TABLES) -> dict[str, bytes]:
    """The CSV tables that a journal gives: name -> contents; retried.csv only where there is a use for it.

    Args:
        tables: name -> columns.
    """
    headers = {name: ",".join(columns).encode() + b"\n" for name, columns in tables.items()}
    finished = entries.finished()
    found = {name: headers[name] + render(finished, name, columns) for name, columns in tables.items()}
    if entries.retried or (folder / RETRIED).exists():
        found[RETRIED] = headers[TRIALS] + render(entries.retried, TRIALS, tables[TRIALS])
    return found


def _readable(folder: Path) -> Entries:
    """The journal, for whoever only reads. Raises: StoreError: no run, or it can't be read."""
    try:
        return read_journal(folder)
    except OSError as error:
        missing = "; --resume makes a missing one" if isinstance(error, FileNotFoundError) else ""
        raise StoreError(f"{folder / JOURNAL}: can't be read ({error.strerror}){missing}") from None


def is_name(text: str) -> bool:
    """Whether a trial's id is a name for a file, and leads nowhere else."""
    return 0 < len(text) < 200 and text.isprintable() and text not in (".", "..") and not set(text) & set("/\\:")


def failure_path(folder: Path, trial_id: str) -> Path:
    """What a trial that failed left: where in the program it was."""
    return folder / "failures" / f"{trial_id}.txt"


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
    """A value as the journal keeps it: None, a number, true or false, or text on one line; infinity is text, too.

    Of a dictionary all values so.
    """
    if isinstance(value, dict):
        return {key: as_plain(each) for key, each in value.items()}
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
    if kind == "launch":
        launch = launch_entry(line.number, content)
        if isinstance(launch, str):
            return launch
        if (number := launch.facts["launch"]) in found.launches:
            return f"launch {number} is there more than once"
        found.launches[number] = launch
        return ""
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
    row, attempt = content.get("row"), content.get("attempt")
    texts = {key: content.get(key) for key in ("sums", "failure", "correct")}
    parts: dict[str, Any] = {name: content.get(key) for name, key in PARTS.items()}
    fits = all(isinstance(text, str | None) for text in texts.values())
    if not isinstance(row, dict) or not set(map(type, row.values())) <= _SCALARS or not fits:
        return "isn't a trial's line"
    if type(attempt) is not int:
        return "has no number of its attempt"
    if not all(_is_table(part, PART_COLUMNS[name]) for name, part in parts.items()):
        return "has rows that are none"
    if row.get("status") not in STATUSES:
        return f"has the unknown status {str(row.get('status'))[:40]!r}"
    own = {**row, "trial_id": content["trial_id"], "seal": line.digest}
    return Entry(line.number, attempt, own, parts, **texts)


def launch_entry(number: int, content: Mapping[str, Any]) -> LaunchEntry | str:
    """The launch of a line of that number, or why it is none."""
    facts = {key: content.get(key) for key in _FACTS}
    slices: Any = content.get("slices")
    if isinstance(slices, dict) and isinstance(slices.get("seconds"), list):
        later = ("probe_seconds", "exchange_seconds")  # than the first launches
        slices = {key: [None] * len(slices["seconds"]) for key in later} | slices
    splits: Any = content.get("splits")
    if type(facts["launch"]) is not int or facts["launch"] < 0:
        return "has no number of its launch"
    texts = all(isinstance(facts[key], str) for key in ("device", "device_name", "started_at"))
    named = _holds(facts["machine"], _NUMBERS) and _holds(facts["peaks"], _NUMBERS) and _holds(facts["missing"], {str})
    if not texts or not named or type(facts["wall_seconds"]) not in (int, float):
        return "isn't a launch's line"
    for table, columns in ((slices, SLICE_COLUMNS), (splits, SPLIT_COLUMNS)):
        if not _is_table(table, columns):
            return "has rows that are none"
        if not all(set(map(type, table[key])) <= ({str} if key in TEXT_COLUMNS else _NUMBERS) for key in columns):
            return "has cells of another kind than their columns"
    return LaunchEntry(number, facts, slices, splits)


def _holds(values: Any, kinds: Collection[type]) -> bool:
    return isinstance(values, dict) and set(map(type, values.values())) <= set(kinds)


def _is_table(part: Any, columns: Collection[str]) -> bool:
    """Whether it has the columns of a table, all of the same length."""
    if not isinstance(part, dict) or part.keys() != set(columns):
        return False
    cells = list(part.values())
    return all(type(each) is list and len(each) == len(cells[0]) and set(map(type, each)) <= _SCALARS for each in cells)
