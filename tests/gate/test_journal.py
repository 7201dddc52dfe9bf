"""The journal: what was appended is read again, whatever became of the process that wrote it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.gate.journal import FORMAT, Failure, Journal, Slice, read_journal

SLICES = [Slice(0, "screen", "vit train", 0, slot, "base", 10, 0.25, own_seconds=None) for slot in range(4)]
FAILURE = Failure("crash", "head", "vit train", "died of signal 11", launch=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gate.jsonl"
    journal = Journal(path)
    journal.append("gate", {"format": FORMAT, "cells": ["vit train"], "base": {"name": "a\nb|<c>"}})
    journal.append("work", {"cell": "vit train", "arm": "base", "counts": {"parameters": 7}})
    journal.launch(0, "screen", 1, SLICES, 3.5)
    journal.failure(FAILURE)
    journal.append("end", {"seconds": 9.0})
    return path


def test_what_was_written_is_read(path: Path) -> None:
    record = read_journal(path)
    assert record.header["base"] == {"name": "a\nb|<c>"}
    assert record.work == {"vit train": {"base": {"parameters": 7}}}
    assert (record.slices, record.failures) == (SLICES, [FAILURE])
    assert (record.launches, record.wall_seconds) == ({"screen": [0], "confirm": []}, [3.5])
    assert record.ended


@given(cut=st.integers(0, 100))
def test_a_journal_cut_anywhere_loses_at_most_its_last_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "gate.jsonl"
    journal = Journal(path)
    journal.append("gate", {"format": FORMAT, "cells": []})
    first = path.stat().st_size
    journal.launch(0, "screen", 0, SLICES, 1.0)
    second = path.stat().st_size
    journal.launch(1, "screen", 0, SLICES, 1.0)
    end = first + (path.stat().st_size - first) * cut // 100
    path.write_bytes(path.read_bytes()[:end])
    whole = (end >= second) + (cut == 100)
    assert len(read_journal(path).launches["screen"]) == whole


def test_a_journal_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"can't be written \(Is a directory\); name another --journal"):
        Journal(tmp_path)


def test_a_torn_line_does_not_swallow_the_next_one(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"kind":"launch","launch":1,"pha')
    journal = Journal(path)
    journal.launch(1, "confirm", 0, SLICES, 1.0)
    assert read_journal(path).launches == {"screen": [0], "confirm": [1]}


def test_a_journal_that_went_on_after_a_torn_line_says_where(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20] + b'\n{"kind":"end"}\n')
    with pytest.raises(StoreError, match=r"gate.jsonl:5: not a line of a gate's journal \(not JSON\); remove it"):
        read_journal(path)


def test_a_changed_line_is_told_by_its_digest_and_lines_of_earlier_gates_have_none(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"3.5", b"3.6"))
    with pytest.raises(StoreError, match=r"gate.jsonl:3: .* its digest differs"):
        read_journal(path)
    path.write_bytes(re.sub(rb',"digest":"[0-9a-f]+"', b"", data))
    assert read_journal(path).slices == SLICES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b'{"kind":"end"}\n', "not a gate's journal"),
        (b'{"kind":"gate","format":99}\n', f"not a gate's journal of format {FORMAT}"),
        (b"hello\nworld\n", "not JSON"),
        (b"[1]\n", "not a line of a gate's journal"),
        (b'{"kind":"gate","format":1}\n{"kind":"launch"}\n', ":2: not a line of a gate's journal"),
        (b'{"kind":"gate","format":1}\n{"kind":"failure","failure":{"oops":1}}\n', ":2: not a line"),
    ],
)
def test_what_is_no_journal_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StoreError, match=words):
        read_journal(tmp_path / "x")


def test_no_journal_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be read"):
        read_journal(tmp_path / "nowhere")
