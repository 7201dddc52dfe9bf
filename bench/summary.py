"""Summary: trials reduced over seeds, one row a configuration and device; the only place where averages are taken."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.results import STATUSES, read_run, read_table
from bench.stats import Interval, binomial_half_width, log_median_interval, median_interval, median_time_to_target
from bench.store import write_atomically

FAMILY_TITLES = {"vit": "ViT", "cnn": "CNN"}  # a family that isn't here goes by its own name
LABEL_LETTERS = {"patch_size": "p", "depth": "d", "embed_dim": "e", "num_heads": "h", "width": "w"}
IDENTITY = (
    *("config_id", "label", "model", "patch_size", "depth", "embed_dim", "num_heads", "width", "num_params"),
    *("num_flops", "dtype", "device", "device_name", "recipe", "epochs", "batch_size", "settings", "training"),
)
ACCURACIES = ("test_accuracy", "val_accuracy")
POSITIVE = ("images_per_second", "peak_memory_bytes", "train_seconds")
TRAINED = ("ok", "diverged", "timeout")  # statuses of trials that had their chance at a target


@dataclass(frozen=True)
class Tables:
    """All that a report is made of: one run's record, its tables, and their summary."""

    folder: Path
    run: dict[str, Any]
    trials: pd.DataFrame
    evaluations: pd.DataFrame
    summary: pd.DataFrame


def read_tables(folder: Path) -> Tables:
    """A run from disk. `trials` gains `label` and a `seconds_to_<target>` column a target.

    Raises:
        StoreError: the folder isn't a run.
    """
    run, evaluations = read_run(folder), read_table(folder, "evaluations.csv")
    trials = labelled(read_table(folder, "trials.csv"))
    trials = with_times_to_targets(trials, evaluations, targets_of(run))
    return Tables(folder, run, trials, evaluations, summarise(trials, evaluations, run))


def write_summary(folder: Path) -> Tables:
    """Write `summary.csv` beside the run's tables, and return it with them."""
    tables = read_tables(folder)
    write_atomically(folder / "summary.csv", tables.summary.to_csv(index=False, lineterminator="\n"))
    return tables


