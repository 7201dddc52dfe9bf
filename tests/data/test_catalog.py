"""What DATASETS says, and arrays read from folders of small files."""

import dataclasses
import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.catalog import DATASETS, read_arrays, spec_of
from bench.data.download import fetch, is_here
from bench.data.readers.idx import write_idx
from bench.data.sources import scikit_learn_digits
from bench.errors import DataError


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_described_in_full(name: str) -> None:
    spec = DATASETS[name]
    assert spec.name == name
    assert spec.num_classes == 10 == len(set(spec.class_names))
    assert 0 < spec.num_val < spec.num_train
    assert {len(digest) for digest in spec.files.values()} <= {32, 40}
    assert spec.sources


def test_an_unknown_dataset_gets_the_nearest_name() -> None:
    with pytest.raises(DataError, match="did you mean 'fashion-mnist'"):
        spec_of("fashion_mnist")


def test_arrays_are_writable_and_in_the_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Any] = {"image_size": 4, "num_train": 6, "num_val": 2, "num_test": 2}
    monkeypatch.setitem(DATASETS, "mnist", dataclasses.replace(DATASETS["mnist"], **small))
    shapes = [(6, 4, 4), (6,), (2, 4, 4), (2,)]
    for file, shape in zip(DATASETS["mnist"].files, shapes, strict=True):
        write_idx(tmp_path / file, np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    train_images, train_labels, test_images, test_labels = read_arrays("mnist", tmp_path)
    assert train_images.flags.writeable
    assert train_images.shape == (6, 1, 4, 4)
    assert test_images.tolist() == np.arange(32).reshape(2, 1, 4, 4).tolist()
    assert (train_labels.tolist(), test_labels.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 1])


def test_labels_and_counts_that_are_not_the_datasets_are_refused(tmp_path: Path) -> None:
    folder = scikit_learn_digits(DATASETS["digits"], tmp_path)
    labels = folder / "t10k-labels-idx1-ubyte"
    write_idx(labels, np.full(297, 10, dtype=np.uint8))
    with pytest.raises(DataError, match=r"test_labels .* go up to 10, expected 9"):
        read_arrays("digits", folder)
    write_idx(labels, np.zeros(298, dtype=np.uint8))
    with pytest.raises(DataError, match=r"test_labels .* have shape \(298,\), expected \(297,\)"):
        read_arrays("digits", folder)
    labels.unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        read_arrays("digits", folder)


def test_cifar_is_read_from_its_archive_in_channel_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = np.random.default_rng(0).integers(0, 10, (6, 2, 1 + 3 * 4 * 4), dtype=np.uint8)
    parts = {file: part.tobytes() for file, part in zip(DATASETS["cifar10"].files, records, strict=True)}
    digests = {file: hashlib.sha1(part, usedforsecurity=False).hexdigest() for file, part in parts.items()}
    small: dict[str, Any] = {"image_size": 4, "num_train": 10, "num_val": 2, "num_test": 2}
    spec = dataclasses.replace(DATASETS["cifar10"], files=digests, **small)
    monkeypatch.setitem(DATASETS, "cifar10", spec)
    (tmp_path / "given").mkdir()
    with tarfile.open(tmp_path / "given" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for file, part in [*reversed(parts.items()), ("readme.html", b"hello")]:
            (tmp_path / file).write_bytes(part)
            archive.add(tmp_path / file, f"cifar-10-batches-bin/{file}")

    folder = fetch("cifar10", tmp_path / "given", cache_dir=tmp_path / "cache").folder
    assert is_here("cifar10", cache_dir=tmp_path / "cache")
    got = read_arrays("cifar10", folder)
    assert got.train_images.shape == (10, 3, 4, 4)
    assert got.test_labels.tolist() == records[5, :, 0].tolist()
    assert got.train_images[3, 2, 1, 0] == records[1, 1, 1 + 2 * 16 + 1 * 4 + 0]
    (folder / "test_batch.bin").write_bytes(b"12")
    with pytest.raises(DataError, match="not whole records"):
        read_arrays("cifar10", folder)
