"""Which column of a table is the label, told by names or by values, or asked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_data import digits

from bench.data.readers.csv import has_labels, read_csv
from bench.data.readers.csv_columns import OTHERS, is_header
from bench.errors import DataError

N = 300
PIXELS = digits()[0][:N].reshape(N, 64)
LABELS = digits()[1][:N]
NAMES = np.array([["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]])[0][LABELS]
PHOTO = (PIXELS // 2 + np.random.default_rng(0).integers(0, 4, (N, 64))).clip(0, 255)


def frame(labels: Any, name: str, place: int, pixels: np.ndarray = PIXELS, form: str = "pixel{}") -> pd.DataFrame:
    table = pd.DataFrame({form.format(number): pixels[:, number] for number in range(64)})
    table.insert(place, name, labels)
    return table


def by_number() -> pd.DataFrame:
    """As pandas writes an array: columns 0 to 64, of which the last is the label."""
    return pd.DataFrame(np.c_[PIXELS, LABELS])


PLAIN: dict[str, tuple[Callable[[], pd.DataFrame], dict[str, bool], str]] = {
    "label first": (lambda: frame(LABELS, "label", 0), {"index": False}, "column label"),
    "label last": (lambda: frame(LABELS, "label", 64), {"index": False}, "column label"),
    "of its own name, last": (lambda: frame(LABELS, "digit", 64), {"index": False}, "column digit"),
    "of its own name, first": (lambda: frame(NAMES, "species", 0), {"index": False}, "column species"),
    "in the middle": (lambda: frame(LABELS, "diagnosis", 30), {"index": False}, "column diagnosis"),
    "sign beside 1x1": (lambda: frame(LABELS, "sign", 0, form="1x{}"), {"index": False}, "column sign"),
    "pandas' index": (lambda: frame(LABELS, "label", 0), {"index": True}, "column label"),
    "its index, saved twice": (lambda: frame(LABELS, "label", 0).reset_index(), {"index": True}, "column label"),
    "Unnamed: 0": (lambda: frame(LABELS, "digit", 64).rename_axis("Unnamed: 0"), {"index": True}, "column digit"),
    "numbered columns": (by_number, {"index": False}, "the last column (64)"),
    "numbered columns, index": (by_number, {"index": True}, "the last column (64)"),
    "no header, first": (lambda: frame(LABELS, "x", 0), {"index": False, "header": False}, "the first column"),
    "no header, last": (lambda: frame(LABELS, "x", 64), {"index": False, "header": False}, "the last column"),
    "no header, words": (lambda: frame(NAMES, "x", 64), {"index": False, "header": False}, "the last column"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_the_label_is_found_by_its_name_or_by_its_values(kind: str, tmp_path: Path) -> None:
    make, options, how = PLAIN[kind]
    make().to_csv(tmp_path / "a.csv", **options)  # type: ignore[call-overload]
    found = read_csv(tmp_path / "a.csv")["train"]
    assert isinstance(found.images, np.ndarray)
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)
    assert found.labels is not None
    assert [*map(str, found.labels)] == [*map(str, NAMES if found.labels.dtype == object else LABELS)]
    assert found.labels_from == how


def test_where_either_end_may_be_the_label_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frame(LABELS, "x", 64, PHOTO).to_csv(path, index=False, header=False)
    with pytest.raises(DataError, match="both the first and the last column may be it; say --label-column first, or"):
        read_csv(path)
    found = read_csv(path, "last")["train"]
    assert (found.labels_from, found.labels.tolist()) == ("the last column", LABELS.tolist())  # type: ignore[union-attr]
    assert np.array_equal(found.images.reshape(N, 64), PHOTO)  # type: ignore[union-attr]
    assert read_csv(path, "first")["train"].labels.tolist() == PHOTO[:, 0].tolist()  # type: ignore[union-attr]


def test_a_column_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = frame(LABELS, "digit", 0)
    table.insert(0, "writer", NAMES)
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"which column is the label \(writer, digit\)\? say --label-column NAME"):
        read_csv(path)
    found = read_csv(path, "digit")["train"]
    assert found.notes == ("Columns that are neither pixels nor label were left out: writer.",)
    assert found.labels.tolist() == LABELS.tolist()  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"has no column 'digits'; did you mean 'digit'"):
        read_csv(path, "digits")
    table.drop(columns="writer").to_csv(path, index=False)
    with pytest.raises(DataError, match="65 columns of pixels are no square image"):
        read_csv(path, "none")


def test_one_column_a_class_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    classes = pd.get_dummies(pd.Series(NAMES), dtype=int)
    pd.concat([classes, frame(LABELS, "x", 0).drop(columns="x")], axis=1).to_csv(path, index=False)
    found = read_csv(path)["train"]
    assert found.labels_from == "10 columns with one 1 a row, eight to zero"
    assert found.labels.tolist() == NAMES.tolist()  # type: ignore[union-attr]
    text = path.read_text().replace("\n0,", "\n1,")
    path.write_text(text)
    with pytest.raises(DataError, match=r"which column is the label|some row has none"):
        read_csv(path)


@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_numbers_in_one_cell_and_a_column_of_splits_are_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    usage = np.array(["Training", "PublicTest", "PrivateTest"])[np.arange(N) // 100]
    cells = [form.format(" ".join(map(str, row))) for row in PIXELS]
    pd.DataFrame({"emotion": LABELS, "pixels": cells, "Usage": usage}).to_csv(path, index=False)
    assert has_labels(path)
    found = read_csv(path)
    assert {role: len(part.images) for role, part in found.items()} == {"train": 100, "val": 100, "test": 100}
    assert np.array_equal(found["val"].images.reshape(100, 64), PIXELS[100:200])  # type: ignore[union-attr]
    assert found["test"].labels.tolist() == LABELS[200:].tolist()  # type: ignore[union-attr]
    path.write_text(path.read_text().replace("PrivateTest", "Other"))
    with pytest.raises(DataError, match="row 201: 'Other' names no split"):
        read_csv(path)
    path.write_text("emotion,pixels\n1,1 2 3 4\n2,1 2 3\n")
    with pytest.raises(DataError, match="row 2: has 3 pixels, those before 4"):
        read_csv(path)
    path.write_text("emotion,pixels\n1,1 2 3 4\n2,1 2 3 x\n")
    with pytest.raises(DataError, match="row 2, column pixels: found 'x'"):
        read_csv(path)


def test_a_list_of_files_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id_code,diagnosis\na1.png,2\nb2.png,0\n")
    with pytest.raises(DataError, match=r"lists files \(a1.png ...\) and holds no pixels; sort the"):
        read_csv(tmp_path / "a.csv")


def test_blanks_around_labels_say_nothing_and_nan_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,a,b,c,d\n cat,1,2,3,4\ncat ,1,2,3,4\nNA,1,2,3,4\n")
    assert read_csv(path)["train"].labels.tolist() == ["cat", "cat", "NA"]  # type: ignore[union-attr]
    for cell in ("nan", "NaN", "", "  "):
        path.write_text(f"label,a,b,c,d\ncat,1,2,3,4\n{cell},1,2,3,4\n")
        with pytest.raises(DataError, match=r"row 2, column label: (found '[Nna]+'|is empty), expected a label"):
            read_csv(path)


@pytest.mark.parametrize("write", ["{:.4f}", "{}"])
def test_fractions_are_spread_and_whole_numbers_as_fractions_too(write: str, tmp_path: Path) -> None:
    path, fractions = tmp_path / "a.csv", (PIXELS / 255).round(4)
    rows = (",".join([str(label), *map(write.format, row)]) for label, row in zip(LABELS, fractions, strict=True))
    path.write_text("\n".join([",".join(["label", *(f"p{n}" for n in range(64))]), *rows]))
    found = read_csv(path)["train"]
    assert found.fractions
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]
    path.write_text(path.read_text() + "\n1," + ",".join(["0.5", *["2"] * 63]))
    with pytest.raises(DataError, match=r"row 1, column p2: found '0.2941', expected a whole number"):
        read_csv(path)


def test_of_colours_the_smoother_reading_is_taken(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    gain, ground = dice.uniform(0.2, 1, (N, 3, 1, 1)), dice.uniform(0, 60, (N, 3, 1, 1))
    large = digits()[0][:N].repeat(2, axis=1).repeat(2, axis=2)
    colour = (large[:, None] * gain * 0.7 + ground + dice.normal(0, 25, (N, 3, 16, 16))).clip(0, 255).astype(int)
    header = ["label", *(f"pixel{number}" for number in range(768))]
    for order, rows in (("planar", colour), ("interleaved", colour.transpose(0, 2, 3, 1))):
        pd.DataFrame(np.c_[LABELS, rows.reshape(N, -1)], columns=header).to_csv(tmp_path / "a.csv", index=False)
        found = read_csv(tmp_path / "a.csv")["train"]
        assert np.array_equal(found.images, colour)  # type: ignore[arg-type]
        assert found.planar == (order == "planar")
        assert any("planar" in note for note in found.notes) == found.planar


@pytest.mark.parametrize(
    "name", ["", "Unnamed: 0", "Unnamed: 0.1", "index", "id", "ImageId", "image_id", "level_0", "row id"]
)
def test_such_columns_say_nothing_about_the_image(name: str) -> None:
    assert OTHERS.fullmatch(name)


def test_a_header_of_numbers_is_no_row_of_data() -> None:
    count = [str(number) for number in range(65)]
    assert is_header(count, ["7"] * 65)
    assert not is_header(count, count)  # images of a ramp
    assert not is_header(["7"] * 65, ["7"] * 65)
    assert not is_header(["1", "2", "3", "4", "5"], ["7"] * 5)
    assert re.fullmatch(OTHERS, "pixel") is None
