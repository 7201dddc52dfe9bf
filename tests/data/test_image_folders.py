"""Folders of images: which are splits and which are classes, and what is left out."""

import os
import unicodedata
from pathlib import Path

import pytest
from made_up_data import write_png_folder
from PIL import Image

from bench.data.image_folders import (
    class_names,
    class_of,
    find_layout,
    images_below,
    images_by_class,
    name_below,
    said_left_out,
)
from bench.data.readers.base import shown
from bench.data.readers.images import any_colour, load_images
from bench.errors import DataError


def test_classes_are_folders_in_the_order_of_people(tmp_path: Path) -> None:
    write_png_folder(tmp_path, 30, names=[f"class {number}" for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)])
    (tmp_path / ".hidden").mkdir()
    deep = tmp_path / "class 1" / "deep" / "er"
    deep.mkdir(parents=True)
    Image.new("L", (4, 4)).save(deep / "a.PNG")
    images, others = images_by_class(tmp_path)
    classes = [class_of(tmp_path, image) for image in images]
    assert list(dict.fromkeys(classes)) == [f"class {number}" for number in range(1, 11)]
    assert name_below(tmp_path, images[0]) == "class 1/deep/er/a.PNG"
    assert (len(images), dict(others)) == (31, {})


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "elsewhere", 10, [(8, 8)])
    (tmp_path / "d" / "linked").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere" / "3" / "img3.png", tmp_path / "d" / "linked" / "a.png")
    os.symlink(tmp_path / "elsewhere" / "4", tmp_path / "d" / "four")
    os.symlink(tmp_path / "d", tmp_path / "d" / "linked" / "circle")
    images, _ = images_below(tmp_path / "d")
    assert sorted(path.name for path in images) == ["a.png", "img4.png"]
    assert load_images(images, 8, 1).shape == (2, 1, 8, 8)
    assert not any_colour(images)


def pictures(root: Path, *files: str) -> Path:
    """Image files of 4 x 4 pixels at these places; a star stands for three of them."""
    for number, file in enumerate(files):
        for copy in range(3):
            path = root / file.replace("*", str(copy))
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {".jfif": "JPEG", ".pjp": "JPEG"}.get(path.suffix)
            Image.new("L", (4, 4), 10 * number + copy).save(path, format=kind)
    return root


SPLITS = [
    ("training_set", "test_set"),
    ("Training", "Testing"),
    ("seg_train", "seg_test"),
    ("asl_alphabet_train", "asl_alphabet_test"),
    ("train_images", "test_images"),
    ("trainImages", "testImages"),
    ("train", "test1"),
    ("train2017", "test2017"),
    ("TRAIN", "TEST"),
    ("train-data", "test-data"),
    ("training", "evaluation"),
    ("train_set/train_set", "test_set/test_set"),
    ("dataset/train", "dataset/test"),
    ("archive/dataset/seg_train/seg_train", "archive/dataset/seg_test/seg_test"),
    ("horse-or-human", "test-horse-or-human"),
    ("rps/rps", "rps-test-set/rps-test-set"),
    ("trainval", "test"),
    ("dataset_train", "my_holdout_2021"),
    ("entrenamiento", "prueba"),
    ("Treino", "Teste"),
    (unicodedata.normalize("NFD", "entraînement"), "test"),
    ("Trainingsdaten", "Testdaten"),
    ("addestramento", "test"),
    ("训练集", "测试集"),
    ("train/images", "test/images"),
]


