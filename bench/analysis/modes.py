"""Modes: numeric mode, compilation and memory layout; the families compared in each mode, and each in its fastest.

A mode may help one family and slow the other, so that a ratio of speeds in one mode alone would mislead.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd

from bench.analysis.comparison import Cell, Comparison, Row, Sheet, compare_rows, comparison_cell, sheets_by_device
from bench.analysis.formatting import ratio, span, three_digits
from bench.analysis.labels import LAYOUT, compile_title, family_title, records
from bench.analysis.summary import Tables
from bench.result import AXES

MODE = ("dtype", "compile", "channels_last")
USUAL = {  # the choice that the others of an axis are held against: the first that the run has
    "dtype": ("fp32",),
    "compile": ("false",),
    "channels_last": ("false",),
    "attention": ("auto", "explicit", "fused"),
}


@dataclass(frozen=True)
class Twin:
    """Two configurations that differ in one choice alone: `row` made it, `plain` has the usual one."""

    axis: str
    row: Row
    plain: Row

    @property
    def title(self) -> str:
        return _choice(self.axis, str(self.row[self.axis]))

    @property
    def base_title(self) -> str:
        return _choice(self.axis, str(self.plain[self.axis]))


def twins(rows: list[Row]) -> list[Twin]:
    """Every row that made another choice than the usual one, with its twin; choice by choice, in the rows' order."""
    found = []
    for axis, usual in USUAL.items():
        values = {str(row[axis]) for row in rows if row[axis]}
        base = next((value for value in usual if value in values), None)
        if base is None or len(values) < 2:
            continue
        plain = {twin_key(row, axis): row for row in rows if row[axis] == base}
        others: dict[str, list[Row]] = {}
        for row in rows:
            if row[axis] and row[axis] != base:
                others.setdefault(str(row[axis]), []).append(row)
        for same in others.values():
            found += [Twin(axis, row, plain[key]) for row in same if (key := twin_key(row, axis)) in plain]
    return found


def twin_key(row: Row, *but: str) -> tuple[str, ...]:
    """The same for two rows that differ in nothing except the columns `but`."""
    asked = [key for key in ("device_name", "attention", *AXES) if key not in but]
    return tuple(
        _sorted(row[key], "attention" in but) if key in ("settings", "training") else str(row[key]) for key in asked
    )


@cache
def _sorted(text: str | None, without_attention: bool) -> str:
    """Settings with their keys in order: an older run may have written them in another one."""
    try:
        settings = json.loads(text or "{}")
        if without_attention:
            settings.pop("attention", None)
        return json.dumps(settings, sort_keys=True)
    except (ValueError, AttributeError):
        return str(text)


def _choice(axis: str, value: str) -> str:
    if axis == "compile":
        return {"false": "no compilation", "default": "compile"}.get(value, f"compile {value}")
    if axis == "channels_last":
        return LAYOUT.get(value, "the usual layout")
    return f"{value} attention" if axis == "attention" else value


def mode_title(row: Row) -> str:
    """ "fp32", or "fp32 compile channels-last"."""
    words = row["dtype"], compile_title(row["compile"] or ""), LAYOUT.get(row["channels_last"] or "", "")
    return " ".join(word for word in words if word)


def mode_sheets(tables: Tables) -> list[Sheet]:
    """For each device where a mode varies: the families' speeds mode by mode, and each in its fastest."""
    return sheets_by_device(tables, _sheet)


def mode_sentences(tables: Tables, device_name: str) -> list[str]:
    sheet = _sheet(tables, device_name)
    return sheet.said if sheet else []


def _sheet(tables: Tables, device_name: str, where: str = "") -> Sheet | None:
    rows = tables.like_for_like
    here = rows[(rows["images_per_second"] > 0) & (rows["device_name"] == device_name)]
    title = _title_in(here)
    modes = list(dict.fromkeys(title(row) for row in records(here)))
    champions = {row["model"]: row for row in records(here[here["best_of_family"]])}
    families = [_variants(here, champions[model], title) for model in here["model"].unique() if model in champions]
    if len(modes) < 2 or len(families) < 2:
        return None
    fastest = [max(variants.values(), key=lambda row: row["images_per_second"]) for variants in families]
    first, *others = [family_title(row["model"]) for row in fastest]
    head = ["mode", *(f"{_plain(next(iter(variants.values())))}, images/s" for variants in families)]
    head += [f"{name} over {first}" for name in others]
    table: list[list[Cell]] = []
    factors: list[list[float]] = [[] for _ in others]
    for mode in modes:
        in_mode = [variants.get(mode) for variants in families]
        found = [_ratio(tables, row, in_mode[0]) for row in in_mode[1:]]
        table.append(_line(mode, in_mode, ["" for _ in in_mode], found))
        for known, each in zip(factors, found, strict=True):
            known += [each.amount] if each else []
    at_best = [_ratio(tables, row, fastest[0]) for row in fastest[1:]]
    table.append(_line("each at its own best", fastest, [mode_title(row) for row in fastest], at_best))
    said = []
    for name, known, best, row in zip(others, factors, at_best, fastest[1:], strict=True):
        if known and best:
            alike = f"like for like the {name} trains {span(known, ratio)} times as fast as the {first}"
            count = f"({len(known)} mode{'s' * (len(known) > 1)})"
            apart = f"{name} in {mode_title(row)} and {first} in {mode_title(fastest[0])}"
            said.append(f"Modes: {alike} {count}; each in its own fastest, {ratio(best.amount)} times ({apart}).")
    return Sheet(f"Like for like, and each at its best{where}", said, head, table)


def _line(mode: str, rows: Sequence[Row | None], notes: list[str], ratios: list[Comparison | None]) -> list[Cell]:
    speeds = [
        Cell(three_digits(row["images_per_second"]), note) if row else Cell("–")
        for row, note in zip(rows, notes, strict=True)
    ]
    return [Cell(mode), *speeds, *(comparison_cell(each, "no difference shown") for each in ratios)]


def _ratio(tables: Tables, a: Row | None, b: Row | None) -> Comparison | None:
    return compare_rows(tables, a, b, "images_per_second") if a and b else None


def _title_in(here: pd.DataFrame) -> Callable[[Row], str]:
    """What a mode is called; a layout that is each family's own tells no two of its rows apart, and is left out."""
    if (here.groupby("model")["channels_last"].nunique() > 1).any():
        return mode_title
    return lambda row: mode_title(row | {"channels_last": ""})


def _variants(here: pd.DataFrame, champion: Row, title: Callable[[Row], str]) -> dict[str, Row]:
    """A family's best configuration in every mode that it was measured in."""
    key = twin_key(champion, *MODE)
    return {title(row): row for row in records(here) if twin_key(row, *MODE) == key}


def _plain(row: Row) -> str:
    """The label without its mode and device."""
    mode = set(mode_title(row).split())
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in mode)
