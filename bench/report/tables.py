"""Tables of a report: cells, and those that have a row a configuration."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.comparison import Cell
from bench.analysis.labels import records
from bench.analysis.summary import Tables
from bench.report.columns import Column, Groups, cost_columns, result_columns, setting_columns

RESULTS = "Results"


@dataclass(frozen=True)
class Grid:
    """A row a configuration: its name and n, then a cell a column. `left_out` rows are in summary.csv alone."""

    columns: list[Column]
    rows: list[tuple[Cell, list[Cell]]]
    left_out: int = 0


def results_grid(tables: Tables, most: int | None = None) -> Grid:
    """What each configuration reached; of more than `most`, the best."""
    return grid(tables, result_columns(tables.run), most)


def costs_grid(tables: Tables, most: int | None = None) -> Grid:
    """Where time and memory go; of more than `most` configurations, the best."""
    return grid(tables, [column for group in cost_columns(tables.run).values() for column in group], most)


def column_groups(tables: Tables) -> Groups:
    """All columns that hold something, by what they are about; results come first."""
    settings = {"Settings": setting_columns(tables.summary)}
    groups = {RESULTS: result_columns(tables.run)} | cost_columns(tables.run) | settings
    held = {title: _measured(tables, columns) for title, columns in groups.items()}
    return {title: columns for title, columns in held.items() if columns}


def grid(tables: Tables, columns: list[Column], most: int | None = None) -> Grid:
    """Rows of the summary; a column that nothing was measured for is left out, the best on a device is marked."""
    columns = _measured(tables, columns)
    keys = [column.key for column in columns]
    by_device = tables.summary.groupby("device_name")[keys]
    ends = {"higher": by_device.max().to_dict("index"), "lower": by_device.min().to_dict("index")}
    shown = tables.summary if most is None or len(tables.summary) <= most else _best(tables.summary).head(most)
    rows = []
    for row in records(shown):
        cells = [_cell(row, column, ends) for column in columns]
        rows.append((Cell(row["label"], _counts(row)), cells))
    return Grid(columns, rows, len(tables.summary) - len(shown))


def _cell(row: dict[str, Any], column: Column, ends: dict[str, dict[Any, dict[Any, float]]]) -> Cell:
    value, note = row[column.key], column.note(row)
    if math.isnan(value):
        return Cell("–", note)
    best = column.better != "" and value == ends[column.better][row["device_name"]][column.key]
    return Cell(column.show(value * column.factor), note, best)


def _measured(tables: Tables, columns: list[Column]) -> list[Column]:
    known = [column for column in columns if column.key in tables.summary]
    raced = bool(tables.summary["n_raced"].any())
    return [column for column in known if (column.always and raced) or tables.summary[column.key].notna().any()]


def _best(summary: pd.DataFrame) -> pd.DataFrame:
    """Each family's best and the Pareto front, then the others by validation accuracy; test never chooses."""
    stands_out = summary["best_of_family"] | summary["pareto"]
    order = summary.assign(stands_out=stands_out).sort_values(["stands_out", "val_accuracy"], ascending=False)
    return order.drop(columns="stands_out")


def _counts(row: dict[str, Any]) -> str:
    """ "n = 8; 3 timed; 1 failed": the seeds behind accuracies, those behind speeds where they are fewer, the rest."""
    timed = f"{row['n_timed']} timed" if row["n_timed"] != row["n"] else ""
    return "; ".join(part for part in (f"n = {row['n']}", timed, row["not_ok"]) if part)
