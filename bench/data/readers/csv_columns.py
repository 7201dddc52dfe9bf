"""Which columns of a CSV are pixels, which one is the label, and which say nothing about the image."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.data.readers.base import one_line
from bench.errors import DataError, nearest

if TYPE_CHECKING:
    import numpy as np

LABELS = ("label", "labels", "class", "target", "y")
# Columns that say nothing about the image: numbers of rows (pandas writes "" and "Unnamed: 0"), names of files, splits.
OTHERS = re.compile(
    r"(image|img|row|sample)?[ _]?(ids?|idx|index|no|number|nr)|level_\d+|unnamed: \d+(\.\d+)?|"
    r"(file|image|img)?_?(name|path|file)s?|image|id_code|uuid|usage|split|subset|",
    re.IGNORECASE,
)
PIXELS, USAGE = ("pixels", "pixel_values", "image_pixels"), ("usage", "split", "subset")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
FILE = re.compile(r"\s*\S.*\.(png|jpe?g|jfif|bmp|gif|webp|tiff?|pgm|ppm)\s*", re.IGNORECASE)
OPTION = "say --label-column"
MOST_CLASSES = 1_000  # of a column without a name that is taken for labels

Sample = Callable[[], "np.ndarray"]  # the first rows of data as text, (N, columns)


class Columns(NamedTuple):
    """Columns of a file.

    Attributes:
        names: of all columns; made up where the file has none.
        pixels: their indices; one that holds all numbers of an image as text, where `packed`.
        labels: index of the label; several where each class has a column of its own, with 1 in one of them; or none.
        side, channels: of the images; 0 where `packed`, until one is read.
        how: what was taken for the label, where the file has one.
        usage: index of a column that says which rows are for training and which for the test.
        ignored: names of columns that were left out, but for those that only count.
    """

    names: list[str]
    pixels: list[int]
    labels: list[int]
    side: int
    channels: int
    header: bool
    how: str = ""
    usage: int | None = None
    packed: bool = False
    ignored: tuple[str, ...] = ()


def find_columns(first: Sequence[str], second: Sequence[str], asked: str | None, sample: Sample, where: str) -> Columns:
    """What the columns of a file are.

    Args:
        first, second: cells of its first two lines.
        asked: the label's column as the user names it: its name, `first`, `last`, or `none`.
        sample: for where only the values tell.
        where: the file, for messages.

    Raises: DataError: the numbers are those of no square image, or the label can't be told from the pixels.
    """
    header = is_header(first, second)
    names = [one_line(cell.strip()) for cell in first] if header else [f"column {i + 1}" for i in range(len(first))]
    lower = [name.lower() for name in names]
    if header and (packed := [place for place, name in enumerate(lower) if name in PIXELS]) and len(names) < 16:
        return _packed(names, packed[0], asked, where)
    refuse_file_names(names, second, where)
    candidates = [place for place, name in enumerate(lower) if not (header and OTHERS.fullmatch(name))]
    known = next((lower.index(name) for name in LABELS if name in lower), None) if header else None
    if asked is not None:
        label, how = _asked(names, candidates, asked, where)
        return _finished(names, candidates, [] if label is None else [label], header, how, where)
    if known is not None:
        return _finished(names, candidates, [known], header, f"column {names[known]}", where)
    counted = [lower[place] for place in candidates] in ([str(k + i) for i in range(len(candidates))] for k in (0, 1))
    if header and not counted:
        stems = {place: re.sub(r"\d+", "#", lower[place]) for place in candidates}
        (stem, count), *_ = Counter(stems.values()).most_common()
        odd = [place for place in candidates if stems[place] != stem]
        if count > 3 and form_of(count) and odd:
            return _of_odd(names, candidates, odd, sample, where)
    if form_of(len(candidates)) is not None or form_of(len(candidates) - 1) is None:
        return _finished(names, candidates, [], header, "", where)
    label = _of_values(candidates, sample(), where)
    place = {candidates[0]: "first", candidates[-1]: "last"}[label]
    named = f" ({names[label]})" if header else ""
    return _finished(names, candidates, [label], header, f"the {place} column{named}", where)


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a file's first line names its columns: words, or numbers in order (0, 1, 2 ...) as pandas writes them."""
    words = sum(not NUMBER.fullmatch(cell) for cell in first)
    named = [place for place, cell in enumerate(first) if cell.strip().lower() in (*LABELS, "")]
    counts = _is_count(first, named) and (bool(named) or (len(first) > 9 and not _is_count(second, [])))
    return 2 * words > len(first) or counts


def _is_count(cells: Sequence[str], without: Sequence[int]) -> bool:
    rest = [cell.strip() for place, cell in enumerate(cells) if place not in without]
    return len(rest) > 1 and any(rest == [str(k + i) for i in range(len(rest))] for k in (0, 1))


