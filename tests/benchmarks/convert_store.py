"""Convert a run of schema version 2, 3 or 4, whose CSV tables were its record, to one with a journal.

    python tests/benchmarks/convert_store.py RUN...

Afterwards `run_bench.py --resume RUN` goes on with it. The tables keep their values. Nothing of RUN is changed before
all of the new files are written beside it; should it be interrupted then, run it again.
"""

import csv
import io
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.result import COLUMNS, STATUSES, TABLES, TEXT_COLUMNS, Result
from bench.store.journal import append_line
from bench.store.run_folder import RunFolder
from bench.store.tables import JOURNAL, PARTS, PREVIOUS, RECORD, RETRIED, SCHEMA_VERSION, TRIALS
from bench.system.csv_cells import unguarded

BOOLEANS = {field.name for field in fields(Result) if field.metadata and "bool" in str(field.type)}


def convert(folder: Path) -> int:
    """Convert a run folder; returns the number of its finished trials. Raises: SystemExit: it isn't such a run."""
    record = json.loads((folder / RECORD).read_bytes())
    if record.get("schema_version") not in (2, 3, 4):
        sys.exit(f"{folder}: schema version {record.get('schema_version')}, this converts 2, 3 and 4")
    record.pop("seal", None)
    rows = old_rows(folder / TRIALS)
    parts = {key: by_trial(old_rows(folder / name)) for name, key in PARTS.items()}
    with tempfile.TemporaryDirectory(dir=folder.parent) as work, patch("os.fsync"):
        new = Path(work) / "run"
        with closing(RunFolder.create(new, record)) as store:
            for name in ("trials", "failures"):  # whose digests each line has
                if (folder / name).exists():
                    (new / name).symlink_to((folder / name).resolve())
            for row in old_rows(folder / RETRIED):
                store.append(as_result(row, {}))
                append_line(new / JOURNAL, {"kind": "retried", "trial_id": row["trial_id"]})
        with closing(RunFolder.open(new)) as store:
            for row in rows:
                store.append(as_result(row, {key: part.get(row["trial_id"], []) for key, part in parts.items()}))
        for name in (JOURNAL, *TABLES, RETRIED, RECORD):  # the record last: it says which version this is
            if (new / name).exists():
                (new / name).replace(folder / name)
        (folder / PREVIOUS).unlink(missing_ok=True)  # of the old version, too
    return len(rows)


def old_rows(path: Path) -> list[dict[str, Any]]:
    """Whole rows of an old table, with numbers; a torn or foreign one is passed over."""
    if not path.exists():
        return []
    data = path.read_bytes()
    frame = pd.read_csv(
        io.BytesIO(data[: data.rfind(b"\n") + 1]), dtype=str, keep_default_na=False, on_bad_lines="skip",
        quoting=csv.QUOTE_MINIMAL,
    )  # fmt: skip
    if "status" in frame:
        frame = frame[frame["status"].isin(STATUSES)]
    return [{str(key): as_value(str(key), cell) for key, cell in row.items()} for row in frame.to_dict("records")]


def as_value(key: str, cell: str) -> Any:
    if not cell:
        return None
    if key in BOOLEANS:
        return cell == "true"
    if key in TEXT_COLUMNS:
        return unguarded(cell)
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def by_trial(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["trial_id"], []).append(row)
    return found


def as_result(row: Mapping[str, Any], parts: Mapping[str, Any]) -> Result:
    return Result(**{key: value for key, value in row.items() if key in COLUMNS}, **parts)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {convert(Path(name)):,} trials, schema version {SCHEMA_VERSION}")
