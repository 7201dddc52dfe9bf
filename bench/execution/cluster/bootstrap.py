"""What Ray takes to a node: this program's own source, and how it is set up there.

This module travels by value and runs before the source is there, so it needs nothing but Python's own library and, for
the cache, platformdirs and filelock.
"""

import hashlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("bench", "models")
ALIVE = {"alive": True}


class CodeError(Exception):
    """A node can't run the driver's source; one line."""


def pack_code(root: Path) -> bytes:
    """The packages' source files as a zip; equal sources give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
            archive.writestr(
                zipfile.ZipInfo(path.relative_to(root).as_posix()), path.read_bytes(), zipfile.ZIP_DEFLATED
            )
    return packed.getvalue()


def on_node(code: bytes, digest: str, order: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A task: what `order`, a function of bench.execution.cluster.node_task, has to say."""
    try:
        _settle(code, digest)
        from bench.execution.cluster import node_task
    except (CodeError, ImportError, OSError, zipfile.BadZipFile) as error:
        yield {"refused": f"this node can't run the program: {type(error).__name__}: {error}"}
        return
    yield from getattr(node_task, order)(**arguments)


def sign_of_life() -> Iterator[dict[str, Any]]:
    """A task that loads nothing: on a node whose other cards may be under measurement."""
    yield ALIVE


def _settle(code: bytes, digest: str) -> None:
    """Make this process, and all that it starts, import the driver's source and nothing else of that name."""
    if hashlib.sha256(code).hexdigest() != digest:
        raise CodeError("its copy of the source arrived damaged")
    folder = _unpacked(code, digest)
    loaded = sys.modules.get("bench")
    if loaded is not None:
        if Path(loaded.__path__[0]).parent != folder:
            raise CodeError(f"it had loaded another source before, from {loaded.__path__[0]}")
        return
    os.chdir(folder)  # a fork server looks for modules in its working directory before anywhere else
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    if b"OMP_NUM_THREADS=" not in _first_environment():  # Ray's count, not the user's: torch chooses, as it does alone
        os.environ.pop("OMP_NUM_THREADS", None)


def _unpacked(code: bytes, digest: str) -> Path:
    """The source in the user's cache, every file compared; it takes its place by a rename, whole or not at all."""
    from filelock import FileLock
    from platformdirs import user_cache_dir

    cache = os.environ.get("VIT_CNN_BENCH_CACHE") or user_cache_dir("vit-cnn-bench", appauthor=False)
    folder = Path(cache).expanduser().absolute() / "code" / digest[:16]
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if _holds(folder, contents):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=60):
        if not _holds(folder, contents):
            work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
            for name, content in contents.items():
                path = work / "ready" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if folder.exists():
                folder.rename(work / "damaged")
            (work / "ready").rename(folder)
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _holds(folder: Path, contents: dict[str, bytes]) -> bool:
    """Whether a folder has exactly these source files."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    return found == set(contents) and all((folder / name).read_bytes() == content for name, content in contents.items())


def _first_environment() -> bytes:
    """What this process was started with; Ray sets variables of its own later."""
    try:
        return Path("/proc/self/environ").read_bytes()
    except OSError:
        return b""  # not Linux
