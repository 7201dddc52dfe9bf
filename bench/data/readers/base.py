"""Shared by all readers: ImageSet (what each of them returns), labels, layouts, and safe opening of files."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bench.errors import DataError, printable
from bench.system.cgroup import memory_limit

if TYPE_CHECKING:
    import numpy as np

Role = Literal["train", "val", "test"]

# A word in the name of a file or folder, in small letters without accents -> the split that it means.
ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trainset", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "t10k", "eval", "evaluation", "holdout"), "test"),
    # In Spanish, Portuguese, French, German, Italian and Chinese.
    **dict.fromkeys(("entrenamiento", "treino", "treinamento", "entrainement", "apprentissage"), "train"),
    **dict.fromkeys(("trainingsdaten", "trainingsset", "addestramento", "allenamento", "训练", "训练集"), "train"),
    **dict.fromkeys(("validacion", "validacao", "validierung", "validierungsdaten", "validazione"), "val"),
    **dict.fromkeys(("验证", "验证集"), "val"),
    **dict.fromkeys(("prueba", "pruebas", "teste", "testes", "testdaten", "prova", "测试", "测试集"), "test"),
}
NO_LABEL = ("", "nan")
LONGEST_LABEL = 200  # characters: file systems allow no more in the name of a folder, which may be one
WHOLE = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*", re.ASCII)
LARGEST_SHARE = 0.5  # of the machine's memory that the contents of one file may take


class ImageSet(NamedTuple):
    """Images and labels of one file, pair of files or folder: what every reader returns.

    Attributes:
        images: (N, C, H, W) uint8, or the image files of a folder, not yet read.
        labels: (N,) int64, or text as objects; None where there are none.
        source: the file or folder, for messages.
        notes: what was done to the images while reading, as sentences.
        labels_from: the column, array, file or folders that the labels came from.
        fractions: numbers from 0 to 1 were multiplied by 255; else the images have the numbers of their file.
        planar: a CSV had one colour after the other.
    """

    images: np.ndarray | list[Path]
    labels: np.ndarray | None
    source: str
    notes: tuple[str, ...] = ()
    labels_from: str = ""
    fractions: bool = False
    planar: bool = False


def natural_key(text: str) -> tuple[Any, ...]:
    """Sort key that puts "img2" before "img10", as people and file managers do."""
    words_and_numbers = re.split(r"(\d+)", text)
    keys = [(0, word.casefold()) for word in words_and_numbers]
    for place, number in enumerate(words_and_numbers[1::2]):  # by length, then as text: no number is too long for it
        keys[2 * place + 1] = (len(number.lstrip("0")), number.lstrip("0"))
    return (*keys, (0, text))


def as_labels(values: Sequence[str], source: str) -> np.ndarray:
    """Labels from text, blanks around them aside: int64 if all are whole numbers, else text as objects.

    Raises: DataError: one is too long, empty, or pandas' word for nothing.
    """
    import numpy as np

    values = [value.strip() for value in values]
    if lacking := next((row for row, value in enumerate(values, start=1) if value.lower() in NO_LABEL), 0):
        found = f"'{values[lacking - 1]}'" if values[lacking - 1] else "nothing"
        raise DataError(f"{source}: image {lacking} has {found} for a label")
    if longest := next((value for value in values if len(value) > LONGEST_LABEL), ""):
        raise DataError(
            f"{source}: has the label '{printable(longest, 40)}' of {len(longest):,} characters; at most "
            f"{LONGEST_LABEL} are read"
        )
    if all(WHOLE.fullmatch(value) for value in values):
        return np.array([int(value.partition(".")[0]) for value in values], dtype=np.int64)
    return np.array(values, dtype=object)


def channels_first(array: np.ndarray, source: str) -> np.ndarray:
    """Images as (N, C, H, W), from (N, H, W), (N, H, W, C) or (N, C, H, W). Raises: DataError on any other shape."""
    shape = array.shape
    said = f"{source}: holds an array of {' x '.join(str(side) for side in shape)}"
    if array.ndim not in (3, 4) or 0 in shape:
        raise DataError(f"{said}; expected (images, height, width), with 1 or 3 channels at the end or after the first")
    if array.ndim == 3:
        return array[:, None]
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first and last:  # such as 3 x 3 x 1: the square one is meant
        first, last = shape[2] == shape[3], shape[1] == shape[2]
        if first == last:
            raise DataError(f"{said}: which axis is that of the channels can't be told from it")
    if not first and not last:
        raise DataError(f"{said}; expected 1 or 3 channels, at the end or after the first axis")
    return array if first else array.transpose(0, 3, 1, 2)


def shown(path: Path) -> str:
    """A path for a message: relative if it lies below the working folder, printable, on one line."""
    with suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return one_line(str(path))


def one_line(text: str) -> str:
    """Text from a file or a file's name, for a message: no line breaks or control characters, at most 300 long."""
    return printable(" ".join(text.encode("utf-8", "replace").decode().split()), 300)


def resolve_path(given: str | Path, base: Path | None = None) -> Path:
    """A path as typed, with `~` expanded; relative ones start at `base`. Raises: DataError: no such user or name."""
    if "\0" in str(given):
        raise DataError(f"{one_line(str(given))}: can't be read (a zero is in its name)")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise DataError(f"{one_line(str(given))}: nobody of that name has a home folder here") from None
    return path if base is None else Path(os.path.abspath(base / path))


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading bytes.

    Raises:
        DataError: not there, or a pipe, a device or a folder: reading a pipe would wait for ever.
    """
    with reading(path):
        if stat.S_ISREG(path.stat().st_mode):
            return path.open("rb")
    raise DataError(f"{shown(path)}: can't be read (it is no file)")


def is_gzipped(path: Path) -> bool:
    """Whether a file's name says that it is."""
    return path.name.lower().endswith(".gz")


def open_maybe_gzipped(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """As open_regular, unpacking on the way where the name ends in .gz."""
    stream = open_regular(path)
    if not is_gzipped(path):
        return stream
    unpacked: Any = gzip.GzipFile(fileobj=stream)
    unpacked.myfileobj = stream  # to be closed together
    return unpacked


def machine_memory() -> int:
    """Bytes of memory of the machine or its container, used or not, so that a resumed run decides as before."""
    try:
        return memory_limit() or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 << 30


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a file or folder inside the block into DataErrors that name it."""
    try:
        yield
    except MemoryError:
        raise DataError(f"{shown(path)}: doesn't fit into memory") from None
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{shown(path)}: can't be read ({why})") from error


def refuse_too_large(num_bytes: int, path: Path) -> None:
    """Raises: DataError, before memory is allocated, if a file's contents would take more than LARGEST_SHARE of it."""
    if num_bytes > LARGEST_SHARE * machine_memory():
        raise DataError(
            f"{shown(path)}: unpacks to {num_bytes:,} bytes or more, and the machine has {machine_memory():,} of "
            "memory (damaged, or made to fill it?)"
        )
