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
from bench.data.readers.csv_columns import OTHERS, is_header, is_lost_row
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
    found = read_csv(path, "none")["train"]
    assert found.labels is None
    assert found.notes == ("Columns that are neither pixels nor label were left out: digit.",)
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["split", "set", "subset", "Usage", "partition", "data_split"])
@pytest.mark.parametrize("place", [0, 65])
def test_a_column_that_names_splits_says_which_images_are_for_the_test(name: str, place: int, tmp_path: Path) -> None:
    path, splits = tmp_path / "a.csv", np.array(["train", "Train", "val", "TEST"])[np.arange(N) % 4]
    table = frame(LABELS, "digit", 64)
    table.insert(place, name, splits)
    table.to_csv(path, index=False)
    found = read_csv(path)
    for role, rows in {"train": np.arange(N) % 4 < 2, "val": splits == "val", "test": splits == "TEST"}.items():
        part = found[role]  # type: ignore[index]
        assert np.array_equal(part.images.reshape(-1, 64), PIXELS[rows])  # type: ignore[union-attr]
        assert part.labels.tolist() == LABELS[rows].tolist()  # type: ignore[union-attr]
        assert part.notes == ("A column of the table says which of its images are for training, validation and test.",)
    path.write_text(path.read_text().replace("TEST", "Other"))
    with pytest.raises(DataError, match="row 4: 'Other' names no split; expected training, validation or test"):
        read_csv(path)


def test_a_column_called_like_splits_is_the_label_if_its_words_are_others(tmp_path: Path) -> None:
    frame(NAMES, "set", 64).to_csv(tmp_path / "a.csv", index=False)
    found = read_csv(tmp_path / "a.csv")
    assert [*found] == ["train"]
    assert found["train"].labels.tolist() == NAMES.tolist()  # type: ignore[union-attr]
    assert found["train"].labels_from == "column set"


@pytest.mark.parametrize(("count", "refused"), [(4, False), (9, True), (16, False), (25, True)])
def test_few_columns_of_unlike_names_may_be_measured_values(count: int, refused: bool, tmp_path: Path) -> None:
    path, names = (
        tmp_path / "a.csv",
        ["width", "height", *(f"mean{'abcdefghijklmnopqrstuvwxyz'[n]}" for n in range(23))],
    )
    table = pd.DataFrame(PIXELS[:, :count], columns=names[:count])
    table.assign(label=LABELS).to_csv(path, index=False)
    if refused:
        with pytest.raises(
            DataError, match=r"a.csv: are width, height, meana ... pixels\? Measured values make no image"
        ):
            read_csv(path)
    else:
        note = read_csv(path)["train"].notes[0]
        assert note.startswith("Are width, height, meana ... pixels? They became images of ")
    table.columns = pd.Index([f"p{n}" for n in range(count)])
    table.assign(label=LABELS).to_csv(path, index=False)
    assert read_csv(path)["train"].notes == ()


SORTED = "The columns of pixels were put into the order of the numbers in their names."
TEXT_ORDER = {
    "pixel0": [f"pixel{n}" for n in range(144)],
    "0": [f"{n}" for n in range(144)],
    "1x1": [f"{row}x{column}" for row in range(1, 13) for column in range(1, 13)],
    "r0": [f"{colour}{n}" for colour in "rgb" for n in range(49)],
}


@pytest.mark.parametrize("form", TEXT_ORDER)
def test_columns_in_the_order_of_text_are_put_into_that_of_their_numbers(form: str, tmp_path: Path) -> None:
    names, path = TEXT_ORDER[form], tmp_path / "a.csv"
    table = pd.DataFrame(np.random.default_rng(0).integers(0, 256, (20, len(names))), columns=names)
    table.assign(label=LABELS[:20])[["label", *sorted(names)]].to_csv(path, index=False)
    found = read_csv(path)["train"]
    assert np.array_equal(found.images.reshape(20, -1), table.to_numpy())  # type: ignore[union-attr]
    assert found.notes == (SORTED,)


def test_columns_named_by_x_and_y_keep_the_order_of_rows(tmp_path: Path) -> None:
    names = [f"x{x}y{y}" for y in range(12) for x in range(12)]
    table = pd.DataFrame(np.random.default_rng(0).integers(0, 256, (20, 144)), columns=names)
    table.assign(label=LABELS[:20]).to_csv(tmp_path / "a.csv", index=False)
    found = read_csv(tmp_path / "a.csv")["train"]
    assert np.array_equal(found.images.reshape(20, -1), table.to_numpy())  # type: ignore[union-attr]
    assert found.notes == ()


@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_numbers_the_rows_is_no_label(start: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = frame(range(start, start + N), "specimen", 0)
    table.to_csv(path, index=False)
    found = read_csv(path)["train"]
    assert (found.labels, found.labels_from) == (None, "")
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]
    table.insert(1, "digit", LABELS)
    table.to_csv(path, index=False)
    found = read_csv(path)["train"]
    assert (found.labels_from, found.labels.tolist()) == ("column digit", LABELS.tolist())  # type: ignore[union-attr]
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]


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


