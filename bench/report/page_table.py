"""The page's table of configurations: every column, what it can be filtered by, and the raw values behind it."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.labels import family_title
from bench.analysis.summary import Tables
from bench.report.tables import RESULTS, Grid, column_groups, grid

ALWAYS = ("label", "config_id", "model", "dtype", "device_name", "n", "n_timed", "not_ok")  # of a downloaded CSV
CHOICES = {"model": "Family", "dtype": "Numeric mode", "device_name": "Device", "world_size": "Processes"}
LONG = 40  # rows; a longer table scrolls in a frame of its own, below its head


@dataclass(frozen=True)
class Choice:
    """A box to choose one value of a column by: (value, title) each."""

    key: str
    title: str
    options: list[tuple[str, str]]


@dataclass(frozen=True)
class PageTable:
    """What the page's template and script need.

    Attributes:
        groups: titles of the columns' groups, each with its columns' numbers; the configuration's name is column 0.
        values: a list a column of the summary, in base units and full; None is not measured.
    """

    grid: Grid
    groups: dict[str, list[int]]
    choices: list[Choice]
    values: dict[str, list[Any]]

    @property
    def is_long(self) -> bool:
        return len(self.grid.rows) > LONG

    @property
    def data(self) -> dict[str, Any]:
        """What the script reads: columns in order, and their values."""
        columns = [
            {"key": column.key, "title": column.title, "factor": column.factor, "better": column.better}
            | {"beside": column.beside, "first": index + 1 in self.groups[RESULTS]}
            for index, column in enumerate(self.grid.columns)
        ]
        return {"always": ALWAYS, "columns": columns, "values": self.values}


def page_table(tables: Tables) -> PageTable:
    """One table with everything: results first, then costs and settings."""
    by_title = column_groups(tables)
    columns = [column for group in by_title.values() for column in group]
    groups, start = {}, 1
    for title, group in by_title.items():
        groups[title] = list(range(start, start + len(group)))
        start += len(group)
    keys = dict.fromkeys([*ALWAYS, *(key for column in columns for key in (column.key, *column.beside))])
    values = {key: _plain(tables.summary[key]) for key in keys}
    return PageTable(grid(tables, columns), groups, _choices(tables.summary), values)


def _choices(summary: pd.DataFrame) -> list[Choice]:
    """Boxes for what differs between configurations."""
    choices = []
    for key, title in CHOICES.items():
        known = [str(_number(value) if isinstance(value, float) else value) for value in dict.fromkeys(summary[key])]
        if len(known) > 1:
            options = [(value, family_title(value) if key == "model" else value) for value in known]
            choices.append(Choice(key, title, options))
    return choices


def _plain(values: pd.Series) -> list[Any]:
    """Values as JSON has them: whole numbers without a point, None for what isn't known."""
    return [_number(value) if isinstance(value, float) else value for value in values.tolist()]


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