def summarise(trials: pd.DataFrame, evaluations: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
    """One row a (config_id, device_name), in the order of the suite.

    Medians and intervals are over the trials that ended `ok` (`n` of them); `n_seen` counts the others too, and
    `not_ok` says what became of them. `seconds_to_<target>` is a median in which a miss counts as infinity (an empty
    cell), `reached_<target>` of `n_trained` trials got there. `best_of_family` marks each family's best on validation.
    `pareto` marks what nothing beats on both test accuracy and images per second.
    """
    if "label" not in trials:
        trials = labelled(trials)
    trials = with_times_to_targets(trials, evaluations, targets_of(run))
    groups = trials.groupby(["config_id", "device_name"], sort=False)
    rows = [_summary_row(group, run) for _, group in groups]
    summary = pd.DataFrame(rows, columns=_columns(targets_of(run)))
    summary["best_of_family"] = summary.index.isin(_champions(summary))
    summary["pareto"] = [_is_pareto(summary, index) for index in range(len(summary))]
    return summary


def targets_of(run: dict[str, Any]) -> list[float]:
    """The run's targets on validation, lowest first."""
    return sorted({float(target) for target in run.get("targets") or []})


def split_size(run: dict[str, Any], part: str) -> float:
    """Images in a part of the split; NaN where the run doesn't say."""
    size = (run.get("split") or {}).get(part)
    return float(size) if isinstance(size, (int, float)) else math.nan


def accuracy_floor(run: dict[str, Any], part: str, accuracy: float) -> float:
    """Half-width below which `part` ("test", "val") can't tell accuracies apart; 0 where its size isn't known."""
    half = binomial_half_width(accuracy, split_size(run, part))
    return 0.0 if math.isnan(half) else half


def with_times_to_targets(trials: pd.DataFrame, evaluations: pd.DataFrame, targets: list[float]) -> pd.DataFrame:
    """`trials` with `seconds_to_<target>`: training seconds to each trial's first evaluation at the target, or NaN."""
    trials = trials.copy()
    for target in targets:
        reached = evaluations[evaluations["val_accuracy"] >= target]
        trials[f"seconds_to_{target:g}"] = trials["trial_id"].map(reached.groupby("trial_id")["train_seconds"].min())
    return trials


def labelled(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with a short name for people, `label`, and a `device_name` in every row.

    A trial that failed before it saw its device has that of its neighbours on the same device.
    """
    trials = trials.copy()
    known = trials[trials["device_name"] != ""].groupby("device")["device_name"].first()
    missing = trials["device_name"] == ""
    trials.loc[missing, "device_name"] = trials["device"].map(known).fillna(trials["device"])[missing]
    configs = trials.drop_duplicates(["config_id", "device_name"])
    names = dict(zip(zip(configs["config_id"], configs["device_name"], strict=True), _labels(configs), strict=True))
    keys = zip(trials["config_id"], trials["device_name"], strict=True)
    trials["label"] = pd.Series([names[key] for key in keys], index=trials.index, dtype=object)
    return trials


def family_title(model: str) -> str:
    return FAMILY_TITLES.get(model, model)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column name."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def _labels(configs: pd.DataFrame) -> list[str]:
    """ "ViT p7 d4 fp32": family, patch and depth, numeric mode; the rest only where it varies within the family."""
    devices = "device" if configs["device"].nunique() == configs["device_name"].nunique() else "device_name"
    varying = {model: {key for key in rows if rows[key].nunique() > 1} for model, rows in configs.groupby("model")}
    labels = []
    for row in records(configs):
        parts = [family_title(row["model"])]
        for key, letter in LABEL_LETTERS.items():
            if not math.isnan(row[key]) and (key in ("patch_size", "depth") or key in varying[row["model"]]):
                parts.append(f"{letter}{row[key]:g}")
        parts.append(row["dtype"])
        if configs["device_name"].nunique() > 1:
            parts.append(row[devices])
        parts += [f"{row[key]:g} {key}" for key in ("epochs",) if key in varying[row["model"]] and row[key] == row[key]]
        labels.append(" ".join(part for part in parts if part))
    return _told_apart(labels, configs)


def _told_apart(labels: list[str], configs: pd.DataFrame) -> list[str]:
    """Add to labels that several configurations share what differs in their settings or, failing that, their id."""
    alike: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        alike.setdefault(label, []).append(index)
    told = list(labels)
    for indices in (indices for indices in alike.values() if len(indices) > 1):
        settings = [_settings(configs.iloc[index]) for index in indices]
        keys = sorted({key for some in settings for key in some})
        differing = [key for key in keys if len({some.get(key) for some in settings}) > 1]
        distinct = len({tuple(some.get(key) for key in differing) for some in settings}) == len(settings)
        for index, some in zip(indices, settings, strict=True):
            extra = [f"{key}={some.get(key, '')}" for key in differing] if distinct and len(differing) <= 3 else []
            told[index] = " ".join([labels[index], *(extra or [str(configs.iloc[index]["config_id"])])])
    return told


def _settings(row: pd.Series) -> dict[str, str]:
    """All settings of a row's model and training, flat, as text."""
    flat = {"recipe": str(row["recipe"]), "num_threads": f"{row['num_threads']:g}"}
    for key in ("settings", "training"):
        try:
            flat |= {name: json.dumps(value) for name, value in json.loads(row[key] or "{}").items()}
        except (ValueError, AttributeError):
            continue
    return flat


def _summary_row(group: pd.DataFrame, run: dict[str, Any]) -> dict[str, Any]:
    ok, trained = group[group["status"] == "ok"], group[group["status"].isin(TRAINED)]
    row: dict[str, Any] = {key: _first_known(group[key]) for key in IDENTITY}
    row |= {"n": len(ok), "n_trained": len(trained), "n_seen": len(group), "not_ok": _count_not_ok(group["status"])}
    for metric, part in zip(ACCURACIES, ("test", "val"), strict=True):
        middle = float(ok[metric].median()) if len(ok) else math.nan
        interval = median_interval(ok[metric], accuracy_floor(run, part, middle))
        row |= _cells(metric, interval._replace(low=max(interval.low, 0.0), high=min(interval.high, 1.0)))
    for metric in POSITIVE:
        row |= _cells(metric, log_median_interval(ok[metric]))
    row["images_per_second_interval"] = "seeds" if len(ok) > 1 else ""
    if len(ok) == 1 and ok["images_per_second_low"].notna().all():
        row |= {key: float(ok[key].iloc[0]) for key in ("images_per_second_low", "images_per_second_high")}
        row["images_per_second_interval"] = "blocks of one trial"
    row["throughput_spread"] = float(ok["throughput_spread"].max()) if len(ok) else math.nan
    row["evaluation_interval_seconds"] = float(ok["evaluation_interval_seconds"].median()) if len(ok) else math.nan
    for target in targets_of(run):
        seconds, reached, _ = median_time_to_target(trained[f"seconds_to_{target:g}"])
        row |= {f"seconds_to_{target:g}": math.nan if seconds is None else seconds, f"reached_{target:g}": reached}
    return row


def _cells(metric: str, interval: Interval) -> dict[str, float]:
    return {metric: interval.median, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def _columns(targets: Iterable[float]) -> list[str]:
    metrics = [name for metric in (*ACCURACIES, *POSITIVE) for name in (metric, f"{metric}_low", f"{metric}_high")]
    metrics.insert(metrics.index("images_per_second_high") + 1, "images_per_second_interval")
    times = [name for target in targets for name in (f"seconds_to_{target:g}", f"reached_{target:g}")]
    counts = ["n", "n_trained", "n_seen", "not_ok"]
    return [*IDENTITY, *counts, *metrics, "throughput_spread", "evaluation_interval_seconds", *times]


def _first_known(values: pd.Series) -> Any:
    known = [value for value in values if value == value and value != ""]
    return known[0] if known else None


def _count_not_ok(statuses: pd.Series) -> str:
    counts = statuses.value_counts()
    known = [status for status in STATUSES if status != "ok" and status in counts]
    return ", ".join(f"{counts[status]} {status}" for status in known)


def _champions(summary: pd.DataFrame) -> pd.Index:
    """Where each family's best on each device stands: highest median validation accuracy; of equals, the faster.

    One that diverged with some seed doesn't stand for its family, unless that has no steadier one.
    """
    rows = summary[summary["n"] > 0].assign(unsteady=summary["n"] < summary["n_trained"])
    rows = rows.sort_values(["unsteady", "val_accuracy", "images_per_second"], ascending=[True, False, False])
    return rows.drop_duplicates(["model", "device_name"]).index


def _is_pareto(summary: pd.DataFrame, index: int) -> bool:
    here = summary.iloc[index]
    if not (here["images_per_second"] > 0 and here["test_accuracy"] >= 0):
        return False
    rivals = summary[summary["device_name"] == here["device_name"]]
    faster, better = (rivals[key] - here[key] for key in ("images_per_second", "test_accuracy"))
    return not ((faster >= 0) & (better >= 0) & ((faster > 0) | (better > 0))).any()
