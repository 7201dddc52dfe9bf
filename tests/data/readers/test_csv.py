"""Kaggle's CSV: what is read, and where a file that isn't one goes wrong."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_data import digits, write_csv

from bench.data.readers.csv import has_labels, read_csv
from bench.errors import DataError

GREY = digits()[0][:20].reshape(20, 64).astype(int)
GREY = GREY * 255 // GREY.max()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


def write(folder: Path, text: str) -> Path:
    path = folder / "train.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_digits_are_read_with_and_without_header_and_labels(
    name: str, header: bool, labelled: bool, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / name, 50, header=header, labelled=labelled)
    images, labels, *_ = read_csv(path)["train"]
    assert has_labels(path) == labelled
    assert isinstance(images, np.ndarray)
    assert np.array_equal(images[:, 0], digits()[0][:50])
    assert np.array_equal(labels, digits()[1][:50]) if labels is not None else not labelled


def test_colours_are_the_three_numbers_of_each_pixel(scratch: Path) -> None:
    header = ",".join(f"pixel{number:04}" for number in range(12))
    path = write(scratch, f"{header},label\n{','.join(str(number) for number in range(12))},7\n")
    images, labels, *_ = read_csv(path, colour_order="interleaved")["train"]
    assert isinstance(images, np.ndarray)
    assert images[0, :, 0, 1].tolist() == [3, 4, 5]
    planar = read_csv(path, colour_order="planar")["train"].images
    assert isinstance(planar, np.ndarray)
    assert planar[0, :, 0, 1].tolist() == [1, 5, 9]
    assert labels is not None
    assert labels.tolist() == [7]


def test_headers_of_numbers_and_columns_of_numbers_are_not_taken_for_pixels(scratch: Path) -> None:
    images, labels, *_ = read_csv(write(scratch, "label,0,1,2,3\n5,10,20,30,40\n"))["train"]
    assert (images.reshape(-1).tolist(), labels.tolist()) == ([10, 20, 30, 40], [5])  # type: ignore[union-attr]
    images, labels, *_ = read_csv(write(scratch, "id,a,b,c,d,Class\n900,10,20,30,40,x\n"))["train"]
    assert (images.reshape(-1).tolist(), labels.tolist()) == ([10, 20, 30, 40], ["x"])  # type: ignore[union-attr]
    images, labels, *_ = read_csv(write(scratch, ",".join(map(str, range(289))) + "\n" + ",".join(["7"] * 289) + "\n"))[
        "train"
    ]
    assert (images.shape, labels) == ((1, 1, 17, 17), None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "label,a,b,c,d\n1,2,3,4,5\n\n1,2,3,4,abc\n",
            "row 2, column d: found 'abc', expected a whole number from 0 to 255",
        ),
        ("label,a,b,c,d\n1,2,3,256,5\n", "row 1, column c: found '256', expected"),
        ("label,a,b,c,d\n1,2,-3,4,5\n", "row 1, column b: found '-3', expected"),
        ("label,a,b,c,d\n1,2.5,3,4,5\n", "row 1, column a: found '2.5', expected"),
        ("label,a,b,c,d\n1,2,NaN,4,5\n", "row 1, column b: found 'NaN', expected"),
        ("label,a,b,c,d\n1,2,,4,5\n", "row 1, column b: is empty, expected"),
        ("label,a,b,c,d\n1,2,3,4,99999999999999999999\n", "row 1, column d: found '99999999999999999999'"),
        ("label,a,b,c,d\n1,2,3,True,5\n", "row 1, column c: found 'True'"),
        ("label,a,b,c,d\n1,2,3,4,5\n,2,3,4,5\n", "row 2, column label: is empty, expected a label"),
        ("label,a,b,c,d\n1,2,3,4,5\n1,2,3,4\n", "row 2: has 4 columns, expected 5"),
        ("label,a,b,c,d\n1,2,3,4,5\n1,2,3,4,5,6\n", "row 2: has 6 columns, expected 5"),
        ("label,a,b,c,d\n1,2,3,4,5,6\n", "row 1: has 6 columns, expected 5"),
        ("1,2,3,4,5\n1,2,3,4,x\n", "which column is the label? By the values, neither the first nor the last"),
        ("label,a,b,c,d\n", "has no row of data"),
        ("p0,p1,p2,p3,digit\n", "has no row of data"),
        ("p0,p1,p2,p3,digit,writer\n", "which column is the label (digit, writer)?"),
        ("a,b,c,d,e,f,g,h,i,j,k\n", "11 columns of pixels are no square image"),
        ("a,b,c,d,e\n1,2\n", "which column is the label? By the values, neither"),
        ("0,0.1,0.2,0.3,0.4\n", "0 columns of pixels are no square image"),
        ("", "is empty"),
        ("label,a,b,c,d,e,f\n", "6 columns of pixels are no square image, grey (784 is 28 x 28) or RGB"),
        ("label;a;b\n1;2;3\n", "are its cells divided by commas?"),
        ('label,a,b,c,"d\nd"\n1,2,3,4,"x\ny"\n', "row 1, column d d: found 'x y', expected"),
    ],
)
def test_a_mistake_is_named_with_file_row_and_column(text: str, complaint: str, scratch: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_csv(write(scratch, text))
    start = "train.csv, " if complaint.startswith("row") else "train.csv: "
    assert start in str(raised.value)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (
            GREY / 127.5 - 1,
            "row 1, column p0: found '-1.0', and the numbers run from -1 to 1, expected 0 to 255, or frac",
        ),
        (GREY * 4, "found '316', and the numbers run from 0 to 1020, expected 0 to 255, or fractions from 0 to 1"),
        (
            np.where(np.arange(64) == 9, 1.02, GREY / 255)[:1],
            "row 1, column p9: found '1.02', expected a number from 0",
        ),
        (
            np.where(np.arange(64) == 9, 256, GREY)[:1],
            "row 1, column p9: found '256', expected a whole number from 0 to",
        ),
    ],
)
def test_another_range_is_told_from_a_cell_that_is_wrong(pixels: np.ndarray, complaint: str, scratch: Path) -> None:
    rows = (",".join(["3", *map(str, row)]) for row in pixels.tolist())
    path = write(scratch, "\n".join(["label," + ",".join(f"p{n}" for n in range(64)), *rows, ""]))
    with pytest.raises(DataError, match=re.escape(complaint)):
        read_csv(path)


@pytest.mark.parametrize("name", ["image", "data", "pixels"])
@pytest.mark.parametrize("form", ["[{}]", "{}"])
@pytest.mark.parametrize("comma", [", ", ",", " ", "\n "])
def test_lists_of_numbers_in_one_column_are_images(name: str, form: str, comma: str, scratch: Path) -> None:
    rows = [f'{n % 3},"{form.format(comma.join(map(str, row)))}"' for n, row in enumerate(GREY.tolist())]
    found = read_csv(write(scratch, "\n".join([f"digit,{name}", *rows, ""])))["train"]
    assert np.array_equal(found.images.reshape(-1, 64), GREY)  # type: ignore[union-attr]
    assert (found.labels_from, found.labels.tolist()) == ("column digit", [n % 3 for n in range(20)])  # type: ignore[union-attr]


def test_a_comment_in_the_first_line_is_named(scratch: Path) -> None:
    with pytest.raises(DataError, match=r"train.csv: begins with a comment \('# made in May'\); remove that line"):
        read_csv(write(scratch, "# made in May, 2020\nlabel,a,b,c,d\n1,2,3,4,5\n"))


def test_a_mistake_far_down_is_found_in_its_row(scratch: Path) -> None:
    path = write(scratch, "label,a,b,c,d\n" + "1,2,3,4,5\n" * 9_000 + "1,2,3,4,oops\n" + "1,2,3,4,5\n")
    with pytest.raises(DataError, match=r"row 9001, column d: found 'oops'"):
        read_csv(path)


def test_files_that_are_no_text_or_cut_short_are_named(scratch: Path) -> None:
    path = scratch / "a.csv"
    path.write_bytes(b"label,a,b,c,d\n\xff1,2,3,4,5\n")
    with pytest.raises(DataError, match=r"a.csv: isn't text in UTF-8 \(byte 0xff\)"):
        read_csv(path)
    whole = write_csv(scratch / "b.csv.gz", 50).read_bytes()
    (scratch / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b.csv.gz: can't be read"):
        read_csv(scratch / "b.csv.gz")


LEVELS = {*map(str, range(256)), " 7", "7 ", "7.0", "1e2", "+3"}
cells = st.one_of(
    st.integers(-2, 300).map(str),
    st.sampled_from(
        ["", " 7", "7 ", "7.0", "7.5", "1e2", "NA", "inf", "0x1", "1_0", "+3", '"', "a,b", "x\ny", "٣", "\0"]
    ),
)


levels = st.integers(0, 255).map(str) | st.sampled_from(sorted(LEVELS - {*map(str, range(256))}))
fitting = st.lists(st.tuples(cells.filter(bool), levels, levels, levels, levels).map(list), min_size=1, max_size=4)


@settings(max_examples=60)
@given(rows=fitting | st.lists(st.lists(cells, min_size=3, max_size=6), max_size=4))  # of the latter, few are read
def test_random_cells_are_levels_or_an_error_that_names_the_first_row_that_is_none(
    scratch: Path, rows: list[list[str]]
) -> None:
    path = scratch / "random.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["label", "a", "b", "c", "d"], *rows])
    fine = [len(row) == 5 and bool(row[0]) and all(cell in LEVELS for cell in row[1:]) for row in rows]
    if rows and all(fine):
        images, labels, *_ = read_csv(path)["train"]
        assert isinstance(images, np.ndarray)
        assert images.reshape(-1, 4).tolist() == [[int(float(cell)) for cell in row[1:]] for row in rows]
        assert labels is not None
        assert len(labels) == len(rows)
        return
    with pytest.raises(DataError) as raised:
        read_csv(path)
    assert "\n" not in str(raised.value)
    assert f"row {fine.index(False) + 1}" in str(raised.value) if rows else "has no row" in str(raised.value)
