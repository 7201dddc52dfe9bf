"""Which columns of a CSV are pixels, which one is the label, and which say nothing about the image."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.data.readers.base import ROLES, Role, one_line
from bench.errors import DataError, nearest

if TYPE_CHECKING:
    import numpy as np

LABELS = ("label", "labels", "class", "target", "y")
# Columns that say nothing about the image: numbers of rows (pandas writes "" and "Unnamed: 0", R "X" and "rownames"),
# names of files, splits.
OTHERS = re.compile(
    r"(image|img|row|sample)?[ _]?(ids?|idx|index|no|number|nr)|level_\d+|unnamed: \d+(\.\d+)?|"
    r"x|row_?names?|key|__index_level_\d+__|"
    r"(file|image|img)?_?(name|path|file)s?|image|id_code|uuid|usage|split|subset|",
    re.IGNORECASE,
)
PIXELS, USAGE = ("pixels", "pixel_values", "image_pixels"), ("usage", "split", "subset")
SPLIT = re.compile(r"(data_?)?(usage|split|subset|set|partition|phase)", re.IGNORECASE)
# FER2013's words for its parts: the public test was for validating, the private one decided.
USAGES: dict[str, Role] = {"publictest": "val", "privatetest": "test"}
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
LIST = re.compile(r"\s*\[?\s*\d+([\s,]+\d+){8,}\s*\]?\s*", re.ASCII)  # an image's numbers in one cell
FILE = re.compile(r"\s*\S.*\.(png|jpe?g|jfif|bmp|gif|webp|tiff?|pgm|ppm)\s*", re.IGNORECASE)
# Words for red, green, blue and alpha in a column's name.
COLOURS = [re.compile(rf"(?<![a-z])({word[0]}|{word})(?![a-z])") for word in ("red", "green", "blue", "alpha")]
OPTION = "say --label-column"
COUNTS = (["0", "1"], ["1", "2"])  # as columns begin that number the rows
MOST_CLASSES = 1_000  # of columns without names that are taken for labels

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
        order: of the pixels' colours, where the names of the columns say it.
        lost: the header is a row of data, whose repeated numbers pandas has numbered: 0, 0.1, 0.2 ...
        sorted: columns that stand in the order of their names as text (pixel1, pixel10, pixel2) were put into that of
            the numbers in them.
        unlike: names of the pixels of small images, where no two are alike, nor numbered: they may be measured values.
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
    order: Literal["interleaved", "planar"] | None = None
    lost: bool = False
    sorted: bool = False
    unlike: tuple[str, ...] = ()


def find_columns(first: Sequence[str], second: Sequence[str], asked: str | None, sample: Sample, where: str) -> Columns:
    """What the columns of a file are.

    Args:
        first, second: cells of its first two lines.
        asked: the label's column as the user names it: its name, `first`, `last`, or `none`.
        sample: for where only the values tell.
        where: the file, for messages.

    Raises: DataError: the numbers are those of no square image, or the label can't be told from the pixels.
    """
    if is_lost_row(first):
        found = find_columns(second, second, asked, sample, where)
        return found._replace(header=True, lost=True)
    header = is_header(first, second)
    usage = _usage(first, second, asked) if header else None
    if usage is None:
        return _find(first, second, header, asked, sample, where)
    first = [*first[:usage], USAGE[0], *first[usage + 1 :]]  # which says nothing of the image
    return _find(first, second, header, asked, sample, where)._replace(usage=usage)


def _usage(first: Sequence[str], second: Sequence[str], asked: str | None) -> int | None:
    """The column, if there is one, whose name is a word for splits and whose first cell names one."""
    for place, (name, cell) in enumerate(zip(first, second, strict=False)):
        split = SPLIT.fullmatch(name.strip()) and name.strip().lower() != (asked or "").strip().lower()
        if split and role_of(cell):
            return place
    return None


def role_of(cell: str) -> Role | None:
    """The split that a cell names."""
    word = re.sub(r"[\W_]+", "", cell.lower())
    return USAGES.get(word) or ROLES.get(word)


def _find(
    first: Sequence[str], second: Sequence[str], header: bool, asked: str | None, sample: Sample, where: str
) -> Columns:
    """As find_columns, without a column of splits, or one called usage."""
    names = [one_line(cell.strip()) for cell in first] if header else [f"column {i + 1}" for i in range(len(first))]
    lower = [name.lower() for name in names]
    listed = [place for place, cell in enumerate(second) if LIST.fullmatch(cell)]
    if header and len(names) < 16 and (packed := [p for p, name in enumerate(lower) if name in PIXELS] or listed):
        return _packed(names, packed[0], asked, where)
    refuse_file_names(names, second, where)
    candidates = [place for place, name in enumerate(lower) if not (header and OTHERS.fullmatch(name))]
    if not header and [cell.strip() for cell in (*first[:1], *second[:1])] in COUNTS:
        numbers = sample()[:, 0]
        # A pixel may count a few rows, and so may labels, but no more than 256.
        fits = form_of(len(first)) is not None or (asked is not None and form_of(len(first) - 1) is not None)
        if _counts_rows(numbers) and (not fits or len(numbers) > 256):
            candidates = candidates[1:]
    known = next((lower.index(name) for name in LABELS if name in lower), None) if header else None
    if asked is not None:
        label, how = _asked(names, candidates, asked, where)
        return _finished(names, candidates, [] if label is None else [label], header, how, where)
    if known is not None:
        return _finished(names, candidates, [known], header, f"column {names[known]}", where)
    numbered = [lower[place] for place in candidates] in ([str(k + i) for i in range(len(candidates))] for k in (0, 1))
    if header and not numbered:
        groups = _alike(lower, candidates)
        alike = {*chain(*groups)}
        alpha = {place for place in candidates if len(groups) == 3 and COLOURS[3].search(lower[place])}
        alike |= alpha if len(alpha) > 1 else set()
        odd = [place for place in candidates if place not in alike]
        if form_of(sum(map(len, groups))) and odd:
            cells = sample()
            counting = [place for place in odd if _counts_rows(cells[:, place])]
            candidates = [place for place in candidates if place not in counting]
            if odd := [place for place in odd if place not in counting]:
                return _of_odd(names, candidates, odd, cells, where)
    if form_of(len(candidates)) is not None:
        return _finished(names, candidates, [], header, "", where)
    cells = sample()
    if form_of(len(candidates) - 1) is None:
        labels = _one_hot_end(candidates, cells)
        how = f"{len(labels)} columns with one 1 a row" if labels else ""
        return _finished(names, candidates, labels, header, how, where)
    label = _of_values(candidates, cells, where)
    place = {candidates[0]: "first", candidates[-1]: "last"}[label]
    named = f" ({names[label]})" if header else ""
    return _finished(names, candidates, [label], header, f"the {place} column{named}", where)


def is_lost_row(first: Sequence[str]) -> bool:
    """Whether a header is a row of data: numbers of which pandas, that takes no name twice, has numbered some."""
    seen = Counter[str]()
    for cell in first:
        base, _, count = cell.strip().partition(".")
        if not base.isdecimal() or count != (str(seen[base]) if seen[base] else ""):
            return False
        seen[base] += 1
    return seen.total() - len(seen) > 1


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a file's first line names its columns: words, or numbers in order (0, 1, 2 ...) as pandas writes them."""
    words = sum(not NUMBER.fullmatch(cell) for cell in first)
    named = [place for place, cell in enumerate(first) if cell.strip().lower() in (*LABELS, "")]
    counts = _is_count(first, named) and (bool(named) or (len(first) > 9 and not _is_count(second, [])))
    return 2 * words > len(first) or counts


