"""How a dataset reaches a node: by what is in it. A node uses what it has if that is the same; else it is sent."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.data import cache as own_cache
from bench.data.catalog import spec_of
from bench.data.download import cached_folder, dataset_checksum, fetch
from bench.data.spec import Arrays, UserData
from bench.data.user_data import read_user_data
from bench.data.user_files import find_sources
from bench.errors import DataError, StoreError
from bench.trial import Trial

Parcel = dict[str, Any]  # file -> its gzipped bytes; of somebody's own images: name -> (array, its SHA-256)


def pack(trial: Trial, data_dir: Path | None) -> Parcel:
    """The data of a trial as the driver has them.

    Raises:
        DataError: they aren't here either; or they are read from disk while training, and can't be sent.
    """
    own = trial.data
    if own is None:
        folder = fetch(trial.dataset, data_dir).folder
        return {file: gzip.compress((folder / file).read_bytes(), 1) for file in spec_of(trial.dataset).files}
    if own.stream:
        raise DataError(
            f"{own.name} is read from disk while training, and the node has other files at {own.path}, or none; put "
            "it on a folder that all nodes share under the same path"
        )
    return {name: (array, _digest(array)) for name, array in read_user_data(own)._asdict().items()}


def has_data(trial: Trial, digest: str | None) -> bool:
    """Whether a node has a trial's data, by their checksum; nothing is downloaded.

    Args:
        digest: of the files, as the driver found it, where they are read while training.
    """
    own = trial.data
    if own is None:
        return _has_known(trial.dataset)
    if own.stream:
        return _digest_at(own.path, own.test_path) == digest
    if set(own_cache.load(own.checksum) or ()) == set(Arrays._fields):
        return True
    try:
        read_user_data(own)  # the same path may lead to the same files; it checks, and keeps them in the cache
    except (DataError, OSError):
        return False
    return True


def digest_to_expect(own: UserData | None) -> str | None:
    """What `has_data` compares on a node."""
    return _digest_at(own.path, own.test_path) if own and own.stream else None


def unpack(trial: Trial, parcel: Parcel) -> None:
    """Put what came into the node's cache.

    Raises:
        DataError: it isn't what it should be.
    """
    if trial.data is not None:
        for name, (array, digest) in parcel.items():
            if _digest(array) != digest:
                raise DataError(f"{trial.data.name}: {name} arrived damaged")
        own_cache.save(trial.data.checksum, {name: array for name, (array, _) in parcel.items()})
    else:
        with TemporaryDirectory(prefix="vit-cnn-bench-data-") as staging:
            for file in spec_of(trial.dataset).files:
                Path(staging, f"{file}.gz").write_bytes(parcel[file])
            fetch(trial.dataset, staging)  # checks every file against the dataset's checksums, then fills the cache
    if not has_data(trial, None):
        raise DataError(f"{trial.dataset}: can't be kept in this node's cache ({own_cache.root().parent})")


def _has_known(name: str) -> bool:
    spec = spec_of(name)
    try:
        if spec.package and find_spec(spec.package):
            fetch(name)
        else:
            dataset_checksum(name, cached_folder(name))
    except DataError:
        return False
    return True


@cache  # many files: once for each process of a node
def _digest_at(path: str, test_path: str | None) -> str | None:
    try:
        return find_sources(Path(path), Path(test_path) if test_path else None).digest()
    except (DataError, OSError):
        return None


def _digest(array: Any) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


# A trial's files, as a node sent them, into the run's folder: whole or not at all.
def save_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `folder` under another name, flush it, rename it.

    Raises:
        DataError: a name that would leave the folder.
        StoreError: the disk takes no more.
    """
    for name in files:
        if Path(name).name != name or name == "..":
            raise DataError(f"{folder.name}: the node sent a file by the name '{name}', which isn't one of a trial's")
    temporary = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, content in files.items():
            with open(temporary / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt whose row never reached the store
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(f"{folder}: can't be written ({error.strerror}); free some space, then --resume") from error
