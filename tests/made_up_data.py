"""Small files of images as people bring them, in every format that is read: scikit-learn's digits, 8 x 8 pixels."""

import csv
import gzip
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bench.data.readers.idx import write_idx

DIGITS = tuple("0123456789")


@lru_cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 of them: images (N, 8, 8) uint8 from 0 to 240, labels (N,) int64."""
    spec = find_spec("sklearn")  # found, not imported: that would take seconds
    assert spec
    assert spec.origin
    table = pd.read_csv(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", header=None).to_numpy()
    return (table[:, :64] * 15).astype(np.uint8).reshape(-1, 8, 8), table[:, 64].astype(np.int64)


def write_csv(
    path: Path,
    n: int = 100,
    *,
    labelled: bool = True,
    header: bool = True,
    names: Sequence[str] = DIGITS,
    start: int = 0,
) -> Path:
    """Kaggle's CSV with `n` digits from `start` on, gzipped if its name says so; `names` are the labels written."""
    images, labels = digits()
    rows = images[start : start + n].reshape(-1, 64).tolist()
    with (
        gzip.open(path, "wt", newline="", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open("w", newline="", encoding="utf-8") as file
    ):
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow([*(["label"] if labelled else []), *(f"pixel{number}" for number in range(64))])
        for row, label in zip(rows, labels[start:].tolist(), strict=False):
            writer.writerow([names[label], *row] if labelled else row)
    return path


def write_idx_folder(
    folder: Path, n_train: int = 100, n_test: int = 50, *, gzipped: bool = False, dots: bool = False
) -> Path:
    """MNIST's four files; `dots` writes `train-images.idx3-ubyte`, as some copies are called. Without a test: 0."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits()
    parts = {"train": slice(0, n_train), "t10k": slice(n_train, n_train + n_test)}
    for role, rows in parts.items():
        for what, array in (("images-idx3", images[rows]), ("labels-idx1", labels[rows].astype(np.uint8))):
            if len(array) == 0:
                continue
            path = folder / f"{role}-{what.replace('-', '.') if dots else what}-ubyte"
            write_idx(path, array)
            if gzipped:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
                path.unlink()
    return folder


def write_png_folder(
    folder: Path,
    n: int = 100,
    sizes: Sequence[tuple[int, int]] = ((8, 8), (12, 10), (20, 31)),
    *,
    names: Sequence[str] = DIGITS,
    mode: str = "L",
    ending: str = ".png",
    start: int = 0,
) -> Path:
    """A folder for each class, with `n` digits in all; sizes (width, height) take turns. `mode` is PIL's."""
    images, labels = digits()
    for number, (image, label) in enumerate(zip(images[start : start + n], labels[start:], strict=False)):
        target = folder / names[label] / f"img{number}{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize(sizes[number % len(sizes)]).convert(mode).save(target)
    return folder


def write_npz(
    path: Path, n_train: int = 100, n_test: int = 50, *, form: str = "keras", channels_last: bool = False
) -> Path:
    """An .npz with Keras's names, MedMNIST's (with validation images, as many as test images), or `plain` ones."""
    images, labels = digits()
    if channels_last:
        images = np.stack([images] * 3, axis=-1)
    ends = {"train": n_train, "test": n_train + n_test, "val": n_train + 2 * n_test}
    parts = {
        "train": slice(0, ends["train"]),
        "test": slice(ends["train"], ends["test"]),
        "val": slice(ends["test"], ends["val"]),
    }
    arrays: dict[str, Any] = {}
    for role, rows in parts.items():
        if form == "medmnist":
            arrays |= {f"{role}_images": images[rows], f"{role}_labels": labels[rows, None]}
        elif form == "keras" and role != "val":
            arrays |= {f"x_{role}": images[rows], f"y_{role}": labels[rows]}
        elif form == "plain" and role == "train":
            arrays |= {"images": images[rows], "labels": labels[rows]}
    np.savez_compressed(path, **arrays)
    return path
