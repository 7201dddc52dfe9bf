"""What is fuzzed, and the one rule: any input gives a result, or a UserError of one short line; soon, in little memory.

A target takes bytes and an empty folder to work in. It may raise UserError; anything else that it raises is a finding.
"""

from __future__ import annotations

import gzip
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from unittest.mock import patch

from bench.errors import DataError, UserError

LONGEST_MESSAGE = 600  # characters
MOST_SECONDS = 5.0
ROOT = Path(__file__).parents[2]
NEXT_FILE = b"\n----8<----\n"  # between the files of a run folder
FILES = ("run.json", "journal.jsonl", "trials.csv", "evaluations.csv", "throughput.csv", "inference.csv", "retried.csv")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Target = Callable[[bytes, Path], object]


class Finding(NamedTuple):
    """What was wrong, and the place in the program that tells one fault from another."""

    fault: str
    place: str


def judge(target: Target, data: bytes, folder: Path, most_seconds: float = MOST_SECONDS) -> Finding | None:
    """Run a target once, in a folder that is emptied first; None if the rule holds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = perf_counter()
    try:
        target(data, folder)
    except UserError as error:
        if fault := unfit(str(error)):
            return Finding(f"{fault}: {str(error)!r:.300}", _place(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever comes is what we look for
        return Finding(f"{type(error).__name__}: {str(error)!r:.300}", _place(error))
    if (seconds := perf_counter() - began) > most_seconds:
        return Finding(f"took {seconds:.1f} s", "time")
    return None


def unfit(message: str) -> str | None:
    """What keeps a message from being one short line that can do nothing to a terminal."""
    if found := UNPRINTABLE.search(message):
        return f"control character {found[0]!r} in the message"
    if len(message) >= LONGEST_MESSAGE:
        return f"message of {len(message)} characters"
    return None if message.strip() else "empty message"


def _place(error: BaseException) -> str:
    """The last line of ours that the error came through."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/bench/" in frame.filename]
    frame = ours[-1] if ours else traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}"


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """A plan that neither runs code that a suite names, which is trusted, nor looks at files outside of `folder`."""
    import bench.config.plan
    import bench.config.validation

    find_model, describe = bench.config.plan.find_model, bench.config.validation.describe

    def our_model(name: str) -> Any:
        if ":" in name:
            raise ValueError("other people's code isn't run here")
        return find_model(name)

    def near(options: Any, base: Path) -> Any:
        for given in (options.path, options.test, options.unlabelled):
            if given and (given.startswith(("/", "~")) or ".." in given):
                raise DataError("outside of the folder")
        return describe(options, folder)

    with patch("bench.config.plan.find_model", our_model), patch("bench.config.validation.describe", near):
        yield


@cache
def _small_csv() -> bytes:
    """Sixteen images of 4 x 4 pixels, of two classes."""
    header = ",".join(["label", *(f"p{number}" for number in range(16))])
    rows = [",".join([str(row % 2), *[str(row)] * 16]) for row in range(16)]
    return "\n".join([header, *rows, ""]).encode()


def suite(data: bytes, folder: Path) -> object:
    """A suite file, up to the plan."""
    (folder / "data.csv").write_bytes(_small_csv())
    (folder / "mine.yaml").write_bytes(data)
    return _planned(folder / "mine.yaml", [], folder)


def set_(data: bytes, folder: Path) -> object:
    """Some `--set`, one a line, on the suite `smoke`, up to the plan."""
    (folder / "data.csv").write_bytes(_small_csv())
    options = data.decode("utf-8", "surrogateescape").split("\n")  # what Python makes of odd bytes in arguments
    return _planned(ROOT / "bench" / "suites" / "smoke.yaml", options, folder)


def _planned(path: Path, options: list[str], folder: Path) -> object:
    from bench.config.plan import load_plan
    from bench.config.suite_file import read_suite

    with harmless(folder):
        return load_plan(read_suite(path, options))


def idx(data: bytes, folder: Path) -> object:
    """An IDX file, plain and gzipped, as images."""
    from bench.data.readers.base import channels_first
    from bench.data.readers.idx import read_idx

    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(data)
    packed = folder / "train-images-idx3-ubyte.gz"
    packed.write_bytes(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1))
    for file in (packed, path):
        channels_first(read_idx(file), str(file))
    return None


def csv(data: bytes, folder: Path) -> object:
    """Kaggle's CSV of images; gzipped if it begins so."""
    from bench.data.readers.csv import has_labels, read_csv

    path = folder / ("train.csv.gz" if data[:2] == b"\x1f\x8b" else "train.csv")
    path.write_bytes(data)
    has_labels(path)
    return read_csv(path)


def npz(data: bytes, folder: Path) -> object:
    """A numpy archive of images and labels, read, then described as a dataset."""
    from bench.data.readers.npz import read_npz
    from bench.data.spec import UserDataOptions
    from bench.data.user_data import describe

    (folder / "train.npz").write_bytes(data)
    read_npz(folder / "train.npz")
    return describe(UserDataOptions(path="train.npz"), folder)


def image(data: bytes, folder: Path) -> object:
    """An image file of any format."""
    from bench.data.readers.images import has_colour, header, load_image, strict

    path = folder / "a.png"
    path.write_bytes(data)
    with strict():
        header(path)
        has_colour(path)
    return load_image(path, 8, 3)


def folder(data: bytes, folder: Path) -> object:
    """Two CSVs (train, test) in one folder, as a dataset of somebody's own, described and then read."""
    from bench.data.spec import UserDataOptions
    from bench.data.user_data import describe, read_user_data

    parts = data.split(NEXT_FILE)
    names = ("train.csv", "test.csv", "val.csv")
    for name, part in zip(names, parts, strict=False):
        (folder / name).write_bytes(part)
    return read_user_data(describe(UserDataOptions(path="."), folder))


def store(data: bytes, folder: Path) -> object:
    """The files of a run folder, read, put right and read again."""
    from bench.store.run_folder import RunFolder
    from bench.store.tables import read_correct, read_frames, read_launches, read_rows, read_run

    _lay_out(data, folder)
    read_run(folder)
    if (folder / "journal.jsonl").exists():
        read_frames(folder)
        read_launches(folder)
        read_correct(folder)
    with closing(RunFolder.open(folder, retry=len(data) % 2 == 1)) as opened:
        opened.finished()
    return read_rows(folder), read_frames(folder)


def verify(data: bytes, folder: Path) -> object:
    """The files of a run folder, held against their own record."""
    from bench.store.verify import verify_run

    _lay_out(data, folder)
    found = verify_run(folder)
    for line in (*found.problems, *found.notes):
        if fault := unfit(line):
            raise AssertionError(fault)
    return found


def _lay_out(data: bytes, folder: Path) -> None:
    """The files of a run; in the journal the digest "?" stands for the right one, so that what is behind is met."""
    for name, part in zip(FILES, data.split(NEXT_FILE), strict=False):
        if name == "journal.jsonl":
            part = b"\n".join(_signed(line) for line in part.split(b"\n"))
        (folder / name).write_bytes(part)


def _signed(line: bytes) -> bytes:
    from bench.store.journal import digest_of

    body, asked, _ = line.rpartition(b',"digest":"?"}')
    return body + b',"digest":"' + digest_of(body + b"}").encode() + b'"}' if asked else line


TARGETS: dict[str, Target] = {
    "suite": suite,
    "set": set_,
    "idx": idx,
    "csv": csv,
    "npz": npz,
    "image": image,
    "folder": folder,
    "store": store,
    "verify": verify,
}