@pytest.mark.parametrize("place", [0, 64])
def test_a_row_that_pandas_made_a_header_is_left_out_and_it_is_said(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frame(LABELS, "x", place).to_csv(path, index=False, header=False)
    pd.read_csv(path).to_csv(path, index=False)
    assert ",0.1," in path.read_text().partition("\n")[0]
    found = read_csv(path)["train"]
    assert found.labels.tolist() == LABELS[1:].tolist()  # type: ignore[union-attr]
    assert np.array_equal(found.images.reshape(N - 1, 64), PIXELS[1:])  # type: ignore[union-attr]
    assert "The header is a row of data" in found.notes[0]
    assert read_csv(path, "first")["train"].images.shape == (N - 1, 1, 8, 8)  # type: ignore[union-attr]


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("form", ["%d", "%.4f"])
def test_without_a_header_columns_of_one_1_a_row_and_a_number_of_the_row_are_found(
    numbered: bool, first: bool, form: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    classes, pixels = np.eye(10, dtype=int)[LABELS], PIXELS // 16
    table = np.hstack([classes, pixels] if first else [pixels, classes])
    table = np.c_[np.arange(N), table] if numbered else table
    forms = ["%d"] * numbered + [form] * 74
    np.savetxt(path, table, fmt=forms, delimiter=",")
    found = read_csv(path)["train"]
    assert found.labels_from == "10 columns with one 1 a row"
    assert found.labels.tolist() == LABELS.tolist()  # type: ignore[union-attr]
    assert np.array_equal(found.images.reshape(N, 64), pixels)  # type: ignore[union-attr]


def test_without_a_header_a_first_column_that_numbers_the_rows_is_neither_label_nor_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    np.savetxt(path, np.c_[np.arange(N), LABELS, PIXELS], fmt="%d", delimiter=",")
    found = read_csv(path)["train"]
    assert (found.labels_from, found.labels.tolist()) == ("the first column", LABELS.tolist())  # type: ignore[union-attr]
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]
    assert read_csv(path, "first")["train"].labels.tolist() == LABELS.tolist()  # type: ignore[union-attr]
    np.savetxt(path, np.c_[np.arange(N), PIXELS], fmt="%d", delimiter=",")
    found = read_csv(path)["train"]
    assert found.labels is None
    assert np.array_equal(found.images.reshape(N, 64), PIXELS)  # type: ignore[union-attr]
    np.savetxt(path, np.c_[LABELS, LABELS, PIXELS], fmt="%d", delimiter=",")
    with pytest.raises(DataError, match=r"66 columns of pixels are no square.*; a header that names the columns tells"):
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
    with pytest.raises(DataError, match=r"row 301, column p1: found '2', and the numbers run from 0 to 2, "):
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


@pytest.mark.parametrize("form", ["{0}_{1}", "{0}{1}", "pix{1}_{0}", "p{1}-{0}"])
@pytest.mark.parametrize("colours", [["r", "g", "b"], ["blue", "green", "red"], ["R", "G", "B", "A"]])
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("label", ["breed", "label", None])
def test_names_of_columns_say_which_colour_they_are(
    form: str, colours: list[str], planar: bool, label: str | None, tmp_path: Path
) -> None:
    path, few = tmp_path / "a.csv", 20
    images = np.random.default_rng(0).integers(0, 255, (few, 3, 64))  # neither reading is smoother
    given = {colour: images[:, "rgb".index(colour[0].lower())] for colour in colours if colour != "A"}
    given |= {"A": np.full((few, 64), 255)} if "A" in colours else {}
    pairs = [(colour, n) for colour in colours for n in range(64)]
    pairs = pairs if planar else sorted(pairs, key=lambda pair: pair[1])
    table = pd.DataFrame({form.format(colour, n): given[colour][:, n] for colour, n in pairs})
    if label:
        table[label] = LABELS[:few] // 5
    table.to_csv(path, index=False)
    found = read_csv(path)["train"]
    assert np.array_equal(found.images, images.reshape(few, 3, 8, 8))  # type: ignore[arg-type]
    assert found.planar == planar
    assert found.labels_from == (f"column {label}" if label else "")


def test_rgba_is_read_as_colours_and_grey_images_of_twice_the_side_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    large = digits()[0][:N].repeat(2, axis=1).repeat(2, axis=2)
    rgba = np.full((N, 16, 16, 4), 255)
    rgba[..., :3] = large[..., None] * np.array([0.2, 0.4, 0.6]) + np.array([90, 40, 10])

    def read() -> np.ndarray:
        pd.DataFrame(np.c_[rgba.reshape(N, -1), LABELS]).to_csv(path, index=False, header=False)
        found = read_csv(path, "last")["train"]
        assert isinstance(found.images, np.ndarray)
        assert any("the alpha of RGBA: it was left out" in note for note in found.notes) == (found.images.shape[1] == 3)
        return found.images

    assert np.array_equal(read(), rgba[..., :3].transpose(0, 3, 1, 2))
    rgba[..., 3] = 255 * (large > 0)
    with pytest.raises(DataError, match="looks like the alpha of RGBA images with transparent pixels; lay them"):
        read()
    for grey in (255 - large, np.where(large > 128, 0, 255)):  # on white
        rgba = grey
        assert np.array_equal(read()[:, 0], grey)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Unnamed: 0", "Unnamed: 0.1", "index", "id", "ImageId", "image_id", "level_0", "row id"),
        *("X", "rownames", "row_names", "key", "__index_level_0__"),
    ],
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
    assert not is_lost_row(["0.1", "0.5", "0", "0.2"])  # fractions
    assert not is_lost_row(count)
