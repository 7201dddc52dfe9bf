"""A cell that a spreadsheet would run is text in our files, and comes back as it was."""

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.system.csv_cells import guarded, unguarded

RISKY = st.text("'=+-@\t\r\n\0 \ufeff\uff1d\uff0b\uff0d\uff20a1.e", max_size=8)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\0=1", " =1", "\ufeff=1", "'=1", "-1+1",
     "\uff1d1", "\uff20a"],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_begins_with_a_quote(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "1", "-1", "+2.5e-3", "-.5", "a=b", "a - b", "'quoted'", "nan", "vit-p4"])
def test_numbers_and_ordinary_text_stay(text: str) -> None:
    assert guarded(text) == text


@given(RISKY | st.text(max_size=20))
@example("'-1")
@example("''=1")
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    assert unguarded(guarded(text)) == text


@given(RISKY, RISKY)
def test_two_texts_are_never_one_cell(one: str, other: str) -> None:
    assert (guarded(one) == guarded(other)) == (one == other)


@given(RISKY)
def test_a_cell_that_nobody_guarded_stays(cell: str) -> None:
    assert guarded(unguarded(cell)) == cell or unguarded(cell) == cell


@given(st.lists(RISKY, min_size=1, max_size=4))
def test_no_cell_of_a_file_begins_like_a_formula(texts: list[str]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(map(guarded, texts))
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert [unguarded(cell) for cell in row] == texts
    assert all(not re.match(r"\s*[=@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]", cell) for cell in row)
    assert all(float(cell) is not None for cell in row if cell.startswith(("+", "-")))
