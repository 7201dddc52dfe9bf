"""What goes between driver and nodes: datasets there, a trial's files back.

Datasets go by content: a node uses what it has if that is the same; else the driver sends it, and the node checks it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from bench.data import cache as own_cache
from bench.data.catalog import spec_of
from bench.data.download import cached_folder, fetch, holds
from bench.data.spec import Arrays, UserData
from bench.data.user_data import read_user_data
from bench.data.user_files import find_files
from bench.errors import DataError
from bench.system.files import new_folder
from bench.trial import Trial

Files = Mapping[str, bytes]  # name -> content, of a folder


def pack(trial: Trial, data_dir: Path | None) -> Files:
    """A trial's dataset as the driver has it: its files, or those that the cache keeps of a person's own images.

    Raises: DataError: it isn't here either; or it is read from disk while training, and can't be sent.
    """
    own = trial.data
    if own is None:
        folder = fetch(trial.dataset, data_dir).folder
        return {name: (folder / name).read_bytes() for name in spec_of(trial.dataset).files}
    if own.stream:
        raise DataError(
            f"{own.name} is read from disk while training, and the node has other files at {own.path}, or none; put "
            "it on a folder that all nodes share under the same path"
        )
    if not _is_in_cache(trial):
        own_cache.save(own.checksum, read_user_data(own)._asdict())
    try:
        return {path.name: path.read_bytes() for path in _folder_of(trial).iterdir()}
    except OSError as error:
        raise DataError(f"{own.name}: can't be kept in the cache, from which nodes get it ({error})") from None


def has_data(trial: Trial, stream_digest: str | None) -> bool:
    """Whether a node has a trial's dataset, by its checksum; nothing is downloaded.

    Args:
        stream_digest: of the driver's files, where they are read while training.
    """
    own = trial.data
    if own and own.stream:
        return stream_digest_of(own) == stream_digest
    if _is_in_cache(trial):
        return True
    try:
        if own:
            read_user_data(own)  # the same path may lead to the same files; it checks
            return True
        package = spec_of(trial.dataset).package
        return bool(package and find_spec(package) and fetch(trial.dataset))
    except (DataError, OSError):
        return False


@cache  # many files: once a process
def stream_digest_of(own: UserData | None) -> str | None:
    """Of files that are read while training; None if they aren't, or aren't there."""
    if not own or not own.stream:
        return None
    try:
        return find_files(Path(own.path), Path(own.test_path) if own.test_path else None).digest()
    except (DataError, OSError):
        return None


def unpack(trial: Trial, files: Files) -> None:
    """Put a dataset that came into the node's cache. Raises: DataError: it isn't what it should be."""
    folder = _folder_of(trial)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _is_in_cache(trial):  # as another trial on this node may have put it there
            save_files(folder, files)
            if not _is_in_cache(trial):
                shutil.rmtree(folder, ignore_errors=True)
                raise DataError(f"{trial.data.name if trial.data else trial.dataset}: arrived damaged on the node")


def save_files(folder: Path, files: Files) -> None:
    """Make a folder of files that came over the network, whole or not at all: it gets its name when all is flushed.

    Raises:
        DataError: a name that would leave the folder.
        StoreError: the disk takes no more.
    """
    for name in files:
        if Path(name).name != name or name == "..":
            raise DataError(f"{folder.name}: came with a file by the name '{name}', which isn't one of its own")
    with new_folder(folder, "free some space, then --resume") as place:
        for name, content in files.items():
            (place / name).write_bytes(content)


def _folder_of(trial: Trial) -> Path:
    return own_cache.root() / trial.data.checksum if trial.data else cached_folder(trial.dataset)


def _is_in_cache(trial: Trial) -> bool:
    if trial.data:
        return set(own_cache.load(trial.data.checksum) or ()) == set(Arrays._fields)
    return holds(trial.dataset, cached_folder(trial.dataset))
