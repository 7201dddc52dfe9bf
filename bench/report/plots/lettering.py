"""Lettering: names of people's own classes in pictures: literally, short enough, in fonts that have their letters."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from bench.report.plots.style import STYLE

# For letters that the usual font hasn't got; those that aren't installed are passed over.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC"),
    *("Hiragino Sans", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Georgian", "Noto Sans Armenian"),
)
LITERAL: dict[str, Any] = {"parse_math": False}  # for every text that holds a name: a "$" is a dollar


@contextmanager
def house_style(names: Sequence[str]) -> Iterator[None]:
    """Draw and save in the house style; with fallback fonts where names need them, since each costs time by the text.

    A letter that no font has is a box and no warning.
    """
    families = _families() if _codes(names) - _letters(1) else ("sans-serif",)
    with matplotlib.rc_context({**STYLE, "font.family": list(families)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(missing from font|does not support)", category=UserWarning)
        yield


def shortened(name: str, letters: int) -> str:
    """On one line, and of at most so many letters, an ellipsis for the middle: names often differ at their ends."""
    name = " ".join(name.split())
    end = (letters - 1) // 3
    return name if len(name) <= letters else f"{name[: letters - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def class_labels(names: Sequence[str], letters: int) -> list[str]:
    """Names as a picture shows them; a class whose name no font can draw goes by its number."""
    return [
        shortened(name, letters) if name.strip() and _codes([name]) <= _letters() else f"class {index}"
        for index, name in enumerate(names)
    ]


def _codes(names: Sequence[str]) -> set[int]:
    """The code points that are drawn of them; blanks aren't."""
    return {ord(letter) for name in names for letter in "".join(name.split())}


@functools.cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("sans-serif", *(name for name in FALLBACKS if name in installed))


@functools.cache
def _letters(fonts: int | None = None) -> frozenset[int]:
    """All code points that the first so many fonts have between them."""
    with matplotlib.rc_context(STYLE):
        families = [font_manager.FontProperties(family=[family]) for family in _families()[:fonts]]
        paths = [font_manager.findfont(family) for family in families]
    return frozenset(code for path in paths for code in FT2Font(path).get_charmap())
