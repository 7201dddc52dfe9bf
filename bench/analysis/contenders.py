"""Contenders: which rows of a summary may be held against each other, and which one stands for its family.

Like is compared with like: rows that saw most of the training images, and that trained with as many processes. Where
processes vary, that is the smallest number that all of a device's families have; where they share none, each family
has its own smallest, and a report says so.
"""

import pandas as pd


def like_for_like(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows with the largest share of the images on their device, and with as many processes as can be compared."""
    shares = summary["train_fraction"]
    rows = summary[shares.isna() | (shares >= shares.groupby(summary["device_name"]).transform("max"))]
    if rows["world_size"].nunique() < 2:
        return rows
    kept = [_of_equal_processes(here) for _, here in rows.groupby("device_name", sort=False)]
    return pd.concat(kept).sort_index()


def of_fewest_processes(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows with as many processes as those that are compared: more of them would buy speed with hardware."""
    compared = like_for_like(summary).groupby("device_name")["world_size"].max()
    return summary[summary["world_size"] <= summary["device_name"].map(compared)]


def champions(summary: pd.DataFrame) -> pd.Index:
    """Where each family's best on each device stands: highest median validation accuracy; of equals, the faster.

    One that diverged with some seed doesn't stand for its family, unless that has no steadier one; nor does one that
    saw fewer images than others did, or trained with more processes.
    """
    rows = like_for_like(summary)
    rows = rows[rows["n"] > 0].assign(unsteady=summary["n"] < summary["n_trained"])
    rows = rows.sort_values(["unsteady", "val_accuracy", "images_per_second"], ascending=[True, False, False])
    return rows.drop_duplicates(["model", "device_name"]).index


def families_apart(summary: pd.DataFrame, device_name: str) -> dict[str, int]:
    """Processes of each family on a device where the families share no number of them; {} where they share one."""
    rows = like_for_like(summary[(summary["device_name"] == device_name) & (summary["n"] > 0)])
    sizes = rows.groupby("model", sort=False)["world_size"].min()
    return {str(model): int(size) for model, size in sizes.items()} if sizes.nunique() > 1 else {}


def _of_equal_processes(here: pd.DataFrame) -> pd.DataFrame:
    """One device's rows: those of the smallest number of processes in common, else of each family's smallest."""
    measured = here[here["n"] > 0]
    sizes = [set(rows["world_size"]) for _, rows in (measured if len(measured) else here).groupby("model")]
    common = set.intersection(*sizes)
    if common:
        return here[here["world_size"] == min(common)]
    smallest = measured.groupby("model")["world_size"].min()
    return here[here["world_size"] == here["model"].map(smallest)]
