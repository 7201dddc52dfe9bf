""".npz files: whose names and number ranges are understood, and what is refused."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_up_data import digits, write_npz

from bench.data.readers.npz import read_npz
from bench.errors import DataError

GREY = np.arange(4 * 8 * 6, dtype=np.uint8).reshape(4, 8, 6)
LABELS = np.array([3, 1, 3, 1])


def saved(folder: Path, **arrays: object) -> Path:
    path = folder / "a.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_parts_are_found_by_the_names_of_keras_and_medmnist(tmp_path: Path) -> None:
    assert list(read_npz(write_npz(tmp_path / "a.npz"))) == ["train", "test"]
    parts = read_npz(write_npz(tmp_path / "b.npz", form="medmnist", channels_last=True))
    assert {role: part.images.shape for role, part in parts.items()} == {  # type: ignore[union-attr]
        "train": (100, 3, 8, 8),
        "val": (50, 3, 8, 8),
        "test": (50, 3, 8, 8),
    }
    assert np.array_equal(parts["test"].labels, digits()[1][100:150])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (GREY, (4, 1, 8, 6)),
        (GREY[..., None], (4, 1, 8, 6)),
        (np.stack([GREY] * 3, -1), (4, 3, 8, 6)),
        (np.stack([GREY] * 3, 1), (4, 3, 8, 6)),
        (GREY.reshape(4, 4, 4, 3)[:, :3, :3], (4, 3, 3, 3)),
        (GREY.reshape(4, 3, 4, 4)[:, :, :1, :1], (4, 3, 1, 1)),
    ],
)
def test_channels_are_found_first_or_last(images: np.ndarray, shape: tuple[int, ...], tmp_path: Path) -> None:
    if shape[2:] == (3, 3):
        with pytest.raises(DataError, match="which axis is that of the channels can't be told"):
            read_npz(saved(tmp_path, images=images))
        return
    assert read_npz(saved(tmp_path, images=images))["train"].images.shape == shape  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_fractions_up_to_one_become_grey_levels_and_the_notes_say_so(kind: type, tmp_path: Path) -> None:
    found = read_npz(saved(tmp_path, images=(GREY / 255).astype(kind), labels=LABELS))
    assert np.array_equal(found["train"].images[:, 0], GREY)  # type: ignore[call-overload]
    assert found["train"].notes == ("Numbers from 0 to 1 were multiplied by 255 and rounded to whole grey levels.",)
    whole = read_npz(saved(tmp_path, images=GREY.astype(kind), labels=LABELS))
    assert np.array_equal(whole["train"].images[:, 0], GREY)  # type: ignore[call-overload]
    assert whole["train"].notes == ()


def test_all_parts_have_one_scale(tmp_path: Path) -> None:
    dark = np.zeros((2, 8, 6), dtype=np.float32)
    found = read_npz(saved(tmp_path, x_train=GREY / 255, x_test=dark + 1))
    assert found["test"].images.min() == 255  # type: ignore[union-attr]
    with pytest.raises(DataError, match="some images run from 0 to 1 and others to 255"):
        read_npz(saved(tmp_path, x_train=GREY, x_test=dark))


def test_fractions_beside_whole_numbers_stored_as_fractions_are_refused(tmp_path: Path) -> None:
    images = digits()[0][:20].astype(np.float32)
    labels = digits()[1][:20]
    path = saved(tmp_path, x_train=images, y_train=labels, x_test=images / 255, y_test=labels)
    with pytest.raises(DataError, match="some images run from 0 to 1 and others to 255"):
        read_npz(path)


def test_names_and_whole_numbers_are_labels(tmp_path: Path) -> None:
    named = read_npz(saved(tmp_path, images=GREY, labels=np.array(["b", "a,\n", "日", "b"])))["train"]
    assert named.labels is not None
    assert named.labels.tolist() == ["b", "a,", "日", "b"]
    for labels in (LABELS[:, None], LABELS.astype(np.float64), LABELS.astype(np.uint8)):
        assert read_npz(saved(tmp_path, images=GREY, labels=labels))["train"].labels.tolist() == [3, 1, 3, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"pictures": GREY}, "holds pictures; expected arrays named images and labels, x_train"),
        ({"images": GREY.astype(np.int32) - 1}, "array images: runs from -1 to 190; expected 0 to 255"),
        ({"images": GREY.astype(np.uint16) * 9}, "array images: runs from 0 to 1719; expected 0 to 255"),
        ({"images": GREY / 100}, "array images: holds fractions and runs to 1.91; expected"),
        (
            {"images": GREY * np.nan},
            "array images: 192 of 192 numbers are NaN or infinite, the first in image 1; replace",
        ),
        (
            {"images": np.where(np.arange(192).reshape(GREY.shape) // 50 == 2, np.inf, GREY)},
            "array images: 50 of 192 numbers are NaN or infinite, the first in image 3; replace them",
        ),
        ({"images": np.array(["a"])}, "array images: holds <U1 of shape (1,); expected images as numbers"),
        ({"images": GREY.reshape(4, 48)}, "array images: holds an array of 4 x 48; expected (images, height, width)"),
        (
            {"images": GREY.reshape(4, 2, 4, 6)},
            "array images: holds an array of 4 x 2 x 4 x 6; expected 1 or 3 channels",
        ),
        (
            {"images": GREY, "labels": LABELS[:3]},
            "array labels: has shape (3,); expected one label for each of 4 images",
        ),
        ({"images": GREY, "labels": np.eye(4)}, "array labels: has shape (4, 4); expected one label"),
        ({"images": GREY, "labels": LABELS / 2}, "array labels: holds float64; expected whole numbers or names"),
        ({"images": np.array([{}, None])}, "array images: holds Python objects, whose reading could run code"),
    ],
)
def test_what_is_not_plain_is_refused_with_the_arrays_name(
    arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=re.escape(complaint)):
        read_npz(saved(tmp_path, **arrays))


def test_a_header_that_lies_about_its_size_makes_no_room(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + b"123")
    with pytest.raises(DataError, match=r"array images: can't be read as an \.npz \(Unable to allocate"):
        read_npz(tmp_path / "a.npz")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "a.npz").read_bytes()
    for damage in (b"", b"PK\3\4 nonsense", whole[:-30], whole[: len(whole) // 2], b"\x93NUMPY\1\0v\0"):
        (tmp_path / "a.npz").write_bytes(damage)
        with pytest.raises(DataError, match=r"a\.npz: (isn't|can't)"):
            read_npz(tmp_path / "a.npz")
    middle = bytearray(whole)
    middle[len(whole) // 3] ^= 0x55
    (tmp_path / "a.npz").write_bytes(middle)
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(("cell", "said"), [("", "nothing"), ("  ", "nothing"), ("nan", "'nan'"), ("NaN", "'NaN'")])
def test_blanks_around_labels_say_nothing_and_none_may_lack(cell: str, said: str, tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["cat ", " cat", "dog"]))
    assert read_npz(tmp_path / "a.npz")["train"].labels.tolist() == ["cat", "cat", "dog"]  # type: ignore[union-attr]
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["cat", "cat", cell]))
    with pytest.raises(DataError, match=f"a.npz, array labels: image 3 has {said} for a label"):
        read_npz(tmp_path / "a.npz")