@pytest.mark.parametrize(("train", "test"), SPLITS)
def test_names_of_splits_are_read_as_words_in_wrappers_of_any_depth(train: str, test: str, tmp_path: Path) -> None:
    pictures(tmp_path, f"{train}/cat/*.png", f"{train}/dog/*.png", f"{test}/cat/*.png", f"{test}/dog/*.png")
    found = find_layout(tmp_path)
    assert found.roots == {"train": tmp_path / train, "test": tmp_path / test}
    assert (found.unlabelled, found.notes) == (None, [])


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "dev", "val_set/val_set", "validación", "验证集"])
def test_a_split_for_validation_is_found(val: str, tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{split}/{name}/*.png" for split in ("train", val) for name in "ab"))
    assert find_layout(tmp_path).roots == {"train": tmp_path / "train", "val": tmp_path / val}


def test_splits_that_hold_no_classes_are_left_out_or_predicted_and_it_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, "train/n1/images/*.png", "train/n2/images/*.png", "val/images/*.png", "test/images/*.png")
    found = find_layout(tmp_path)
    assert (found.roots, found.unlabelled) == ({"train": tmp_path / "train"}, tmp_path / "test" / "images")
    assert "val/images holds images but no folder for each class" in found.notes[0]
    assert "test/images has no folder for each class: its images are to be predicted" in found.notes[1]
    images, _ = images_by_class(found.roots["train"])
    assert {class_of(found.roots["train"], image) for image in images} == {"n1", "n2"}


def test_a_test_split_of_a_single_folder_of_its_own_name_is_predicted(tmp_path: Path) -> None:
    pictures(tmp_path, "abc_train/abc_train/a/*.png", "abc_train/abc_train/b/*.png", "abc_test/abc_test/*.png")
    found = find_layout(tmp_path)
    inner = tmp_path / "abc_test" / "abc_test"
    assert (found.roots, found.unlabelled) == ({"train": tmp_path / "abc_train" / "abc_train"}, inner)


def test_folders_without_images_beside_images_are_no_classes(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{split}/images/{name}/*.png" for split in ("train", "test") for name in "ab"))
    for place in ("train/annotations", "papers"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.xml").write_text("")
    roots = {split: tmp_path / split / "images" for split in ("train", "test")}
    assert find_layout(tmp_path).roots == roots


def test_a_copy_of_its_neighbours_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"cells/{inner}{name}/*.png" for inner in ("", "cells/") for name in ("ill", "well")))
    found = find_layout(tmp_path)
    root = tmp_path / "cells"
    assert found.roots == {"train": root}
    assert class_names(root) == {"ill", "well"}
    assert len(images_by_class(root)[0]) == 6
    assert found.notes == [
        f"{shown(root / 'cells')} holds folders of its neighbours' names: it was left out as a copy."
    ]


def test_other_folders_beside_the_splits_are_left_out_or_predicted(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"seg_{split}/{name}/*.png" for split in ("train", "test") for name in "ab"), "seg_pred/*.png")
    assert find_layout(tmp_path).unlabelled == tmp_path / "seg_pred"
    pictures(tmp_path, "extra/x/*.png")
    assert find_layout(tmp_path).notes == [
        "Folder extra beside the splits was left out.",
        f"{shown(tmp_path / 'seg_pred')} has no folder for each class: its images are to be predicted.",
    ]


REFUSED = [
    (["train/even.*.jpg", "train/odd.*.jpg", "test/*.jpg"], "names begin with even, odd: move them into folders"),
    (["train/*.jpg", "test/*.jpg"], "train: holds images, but no folder for each class, and so no labels"),
    (
        ["train/*.png", "bus/*.png", "car/*.png"],
        "named like a split.*beside bus, car; if it is a class",
    ),
    (["test/a/*.png", "cats/*.png", "dogs/*.png"], "no train to learn from; put cats, dogs into a folder called train"),
    (["train/a/*.png", "train/b/*.png", "test/A/*.png"], "holds class 'A', of which .*; did you mean 'a'"),
    (["train/a/*.png", "train/b/*.png", "val/a/*.png", "val/c/*.png"], "val: holds class 'c', of which"),
    (["train/a/*.png", "train/b/*.png", "val/a/*.png", "validation/a/*.png"], "val and validation both are val data"),
    (["images/*.png", "masks/*.png"], "holds images, but no folder for each class"),
    (["photos/*.png"], r"no folder for each class \(only photos\)"),
    (["cat_*.png", "dog_*.png"], "their names begin with cat, dog"),
    (
        ["simpsons_dataset/bart/*.png", "simpsons_dataset/lisa/*.png", "kaggle_simpson_testset/inner/*.png"],
        "kaggle_simpson_testset: is named like a split, and simpsons_dataset beside it .*: call them test and train",
    ),
    (
        [f"{patient}/{name}/*.png" for patient in ("10253", "10254", "10255") for name in "01"],
        r"10253, 10254, 10255 all hold folders of the same names \(0, 1\): which are the classes\?.*--data .*10253, or",
    ),
    (
        [f"train/{variant}/{name}/*.png" for variant in ("color", "grey") for name in ("scab", "blight")],
        r"train: color, grey all hold folders of the same names \(blight, scab\)",
    ),
    (
        [f"fold{fold}/{name}/*.png" for fold in (1, 2, 3) for name in "ab"],
        r"fold1, fold2, fold3 all hold folders of the same names \(a, b\)",
    ),
    (
        ["cast/cast/train/ok/*.png", "cast/cast/test/ok/*.png", "cast_512/cast_512/ok/*.png"],
        "cast: holds test, train, named like splits, and so is no class; --data takes one dataset, such as .*cast/cast",
    ),
    (["HAM_images_part_1/*.png", "HAM_images_part_2/*.png"], "HAM_images_part_2 are named like parts of one set"),
    (["batch1/*.png", "batch2/*.png", "batch10/*.png"], "batch1, batch2, batch10 are named like parts of one set"),
    (["Faces/*.png", "crop_part1/*.png"], "crop_part1, Faces are named like parts of one set"),
]


@pytest.mark.parametrize(("files", "complaint"), REFUSED)
def test_what_could_mean_two_things_is_refused_with_what_would_do(
    files: list[str], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=complaint) as raised:
        find_layout(pictures(tmp_path, *files))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [
        *(["0", "1"], ["test tube", "beaker"], ["tube", "test tube"], ["mask", "no mask"]),
        *(["with_mask", "without_mask"], ["trains", "bus"], ["training_real", "training_fake"]),
        ["b/SOB/adenosis/40X", "b/SOB/fibroma/40X", "m/SOB/ductal/40X", "m/SOB/lobular/40X"],
        ["covid/images", "covid/masks", "normal/images", "normal/masks"],
        ["animals/cat", "animals/other", "things/cup", "things/other", "partridge 1", "partridge 2"],
    ],
)
def test_such_names_are_classes(names: list[str], tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", *(f"{name}/*.png" for name in names))
    assert find_layout(tmp_path).roots == {"train": root}
    assert class_names(root) == {name.partition("/")[0] for name in names}


def test_leftovers_and_thumbnails_of_systems_drives_and_notebooks_are_no_images(tmp_path: Path) -> None:
    pictures(tmp_path, "a/*.png", "b/*.png", "__MACOSX/a/*.png", "@eaDir/*.jpg", ".ipynb_checkpoints/*.png")
    pictures(tmp_path, "a/@eaDir/*.png", "a/.ipynb_checkpoints/*.png", "b/thumbs/*.png", "$RECYCLE.BIN/*.png")
    pictures(tmp_path, "a/._*.png", "lost+found/*.png", "#recycle/0.png", "Thumbnails/*.png")
    for file in ("a/Thumbs.db", "b/desktop.ini", "b/.DS_Store"):
        (tmp_path / file).write_text("")
    assert find_layout(tmp_path).roots == {"train": tmp_path}
    images, left_out = images_by_class(tmp_path)
    assert [name_below(tmp_path, image) for image in images] == [f"{name}/{n}.png" for name in "ab" for n in range(3)]
    assert not left_out


def test_masks_beside_images_are_left_out_and_counted(tmp_path: Path) -> None:
    pictures(tmp_path, "benign/b (*).png", "benign/b (*)_mask.png", "benign/b (*)_mask_1.png", "normal/n (*).png")
    pictures(tmp_path, "covid/images/*.png", "covid/masks/*.png", "plain/*_mask.png", "top.png")
    (tmp_path / "normal" / "about.TXT").write_text("")
    images, left_out = images_by_class(tmp_path)
    assert len(images) == 3 * 4
    assert said_left_out(left_out) == [
        "1 files that aren't images were left out (.txt 1).",
        "9 masks beside their images were left out.",
        "1 images outside of the classes' folders were left out.",
    ]


def test_usual_endings_of_jpeg_are_known_and_names_are_composed(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    pictures(tmp_path / "train", "café/*.jfif", "thé/*.pjp")
    pictures(tmp_path / "test", f"{decomposed}/*.jfif", f"{unicodedata.normalize('NFD', 'thé')}/*.jfif")
    found = find_layout(tmp_path)
    assert class_names(found.roots["train"]) == class_names(found.roots["test"]) == {"café", "thé"}


def test_names_that_are_not_utf8_stay_different_and_can_be_written(tmp_path: Path) -> None:
    names = [b"\xb9\xb7", b"\xc3\xa8", b"\xd3\xe3"]  # dog and fish in GBK; what else is valid is kept as it is
    pictures(tmp_path, *(f"{os.fsdecode(name)}/*.png" for name in names))
    assert class_names(tmp_path) == {r"\xb9\xb7", "è", r"\xd3\xe3"}
    images, _ = images_by_class(tmp_path)
    assert len({class_of(tmp_path, image) for image in images}) == 3


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("JPEGImages/*.jpg", "SegmentationClass/*.png"),
        ("imgs/*.png", "seg_masks/*.png"),
        ("rgb/*.jpg", "GT_color/*.png"),
    ],
)
def test_masks_in_a_folder_beside_that_of_their_images_are_no_class(image: str, mask: str, tmp_path: Path) -> None:
    folders = image.partition("/")[0], mask.partition("/")[0]
    with pytest.raises(DataError, match=f"{folders[1]} has an image for each name in {folders[0]}: are they its masks"):
        find_layout(pictures(tmp_path, image, mask))


@pytest.mark.parametrize(
    "files",
    [
        ("with_mask/*.png", "without_mask/*.jpg"),
        ("mask/*.png", "face/*.png"),
        ("photo/*.jpg", "cartoon/*.png"),
        ("cats/*.jpg", "dogs/*.png"),
        ("JPEGImages/a*.jpg", "SegmentationClass/b*.png"),
    ],
)
def test_classes_numbered_alike_are_no_masks(files: tuple[str, ...], tmp_path: Path) -> None:
    assert find_layout(pictures(tmp_path, *files)).roots == {"train": tmp_path}


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (".HEIC", "dog: holds 3 .heic files, which are not read; convert to PNG or JPEG"),
        (".xml", r"dog: holds no image \(.png, .jpg.*\), but 3 .xml files; put images there or remove the folder"),
    ],
)
def test_what_a_class_holds_instead_of_images_is_said(ending: str, said: str, tmp_path: Path) -> None:
    pictures(tmp_path, "cat/*.png", "owl/*.png")
    (tmp_path / "dog").mkdir()
    for number in range(3):
        (tmp_path / "dog" / f"{number}{ending}").write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        images_by_class(tmp_path)
