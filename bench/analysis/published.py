"""A run beside figures that others published: epoch by epoch, and in one sentence."""

import math
from typing import Any

from bench.analysis.comparison import Cell, Sheet, row_ends
from bench.analysis.formatting import percent, points, three_digits
from bench.analysis.labels import plain_name, records, trained_epochs
from bench.analysis.summary import Tables, split_size

PUBLISHED = {  # a published figure -> its title, how it is shown, and the column of evaluations.csv beside it
    "train_loss": ("training loss", three_digits, "train_loss"),
    "val_accuracy": ("validation accuracy", percent, "val_accuracy"),
    # The test split is read once, at the end; until then validation stands beside a published test accuracy.
    "test_accuracy": ("test accuracy", percent, "val_accuracy"),
}


def published_sheets(tables: Tables) -> list[Sheet]:
    """For each published table: epoch by epoch, its figures and the suite's first configuration's, on every device."""
    first = tables.summary.drop_duplicates("device_name")
    return [
        _published(tables, published, row, f" on {row['device_name']}" if len(first) > 1 else "")
        for published in tables.run.get("published") or []
        for row in records(first[first["n"] > 0])
    ]


def _published(tables: Tables, published: dict[str, Any], row: dict[str, Any], where: str) -> Sheet:
    reached = [point for point in published["points"] if point["epoch"] <= trained_epochs(row)]
    given = [name for name in PUBLISHED if any(point.get(name) is not None for point in reached)]
    head = ["after epoch"]
    for title, _, beside in (PUBLISHED[name] for name in given):
        head += [f"published: {title}", f"here: {'validation accuracy' if beside == 'val_accuracy' else title}"]
    ended = tables.trials[tables.trials["status"] == "ok"]
    own = ended[(ended["config_id"] == row["config_id"]) & (ended["device_name"] == row["device_name"])]
    seen = tables.evaluations[tables.evaluations["trial_id"].isin(own["trial_id"])]
    table = []
    for point in reached:
        here, cells = seen[(seen["epoch"] - point["epoch"]).abs() < 1e-6], [Cell(f"{point['epoch']:g}")]
        for name in given:
            (_, show, beside), theirs = PUBLISHED[name], point.get(name)
            cells.append(Cell("–" if theirs is None else show(theirs) if show is not percent else _as_told(theirs)))
            ends = here[beside].agg(["min", "median", "max"])
            low, middle, high = ("–" if math.isnan(end) else show(end) for end in ends)
            cells.append(Cell(middle, "" if low == high else f"{low} to {high}"))
        table.append(cells)
    images = split_size(tables.run, "train")
    of = f"{images:,.0f} training images, " if images > 0 else ""
    said = f"Here: {row['label']}, {of}n = {row['n']} seed{'' if row['n'] == 1 else 's'}, median and range."
    return Sheet(f"{published['title']}{where}", [f"Published: {published['source']}", said], head, table)


def _as_told(share: float) -> str:
    """As a percentage with as many digits as were published."""
    return f"{100 * share:.4g}%"


def published_sentence(tables: Tables, device_name: str) -> str:
    """The suite's first configuration beside the last published figure; "" where there is none, or it isn't known."""
    here = tables.summary[tables.summary["device_name"] == device_name]
    for published in tables.run.get("published") or []:
        row, last = records(here.head(1))[0], published["points"][-1]
        column = "val_accuracy" if last.get("test_accuracy") is None else "test_accuracy"
        theirs, split = last.get(column), "test" if column == "test_accuracy" else "validation"
        if theirs is None or math.isnan(row[column]) or last["epoch"] != trained_epochs(row):
            continue
        ours, ends = row[column], row_ends(row, column)
        known = f" ({ends}, n = {row['n']})" if ends else ""
        if ends and row[f"{column}_low"] <= theirs <= row[f"{column}_high"]:
            beside = f"; the published {_as_told(theirs)} lies within"
        else:
            side = "above" if ours >= theirs else "below"
            beside = f", {points(abs(ours - theirs))} {side} the published {_as_told(theirs)}"
        return f"The {plain_name(row)}, reaches {percent(ours)} on {split}{known}{beside}."
    return ""
