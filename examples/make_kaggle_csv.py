"""Kaggle-style CSVs of handwritten digits, made from MNIST, so that a Kaggle workflow runs offline and can be scored.

    python examples/make_kaggle_csv.py            # into kaggle/: 42,000 labelled rows, 28,000 to predict (120 MB)
    python examples/make_kaggle_csv.py small --rows 3000

Like Kaggle's "Digit Recognizer", it deals out all 70,000 images of MNIST anew, so its test images aren't MNIST's.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.data.catalog import read_arrays
from bench.data.download import fetch
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

ROWS, TEST_ROWS = 42_000, 28_000  # as Kaggle has them
NUMBERS = [str(level) for level in range(256)]  # a pixel's text is looked up: 4 times as fast as a CSV writer
FILES = ("train.csv", "test.csv", "sample_submission.csv", "solution.csv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="kaggle")
@click.option("--rows", type=click.IntRange(3, ROWS), default=ROWS, help="Labelled ones; 2/3 as many to predict.")
@click.option("--seed", default=0, help="Of the order in which images are dealt out.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder that holds MNIST's files.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
def main(folder: Path, rows: int, seed: int, data_dir: Path | None, overwrite: bool) -> None:
    """Write Kaggle-style CSVs of handwritten digits, made from MNIST, into FOLDER [kaggle].

    \b
    train.csv               label,pixel0,...,pixel783
    test.csv                pixel0,...,pixel783: to predict
    sample_submission.csv   ImageId,Label: the format, all 0
    solution.csv            ImageId,Label: the truth, for examples/check_submission.py
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise click.ClickException(f"{folder / there[0]} is there already; name another folder, or give --overwrite")
    try:
        write_files(folder, *all_of_mnist(data_dir), rows, seed)
    except UserError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{folder}: can't be written ({error.strerror}); name another folder") from None
    click.echo(f"{folder}: {rows:,} labelled rows, {unlabelled_rows(rows):,} to predict: {', '.join(FILES)}")


def all_of_mnist(data_dir: Path | None) -> "tuple[np.ndarray, np.ndarray]":
    """Images (70,000, 784) and labels (70,000,), uint8, training images first. Raises: DataError."""
    import numpy as np

    arrays = read_arrays("mnist", fetch("mnist", data_dir).folder)
    images = np.concatenate([arrays.train_images, arrays.test_images])
    return images.reshape(len(images), -1), np.concatenate([arrays.train_labels, arrays.test_labels])


def unlabelled_rows(rows: int) -> int:
    return rows * TEST_ROWS // ROWS


def write_files(folder: Path, images: "np.ndarray", labels: "np.ndarray", rows: int, seed: int) -> None:
    """Deal out images (N, pixels) and labels (N,) and write the four files; each is there whole or not at all."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:rows], order[rows : rows + unlabelled_rows(rows)]
    pixels = [f"pixel{i}" for i in range(images.shape[1])]
    numbers = range(1, len(test) + 1)
    labelled = ([label, *row] for label, row in zip(labels[train].tolist(), _rows(images, train), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.csv", ["label", *pixels], labelled)
    _write(folder / "test.csv", pixels, _rows(images, test))
    _write(folder / "sample_submission.csv", ["ImageId", "Label"], ([number, 0] for number in numbers))
    solution = zip(numbers, labels[test].tolist(), strict=True)
    _write(folder / "solution.csv", ["ImageId", "Label"], map(list, solution))


def _rows(images: "np.ndarray", chosen: "np.ndarray") -> Iterable[list[int]]:
    return (images[i].tolist() for i in chosen)


def _write(path: Path, header: list[str], rows: Iterable[list[int]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(",".join(header) + "\n")
            file.writelines(",".join([NUMBERS[v] if v < 256 else str(v) for v in row]) + "\n" for row in rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