def form_of(count: int) -> tuple[int, int] | None:
    """Side and channels of an image of so many numbers; no number is both a square and three squares."""
    for channels in (1, 3):
        side = math.isqrt(max(count, 0) // channels)
        if side > 1 and side * side * channels == count:
            return side, channels
    return None


def refuse_file_names(names: Sequence[str], cells: Sequence[str], where: str) -> None:
    """Raises: DataError: a list of image files, whose pixels are elsewhere."""
    listed = next((cell.strip() for cell in cells if FILE.fullmatch(cell)), None)
    if listed is not None and len(names) < 64:
        raise DataError(
            f"{where}: lists files ({one_line(listed)} ...) and holds no pixels; sort the images into a folder for "
            "each class, and name the folder that holds those"
        )


def _finished(
    names: list[str], candidates: Sequence[int], labels: list[int], header: bool, how: str, where: str
) -> Columns:
    """Pixels are all other columns, or of these those whose names are alike. Raises: DataError: no square image."""
    pixels = [place for place in candidates if place not in labels]
    ignored: tuple[str, ...] = ()
    if (form := form_of(len(pixels))) is None and header and labels:
        stems = {place: re.sub(r"\d+", "#", names[place].lower()) for place in pixels}
        stem = Counter(stems.values()).most_common(1)[0][0] if stems else ""
        alike = [place for place in pixels if stems[place] == stem]
        if len(alike) > 3 and (form := form_of(len(alike))):
            ignored = tuple(names[place] for place in pixels if stems[place] != stem)
            pixels = alike
    if form is None:
        hint = "; are its cells divided by commas?" if len(names) == 1 else ""
        raise DataError(
            f"{where}: {len(pixels):,} columns of pixels are no square image, grey (784 is 28 x 28) "
            f"or RGB (3,072 is 32 x 32 x 3){hint}"
        )
    if not header:
        places = {place: f"pixel{number}" for number, place in enumerate(pixels)}
        names = [places.get(place, "label") for place in range(len(names))]
    return Columns(names, pixels, labels, *form, header, how, ignored=ignored)


def _asked(names: Sequence[str], candidates: Sequence[int], asked: str, where: str) -> tuple[int | None, str]:
    wanted, lower = asked.strip().lower(), [name.lower() for name in names]
    if wanted in lower:
        place = lower.index(wanted)
        return place, f"column {names[place]}"
    if wanted in ("first", "last"):
        return candidates[0 if wanted == "first" else -1], f"the {wanted} column"
    if wanted == "none":
        return None, ""
    raise DataError(f"{where}: has no column '{one_line(asked)}'; {nearest(asked, [*names[:20], 'first', 'last'])}")


def _of_odd(names: list[str], candidates: Sequence[int], odd: list[int], sample: Sample, where: str) -> Columns:
    """The label among columns whose names aren't like those of the pixels."""
    if len(odd) == 1:
        return _finished(names, candidates, odd, True, f"column {names[odd[0]]}", where)
    if _is_one_hot(sample()[:, odd]):
        how = f"{len(odd)} columns with one 1 a row, {names[odd[0]]} to {names[odd[-1]]}"
        return _finished(names, candidates, odd, True, how, where)
    listed = ", ".join(names[place] for place in odd[:5]) + (" ..." if len(odd) > 5 else "")
    raise DataError(f"{where}: which column is the label ({listed})? {OPTION} NAME")


def _is_one_hot(cells: np.ndarray) -> bool:
    return all(sorted({cell.strip() for cell in row}) in (["0", "1"], ["0.0", "1.0"]) for row in cells) and all(
        sum(float(cell) for cell in row) == 1 for row in cells
    )


def _packed(names: list[str], pixels: int, asked: str | None, where: str) -> Columns:
    """A column that holds an image's numbers as text, as in FER2013."""
    lower = [name.lower() for name in names]
    usage = next((place for place, name in enumerate(lower) if name in USAGE), None)
    others = [place for place in range(len(names)) if place not in (pixels, usage)]
    known = next((lower.index(name) for name in LABELS if name in lower), None)
    named = [place for place in others if not OTHERS.fullmatch(names[place])]
    if asked is not None:
        label = _asked(names, others, asked, where)[0] if others else None
    elif known is not None or len(named) < 2:
        label = known if known is not None else next(iter(named), None)
    else:
        raise DataError(
            f"{where}: which column is the label ({', '.join(names[place] for place in named)})? {OPTION} NAME"
        )
    labels, how = ([], "") if label is None else ([label], f"column {names[label]}")
    return Columns(names, [pixels], labels, 0, 0, True, how, usage, packed=True)


def _of_values(candidates: Sequence[int], sample: np.ndarray, where: str) -> int:
    """The first or the last of the columns, by what stands in them. Raises: DataError if both or neither may be it."""
    ends = [candidates[0], candidates[-1]]
    texts = [end for end in ends if not any(NUMBER.fullmatch(cell) for cell in sample[:, end])]
    if len(texts) == 1:
        return texts[0]
    numbers = (end for end in ends if all(NUMBER.fullmatch(cell) for cell in sample[:, end]))
    counts = {end: Counter(float(cell) for cell in sample[:, end]) for end in numbers}
    may_be = [end for end, own in counts.items() if _may_be_labels(own)]
    if len(may_be) == 2:  # a pixel at the edge has one level in most images, which no class has
        shares = {end: counts[end].most_common(1)[0][1] / len(sample) for end in may_be}
        low, high = sorted(may_be, key=lambda end: shares[end])
        may_be = [low] if shares[low] < 0.5 and shares[high] > 0.8 else may_be
    if len(may_be) == 1:
        return may_be[0]
    why = "both the first and the last column" if may_be else "neither the first nor the last column surely"
    raise DataError(f"{where}: which column is the label? By the values, {why} may be it; {OPTION} first, or last")


def _may_be_labels(counts: Counter[float]) -> bool:
    """Whether numbers could be those of classes: several, whole, each more than once, without a gap from 0 or 1 on."""
    low, high, total = min(counts), max(counts), sum(counts.values())
    if any(number != int(number) for number in counts) or not 1 < len(counts) <= min(MOST_CLASSES, max(2, total / 2)):
        return False
    return low in (0, 1) and high - low == len(counts) - 1 and (low, high) != (0, 255)
