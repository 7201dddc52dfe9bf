"""Recorded journals of the gate's proof: plain or compressed, joined, and mixed."""

import gzip
import lzma
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench.errors import StoreError
from bench.gate.journal import Record, read_journal

OPENERS = {".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class Recording:
    """A journal, and what is known of it: `slowdown` is the true one, as a share, in the `slowed` cells."""

    name: str
    record: Record

    @property
    def slowdown(self) -> float:
        return float(self.record.header["slowed"])

    @property
    def slowed(self) -> list[str]:
        return list(self.record.header["slowed_cells"])

    @property
    def launch_seconds(self) -> float:
        """Of all cells; starting the processes, and warming up, included."""
        return median(self.record.wall_seconds)

    def truth(self, cell: str) -> float:
        return 1 + self.slowdown * (cell in self.slowed)


def load(path: Path) -> Recording:
    """A journal, plain or compressed (.gz, .xz).

    A whole gate's, of a tree against itself, will do: nothing in it was slowed.

    Raises:
        StoreError: not a journal, or not one that says what was slowed.
    """
    record = read_any(path)
    if record.header.get("aa"):
        record.header |= {"slowed": 0.0, "slowed_cells": []}
    if not {"slowed", "slowed_cells"} <= record.header.keys() or not record.launches["screen"]:
        raise StoreError(f"{path}: doesn't say what was slowed, or holds no launch; name one that gate_record.py wrote")
    return Recording(path.name.split(".")[0], record)


def read_any(path: Path) -> Record:
    """A journal, plain or compressed."""
    opener = OPENERS.get(path.suffix)
    if not opener:
        return read_journal(path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        plain.write_bytes(opener(path.read_bytes()))
        return read_journal(plain)


def load_all(folder: Path) -> list[Recording]:
    """Identical code first, then by slowdown, what is slowed in one cell last; whole gates of one noise as one."""
    paths = sorted(path for path in folder.glob("*.jsonl*") if path.suffix in (".jsonl", *OPENERS))
    if not paths:
        raise StoreError(f"{folder}: holds no journals (*.jsonl, .jsonl.gz, .jsonl.xz); gate_record.py writes them")
    whole: dict[str, list[Record]] = {}
    found = []
    for path in paths:
        one = load(path)
        if one.record.header.get("aa"):
            whole.setdefault(one.name.rpartition("-")[0], []).append(one.record)
        else:
            found.append(one)
    found += [Recording(name, joined(records)) for name, records in whole.items()]
    return sorted(found, key=lambda one: (one.slowdown > 0, -len(one.slowed), one.slowdown, one.name))


def joined(records: Sequence[Record]) -> Record:
    """The screens of several gates of the same cells, one after the other, as if they were one long one."""
    whole = Record(records[0].header, ended=True)
    for record in records:
        for launch, seconds in zip(record.launches["screen"], record.wall_seconds, strict=False):  # screens come first
            number = len(whole.launches["screen"])
            whole.slices += [
                replace(p, launch=number) for p in record.slices if (p.launch, p.phase) == (launch, "screen")
            ]
            whole.launches["screen"].append(number)
            whole.wall_seconds.append(seconds)
    return whole


def one_slow_cell(same: Recording, slower: Recording) -> Iterator[Recording]:
    """For each cell, launches in which it alone was slowed: its slices from one journal, all others' from the other."""
    count = min(len(one.record.launches["screen"]) for one in (same, slower))
    for cell in same.record.header["cells"]:
        header = same.record.header | {"slowed": slower.slowdown, "slowed_cells": [cell]}
        mixed = Record(header, ended=True, wall_seconds=same.record.wall_seconds[:count])
        mixed.launches["screen"] = [*range(count)]
        for source in (same, slower):
            order = {launch: number for number, launch in enumerate(source.record.launches["screen"][:count])}
            mixed.slices += [
                replace(piece, launch=order[piece.launch])
                for piece in source.record.slices
                if piece.launch in order and (piece.cell == cell) == (source is slower)
            ]
        yield Recording(f"{slower.name}, {cell} only", mixed)
