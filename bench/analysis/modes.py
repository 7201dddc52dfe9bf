"""Modes: numeric mode, compilation and memory layout; the families compared in each mode, and each in its fastest.

A mode may help one family and slow the other, so that a ratio of speeds in one mode alone would mislead.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from bench.analysis.comparison import (
    Cell,
    Comparison,
    Row,
    Sheet,
    compare_rows,
    comparison_cell,
    sheets_by_device,
)
from bench.analysis.formatting import ratio, span, three_digits
from bench.analysis.labels import LAYOUT, compile_title, family_title, grouped, records
from bench.analysis.summary import Tables
from bench.result import AXES

WIDTHS = ("embed_dim", "width")  # settings that make a ViT or a CNN wider, and nothing else
MODE = ("dtype", "compile", "channels_last")
USUAL = {  # the choice that the others of an axis are held against: the first that the run has
    "dtype": ("fp32",),
    "compile": ("false",),
    "channels_last": ("false",),
    "attention": ("auto", "explicit", "fused"),
}


class Twin(NamedTuple):
    """Two configurations that differ in one choice alone: `row` made it, `plain` has the usual one."""

    title: str
    base_title: str
    row: Row
    plain: Row


def twins(rows: list[Row]) -> list[Twin]:
    """Every row that made another choice than the usual one, with its twin; choice by choice, in the rows' order."""
    found = []
    for axis, usual in USUAL.items():
        by_choice = grouped((str(row[axis]), row) for row in rows if row[axis])
        base = next((value for value in usual if value in by_choice), None)
        if base is None:
            continue
        plain = {twin_key(row, axis): row for row in by_choice.pop(base)}
        found += [
            Twin(_choice(axis, value), _choice(axis, base), row, plain[key])
            for value, same in by_choice.items()
            for row in same
            if (key := twin_key(row, axis)) in plain
        ]
    return found


def twin_key(row: Row, *but: str) -> tuple[str, ...]:
    """The same for two rows that differ in nothing except the columns `but`."""
    asked = [key for key in ("device_name", "attention", *AXES) if key not in but]
    without = tuple(key for key in (*WIDTHS, "attention") if key in but)
    return tuple(_sorted(row[key], without) if key in ("settings", "training") else str(row[key]) for key in asked)


@cache
def _sorted(text: str | None, without: tuple[str, ...]) -> str:
    """Settings with their keys in order: an older run may have written them in another one."""
    try:
        settings = {key: value for key, value in json.loads(text or "{}").items() if key not in without}
        return json.dumps(settings, sort_keys=True)
    except (ValueError, AttributeError):
        return str(text)


def _choice(axis: str, value: str) -> str:
    if axis == "compile":
        return {"false": "no compilation", "default": "compile"}.get(value, f"compile {value}")
    if axis == "channels_last":
        return LAYOUT.get(value, "the usual layout")
    return f"{value} attention" if axis == "attention" else value


def mode_title(row: Row, layout: bool = True) -> str:
    """ "fp32", or "fp32 compile channels-last"; without its `layout`, "fp32 compile"."""
    words = [row["dtype"], compile_title(row["compile"] or "")]
    words += [LAYOUT.get(row["channels_last"] or "", "")] if layout else []
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
    # a layout that is each family's own tells no two of its rows apart, and is left out
    layout = bool((here.groupby("model")["channels_last"].nunique() > 1).any())
    known = records(here)
    modes = list(dict.fromkeys(mode_title(row, layout) for row in known))
    champions = {row["model"]: twin_key(row, *MODE) for row in known if row["best_of_family"]}
    families = [  # a family's best configuration in every mode that it was measured in
        {mode_title(row, layout): row for row in known if twin_key(row, *MODE) == champions[model]}
        for model in here["model"].unique()
        if model in champions
    ]
    if len(modes) < 2 or len(families) < 2:
        return None
    fastest = [max(variants.values(), key=lambda row: row["images_per_second"]) for variants in families]
    at_best, best_line = _line(tables, "each at its own best", fastest, [mode_title(row) for row in fastest])
    factors: list[list[float]] = [[] for _ in at_best]
    table = []
    for mode in modes:
        ratios, line = _line(tables, mode, [variants.get(mode) for variants in families], [""] * len(families))
        table.append(line)
        for amounts, each in zip(factors, ratios, strict=True):
            amounts += [each.amount] if each and not each.noisy else []
    first, *others = [family_title(row["model"]) for row in fastest]
    head = ["mode", *(f"{_plain(next(iter(variants.values())))}, images/s" for variants in families)]
    head += [f"{name} over {first}" for name in others]
    said = []
    for name, amounts, best, row in zip(others, factors, at_best, fastest[1:], strict=True):
        if amounts and best and not best.noisy:
            alike = f"like for like the {name} trains {span(amounts, ratio)} times as fast as the {first}"
            count = f"({len(amounts)} mode{'s' * (len(amounts) > 1)})"
            apart = f"{name} in {mode_title(row)} and {first} in {mode_title(fastest[0])}"
            said.append(f"Modes: {alike} {count}; each in its own fastest, {ratio(best.amount)} times ({apart}).")
    return Sheet(f"Like for like, and each at its best{where}", said, head, [*table, best_line])


def _line(
    tables: Tables, mode: str, rows: Sequence[Row | None], notes: list[str]
) -> tuple[list[Comparison | None], list[Cell]]:
    """The families' speeds in a mode: each over the first's, and the table's line."""
    first, *others = rows
    ratios = [compare_rows(tables, row, first, "images_per_second") if row and first else None for row in others]
    speeds = [
        Cell(three_digits(row["images_per_second"]), note) if row else Cell("–")
        for row, note in zip(rows, notes, strict=True)
    ]
    return ratios, [Cell(mode), *speeds, *(comparison_cell(each) for each in ratios)]


def _plain(row: Row) -> str:
    """The label without its mode and device."""
    mode = set(mode_title(row).split())
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in mode)
