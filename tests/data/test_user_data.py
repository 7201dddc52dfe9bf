"""Data that people bring: what is found at a path, what it becomes, and what is kept between trials."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_data import digits, write_csv, write_idx_folder, write_npz, write_png_folder
from PIL import Image

from bench.data import cache as kept_arrays
from bench.data import user_data
from bench.data.download import CACHE_VARIABLE
from bench.data.readers.images import load_image
from bench.data.spec import UserData, UserDataOptions
from bench.data.user_data import describe, list_files, read_user_data
from bench.data.user_files import read_images
from bench.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def given(path: Path, like: UserData) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    return read_images(path, like.image_size, like.in_channels, like.class_names, like.reading)[:3]


def found(path: Path, **options: object) -> UserData:
    return describe(UserDataOptions.model_validate({"path": path.name, **options}), path.parent)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "csv": lambda folder: write_csv(folder / "train.csv", 150),
    "csv without header, gzipped": lambda folder: write_csv(folder / "train.csv.gz", 150, header=False),
    "idx": lambda folder: write_idx_folder(folder / "idx"),
    "idx, gzipped, dots": lambda folder: write_idx_folder(folder / "idx", gzipped=True, dots=True),
    "npz": lambda folder: write_npz(folder / "digits.npz"),
    "npz, MedMNIST": lambda folder: write_npz(folder / "digits.npz", 50, 50, form="medmnist", channels_last=True),
    "folder": lambda folder: write_png_folder(folder / "png", 150, [(8, 8)]),
}


@pytest.mark.parametrize("form", MAKERS)
def test_digits_come_out_of_every_format_as_they_went_in(form: str, tmp_path: Path) -> None:
    data = found(MAKERS[form](tmp_path), test_fraction=1 / 3)
    arrays = read_user_data(data)
    assert (data.image_size, data.in_channels, data.class_names) == (8, 1, tuple("0123456789"))
    assert (data.num_train, data.num_val, data.num_test) == (100, 10, 50)
    assert [array.shape for array in arrays] == [(100, 1, 8, 8), (100,), (50, 1, 8, 8), (50,)]
    assert [str(array.dtype) for array in arrays] == ["uint8", "int64"] * 2
    assert all(array.flags.writeable for array in arrays)
    images, labels = digits()
    expected = sorted((image.tobytes(), label) for image, label in zip(images[:150], labels[:150], strict=True))
    pairs = [*zip(arrays[0], arrays[1], strict=True), *zip(arrays[2], arrays[3], strict=True)]
    assert sorted((image.tobytes(), label) for image, label in pairs) == expected


def test_kaggles_folder_gives_training_and_unlabelled_images(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 100)
    write_csv(tmp_path / "test.csv", 20, labelled=False, start=100)
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    data = describe(UserDataOptions(path="."), tmp_path)
    assert (data.name, data.unlabelled_path) == (tmp_path.name, str(tmp_path / "test.csv"))
    images, names, labels = given(tmp_path / "test.csv", data)
    assert np.array_equal(images[:, 0], digits()[0][100:120])
    assert (names, labels) == ([str(number) for number in range(1, 21)], None)
    assert found(tmp_path / "train.csv").unlabelled_path is None


def test_a_test_set_of_its_own_stays_whole(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 100)
    write_csv(tmp_path / "b.csv", 40, start=100)
    data = found(tmp_path / "a.csv", test="b.csv")
    assert (data.num_train, data.num_test, data.test_fraction) == (100, 40, None)
    assert np.array_equal(read_user_data(data).test_images[:, 0], digits()[0][100:140])


def test_the_test_set_taken_out_is_the_same_every_time_and_has_each_classs_share(tmp_path: Path) -> None:
    data = found(write_csv(tmp_path / "a.csv", 300), test_fraction=0.2)
    _, labels, _, tested = read_user_data(data)
    whole = np.bincount(labels) + np.bincount(tested)
    assert np.bincount(tested).tolist() == [round(0.2 * count) for count in whole]
    assert data.notes == ()
    assert data.split_from == "20% of each class, always the same ones, since no test set was given"
    kept_arrays.root().rename(tmp_path / "away")
    assert np.array_equal(read_user_data(data).test_labels, tested)


def test_train_val_and_test_folders_are_taken_as_such(tmp_path: Path) -> None:
    for role, start in (("Train", 0), ("val", 100), ("test", 150)):
        write_png_folder(tmp_path / role, 50, [(8, 8)], start=start)
    (tmp_path / "Train" / "0" / "notes.txt").write_text("not an image")
    data = describe(UserDataOptions(path=str(tmp_path)), Path("/"))
    assert (data.num_train, data.num_test) == (100, 50)
    assert data.notes[0] == "1 files that aren't images were left out (.txt 1)."
    assert data.notes[1].startswith("50 images that were given for validation were joined")


def test_a_flat_test_folder_is_unlabelled(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "train", 50)
    (tmp_path / "test").mkdir()
    for number in (10, 9, 1):
        Image.new("L", (8, 8), number).save(tmp_path / "test" / f"img{number}.png")
    (tmp_path / "train.csv").write_text("file,label\nimg1.png,3\n")  # a list, not images
    data = describe(UserDataOptions(path=".", image_size=8), tmp_path)
    assert data.unlabelled_path is not None
    images, names, _ = given(Path(data.unlabelled_path), data)
    assert names == ["img1.png", "img9.png", "img10.png"]
    assert images[:, 0, 0, 0].tolist() == [1, 9, 10]


def test_mixed_sizes_are_brought_to_the_median_and_the_notes_say_so(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "d", 60, [(8, 8), (12, 10), (20, 31)])
    assert found(tmp_path / "d").image_size == 8  # a multiple of 4 below it, so that patches fit
    data = found(tmp_path / "d", image_size=16, channels="rgb", name="scans")
    assert read_user_data(data).train_images.shape == (data.num_train, 3, 16, 16)
    assert data.notes[:2] == (
        "Resized with antialiasing from 3 sizes (8 x 8 to 20 x 31) to 16 x 16 pixels, of oblong ones the square in the "
        "middle.",
        "Grey images were repeated in three channels.",
    )
    assert data.title == data.name == "scans"
    write_png_folder(tmp_path / "large", 30, [(90, 80)])
    assert found(tmp_path / "large").image_size == 64


def test_colour_is_seen_in_the_pixels_not_in_the_mode(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "d", 60, [(8, 8)], mode="RGB")
    grey = found(tmp_path / "d")
    assert grey.in_channels == 1
    image = Image.new("RGB", (8, 8))
    image.putpixel((7, 7), (0, 0, 1))
    image.save(tmp_path / "d" / "3" / "coloured.png")
    assert found(tmp_path / "d").in_channels == 3
    assert found(tmp_path / "d", channels="grey").in_channels == 1


def test_names_of_any_letters_come_through_unharmed(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", 'a,"b"', "two\nlines", "日本語", "Ωmega", "NA", "", "x10", "x9", " space"]
    names[6] = "-"
    data = found(write_csv(tmp_path / "a.csv", 100, names=names))
    assert set(data.class_names) == {name.strip() for name in names}
    assert data.class_names.index("x9") < data.class_names.index("x10")
    names[0] = "<script>alert(1)"  # a slash can't be in a folder's name
    folder = write_png_folder(tmp_path / "a <b>\n,日", 100, names=names)
    data = found(folder)
    assert set(data.class_names) == set(names)
    assert data.name == "a <b> ,日"  # a name is one line
    assert UserData.model_validate_json(data.model_dump_json()) == data


def test_labels_need_not_count_from_zero(tmp_path: Path) -> None:
    data = found(write_csv(tmp_path / "a.csv", 100, names=[str(10 * number + 5) for number in range(9, -1, -1)]))
    assert data.class_names == ("5", "15", "25", "35", "45", "55", "65", "75", "85", "95")


def test_the_checksum_is_of_contents_and_options_and_not_of_places(tmp_path: Path) -> None:
    one = found(write_csv(tmp_path / "a.csv", 100))
    two = found(write_csv(tmp_path / "b.csv", 100), image_size=8, made_by="a script")
    assert one.checksum == two.checksum
    assert len(one.checksum) == 12
    assert found(tmp_path / "a.csv", test_fraction=0.3).checksum != one.checksum
    assert found(tmp_path / "a.csv", image_size=10).checksum != one.checksum
    write_png_folder(tmp_path / "x" / "d", 60)
    write_png_folder(tmp_path / "y" / "d", 60)
    three, four = found(tmp_path / "x" / "d"), found(tmp_path / "y" / "d")
    assert three.checksum == four.checksum
    (tmp_path / "y" / "d" / "3").rename(tmp_path / "y" / "d" / "three")
    assert found(tmp_path / "y" / "d").checksum != three.checksum


def test_a_trial_reads_the_cache_and_never_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "a.csv", 100)
    data = found(path)
    with monkeypatch.context() as patch:
        patch.setattr(user_data, "read_files", lambda *_: pytest.fail("the files were read again"))
        assert found(path) == data
        kept = read_user_data(data)
    stored = kept_arrays.root() / data.checksum / kept_arrays.ARRAYS
    whole = stored.read_bytes()
    for place in (0, len(whole) // 2, -5):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        stored.write_bytes(damaged)
        assert kept_arrays.load(data.checksum) is None
        assert np.array_equal(read_user_data(data).train_images, kept.train_images)
        assert kept_arrays.load(data.checksum) is not None
    np.savez(stored, train_images=kept.train_images)
    assert np.array_equal(read_user_data(data).test_images, kept.test_images)
    assert not [*kept_arrays.root().glob(".*")]


def test_files_that_changed_since_the_plan_are_refused(tmp_path: Path) -> None:
    data = found(write_csv(tmp_path / "a.csv", 100))
    kept_arrays.root().rename(tmp_path / "away")
    write_csv(tmp_path / "a.csv", 90)
    with pytest.raises(DataError, match="isn't what it was when the run was planned"):
        read_user_data(data)
    data = found(write_png_folder(tmp_path / "d", 60), stream=True)
    Image.new("L", (8, 8)).save(tmp_path / "d" / "3" / "new.png")
    with pytest.raises(DataError, match="isn't what it was"):
        list_files(data)


def test_a_cache_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache / f"user-data-{kept_arrays.VERSION}").write_text("a file in the way")
    data = found(write_csv(tmp_path / "a.csv", 100))
    assert len(read_user_data(data).train_labels) == data.num_train
    assert "can't keep what was read" in capsys.readouterr().err


def test_streamed_files_are_those_that_would_have_been_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_png_folder(tmp_path / "d", 60)
    kept = found(folder)
    streamed = found(folder, stream=True)
    assert (streamed.stream, kept.stream) == (True, False)
    assert streamed.checksum == kept.checksum
    (train, train_labels, test, test_labels), arrays = list_files(streamed), read_user_data(kept)
    assert np.array_equal(train_labels, arrays.train_labels)
    assert np.array_equal(test_labels, arrays.test_labels)
    assert np.array_equal(np.stack([load_image(path, 8, 1) for path in train]), arrays.train_images)
    assert np.array_equal(np.stack([load_image(path, 8, 1) for path in test]), arrays.test_images)
    monkeypatch.setattr(user_data, "machine_memory", lambda: 4 * 60 * 8 * 8)
    assert found(folder, image_size=9).stream
    assert not found(folder, image_size=8).stream
    with pytest.raises(DataError, match=r"a.csv: only folders of images can be read while training"):
        found(write_csv(tmp_path / "a.csv", 60), stream=True)


@pytest.mark.parametrize("form", ["csv", "npz", "idx file", "idx folder", "flat folder", "class folders", "image"])
def test_images_to_predict_are_read_from_any_format(form: str, tmp_path: Path) -> None:
    like = found(write_csv(tmp_path / "like.csv", 100))
    images, labels = digits()
    names = [str(number) for number in range(1, 11)]
    known: list[int] | None = labels[:10].tolist()
    path = tmp_path / "given"
    if form == "csv":
        path = write_csv(tmp_path / "given.csv", 10)
    elif form == "npz":
        path = write_npz(tmp_path / "given.npz", 10, form="plain")
    elif form.startswith("idx"):
        path = write_idx_folder(path, 10, 0)
        path = path / "train-images-idx3-ubyte" if form == "idx file" else path
    elif form == "class folders":
        write_png_folder(path, 10, [(8, 8)])
        names = [f"{label}/img{label}.png" for label in range(10)]
    else:
        path.mkdir()
        for number in range(10):
            Image.fromarray(images[number]).save(path / f"img{number}.png")
        names, known = [f"img{number}.png" for number in range(10)], None
        if form == "image":
            path, names, images = path / "img7.png", ["img7.png"], images[7:]
    pixels, named, labelled = given(path, like)
    assert named == names
    assert np.array_equal(pixels[:, 0], images[: len(names)])
    assert (None if labelled is None else labelled.tolist()) == known


def test_labels_that_the_model_does_not_know_are_left_out_or_refused(tmp_path: Path) -> None:
    like = found(write_csv(tmp_path / "like.csv", 100))
    strange = [f"batch {number}" for number in range(10)]
    assert given(write_csv(tmp_path / "a.csv", 10, names=strange), like)[2] is None
    with pytest.raises(DataError, match=r"image 6 has the label 'five' \(column label\), which is no class's name"):
        given(write_csv(tmp_path / "a.csv", 10, names=[*"01234", "five", *"6789"]), like)


def plain_csv(path: Path, rows: list[str]) -> Path:
    path.write_text("label,a,b,c,d\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["1,0,0,0,0"] * 5, "all 5 images are of one class, '1'; two at least are needed"),
        (
            ["1,0,0,0,0"] * 5 + ["2,0,0,0,0"] * 2,
            r"class '2' has too few images \(2\): training, validation and test need",
        ),
    ],
)
def test_too_few_classes_or_images_are_refused(rows: list[str], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        found(plain_csv(tmp_path / "a.csv", rows))


def test_a_class_that_only_the_test_set_has_is_refused(tmp_path: Path) -> None:
    plain_csv(tmp_path / "train.csv", ["1,0,0,0,0", "2,0,0,0,0"] * 3)
    plain_csv(tmp_path / "test.csv", ["1,0,0,0,0", "x,0,0,0,0"])
    with pytest.raises(DataError, match=r"test.csv: holds class 'x', of which .*train.csv has no image"):
        describe(UserDataOptions(path=str(tmp_path)), tmp_path)


def test_a_path_that_is_not_there_names_the_nearest_or_what_makes_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 10)
    with pytest.raises(DataError, match=r"trian.csv isn't there; did you mean .*train.csv\?"):
        found(tmp_path / "trian.csv")
    with pytest.raises(DataError, match=r"isn't there; `python make.py` makes it, or --data names your own"):
        found(tmp_path / "trian.csv", made_by="python make.py")
    with pytest.raises(DataError, match=r"isn't there; .* holds nothing of such a name"):
        given(tmp_path / "no" / "where", found(write_csv(tmp_path / "like.csv", 100)))


def test_folders_that_hold_no_dataset_say_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no dataset and no image"):
        describe(UserDataOptions(path=str(tmp_path)), tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="holds images, but no folder for each class"):
        describe(UserDataOptions(path=str(tmp_path)), tmp_path)
    with pytest.raises(DataError, match=r"a.png: is one image; name the folder that holds a folder of"):
        found(tmp_path / "a.png")
    write_png_folder(tmp_path, 30)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no image \(.png, .jpg"):
        describe(UserDataOptions(path=str(tmp_path)), tmp_path)
    write_idx_folder(tmp_path / "idx", 10, 10)
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"holds no IDX file of labels for .*t10k-images-idx3-ubyte"):
        found(tmp_path / "idx")
    write_csv(tmp_path / "csv.csv", 30, labelled=False)
    with pytest.raises(DataError, match=r"csv.csv: has no labels"):
        found(tmp_path / "csv.csv")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train_images.csv", "train_labels.csv"),
        ("csvTrainImages 400x64.csv", "csvTrainLabel 400x1.csv"),
        ("kmnist-train-imgs.npz", "kmnist-train-labels.npz"),
    ],
)
def test_images_and_labels_in_files_of_their_own_are_to_be_joined(images: str, labels: str, tmp_path: Path) -> None:
    given_images, given_labels = (part[:50] for part in digits())
    for name, array in ((images, given_images.reshape(50, 64)), (labels, given_labels)):
        if name.endswith("csv"):
            np.savetxt(tmp_path / name, array, fmt="%d", delimiter=",")
        else:
            np.savez(tmp_path / name, array)
    joined = "a column of labels before" if images.endswith("csv") else "arrays named images and labels"
    with pytest.raises(
        DataError, match=f"if {labels} holds the labels of .*, join the two into one file, with {joined}"
    ):
        found(tmp_path)
    if images.endswith("csv"):
        with pytest.raises(DataError, match=r"has no labels; .*; labels in a file of their own are to be joined with"):
            found(tmp_path / images)


def test_what_was_understood_is_said_in_two_lines(tmp_path: Path) -> None:
    data = found(write_csv(tmp_path / "a.csv", 300, names=[f"digit {number}" for number in range(10)]))
    assert data.understood == [
        f"300 grey images of 8 x 8 pixels from {tmp_path / 'a.csv'}, labels from column label; test: 30 from "
        "10% of each class, always the same ones, since no test set was given.",
        f"10 classes: {', '.join(f'digit {n} {count}' for n, count in enumerate(np.bincount(digits()[1][:300])))}.",
    ]
    for role, start in (("training_set", 0), ("test_set", 100)):
        write_png_folder(tmp_path / "d" / role, 100, [(8, 8)], start=start)
    first, second = found(tmp_path / "d").understood
    assert first.endswith(f"labels from the names of the folders; test: 100 from {tmp_path / 'd' / 'test_set'}.")
    assert second.startswith("10 classes: 0 2")


@pytest.mark.parametrize("top", [1, 2, 8, 15, 16, 31, 63])
@pytest.mark.parametrize("form", ["npz", "csv", "png"])
def test_levels_that_end_early_are_spread_over_all_and_it_is_said(top: int, form: str, tmp_path: Path) -> None:
    images, labels = digits()
    whole = np.rint(images[:100] / 240 * top).astype(np.uint8)
    path = tmp_path / f"a.{form}"
    if form == "npz":
        np.savez(path, images=whole, labels=labels[:100])
    elif form == "csv":
        rows = (",".join(map(str, [label, *row])) for label, row in zip(labels, whole.reshape(100, -1), strict=False))
        path.write_text("\n".join([",".join(["label", *(f"p{n}" for n in range(64))]), *rows]))
    else:
        for number, (image, label) in enumerate(zip(whole, labels, strict=False)):
            (path / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path / str(label) / f"{number}.png")
    data = found(path)
    arrays = read_user_data(data)
    assert data.reading.top == top
    assert sum("so that" in note for note in data.notes) == 1
    spread = np.rint(whole.astype(float) * 255 / top).astype(np.uint8)
    both = np.concatenate([arrays.train_images, arrays.test_images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in spread)
    if form == "npz":  # images to predict are of the same range, or, where they are brighter, of the usual one
        assert np.array_equal(given(path, data)[0][:, 0], spread)
        np.savez(path, images=images[:100])
        assert np.array_equal(given(path, data)[0][:, 0], images[:100])


def test_sets_of_unlike_range_are_refused_or_told(tmp_path: Path) -> None:
    images, labels = digits()
    np.savez(
        tmp_path / "a.npz", x_train=images[:100], y_train=labels[:100], x_test=images[:50] // 200, y_test=labels[:50]
    )
    with pytest.raises(DataError, match=r"a.npz, array x_test: runs to 1, but .*x_train to 240; save all images alike"):
        found(tmp_path / "a.npz")
    write_csv(tmp_path / "train.csv", 100)
    text = write_csv(tmp_path / "test.csv", 50, start=100).read_text().splitlines()
    rows = ([label, *(str(int(cell) // 4) for cell in cells)] for label, *cells in (row.split(",") for row in text[1:]))
    (tmp_path / "test.csv").write_text("\n".join([text[0], *map(",".join, rows)]))
    data = describe(UserDataOptions(path=str(tmp_path)), tmp_path)
    assert f"Ranges are unlike: {tmp_path / 'train.csv'} to 240, {tmp_path / 'test.csv'} to 60" in data.notes[-1]


@pytest.mark.parametrize(
    ("dark", "top", "complaint"),
    [
        (("test",), 1, "test: runs to 1, but .*train to 240; save all images alike"),
        (("train", "test"), 1, "train, class 7: runs to 1, but .* to 240; save all images alike"),
        (("test",), 16, ""),
        (("train",), 0, ""),
    ],
)
def test_image_files_of_unlike_range_are_refused_or_told_by_split_and_by_class(
    dark: tuple[str, ...], top: int, complaint: str, tmp_path: Path
) -> None:
    images, labels = digits()
    for number in range(400):
        role = "train" if number < 300 else "test"
        image, label = images[number], labels[number]
        if role in dark and (dark == ("test",) or label == 7):
            image = np.rint(image / 240 * top).astype(np.uint8)
        (tmp_path / role / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / role / str(label) / f"{number}.png")
    if complaint:
        with pytest.raises(DataError, match=complaint):
            found(tmp_path)
        return
    what = f"{tmp_path / 'test'} to 16" if top else f"{tmp_path / 'train'}, class 7 to 0"
    assert any(f"to 240, {what}; were all images" in note for note in found(tmp_path).notes)


def test_a_few_bright_images_of_a_dark_class_are_found(tmp_path: Path) -> None:
    images, labels = digits()
    for number in range(300):
        (tmp_path / str(labels[number])).mkdir(exist_ok=True)
        image = images[number] if labels[number] != 7 or number == 191 else images[number] // 16
        Image.fromarray(image).save(tmp_path / str(labels[number]) / f"{number}.png")
    assert labels[191] == 7
    assert not any("unlike" in note for note in found(tmp_path).notes)


def test_of_twelve_bits_in_sixteen_the_upper_eight_are_kept(tmp_path: Path) -> None:
    images, labels = digits()
    for number in range(60):
        (tmp_path / "d" / str(labels[number])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number].astype(np.uint16) << 4).save(
            tmp_path / "d" / str(labels[number]) / f"{number}.png"
        )
    data = found(tmp_path / "d")
    assert data.reading.bits == 12
    assert "Of the 12 that are used the upper 8 were kept." in data.notes
    both = np.concatenate([read_user_data(data).train_images, read_user_data(data).test_images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in images[:60])


@pytest.mark.parametrize(("stroke", "ground"), [(0, "white"), (60, "white"), (255, "black"), (200, "black")])
def test_the_ground_of_transparent_images_lets_their_strokes_be_seen(stroke: int, ground: str, tmp_path: Path) -> None:
    images, labels = digits()
    for number in range(60):
        (tmp_path / "d" / str(labels[number])).mkdir(parents=True, exist_ok=True)
        ink = np.stack([np.full_like(images[number], stroke), images[number]], axis=2)
        Image.fromarray(ink).save(tmp_path / "d" / str(labels[number]) / f"{number}.png")
    data = found(tmp_path / "d")
    assert data.reading.ground == ground
    assert f"60 images with transparency were laid over {ground}" in " ".join(data.notes)
    assert "of one grey throughout" not in " ".join(data.notes)
    pixels = read_user_data(data).train_images
    assert pixels.max() - pixels.min() > 100


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.tsv", "a.tsv: is text; if it is a table of pixels, divide its cells by commas and call it .csv"),
        ("a.npy", "is one array of numpy's; save images and labels together with numpy: np.savez("),
        ("a.MAT", "is MATLAB's; read it with scipy.io.loadmat and save images and labels"),
        ("a.pkl", "is a pickle, whose reading could run code; save"),
        ("a.tar.gz", "is an archive; unpack it, and name the folder"),
        ("emnist-images-idx3-ubyte", "is one IDX file; name a folder with train-images-idx3-ubyte and train-labels"),
    ],
)
def test_a_file_of_another_kind_is_told_what_it_is_and_what_to_do(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=re.escape(said)):
            found(path)


MEASURED = {
    "numbers": [str(n) for n in range(7, 107)],
    "fractions": [f"{n % 40 + 0.25}" for n in range(99)] + ["99.5"],
    "names": [f"photo {n}" for n in range(100)],
}


@pytest.mark.parametrize("kind", MEASURED)
def test_labels_of_as_many_values_as_images_are_no_classes(kind: str, tmp_path: Path) -> None:
    table = pd.DataFrame(digits()[0][:100].reshape(100, 64)).add_prefix("pixel").assign(age=MEASURED[kind])
    table.to_csv(tmp_path / "a.csv", index=False)
    complaint = (
        r"a.csv: column age has (100|41) different values for 100 images: a measured value or an ID\? Classes are"
    )
    with pytest.raises(DataError, match=complaint):
        found(tmp_path / "a.csv")


def test_images_that_are_in_two_classes_are_counted(tmp_path: Path) -> None:
    write_png_folder(tmp_path, 100, [(8, 8)])
    images = sorted(tmp_path.glob("3/*.png"))[:2]
    for image in images:
        (tmp_path / "5" / f"again_{image.name}").write_bytes(image.read_bytes())
    (tmp_path / "3" / "same_class.png").write_bytes(images[0].read_bytes())
    data = describe(UserDataOptions(path="."), tmp_path)
    said = next(note for note in data.notes if "contradict" in note)
    assert said.startswith("5 of 103 images are in other classes too, pixel by pixel: ")
    assert f"{images[1]} and {tmp_path / '5' / f'again_{images[1].name}'}" in said
    assert said.endswith(". Their labels contradict each other.")


def test_images_of_one_grey_and_test_images_that_were_learned_are_told(tmp_path: Path) -> None:
    for role, start in (("train", 0), ("test", 95)):
        write_png_folder(tmp_path / role, 100, [(8, 8)], start=start)
    Image.new("L", (8, 8), 7).save(tmp_path / "train" / "3" / "blank.png")
    data = describe(UserDataOptions(path="."), tmp_path)
    one, two = data.notes[-2:]
    assert one == f"1 of 201 images are of one grey throughout: {tmp_path / 'train' / '3' / 'blank.png'}."
    assert two.startswith("5 of 100 test images are among those to learn from, pixel by pixel: ")
    assert f"{tmp_path / 'test'}" in two


def test_classes_that_differ_in_capital_letters_or_blanks_are_doubted(tmp_path: Path) -> None:
    names = ["Cat", "cat", *(f"digit {number}" for number in range(8))]
    data = found(write_csv(tmp_path / "a.csv", 300, names=names))
    assert data.num_classes == 10
    assert data.notes == ("Classes Cat, cat differ in blanks or capital letters alone: are they one?",)