def _is_count(cells: Sequence[str], without: Sequence[int]) -> bool:
    rest = [cell.strip() for place, cell in enumerate(cells) if place not in without]
    counts = ([str(k + i) for i in range(len(rest))] for k in (0, 1))
    return len(rest) > 1 and any(rest in (count, sorted(count)) for count in counts)


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
    order: Literal["interleaved", "planar"] | None = None
    groups = _alike([name.lower() for name in names], pixels) if header else []
    alike = {*chain(*groups)}
    by_number = [_by_number(names, group) for group in groups]
    groups, is_sorted = by_number, by_number != groups
    pixels = groups[0] if len(groups) == 1 and len(alike) == len(pixels) else pixels
    if form_of(len(alike)) and (len(groups) == 3 or form_of(len(pixels)) is None):
        ignored = tuple(names[place] for place in pixels if place not in alike)
        if len(groups) == 3:
            order = "planar" if min(map(max, groups)) < sorted(map(min, groups))[1] else "interleaved"
        pixels = [*chain(*(zip(*groups, strict=True) if order == "interleaved" else groups))]
    if (form := form_of(len(pixels))) is None:
        hint = "; are its cells divided by commas?" if len(names) == 1 else ""
        if not header and not hint:
            hint = "; a header that names the columns tells the label from the pixels"
        raise DataError(
            f"{where}: {len(pixels):,} columns of pixels are no square image, grey (784 is 28 x 28) "
            f"or RGB (3,072 is 32 x 32 x 3){hint}"
        )
    unlike = tuple(names[place] for place in pixels) if header and not groups and form[0] <= 6 else ()
    if unlike and form[0] % 2:  # no patch divides 3 or 5, whose refusal would blame the patches
        raise DataError(
            f"{where}: are {', '.join(unlike[:3])} ... pixels? Measured values make no image; number columns that are "
            "pixels (pixel0, pixel1 ...)"
        )
    if not header:
        places = {place: f"pixel{number}" for number, place in enumerate(pixels)}
        names = [places.get(place, "label") for place in range(len(names))]
    if len(labels) > 1 and (not header or all(names[place].isdecimal() for place in labels)):
        for number, place in enumerate(labels):
            names[place] = str(number)
    return Columns(
        names, pixels, labels, *form, header, how, ignored=ignored, order=order, sorted=is_sorted, unlike=unlike
    )


