"""Robustness: what robustness.csv says of each family's best on changed test images, and how sure that is."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.comparison import Cell, Comparison, Sheet, compare, comparison_cell, margin_of, sheets_by_device
from bench.analysis.formatting import listed, percent, whole
from bench.analysis.labels import family_title
from bench.analysis.summary import Tables
from bench.errors import StoreError
from bench.measure.stats import binomial_half_width
from bench.system.files import write_atomically

ROBUSTNESS = "robustness.csv"
COLUMNS = ("trial_id", "config_id", "device_name", "model", "seed", "corruption", "strength", "images", "right")
CLEAN = "as they are"  # the corruption of test images that were left alone; its strength is 0


def write_robustness(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write robustness.csv into a run's folder, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / ROBUSTNESS, text.getvalue())


def read_robustness(tables: Tables) -> pd.DataFrame:
    """Rows of robustness.csv of trials that the run has, with `accuracy`; none where nobody measured.

    Raises: StoreError: it can't be read, or isn't ours.
    """
    path = tables.folder / ROBUSTNESS
    if not path.is_file():
        return pd.DataFrame(columns=[*COLUMNS, "accuracy"])
    try:
        rows = pd.read_csv(path, dtype={"seed": int, "strength": int, "images": int, "right": int})[[*COLUMNS]]
        whole = rows["right"].between(0, rows["images"]) & (rows["images"] > 0) & (rows["strength"] >= 0)
        if not whole.all() or not {*rows["model"]} <= {*tables.trials["model"]}:
            raise ValueError("counts that can't be, or a family that the run hasn't")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: can't be read ({error}); `run_bench.py robustness` makes it anew") from None
    rows["accuracy"] = rows["right"] / rows["images"]
    best = tables.summary.loc[tables.summary["best_of_family"], "config_id"]  # later seeds may have made it another
    return rows[rows["trial_id"].isin(tables.trials["trial_id"]) & rows["config_id"].isin(best)]


def robustness_sheets(tables: Tables) -> list[Sheet]:
    """For each device that was measured a table with a row a corruption, and one of all together."""
    rows = read_robustness(tables)
    return sheets_by_device(tables, lambda _, name, where: _sheet(tables, rows[rows["device_name"] == name], where))


def mean_accuracies(rows: pd.DataFrame, corruption: str = "") -> dict[float, float]:
    """Accuracy of one configuration by seed, mean over strengths; of all corruptions where none is named."""
    own = rows[rows["corruption"] == corruption] if corruption else rows[rows["corruption"] != CLEAN]
    means = own.groupby(["seed", "corruption"])["accuracy"].mean().groupby("seed").mean()
    return dict(zip(map(float, means.index), map(float, means), strict=True))


def _sheet(tables: Tables, rows: pd.DataFrame, where: str) -> Sheet | None:
    if rows.empty:
        return None
    models = {family_title(str(model)): own for model, own in rows.groupby("model", sort=False)}
    images, several = int(rows["images"].max()), len(models) > 1
    corruptions = [name for name in dict.fromkeys(rows["corruption"]) if name != CLEAN]
    table, errors = list[list[Cell]](), dict[str, list[str]]()
    for key in (CLEAN, *corruptions, ""):
        by_seed = {name: mean_accuracies(own, key) for name, own in models.items()}
        means = {name: statistics.fmean(own.values()) if own else math.nan for name, own in by_seed.items()}
        cells = [Cell(key or "all changes"), *(Cell(percent(mean)) for mean in means.values())]
        if several:
            first, second, *_ = by_seed.values()
            cells.append(comparison_cell(_difference(tables, second, first, images)))
        table.append(cells)
        if key in ("", CLEAN):
            for name, mean in means.items():
                errors.setdefault(name, []).append(percent(1 - mean))
    names = list(models)
    lost = [f"{name} {changed} (as they are {clean})" for name, (clean, changed) in errors.items()]
    said = [
        f"Accuracy on {whole(images)} test images, each changed at five strengths; n = {_count_seeds(tables, models)}, "
        "weights that validation chose.",
        f"Mean corruption error: {listed(lost)}.",
    ]
    head = ["test images", *names, *([f"{names[1]} less {names[0]}"] if several else [])]
    return Sheet(f"Changed test images{where}", said, head, table, figures=True)


def _count_seeds(tables: Tables, models: dict[str, pd.DataFrame]) -> str:
    counts = [own["seed"].nunique() for own in models.values()]
    said = f"{listed([*dict.fromkeys(map(str, counts))])} seed{'s' * (max(counts) > 1)}"
    configs = {config for own in models.values() for config in own["config_id"]}
    trained = tables.summary.loc[tables.summary["config_id"].isin(configs), "n"].max()
    more = f" of {trained:g} that there are now (`run_bench.py robustness` again takes all)"
    return said + more * bool(trained > max(counts))


def _difference(tables: Tables, a: dict[float, float], b: dict[float, float], images: int) -> Comparison | None:
    """Over seeds, and no surer than so many images allow."""
    if not a or not b:
        return None
    halves = [binomial_half_width(statistics.fmean(each.values()), images) for each in (a, b)]
    return compare("test_accuracy", a, b, margin=margin_of(tables.run, "test_accuracy"), floor=math.hypot(*halves))
