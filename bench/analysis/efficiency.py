"""Data efficiency: how families compare when they see fewer different images."""

import pandas as pd

from bench.analysis.comparison import apart, compare_rows
from bench.analysis.formatting import listed, whole
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables

MOST_SIZES = 5  # told in a sentence; of more, the ends and what lies evenly between


def best_at_each_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Each family's best on validation for every number of training images, on every device."""
    fewest = rows["world_size"] == rows.groupby("device_name")["world_size"].transform("min")
    ordered = rows[fewest].sort_values("val_accuracy", ascending=False)
    return ordered.drop_duplicates(["model", "device_name", "num_train_images"])


def data_sentences(tables: Tables, device_name: str) -> list[str]:
    """One sentence on who is ahead, and how far, with each number of training images; none where it doesn't vary."""
    rows = tables.summary[(tables.summary["device_name"] == device_name) & (tables.summary["n"] > 0)]
    rows = rows[rows["num_train_images"] > 0]
    if rows["train_fraction"].nunique() < 2 or rows["model"].nunique() < 2:
        return []
    best, said = best_at_each_size(rows), []
    for size in _some(sorted(best["num_train_images"].unique())):
        here = sorted(records(best[best["num_train_images"] == size]), key=lambda row: -row["test_accuracy"])
        if len(here) > 1:
            found = compare_rows(tables, here[0], here[1], "test_accuracy")
            first, second = (family_title(row["model"]) for row in here[:2])
            lead = (
                f"the {first} is {found.text} above the {second}"
                if apart(here[0], here[1], found)
                else "no difference is shown"
            )
            said.append(f"with {whole(size)} {lead}")
    return [f"Fewer training images: {listed(said)}."] if said else []


def _some(sizes: list[float]) -> list[float]:
    if len(sizes) <= MOST_SIZES:
        return sizes
    last = len(sizes) - 1
    return [sizes[round(i * last / (MOST_SIZES - 1))] for i in range(MOST_SIZES)]
