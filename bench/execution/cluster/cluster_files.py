"""A trial's files, as a node sent them, into the run's folder: whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.errors import DataError, StoreError


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