def _by_number(names: Sequence[str], group: list[int]) -> list[int]:
    """Columns in the order of the one number in their names; of several (1x1, 1x10, 1x2) only if they stand as text.

    Those of x and y may go down columns, and the file by rows: such an order is kept.
    """
    numbers = {place: [*map(int, re.findall(r"\d+", names[place]))] for place in group}
    as_text = [names[place] for place in group] == sorted(names[place] for place in group)
    count = len(numbers[group[0]])
    if count and (count == 1 or as_text) and len({*map(tuple, numbers.values())}) == len(group):
        return sorted(group, key=lambda place: numbers[place])
    return group


def _alike(lower: Sequence[str], places: Sequence[int]) -> list[list[int]]:
    """Columns of pixels by their names, which differ in numbers alone; of each colour, red first, if there are three
    such groups of one size (r_0, g_0, b_0; pix0_r), whose alpha is left out. None where no group has more than three.
    """
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(re.sub(r"\d+", "#", lower[place]), []).append(place)
    most = max(map(len, groups.values()), default=0)
    large = {stem: own for stem, own in groups.items() if len(own) == most and not COLOURS[3].search(stem)}
    if most < 4 or len(large) not in (1, 3):
        return [next(own for own in groups.values() if len(own) == most)] if most > 3 else []
    named = [next((place for place, word in enumerate(COLOURS) if word.search(stem)), 3) for stem in large]
    return [large[stem] for _, stem in sorted(zip(named, large, strict=True), key=lambda pair: pair[0])]


def _asked(names: Sequence[str], candidates: Sequence[int], asked: str, where: str) -> tuple[int | None, str]:
    wanted, lower = asked.strip().lower(), [name.lower() for name in names]
    if wanted in lower:
        place = lower.index(wanted)
        return place, f"column {names[place]}"
    if wanted in ("first", "last") and candidates:
        return candidates[0 if wanted == "first" else -1], f"the {wanted} column"
    if wanted == "none":
        return None, ""
    raise DataError(f"{where}: has no column '{one_line(asked)}'; {nearest(asked, [*names[:20], 'first', 'last'])}")


def _counts_rows(cells: np.ndarray) -> bool:
    """Whether a column's cells number the rows, 0, 1, 2 ... or 1, 2, 3 ..., as no label does."""
    return len(cells) > 2 and any([*cells] == [str(start + row) for row in range(len(cells))] for start in (0, 1))


def _of_odd(names: list[str], candidates: Sequence[int], odd: list[int], cells: np.ndarray, where: str) -> Columns:
    """The label among columns whose names aren't like those of the pixels. Shape of the first rows: (N, columns)."""
    if len(odd) == 1:
        return _finished(names, candidates, odd, True, f"column {names[odd[0]]}", where)
    if _is_one_hot(cells[:, odd]):
        how = f"{len(odd)} columns with one 1 a row, {names[odd[0]]} to {names[odd[-1]]}"
        return _finished(names, candidates, odd, True, how, where)
    listed = ", ".join(names[place] for place in odd[:5]) + (" ..." if len(odd) > 5 else "")
    raise DataError(f"{where}: which column is the label ({listed})? {OPTION} NAME")


def _is_one_hot(cells: np.ndarray) -> bool:
    return len(cells) > 0 and all(
        all(NUMBER.fullmatch(cell) for cell in row) and sorted(map(float, row)) == [0] * (len(row) - 1) + [1]
        for row in cells
    )


def _one_hot_end(candidates: Sequence[int], cells: np.ndarray) -> list[int]:
    """The fewest of the last or first columns with one 1 a row, beside which the others are an image; or none."""
    for count in range(2, min(MOST_CLASSES, len(candidates) - 4) + 1):
        if form_of(len(candidates) - count):
            for end in (candidates[-count:], candidates[:count]):
                if _is_one_hot(cells[:, end]):
                    return [*end]
    return []


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
    if not counts:
        return False
    low, high, total = min(counts), max(counts), sum(counts.values())
    if any(number != int(number) for number in counts) or not 1 < len(counts) <= min(MOST_CLASSES, max(2, total / 2)):
        return False
    return low in (0, 1) and high - low == len(counts) - 1 and (low, high) != (0, 255)
