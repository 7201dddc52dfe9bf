"""Published figures: what others report for a configuration, beside what it does here."""

import math
from typing import Any

import pandas as pd

from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import percent, points, three_digits
from bench.analysis.labels import records
from bench.analysis.summary import Tables

# a figure of others -> its title, how it is shown, and the column of evaluations.csv that stands beside it
FIGURES = {
    "train_loss": ("training loss", three_digits, "train_loss"),
    "val_accuracy": ("validation accuracy", percent, "val_accuracy"),
    # The test split is read once, at the end; until then validation stands beside a published test accuracy.
    "test_accuracy": ("test accuracy", percent, "val_accuracy"),
}


def published_sheets(tables: Tables) -> list[Sheet]:
    """For each table of others: epoch by epoch, theirs and the suite's first configuration's, on every device."""
    sheets = []
    for published in tables.run.get("published") or []:
        first = tables.summary.drop_duplicates("device_name")
        for row in records(first[first["n"] > 0]):
            several = f" on {row['device_name']}" if len(first) > 1 else ""
            sheets.append(_sheet(tables, published, row, several))
    return sheets


def _sheet(tables: Tables, published: dict[str, Any], row: dict[str, Any], several: str) -> Sheet:
    points_of = [point for point in published["points"] if point["epoch"] <= row["epochs"]]
    given = [name for name in FIGURES if any(point.get(name) is not None for point in points_of)]
    head = ["after epoch"]
    for name in given:
        title, _, beside = FIGURES[name]
        ours = "validation accuracy" if beside == "val_accuracy" else title
        head += [f"published: {title}", f"here: {ours}"]
    table = []
    for point in points_of:
        here = _evaluations(tables, row, point["epoch"])
        cells = [Cell(f"{point['epoch']:g}")]
        for name in given:
            _, show, beside = FIGURES[name]
            theirs = point.get(name)
            cells += [Cell("–" if theirs is None else show(theirs)), _median(here[beside], show)]
        table.append(cells)
    return Sheet(f"{published['title']}{several}", _said(published, row), head, table)


def _said(published: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Whose figures, beside which configuration; and the last of them against the test accuracy here."""
    said = [f"Published: {published['source']}"]
    seeds = f"n = {row['n']} seed{'' if row['n'] == 1 else 's'}"
    here = f"Here: {row['label']}, {seeds}, median and range"
    last = published["points"][-1]
    theirs = last.get("test_accuracy") or last.get("val_accuracy")
    mine, of = row["test_accuracy"], "test"
    if theirs is None or math.isnan(mine) or last["epoch"] != row["epochs"]:
        return [*said, f"{here}."]
    if last.get("test_accuracy") is None:
        mine, of = row["val_accuracy"], "validation"
    gap = mine - theirs
    against = f"{points(abs(gap))} {'above' if gap >= 0 else 'below'} the published {percent(theirs)}"
    return [*said, f"{here}. After {last['epoch']:g} epochs {percent(mine)} on {of}, {against}."]


def _evaluations(tables: Tables, row: dict[str, Any], epoch: float) -> pd.DataFrame:
    """The looks of a configuration's finished trials at the end of an epoch."""
    trials = tables.trials
    own = trials[(trials["config_id"] == row["config_id"]) & (trials["device_name"] == row["device_name"])]
    seen = tables.evaluations[tables.evaluations["trial_id"].isin(own.loc[own["status"] == "ok", "trial_id"])]
    return seen[(seen["epoch"] - epoch).abs() < 1e-6]


def _median(values: pd.Series, show: Any) -> Cell:
    if values.dropna().empty:
        return Cell("–")
    low, high = show(values.min()), show(values.max())
    return Cell(show(values.median()), "" if low == high else f"{low} to {high}")
