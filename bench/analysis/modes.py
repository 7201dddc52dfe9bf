"""Modes: numeric mode, compilation, layout. The families like for like, and each at its own best.

A mode may help one family and hold back the other, so a ratio of speeds measured in one mode is half of the story.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from bench.analysis.comparison import Cell, Row, Sheet, compare_rows
from bench.analysis.formatting import listed, ratio, span, three_digits
from bench.analysis.labels import LAYOUT, compile_title, family_title, records
from bench.analysis.summary import Tables

MODE = ("dtype", "compile", "channels_last")
AXES = (*MODE, "attention")
ALIKE = (
    *("device_name", "model", "training", "recipe", "source", "num_threads", "train_fraction", "match"),
    *("world_size", "global_batch"),
)
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
    try:
        settings = json.loads(row["settings"] or "{}")
    except (TypeError, ValueError):
        settings = {"": row["settings"]}
    settings.pop("attention", None)
    axes = [str(row[axis]) for axis in AXES if axis not in but]
    return (*axes, *(str(row[key]) for key in ALIKE if key not in but), json.dumps(settings, sort_keys=True))


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
    sheets = [_sheet(tables, name) for name in dict.fromkeys(tables.summary["device_name"])]
    return [sheet for sheet in sheets if sheet]


def mode_sentences(tables: Tables, device_name: str) -> list[str]:
    sheet = _sheet(tables, device_name)
    return sheet.said if sheet else []


def _sheet(tables: Tables, device_name: str) -> Sheet | None:
    rows = tables.like_for_like[tables.like_for_like["images_per_second"] > 0]
    here = rows[rows["device_name"] == device_name]
    title = _title_in(here)
    modes = list(dict.fromkeys(title(row) for row in records(here)))
    families = [_variants(here, row, title) for row in records(here[here["best_of_family"]])]
    if len(modes) < 2 or len(families) < 2:
        return None
    order = list(dict.fromkeys(here["model"]))
    families.sort(key=lambda variants: order.index(_any(variants)["model"]))
    first, others = families[0], families[1:]
    names = [family_title(_any(variants)["model"]) for variants in families]
    head = ["mode", *(f"{_plain(_any(variants))}, images/s" for variants in families)]
    head += [f"{name} over {names[0]}" for name in names[1:]]
    table: list[list[Cell]] = []
    factors: dict[str, list[float]] = {name: [] for name in names[1:]}
    for mode in modes:
        speeds = [_speed(variants.get(mode)) for variants in families]
        ratios = []
        for name, other in zip(names[1:], others, strict=True):
            text, factor = _ratio(tables, other.get(mode), first.get(mode))
            factors[name] += [] if factor is None else [factor]
            ratios.append(text)
        table.append([Cell(mode), *speeds, *ratios])
    best = [max(variants.values(), key=lambda row: row["images_per_second"]) for variants in families]
    at_best = [_ratio(tables, row, best[0]) for row in best[1:]]
    speeds = [_speed(row, mode_title(row)) for row in best]
    table.append([Cell("each at its own best"), *speeds, *(text for text, _ in at_best)])
    said = []
    for name, (_, own_best), row in zip(names[1:], at_best, best[1:], strict=True):
        if factors[name] and own_best is not None:
            alike = f"like for like the {name} trains {span(factors[name], ratio)} times as fast as the {names[0]}"
            count = f"({len(factors[name])} mode{'s' * (len(factors[name]) > 1)})"
            apart = listed([f"{name} in {mode_title(row)}", f"{names[0]} in {mode_title(best[0])}"])
            said.append(f"Modes: {alike} {count}; each in its own fastest, {ratio(own_best)} times ({apart}).")
    several = f" on {device_name}" if tables.summary["device_name"].nunique() > 1 else ""
    return Sheet(f"Like for like, and each at its best{several}", said, head, table)


def _title_in(here: pd.DataFrame) -> Callable[[Row], str]:
    """What a mode is called; a layout that is each family's own tells no two of its rows apart, and is left out."""
    if (here.groupby("model")["channels_last"].nunique() > 1).any():
        return mode_title
    return lambda row: mode_title(row | {"channels_last": ""})


def _variants(here: pd.DataFrame, champion: Row, title: Callable[[Row], str]) -> dict[str, Row]:
    """A family's best configuration in every mode that it was measured in."""
    key = twin_key(champion, *MODE)
    return {title(row): row for row in records(here) if twin_key(row, *MODE) == key}


def _any(variants: dict[str, Row]) -> Row:
    return next(iter(variants.values()))


def _plain(row: Row) -> str:
    """The label without its mode."""
    mode = set(mode_title(row).split())
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in mode)


def _speed(row: Row | None, note: str = "") -> Cell:
    return Cell(three_digits(row["images_per_second"]), note) if row else Cell("–")


def _ratio(tables: Tables, a: Row | None, b: Row | None) -> tuple[Cell, float | None]:
    """The ratio of two speeds as a cell, and as a number where both were measured."""
    if a is None or b is None:
        return Cell("–"), None
    found = compare_rows(tables, a, b, "images_per_second")
    unsure = "" if found.shown else "no difference shown"
    return Cell(found.text, "; ".join(part for part in (found.ends, unsure) if part)), found.amount
