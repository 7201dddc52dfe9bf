"""Sealing: digests that tell whether what a trial left is still what was written. Against damage, not against forgers.

A seal has four parts, so that what doesn't fit can be named: the trial's own row, its rows in the other tables, its
files (by their list of checksums), and what its failure left. Empty cells are left out: columns that a later version
adds change no seal.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.system.files import SUMS

PARTS = ("row", "rows in the other tables", "files", "failure")
LENGTH = 16  # hex digits of a part: 64 bits, in which damage doesn't hide
_SEAL = re.compile(rf"v1(:([0-9a-f]{{{LENGTH}}}|-)){{{len(PARTS)}}}")

Row = Mapping[str, str]


def seal_of(row: Row, tables: Mapping[str, Sequence[Row]], sums: bytes | None, failure: bytes | None) -> str:
    """A trial's seal.

    Args:
        row: of trials.csv, as text; its own seal is left out.
        tables: name -> the trial's rows there.
        sums: contents of its SHA256SUMS. failure: of its file under failures/. None where there is none.
    """
    own = {key: cell for key, cell in row.items() if cell and key != "seal"}
    others = {name: [{k: c for k, c in each.items() if c} for each in rows] for name, rows in tables.items() if rows}
    return ":".join(["v1", _digest(_canonical(own)), _digest(_canonical(others)), _digest(sums), _digest(failure)])


def broken_parts(seal: str, computed: str) -> list[str]:
    """Names of the parts in which two seals differ."""
    if not _SEAL.fullmatch(seal):
        return ["seal itself"]
    pairs = zip(PARTS, seal.split(":")[1:], computed.split(":")[1:], strict=True)
    return [part for part, one, other in pairs if one != other]


def record_seal(record: Mapping[str, Any]) -> str:
    """The seal of run.json's contents."""
    return _digest(_canonical({key: value for key, value in record.items() if key != "seal"}))


def contents_for_seal(folder: Path, trial_id: str) -> tuple[bytes | None, bytes | None]:
    """Of a trial: its SHA256SUMS and its failure. Raises: OSError."""
    if not is_name(trial_id):
        return None, None
    return _bytes(folder / "trials" / trial_id / SUMS), _bytes(failure_path(folder, trial_id))


def failure_path(folder: Path, trial_id: str) -> Path:
    """What a trial that failed left: where in the program it was."""
    return folder / "failures" / f"{trial_id}.txt"


def is_name(text: str) -> bool:
    """Whether a trial's id is a name for a file, and leads nowhere else."""
    return bool(text) and len(text) < 200 and text not in (".", "..") and not set(text) & set("/\\\0:")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def _digest(data: bytes | None) -> str:
    return "-" if data is None else hashlib.sha256(data).hexdigest()[:LENGTH]
